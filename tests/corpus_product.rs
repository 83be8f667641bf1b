//! The corpus of sealed media through the ways by which plaintext leaves the product: `sealtape restore`, `sealtape open`
//! and the sealed unit that a host reads from. Each has to give out what the corpus says, and nothing else.

#[path = "format_support/corpus.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod case;
#[path = "format_support/mod.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use sealtape::filter::{self, FilterError};
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::restore::{RestoreError, Restored, Selection, Sink, restore};
use sealtape::seal::{Compression, GenerationKeys, GenerationRecord, Link, ReleasedKeys, SessionId, VolumeLabel};
use sealtape::unit::{EndCheck, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape::volume::keys::{CatalogueContent, KnownEnd, VolumeToLabel};
use sealtape::volume::{
    Access, KeyRefusal, KeyRefusalKind, KeySource, LoadedGeneration, NewGeneration, SessionExtent, SessionOpening,
    SyncReport, VolumePolicy,
};
use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape};
use sealtape_drivers::medium::{DriveIdentity, Position, ReadOutcome, TapeDrive};
use sealtape_kms::secret::DataKey;
use uuid::Uuid;

use case::{Case, Line, Object, digest};

fn keys_of(case: &Case, generation: &GenerationRecord) -> GenerationKeys {
    GenerationKeys::new(DataKey::copy_from(&case.key).expect("a page for the key"), generation.scope)
}

/// A drive with the case's medium in it: a real cartridge, or the reference tape written object by object.
fn drive(case: &Case) -> Box<dyn TapeDrive> {
    if case.is_image() {
        let identity = DriveIdentity {
            vendor: "SEALTAPE".into(),
            product: "IMAGE".into(),
            revision: "1".into(),
            serial: "1".into(),
        };
        let mut drive = ImageDrive::new(identity);
        drive.insert(&case::path(case), OpenMode::ReadOnly).expect("a cartridge");
        drive.load().expect("it loads");
        return Box::new(drive);
    }
    let mut options = ModelOptions::new(8 << 20);
    options.maximum_block = 1 << 20;
    let mut tape = ModelTape::new(options);
    for object in case::objects(case) {
        match object {
            Object::Block(block) => tape.write(&block),
            Object::Filemark => tape.write_filemarks(1, true),
        }
        .expect("there is room");
    }
    tape.rewind().expect("it rewinds");
    Box::new(tape)
}

/// Blocks by tape file, as length and digest.
#[derive(Default, PartialEq, Debug)]
struct Blocks(Vec<(u64, String)>);

impl Sink for &mut Blocks {
    fn write(&mut self, file: u64, plain: &[u8]) -> io::Result<()> {
        self.0.push((file, digest(plain)));
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a case gives out: blocks by tape file, and refusals as name and place. `strict` ends at the first of these.
fn expected(case: &Case, strict: bool) -> (Blocks, Vec<(String, String)>) {
    let (mut blocks, mut refused, mut file) = (Blocks::default(), Vec::new(), 0);
    for line in case.lines() {
        match line {
            Line::Block(_, digest) => blocks.0.push((file, digest)),
            Line::Filemark(_) => file += 1,
            Line::Refused(name, place) => {
                refused.push((name, place));
                if strict {
                    break;
                }
            }
        }
    }
    (blocks, refused)
}

/// The name in parentheses that refusals in words carry.
fn name_in(words: &str) -> String {
    let names: Vec<_> = words.split('(').skip(1).filter_map(|text| text.split(')').next()).collect();
    let known = names.into_iter().find(|name| name.contains('-') || ["truncated", "blank", "foreign"].contains(name));
    match known {
        Some(name) => name.to_owned(),
        None if words.contains("blank") => "blank".into(),
        None if words.contains("in the clear") || words.contains("did not write") => "foreign".into(),
        None => "unreadable".into(),
    }
}

fn refusal_of(error: &RestoreError) -> (String, Option<String>) {
    let place = match error {
        RestoreError::Refused { place, .. } => {
            Some(place.replace("object ", "").replace("generation record", "generation"))
        }
        RestoreError::NotSealed { .. } => Some("label".into()),
        RestoreError::Drive { .. } => None,
        RestoreError::NoSuchFile { .. } | RestoreError::Output(_) => panic!("{error}"),
    };
    (name_in(&error.to_string()), place)
}

fn run_restore(case: &Case, salvage: bool) -> (Blocks, Result<Restored, RestoreError>) {
    let mut blocks = Blocks::default();
    let selection = Selection { partition: case.partition, salvage, ..Selection::default() };
    let outcome = restore(
        &mut *drive(case),
        &case.file,
        selection,
        |_, generation| Ok::<_, RestoreError>(keys_of(case, generation)),
        &mut &mut blocks,
        |_| {},
    );
    (blocks, outcome)
}

fn restore_difference(case: &Case, salvage: bool) -> Option<String> {
    let (wanted, refusals) = expected(case, !salvage);
    let (blocks, outcome) = run_restore(case, salvage);
    let (found, place_is_told) = match &outcome {
        Ok(restored) => {
            let refused = restored.refused.iter().map(|(place, words)| (name_in(words), place.to_string())).collect();
            (refused, true)
        }
        Err(error) => {
            let (name, place) = refusal_of(error);
            (vec![(name, place.clone().unwrap_or_default())], place.is_some())
        }
    };
    let same = found.iter().map(|(name, _)| name).eq(refusals.iter().map(|(name, _)| name))
        && (!place_is_told || found == refusals);
    (!same || blocks != wanted).then(|| {
        format!(
            "{} (salvage {salvage}): wanted {refusals:?}, {} blocks; found {found:?}, {} blocks: {outcome:?}",
            case.name,
            wanted.0.len(),
            blocks.0.len()
        )
    })
}

#[test]
fn restore_agrees_with_the_corpus() {
    let mut differences = Vec::new();
    let cases = case::cases();
    let tapes: Vec<_> = cases.iter().filter(|case| !case.is_stream && case.sessions.is_none()).collect();
    assert!(tapes.len() > 200, "the corpus is whole");
    for case in tapes {
        differences.extend(restore_difference(case, false));
        differences.extend(restore_difference(case, true));
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Keeps each write apart: the filter writes a record at a time.
#[derive(Default)]
struct Writes(Vec<(u64, String)>);

impl Write for Writes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.push((0, digest(bytes)));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open_difference(case: &Case) -> Option<String> {
    let (wanted, refusals) = expected(case, true);
    let mut writes = Writes::default();
    let outcome = filter::open(
        &mut &case::file(case)[..],
        &mut writes,
        |_, generation| Ok::<_, FilterError>(keys_of(case, generation)),
        |_| {},
    );
    let found = match &outcome {
        Ok(_) => Vec::new(),
        Err(FilterError::Refused { place, refusal, .. }) => {
            let place = match place {
                filter::Place::Label => "label".into(),
                filter::Place::Generation => "generation".into(),
                filter::Place::Record(number) => number.to_string(),
            };
            vec![(refusal.name().to_owned(), place)]
        }
        Err(error) => panic!("{}: {error}", case.name),
    };
    (found != refusals || writes.0 != wanted.0).then(|| {
        format!(
            "{}: wanted {refusals:?}, {} blocks; found {found:?}, {} blocks",
            case.name,
            wanted.0.len(),
            writes.0.len()
        )
    })
}

#[test]
fn the_filter_agrees_with_the_corpus() {
    let cases = case::cases();
    let streams: Vec<_> = cases.iter().filter(|case| case.is_stream).collect();
    assert!(streams.len() > 50, "the corpus is whole");
    let differences: Vec<_> = streams.into_iter().filter_map(open_difference).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

/// Releases the keys of the case's medium, and the catalogue's content where the case has it.
struct CaseKeys {
    /// By partition.
    keys: BTreeMap<u8, [u8; 32]>,
    content: Option<CatalogueContent>,
}

impl CaseKeys {
    fn of(case: &Case, cases: &[Case]) -> Self {
        let same_medium = cases.iter().filter(|other| other.file == case.file);
        let keys = same_medium.map(|other| (other.partition, other.key)).collect();
        let content = case.sessions.as_ref().map(|catalogue| CatalogueContent {
            sessions: catalogue.sessions.iter().map(extent).collect(),
            end: Some(KnownEnd {
                object: catalogue.end.object,
                filemarks: catalogue.end.filemarks,
                last_record: Some(catalogue.end.last_record),
                session_ordinal: catalogue.sessions.iter().map(|session| session.ordinal).max().unwrap_or_default(),
            }),
        });
        Self { keys, content }
    }
}

fn extent(session: &case::Session) -> SessionExtent {
    SessionExtent {
        ordinal: session.ordinal,
        session: SessionId(session.id),
        first_object: session.first_object,
        link: Link(session.link),
        confirmed: session.confirmed,
    }
}

fn read_only() -> KeyRefusal {
    KeyRefusal::new(KeyRefusalKind::NotPermitted, "the corpus is only read")
}

impl KeySource for CaseKeys {
    fn create_volume(&mut self, _: &str, _: Option<Uuid>) -> Result<VolumeToLabel, KeyRefusal> {
        Err(read_only())
    }

    fn create_generation(&mut self, _: Uuid, _: u8) -> Result<NewGeneration, KeyRefusal> {
        Err(read_only())
    }

    fn activate_generation(
        &mut self,
        _: &sealtape::seal::GenerationScope,
        _: Uuid,
        _: &[u8; 32],
    ) -> Result<(), KeyRefusal> {
        Err(read_only())
    }

    fn load(&mut self, _: &VolumeLabel, generation: &GenerationRecord) -> Result<LoadedGeneration, KeyRefusal> {
        let unknown = || KeyRefusal::new(KeyRefusalKind::Unknown, "no case has a key for this partition");
        let key = self.keys.get(&generation.scope.partition).ok_or_else(unknown)?;
        let data_key = DataKey::copy_from(key).expect("a page for the key");
        Ok(LoadedGeneration {
            keys: ReleasedKeys::Opens(GenerationKeys::opening(data_key, generation.scope)),
            new_generation_allowed: false,
            policy: VolumePolicy { compression: Compression::NONE, append_only: false },
            pending: false,
            content: self.content.clone(),
        })
    }

    fn has_pending_generation(&mut self, _: Uuid, _: u8) -> Result<bool, KeyRefusal> {
        Ok(false)
    }

    fn open_session(&mut self, _: &SessionOpening) -> Result<u32, KeyRefusal> {
        Err(read_only())
    }

    fn record_sync(&mut self, _: &SyncReport) -> Result<(), KeyRefusal> {
        Err(read_only())
    }

    fn release(&mut self, _: Uuid) -> Result<(), KeyRefusal> {
        Ok(())
    }

    fn report_incident(&mut self, _: Uuid, _: &str) -> Result<(), KeyRefusal> {
        Ok(())
    }
}

fn unit(case: &Case, cases: &[Case], pool: &Arc<SealPool>, folder: &Path) -> SealedTape {
    SealedTape::new(
        "drive0",
        drive(case),
        Box::new(CaseKeys::of(case, cases)),
        Arc::clone(pool),
        UnitOptions {
            window: WindowLimits { records: 2, bytes: 1 << 20 },
            check_end_at_load: true,
            max_block: 1 << 20,
        },
        UnsynchronisedMark::at(folder.join("mark")),
    )
    .expect("a unit")
}

/// Reads a unit from the beginning to the end of data, as a host does that goes on after errors: the lines of the
/// corpus, and why the unit was closed at load if it was.
fn read_unit(unit: &mut SealedTape, partition: u8) -> (Vec<Line>, Option<String>) {
    let report = unit.load_medium().expect("it loads");
    let mut reason = match report.access {
        Access::None(reason) => return (Vec::new(), Some(name_in(&reason))),
        Access::ReadOnly(reason) if reason.contains("may open only") || reason.contains("write protected") => None,
        Access::ReadOnly(reason) => Some(name_in(&reason)),
        Access::ReadWrite => None,
    };
    if partition != 0 {
        unit.locate(Position { partition, object: 0 }).expect("the other partition");
        reason = None;
    }
    let (mut lines, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
    for place in 0.. {
        match unit.read(&mut buffer) {
            Ok(ReadOutcome::Block { length }) => lines.push(Line::Block(place, digest(&buffer[..length]))),
            Ok(ReadOutcome::Filemark) => lines.push(Line::Filemark(place)),
            Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => {
                if let EndCheck::Wrong(words) = unit.check_end_here() {
                    lines.push(Line::Refused(name_in(&words), place.to_string()));
                }
                break;
            }
            Err(error) => lines.push(Line::Refused(name_in(&error.message), place.to_string())),
        }
        assert!(place < 1000, "the tape ends");
    }
    (lines, reason)
}

fn unit_difference(case: &Case, cases: &[Case], pool: &Arc<SealPool>, folder: &Path) -> Option<String> {
    let (found, at_load) = read_unit(&mut unit(case, cases, pool, folder), case.partition);
    // What the catalogue knows of the end is checked at load, and the read goes on; so is all that stands before the
    // host's objects, and there is nothing to read.
    let mut missing = BTreeSet::new();
    let wanted: Vec<_> = case
        .lines()
        .into_iter()
        .filter(|line| match line {
            Line::Refused(name, place) => {
                let by_reading = found.contains(line);
                if !by_reading && at_load.as_ref() != Some(name) {
                    missing.insert(format!("{name} {place}"));
                }
                by_reading
            }
            Line::Block(..) | Line::Filemark(_) => true,
        })
        .collect();
    // Where the refusal was told at load only, the object itself is read without a word.
    let of_load: Vec<_> = case.lines().into_iter().filter(|line| !wanted.contains(line)).collect();
    let rest: Vec<_> =
        found.iter().filter(|line| !of_load.iter().any(|other| other.place() == line.place())).cloned().collect();
    (!missing.is_empty() || rest != wanted)
        .then(|| format!("{}: missing {missing:?}; wanted {wanted:?}, found {found:?}, at load {at_load:?}", case.name))
}

#[test]
fn the_unit_agrees_with_the_corpus() {
    let pool = SealPool::start(1).expect("a thread");
    let folder = tempfile::tempdir().expect("a folder");
    let cases = case::cases();
    let tapes = cases.iter().filter(|case| !case.is_stream);
    let differences: Vec<_> = tapes.filter_map(|case| unit_difference(case, &cases, &pool, folder.path())).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
