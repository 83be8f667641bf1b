//! Reading a sealed tape with a data key alone: no service, no catalogue, nothing written to the medium.
//!
//! What such a reader cannot see is said and not guessed: that the tape ends where it once ended
//! ([`Restored::END_NOT_PROVEN`]). What verified before a fault has been handed out, and the fault is an error; with
//! [`Selection::salvage`] reading goes on behind refused records, and each is reported.

mod folder;

use std::io;

use sealtape_drivers::medium::{DriveError, DriveErrorKind, Position, ReadOutcome, SpaceKind, TapeDrive};
use thiserror::Error;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::seal::opener::{CipherCache, check_record};
use crate::seal::{
    Chain, GenerationRecord, LABEL_LEN, MAX_PLAIN, OVERHEAD, OpeningKeys, Refusal, VolumeLabel, open_record,
};
use crate::volume::BeginningOfPartition;
use crate::volume::identity::{HIDDEN_FILEMARKS, HIDDEN_OBJECTS, RawObject, SealedBeginning, classify};
pub use folder::Folder;

/// What is to be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// The partition.
    pub partition: u8,
    /// One tape file (from 0) instead of all.
    pub file: Option<u64>,
    /// Go on behind what is refused.
    pub salvage: bool,
}

/// Where the plaintext goes: tape files, each a run of blocks between filemarks.
pub trait Sink {
    /// Bytes of tape file `file`; those of one file come in order, and files come in order.
    ///
    /// # Errors
    /// When they cannot be kept.
    fn write(&mut self, file: u64, plain: &[u8]) -> io::Result<()>;

    /// Everything was written.
    ///
    /// # Errors
    /// When something of it cannot be kept.
    fn finish(&mut self) -> io::Result<()>;
}

/// All tape files into one writer, one behind the other.
impl<W: io::Write> Sink for W {
    fn write(&mut self, _file: u64, plain: &[u8]) -> io::Result<()> {
        self.write_all(plain)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.flush()
    }
}

/// What was restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The volume.
    pub volume: Uuid,
    /// Generation of the partition.
    pub generation: u32,
    /// Records that verified.
    pub records: u64,
    /// Filemarks that were met.
    pub filemarks: u64,
    /// Bytes of plaintext.
    pub bytes: u64,
    /// The logical object number where reading ended.
    pub end: u64,
    /// What was refused, by logical object number (with [`Selection::salvage`]): the first thousand.
    pub refused: Vec<(u64, String)>,
    /// How much was refused.
    pub refused_total: u64,
}

impl Restored {
    /// Said of every restore without a catalogue.
    pub const END_NOT_PROVEN: &str =
        "end not proven: without the catalogue nothing tells whether something was cut off behind the last record";
    const REFUSED_LISTED: usize = 1000;
}

/// Why a restore ended early.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// There is no sealed volume.
    #[error("partition {partition} of {name} {what}")]
    NotSealed {
        /// The image or drive.
        name: String,
        /// The partition.
        partition: u8,
        /// What stands there instead.
        what: String,
    },
    /// Something on the medium is not what was sealed.
    #[error("volume {volume} in {name}, partition {partition}, {place}: {} ({})", .refusal.words(), .refusal.name())]
    Refused {
        /// The image or drive.
        name: String,
        /// The volume.
        volume: Uuid,
        /// The partition.
        partition: u8,
        /// Where: an object number as the host counts, or the generation record.
        place: String,
        /// Why.
        refusal: Refusal,
    },
    /// The drive failed.
    #[error("reading {name}: {source}")]
    Drive {
        /// The image or drive.
        name: String,
        /// What it said.
        source: DriveError,
    },
    /// The partition has fewer tape files.
    #[error(
        "volume {volume} in {name}, partition {partition}, has no tape file {file}: only {found} filemarks stand on it"
    )]
    NoSuchFile {
        /// The image or drive.
        name: String,
        /// The volume.
        volume: Uuid,
        /// The partition.
        partition: u8,
        /// The file that was asked for.
        file: u64,
        /// Filemarks that there are.
        found: u64,
    },
    /// The plaintext cannot be kept.
    #[error("writing what was restored: {0}")]
    Output(#[source] io::Error),
}

struct Reader<'a> {
    drive: &'a mut dyn TapeDrive,
    name: &'a str,
    partition: u8,
}

/// Restores from a loaded drive. `name` is for messages; `keys` is asked for the data key once the volume is known;
/// `progress` is told the bytes of plaintext so far.
///
/// # Errors
/// [`RestoreError`], or what `keys` says. What verified before has been given to `sink`.
pub fn restore<K: OpeningKeys, E: From<RestoreError>>(
    drive: &mut dyn TapeDrive,
    name: &str,
    selection: Selection,
    keys: impl FnOnce(&VolumeLabel, &GenerationRecord) -> Result<K, E>,
    sink: &mut dyn Sink,
    progress: impl FnMut(u64),
) -> Result<Restored, E> {
    let outcome = read_all(drive, name, selection, keys, sink, progress);
    // What came before a fault is authentic, and is to be kept.
    let finished = sink.finish().map_err(RestoreError::Output);
    let restored = outcome?;
    finished?;
    Ok(restored)
}

fn read_all<K: OpeningKeys, E: From<RestoreError>>(
    drive: &mut dyn TapeDrive,
    name: &str,
    selection: Selection,
    keys: impl FnOnce(&VolumeLabel, &GenerationRecord) -> Result<K, E>,
    sink: &mut dyn Sink,
    mut progress: impl FnMut(u64),
) -> Result<Restored, E> {
    let partition = selection.partition;
    let mut reader = Reader { drive, name, partition };
    let beginning = reader.beginning()?;
    let (label, generation) = (&beginning.label, &beginning.generation);
    let volume = label.volume;
    let keys = keys(label, generation)?;
    generation
        .verify(&keys, &beginning.generation_block, &beginning.label_block)
        .map_err(|refusal| reader.refused(volume, "generation record".into(), refusal))?;

    let mut chain = Chain::at_beginning(generation.first_session_ordinal);
    let mut file = 0;
    if let Some(wanted) = selection.file.filter(|wanted| *wanted > 0) {
        reader.skip_files(volume, wanted, &mut chain)?;
        file = wanted;
    }
    let mut restored = Restored {
        volume,
        generation: generation.scope.generation,
        records: 0,
        filemarks: 0,
        bytes: 0,
        end: 0,
        refused: Vec::new(),
        refused_total: 0,
    };
    let mut ciphers = CipherCache::default();
    // No longer than the drive's own blocks: a kernel may refuse to carry more, whatever its buffers hold.
    let longest = reader.drive.block_limits().map_err(|source| reader.failed(source))?.maximum as usize;
    let mut buffer = Zeroizing::new(vec![0; longest.min(MAX_PLAIN + OVERHEAD)]);
    let mut plain = Zeroizing::new(Vec::new());
    loop {
        let object = chain.object();
        let refusal = match reader.read(&mut buffer, selection.salvage, object)? {
            Read::Filemark if selection.file.is_some() => break,
            Read::Filemark => {
                chain.pass_filemark();
                restored.filemarks += 1;
                file += 1;
                continue;
            }
            Read::End => break,
            Read::Unreadable(words) => {
                restored.refuse(object, words);
                chain.pass_refused(Refusal::Truncated);
                continue;
            }
            Read::Block(length) => {
                let opened = check_record(&buffer[..length], &generation.scope, false, &chain).and_then(|header| {
                    let cipher = ciphers.cipher(&keys, header.session)?;
                    open_record(&header, &mut buffer[..length], &*cipher, &generation.scope, &mut plain)
                });
                match opened {
                    Ok(opened) => {
                        sink.write(file, &plain[..opened.plain_len]).map_err(RestoreError::Output)?;
                        chain.pass_record(opened.mark);
                        restored.records += 1;
                        restored.bytes += opened.plain_len as u64;
                        progress(restored.bytes);
                        continue;
                    }
                    Err(refusal) => refusal,
                }
            }
        };
        if !selection.salvage {
            return Err(reader.refused(volume, format!("object {object}"), refusal).into());
        }
        restored.refuse(object, format!("{} ({})", refusal.words(), refusal.name()));
        chain.pass_refused(refusal);
    }
    restored.end = chain.object();
    Ok(restored)
}

impl Restored {
    fn refuse(&mut self, object: u64, words: String) {
        self.refused_total += 1;
        if self.refused.len() < Self::REFUSED_LISTED {
            self.refused.push((object, words));
        }
    }
}

enum Read {
    Block(usize),
    Filemark,
    Unreadable(String),
    End,
}

impl Reader<'_> {
    fn failed(&self, source: DriveError) -> RestoreError {
        RestoreError::Drive { name: self.name.to_owned(), source }
    }

    fn refused(&self, volume: Uuid, place: String, refusal: Refusal) -> RestoreError {
        RestoreError::Refused { name: self.name.to_owned(), volume, partition: self.partition, place, refusal }
    }

    fn not_sealed(&self, what: impl Into<String>) -> RestoreError {
        RestoreError::NotSealed { name: self.name.to_owned(), partition: self.partition, what: what.into() }
    }

    /// Label and generation record of the partition; the position is behind them.
    fn beginning(&mut self) -> Result<SealedBeginning, RestoreError> {
        let partition = self.partition;
        let count = self.drive.medium_status().map_err(|e| self.failed(e))?.partitions;
        if partition >= count {
            return Err(self.not_sealed(format!("does not exist: it has {count}, numbered from 0")));
        }
        self.drive.locate(Position { partition, object: 0 }).map_err(|e| self.failed(e))?;
        let mut buffer = vec![0; crate::seal::generation::MAX_GENERATION_LEN + 1];
        let drive = &mut *self.drive;
        let classified = classify(partition, || match drive.read(&mut buffer) {
            Ok(ReadOutcome::Block { length }) => Ok(RawObject::Block(buffer[..length.min(buffer.len())].to_vec())),
            Ok(ReadOutcome::Filemark) => Ok(RawObject::Filemark),
            Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => Ok(RawObject::EndOfData),
            Err(error) if error.kind == DriveErrorKind::Medium => Ok(RawObject::Unreadable),
            Err(error) => Err(error),
        });
        let beginning = match classified.map_err(|e| self.failed(e))? {
            BeginningOfPartition::Sealed(beginning) => *beginning,
            BeginningOfPartition::Blank => return Err(self.not_sealed("is blank")),
            BeginningOfPartition::Foreign => return Err(self.not_sealed("is not sealed: it holds data in the clear")),
            BeginningOfPartition::Unreadable(refusal) => {
                return Err(self.not_sealed(format!(
                    "has a label that is refused: {} ({})",
                    refusal.words(),
                    refusal.name()
                )));
            }
            BeginningOfPartition::LabelOnly { label, refusal, .. } => {
                return Err(self.refused(label.volume, "generation record".into(), refusal));
            }
        };
        debug_assert_eq!(beginning.label_block.len(), LABEL_LEN);
        Ok(beginning)
    }

    fn skip_files(&mut self, volume: Uuid, file: u64, chain: &mut Chain) -> Result<(), RestoreError> {
        let count = i64::try_from(file).unwrap_or(i64::MAX);
        let spaced = self.drive.space(SpaceKind::Filemarks, count).map_err(|e| self.failed(e))?;
        if let Some((_, residue)) = spaced.stopped {
            let (name, partition) = (self.name.to_owned(), self.partition);
            return Err(RestoreError::NoSuchFile {
                name,
                volume,
                partition,
                file,
                found: file.saturating_sub(residue),
            });
        }
        let report = self.drive.read_position().map_err(|e| self.failed(e))?;
        chain.jump(report.position.object.saturating_sub(HIDDEN_OBJECTS));
        let counted = report.filemarks.map(|filemarks| filemarks.saturating_sub(HIDDEN_FILEMARKS));
        chain.learn_filemarks(counted.unwrap_or(file));
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], salvage: bool, object: u64) -> Result<Read, RestoreError> {
        match self.drive.read(buffer) {
            // A longer block than any record has is refused by its length.
            Ok(ReadOutcome::Block { length }) => Ok(Read::Block(length.min(buffer.len()))),
            Ok(ReadOutcome::Filemark) => Ok(Read::Filemark),
            Ok(ReadOutcome::EndOfData | ReadOutcome::EndOfPartition) => Ok(Read::End),
            Err(error) if salvage && error.kind == DriveErrorKind::Medium => {
                // Behind what cannot be read, if the drive can get there.
                let next = Position { partition: self.partition, object: object + 1 + HIDDEN_OBJECTS };
                match self.drive.locate(next) {
                    Ok(()) => Ok(Read::Unreadable(error.message)),
                    Err(_) => Err(self.failed(error)),
                }
            }
            Err(error) => Err(self.failed(error)),
        }
    }
}

#[cfg(test)]
mod tests;
