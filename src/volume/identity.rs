//! What stands at the beginning of a partition.

use crate::seal::{GenerationRecord, LABEL_LEN, Refusal, VolumeKind, VolumeLabel};

/// Objects before the host's first: label, filemark, generation record.
pub const HIDDEN_OBJECTS: u64 = 3;
/// Filemarks among them.
pub const HIDDEN_FILEMARKS: u64 = 1;
/// Physical object number of the generation record.
pub const GENERATION_OBJECT: u64 = 2;

/// One object as it was read from the medium, or why it could not be.
#[derive(Debug)]
pub enum RawObject {
    /// A block.
    Block(Vec<u8>),
    /// A filemark.
    Filemark,
    /// End of data.
    EndOfData,
    /// The drive could not read it.
    Unreadable,
}

/// The beginning of a partition, classified.
#[derive(Debug)]
pub enum BeginningOfPartition {
    /// Nothing is recorded.
    Blank,
    /// Something that Sealtape did not write.
    Foreign,
    /// A label that cannot be believed, that belongs elsewhere, or that the drive cannot read.
    Unreadable(Refusal),
    /// A label alone: its generation record is missing or damaged, as a cut while it was written leaves it.
    LabelOnly {
        /// The label.
        label: VolumeLabel,
        /// Its block.
        label_block: Box<[u8; LABEL_LEN]>,
        /// What is wrong with the generation record.
        refusal: Refusal,
    },
    /// Label and generation record.
    Sealed(Box<SealedBeginning>),
}

/// Label and generation record, with the bytes that the record's MAC is over.
#[derive(Debug)]
pub struct SealedBeginning {
    /// The label.
    pub label: VolumeLabel,
    /// Its block.
    pub label_block: [u8; LABEL_LEN],
    /// The generation record.
    pub generation: GenerationRecord,
    /// Its block.
    pub generation_block: Vec<u8>,
}

/// Classifies object 0; `Ok` when the objects behind it have to be looked at.
fn label_of(object: &RawObject, partition: u8) -> Result<(VolumeLabel, [u8; LABEL_LEN]), BeginningOfPartition> {
    match object {
        RawObject::EndOfData => Err(BeginningOfPartition::Blank),
        RawObject::Filemark => Err(BeginningOfPartition::Foreign),
        RawObject::Unreadable => Err(BeginningOfPartition::Unreadable(Refusal::DamagedLabel)),
        RawObject::Block(block) => match (VolumeLabel::parse(block), block.first_chunk::<LABEL_LEN>()) {
            (Ok(label), Some(_)) if label.kind != VolumeKind::Tape => {
                Err(BeginningOfPartition::Unreadable(Refusal::WrongKind))
            }
            (Ok(label), Some(_)) if label.partition != partition => {
                Err(BeginningOfPartition::Unreadable(Refusal::WrongPartition))
            }
            (Ok(label), Some(bytes)) => Ok((label, *bytes)),
            (Err(Refusal::Foreign), _) => Err(BeginningOfPartition::Foreign),
            (Err(refusal), _) => Err(BeginningOfPartition::Unreadable(refusal)),
            (Ok(_), None) => Err(BeginningOfPartition::Unreadable(Refusal::DamagedLabel)),
        },
    }
}

/// Classifies the first three objects of `partition`. `next` gives one object after the other and is asked for no
/// more than is needed.
///
/// # Errors
/// Those of `next`.
pub fn classify<E>(partition: u8, mut next: impl FnMut() -> Result<RawObject, E>) -> Result<BeginningOfPartition, E> {
    let (label, label_block) = match label_of(&next()?, partition) {
        Ok(label) => label,
        Err(other) => return Ok(other),
    };
    let alone =
        |refusal| BeginningOfPartition::LabelOnly { label: label.clone(), label_block: Box::new(label_block), refusal };
    match next()? {
        RawObject::Filemark => {}
        RawObject::Block(_) => return Ok(alone(Refusal::BadLayout)),
        RawObject::EndOfData | RawObject::Unreadable => return Ok(alone(Refusal::NoGeneration)),
    }
    let generation_block = match next()? {
        RawObject::Block(block) => block,
        RawObject::Filemark => return Ok(alone(Refusal::BadLayout)),
        RawObject::EndOfData => return Ok(alone(Refusal::NoGeneration)),
        RawObject::Unreadable => return Ok(alone(Refusal::DamagedGeneration)),
    };
    Ok(match GenerationRecord::parse(&generation_block, &label) {
        Ok(generation) => {
            BeginningOfPartition::Sealed(Box::new(SealedBeginning { label, label_block, generation, generation_block }))
        }
        Err(refusal) => alone(refusal),
    })
}
