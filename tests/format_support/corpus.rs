//! Cases of the corpus (`tests/corpus/README.md`): reading them, and comparing what a reader found.

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{hex_array, json, number, repository};

/// One file, one key, one expected outcome.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) is_stream: bool,
    pub(crate) partition: u8,
    pub(crate) key: [u8; 32],
    pub(crate) sessions: Option<Catalogue>,
    /// What a reader prints that goes on after refusals.
    salvage: Vec<String>,
    end: Option<String>,
}

/// What a catalogue knows.
pub(crate) struct Catalogue {
    pub(crate) sessions: Vec<Session>,
    pub(crate) end: End,
}

/// A session in the catalogue.
pub(crate) struct Session {
    pub(crate) ordinal: u32,
    pub(crate) id: [u8; 16],
    pub(crate) first_object: u64,
    pub(crate) link: [u8; 16],
    pub(crate) confirmed: bool,
}

/// The end of data at the last synchronisation.
pub(crate) struct End {
    pub(crate) object: u64,
    pub(crate) filemarks: u64,
    pub(crate) last_record: (u64, [u8; 16]),
}

/// Every case of the corpus.
pub(crate) fn cases() -> Vec<Case> {
    cases_of("tests/corpus/cases.json")
}

/// The cases of a list: a path in the repository, or an absolute one.
pub(crate) fn cases_of(list: &str) -> Vec<Case> {
    let cases = json(list);
    cases.as_array().expect("a list of cases").iter().map(case).collect()
}

fn case(value: &Value) -> Case {
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}")).to_owned();
    Case {
        name: text("name"),
        file: text("file"),
        is_stream: text("kind") == "stream",
        partition: value.get("partition").map_or(0, number),
        key: hex_array(&value["key"]),
        sessions: value.get("sessions").map(catalogue),
        salvage: value["salvage"]
            .as_array()
            .expect("lines")
            .iter()
            .map(|line| line.as_str().expect("text").into())
            .collect(),
        end: value["end"].as_str().map(str::to_owned),
    }
}

fn catalogue(value: &Value) -> Catalogue {
    let sessions = value["sessions"].as_array().expect("sessions").iter().map(|session| Session {
        ordinal: number(&session["ordinal"]),
        id: hex_array(&session["id"]),
        first_object: number(&session["first_object"]),
        link: hex_array(&session["link"]),
        confirmed: session["confirmed"].as_bool().expect("yes or no"),
    });
    let end = &value["end"];
    let last = &end["last_record"];
    Catalogue {
        sessions: sessions.collect(),
        end: End {
            object: number(&end["object"]),
            filemarks: number(&end["filemarks"]),
            last_record: (number(&last["object"]), hex_array(&last["tag"])),
        },
    }
}

impl Case {
    /// Whether its medium is a cartridge of the file-backed drive.
    pub(crate) fn is_image(&self) -> bool {
        self.file.ends_with(".image")
    }

    /// Whether a stream's final record is verified, and nothing follows it.
    pub(crate) fn is_final(&self) -> bool {
        self.end.as_deref() == Some("final")
    }

    /// What a reader gives that goes on after refusals.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.salvage.iter().map(|line| Line::parse(line)).collect()
    }
}

/// One line of an expected outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    /// Place; length and digest.
    Block(u64, String),
    /// Place.
    Filemark(u64),
    /// Name and place.
    Refused(String, String),
}

impl Line {
    fn parse(line: &str) -> Self {
        let words: Vec<_> = line.splitn(3, ' ').collect();
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("no number in {line}"));
        match words[..] {
            ["block", place, digest] => Self::Block(number(place), digest.into()),
            ["filemark", place] => Self::Filemark(number(place)),
            ["refused", name, place] => Self::Refused(name.into(), place.into()),
            _ => panic!("what is {line}?"),
        }
    }

    /// The object number, or another place's name.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Block(place, _) | Self::Filemark(place) => place.to_string(),
            Self::Refused(_, place) => place.clone(),
        }
    }
}

/// Length and SHA-256 of a block, as the corpus tells them.
pub(crate) fn digest(plain: &[u8]) -> String {
    let digest: String = Sha256::digest(plain).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {digest}", plain.len())
}

/// Where the case's file is.
pub(crate) fn path(case: &Case) -> PathBuf {
    repository().join("tests/corpus/media").join(&case.file)
}

/// The case's file.
pub(crate) fn file(case: &Case) -> Vec<u8> {
    let path = path(case);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One object of a tape.
pub(crate) enum Object {
    Block(Vec<u8>),
    Filemark,
}

/// The objects of the case's partition, from an objects file.
pub(crate) fn objects(case: &Case) -> Vec<Object> {
    let file = file(case);
    let mut bytes = file.strip_prefix(b"STOBJ001").expect("an objects file");
    let (mut here, mut objects) = (None, Vec::new());
    while let Some((head, rest)) = bytes.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (body, rest) = rest.split_at(length);
        bytes = rest;
        match head[0] {
            3 => here = Some(body[0]),
            4 if here == Some(case.partition) => return objects,
            4 => here = None,
            1 if here == Some(case.partition) => objects.push(Object::Block(body.to_vec())),
            2 if here == Some(case.partition) => objects.push(Object::Filemark),
            1 | 2 => {}
            other => panic!("{}: entry of type {other}", case.file),
        }
    }
    panic!("{}: partition {} does not end", case.file, case.partition)
}
