//! Cases of the corpus (`tests/corpus/README.md`): reading them, and comparing what a reader found.

use std::fmt;

use sealtape::seal::Refusal;
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

/// Every case.
pub(crate) fn cases() -> Vec<Case> {
    let cases = json("tests/corpus/cases.json");
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

/// The case's file.
pub(crate) fn file(case: &Case) -> Vec<u8> {
    let path = repository().join("tests/corpus/media").join(&case.file);
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

/// Where something was refused.
pub(crate) enum Place {
    Label,
    Generation,
    Object(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label => f.write_str("label"),
            Self::Generation => f.write_str("generation"),
            Self::Object(number) => write!(f, "{number}"),
        }
    }
}

/// What a reader found, in the words of `cases.json`.
#[derive(Default)]
pub(crate) struct Found {
    lines: Vec<String>,
    /// A stream's final record was verified and nothing follows it.
    pub(crate) is_final: bool,
}

impl Found {
    pub(crate) fn block(&mut self, place: u64, plain: &[u8]) {
        let digest: String = Sha256::digest(plain).iter().map(|byte| format!("{byte:02x}")).collect();
        self.lines.push(format!("block {place} {} {digest}", plain.len()));
    }

    pub(crate) fn filemark(&mut self, place: u64) {
        self.lines.push(format!("filemark {place}"));
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal, place: Place) {
        self.lines.push(format!("refused {} {place}", refusal.name()));
    }

    /// A refusal behind which nothing can be read.
    pub(crate) fn refused(mut self, refusal: Refusal, place: Place) -> Self {
        self.refuse(refusal, place);
        self
    }

    /// In which way this is not what the case expects.
    pub(crate) fn difference(&self, case: &Case) -> Option<String> {
        // At the end of a tape a catalogue is asked by the unit, not by the opener.
        let of_end = |line: &&String| !line.contains("cut-short");
        let wanted: Vec<_> = case.salvage.iter().filter(of_end).collect();
        let same = wanted.iter().copied().eq(self.lines.iter().filter(of_end));
        let same_end = !case.is_stream || self.is_final == (case.end.as_deref() == Some("final"));
        (!same || !same_end).then(|| {
            let at = wanted.iter().zip(&self.lines).position(|(wanted, found)| *wanted != found);
            let at = at.unwrap_or(wanted.len().min(self.lines.len()));
            format!("{}: wanted {:?}, found {:?}", case.name, wanted.get(at), self.lines.get(at))
        })
    }
}
