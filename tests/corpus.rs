//! The corpus of sealed media (`tests/corpus/`): each file has an expected outcome, and two readers that share no code
//! have to agree with it: Sealtape's own opener, and `docs/format/reader.py`.

#[path = "format_support/corpus.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod case;
#[path = "format_support/mod.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod support;

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sealtape::seal::chain::Chain;
use sealtape::seal::opener::{CipherCache, check_record};
use sealtape::seal::{
    GenerationKeys, GenerationRecord, HEADER_LEN, LABEL_LEN, OpenedRecord, Refusal, VolumeKind, VolumeLabel,
    open_record, stream,
};
use sealtape_kms::secret::DataKey;

use case::{Case, Line, Object, digest};

/// An opener with all it needs to read one generation forward.
struct Reader {
    keys: GenerationKeys,
    chain: Chain,
    ciphers: CipherCache,
    stream: bool,
    first_ordinal: u32,
    plain: Vec<u8>,
}

impl Reader {
    fn new(case: &Case, label_block: &[u8], label: &VolumeLabel, block: &[u8]) -> Result<Self, Refusal> {
        let record = GenerationRecord::parse(block, label)?;
        let data_key = DataKey::copy_from(&case.key).expect("a page for the key");
        let keys = GenerationKeys::new(data_key, record.scope);
        let label_block: &[u8; LABEL_LEN] = label_block.try_into().expect("the label was parsed");
        record.verify(&keys, block, label_block)?;
        Ok(Self {
            keys,
            chain: Chain::at_beginning(record.first_session_ordinal),
            ciphers: CipherCache::default(),
            stream: label.kind == VolumeKind::Stream,
            first_ordinal: record.first_session_ordinal,
            plain: Vec::new(),
        })
    }

    /// Opens the block at the present place; what was verified is in `plain`.
    fn open(&mut self, block: &[u8]) -> Result<OpenedRecord, Refusal> {
        let opened = self.try_open(&mut block.to_vec());
        match &opened {
            Ok(opened) => self.chain.pass_record(opened.mark),
            Err(refusal) => self.chain.pass_refused(*refusal),
        }
        opened
    }

    fn try_open(&mut self, block: &mut [u8]) -> Result<OpenedRecord, Refusal> {
        let header = check_record(block, self.keys.scope(), self.stream, &self.chain)?;
        // A stream is one session; the filter has the same check.
        if self.stream && header.session_ordinal != self.first_ordinal {
            return Err(Refusal::SessionOrder);
        }
        let cipher = self.ciphers.cipher(&self.keys, header.session)?;
        open_record(&header, block, &*cipher, self.keys.scope(), &mut self.plain)
    }
}

/// Where something was refused.
enum Place {
    Label,
    Generation,
    Object(u64),
}

/// What the opener found.
#[derive(Default)]
struct Found {
    lines: Vec<Line>,
    /// A stream's final record was verified and nothing follows it.
    is_final: bool,
}

impl Found {
    fn refuse(&mut self, refusal: Refusal, place: Place) {
        let place = match place {
            Place::Label => "label".into(),
            Place::Generation => "generation".into(),
            Place::Object(number) => number.to_string(),
        };
        self.lines.push(Line::Refused(refusal.name().into(), place));
    }

    /// A refusal behind which nothing can be read.
    fn refused(mut self, refusal: Refusal, place: Place) -> Self {
        self.refuse(refusal, place);
        self
    }

    /// In which way this is not what the case expects.
    fn difference(&self, case: &Case) -> Option<String> {
        let wanted = case.lines();
        let same_end = !case.is_stream || self.is_final == case.is_final();
        (wanted != self.lines || !same_end).then(|| {
            let at = wanted.iter().zip(&self.lines).position(|(wanted, found)| wanted != found);
            let at = at.unwrap_or(wanted.len().min(self.lines.len()));
            format!("{}: wanted {:?}, found {:?}", case.name, wanted.get(at), self.lines.get(at))
        })
    }
}

fn read_tape(case: &Case) -> Found {
    let mut found = Found::default();
    let mut objects = case::objects(case).into_iter();
    let label_block = match objects.next() {
        Some(Object::Block(block)) => block,
        Some(Object::Filemark) => return found.refused(Refusal::Foreign, Place::Label),
        None => return found.refused(Refusal::Blank, Place::Label),
    };
    let label = match VolumeLabel::parse(&label_block) {
        Ok(label) if label.kind != VolumeKind::Tape => return found.refused(Refusal::WrongKind, Place::Label),
        Ok(label) if label.partition != case.partition => return found.refused(Refusal::WrongPartition, Place::Label),
        Ok(label) => label,
        Err(refusal) => return found.refused(refusal, Place::Label),
    };
    let mut reader = match (objects.next(), objects.next()) {
        (None, _) | (Some(Object::Filemark), None) => return found.refused(Refusal::NoGeneration, Place::Generation),
        (Some(Object::Block(_)), _) | (_, Some(Object::Filemark)) => {
            return found.refused(Refusal::BadLayout, Place::Generation);
        }
        (_, Some(Object::Block(block))) => match Reader::new(case, &label_block, &label, &block) {
            Ok(reader) => reader,
            Err(refusal) => return found.refused(refusal, Place::Generation),
        },
    };
    for object in objects {
        let place = reader.chain.object();
        match object {
            Object::Filemark => {
                reader.chain.pass_filemark();
                found.lines.push(Line::Filemark(place));
            }
            Object::Block(block) => match reader.open(&block) {
                Ok(opened) => found.lines.push(Line::Block(place, digest(&reader.plain[..opened.plain_len]))),
                Err(refusal) => found.refuse(refusal, Place::Object(place)),
            },
        }
    }
    found
}

/// Takes `length` bytes off the front, or what is there.
fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(length.min(bytes.len()));
    *bytes = rest;
    taken
}

fn read_stream(case: &Case) -> Found {
    let found = Found::default();
    let file = case::file(case);
    let mut bytes = &file[..];
    let label_block = take(&mut bytes, LABEL_LEN);
    if label_block.is_empty() {
        return found.refused(Refusal::Blank, Place::Label);
    }
    let label = match VolumeLabel::parse(label_block) {
        Ok(label) if label.kind != VolumeKind::Stream => return found.refused(Refusal::WrongKind, Place::Label),
        Ok(label) if (label.partition, label.partitions) != (0, 1) => {
            return found.refused(Refusal::WrongPartition, Place::Label);
        }
        Ok(label) => label,
        Err(Refusal::DamagedLabel) if label_block.len() < LABEL_LEN => {
            return found.refused(Refusal::Truncated, Place::Label);
        }
        Err(refusal) => return found.refused(refusal, Place::Label),
    };
    let reader = stream_generation(&mut bytes).and_then(|block| Reader::new(case, label_block, &label, block));
    match reader {
        Ok(reader) => read_records(reader, bytes, found),
        Err(refusal) => found.refused(refusal, Place::Generation),
    }
}

fn stream_generation<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    let prefix = take(bytes, 4).try_into().map_err(|_| Refusal::Truncated)?;
    let length = stream::generation_len(prefix)?;
    let block = take(bytes, length);
    if block.len() == length { Ok(block) } else { Err(Refusal::Truncated) }
}

fn read_records(mut reader: Reader, mut bytes: &[u8], mut found: Found) -> Found {
    loop {
        let place = reader.chain.object();
        let block = match next_record(&mut bytes) {
            Ok(block) => block,
            Err(refusal) => return found.refused(refusal, Place::Object(place)),
        };
        match reader.open(block) {
            Ok(opened) if opened.is_final => break,
            Ok(opened) => found.lines.push(Line::Block(place, digest(&reader.plain[..opened.plain_len]))),
            Err(refusal) => found.refuse(refusal, Place::Object(place)),
        }
    }
    if bytes.is_empty() {
        found.is_final = true;
        return found;
    }
    found.refused(Refusal::TrailingData, Place::Object(reader.chain.object()))
}

fn next_record<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Refusal> {
    let header = bytes.first_chunk::<HEADER_LEN>();
    let Some(header) = header else {
        return Err(if bytes.is_empty() { Refusal::NoFinal } else { Refusal::Truncated });
    };
    let length = stream::record_len(header)?;
    let block = take(bytes, length);
    if block.len() == length { Ok(block) } else { Err(Refusal::Truncated) }
}

#[test]
fn the_opener_agrees_with_the_corpus() {
    let cases = case::cases();
    assert!(cases.len() > 300, "the corpus is whole");
    // Cartridges and catalogues are not the opener's: see corpus_product.rs.
    let (of_opener, _): (Vec<_>, Vec<_>) =
        cases.into_iter().partition(|case| !case.is_image() && case.sessions.is_none());
    let differences = differences(&of_opener);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

fn differences(cases: &[Case]) -> Vec<String> {
    let found = |case: &Case| if case.is_stream { read_stream(case) } else { read_tape(case) };
    cases.iter().filter_map(|case| found(case).difference(case)).collect()
}

/// A Python that has what the independent reader needs.
fn python() -> Option<OsString> {
    let python = std::env::var_os("SEALTAPE_PYTHON");
    if python.is_none() {
        eprintln!(
            "skipped: SEALTAPE_PYTHON names no Python with the packages of docs/format/requirements.txt \
             (cargo xtask test makes one)"
        );
    }
    python
}

fn run(python: &OsStr, script: &str, arguments: &[&str]) {
    let done = Command::new(python)
        .arg(support::repository().join(script))
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", python.display()));
    let text = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{script}:\n{}", String::from_utf8_lossy(&text));
}

/// The Python side: the independent reader over the same corpus, and the corpus against its generator.
#[test]
fn the_independent_reader_agrees_with_the_corpus() {
    let Some(python) = python() else { return };
    run(&python, "tests/corpus/check_reader.py", &[]);
    run(&python, "tests/corpus/generate.py", &["--check"]);
    run(&python, "tests/vectors/generate.py", &["--check"]);
}

/// Media changed at random: both readers have to find the same in each, other media in each run.
#[test]
fn both_readers_agree_about_random_changes() {
    let Some(python) = python() else { return };
    let count = if std::env::var_os("SEALTAPE_LONG").is_some() { "20000" } else { "500" };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let seed = std::env::var("SEALTAPE_SEED").unwrap_or_else(|_| now.as_nanos().to_string());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    run(&python, "tests/corpus/mutate.py", &[path, count, &seed]);
    let cases = case::cases_of(&format!("{path}/cases.json"));
    let differences = differences(&cases);
    assert!(
        differences.is_empty(),
        "SEALTAPE_SEED={seed}: {} differences in {} cases:\n{}",
        differences.len(),
        cases.len(),
        differences.join("\n")
    );
}
