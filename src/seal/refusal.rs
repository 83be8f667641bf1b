//! Why something on the medium is refused. Names are stable: the specification and both readers use them.

use std::fmt;

/// Why a label, generation record, record or stream is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "each is described by `words`")]
pub enum Refusal {
    Blank,
    Foreign,
    DamagedLabel,
    UnknownVersion,
    NoGeneration,
    BadLayout,
    DamagedGeneration,
    WrongVolume,
    WrongKey,
    BadGenerationMac,
    Truncated,
    BadMagic,
    BadCrc,
    WrongKind,
    UnknownSuite,
    SuiteMismatch,
    UnknownCompression,
    BadReserved,
    BadLengths,
    WrongPartition,
    WrongGeneration,
    WrongPlace,
    WrongFilemarks,
    SessionOrder,
    BadLink,
    RolledBack,
    UnknownSession,
    BadTag,
    BadCompression,
    NoFinal,
    TrailingData,
    CutShort,
}

impl Refusal {
    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Foreign => "foreign",
            Self::DamagedLabel => "damaged-label",
            Self::UnknownVersion => "unknown-version",
            Self::NoGeneration => "no-generation",
            Self::BadLayout => "bad-layout",
            Self::DamagedGeneration => "damaged-generation",
            Self::WrongVolume => "wrong-volume",
            Self::WrongKey => "wrong-key",
            Self::BadGenerationMac => "bad-generation-mac",
            Self::Truncated => "truncated",
            Self::BadMagic => "bad-magic",
            Self::BadCrc => "bad-crc",
            Self::WrongKind => "wrong-kind",
            Self::UnknownSuite => "unknown-suite",
            Self::SuiteMismatch => "suite-mismatch",
            Self::UnknownCompression => "unknown-compression",
            Self::BadReserved => "bad-reserved",
            Self::BadLengths => "bad-lengths",
            Self::WrongPartition => "wrong-partition",
            Self::WrongGeneration => "wrong-generation",
            Self::WrongPlace => "wrong-place",
            Self::WrongFilemarks => "wrong-filemarks",
            Self::SessionOrder => "session-order",
            Self::BadLink => "bad-link",
            Self::RolledBack => "rolled-back",
            Self::UnknownSession => "unknown-session",
            Self::BadTag => "bad-tag",
            Self::BadCompression => "bad-compression",
            Self::NoFinal => "no-final",
            Self::TrailingData => "trailing-data",
            Self::CutShort => "cut-short",
        }
    }

    /// What that means, for an operator.
    pub fn words(self) -> &'static str {
        match self {
            Self::Blank => "nothing is recorded on the medium",
            Self::Foreign => "the medium begins with something that Sealtape did not write",
            Self::DamagedLabel => "the volume label is damaged",
            Self::UnknownVersion => "written by a newer version of the format",
            Self::NoGeneration => "the label stands alone: no generation record follows it",
            Self::BadLayout => "what follows the label is not a filemark and a generation record",
            Self::DamagedGeneration => "the generation record is damaged",
            Self::WrongVolume => "the generation record belongs to another volume than the label",
            Self::WrongKey => "this data key is not the one the volume was sealed with",
            Self::BadGenerationMac => "label or generation record were changed after they were written",
            Self::Truncated => "the record is shorter than its envelope",
            Self::BadMagic => "this block is not a sealed record (clear text where sealed data was expected)",
            Self::BadCrc => "the checksum of the record is wrong: the medium is damaged here",
            Self::WrongKind => "a record or label of another kind than the place asks for",
            Self::UnknownSuite => "sealed with a suite that this version does not know",
            Self::SuiteMismatch => "sealed with another suite than the generation's",
            Self::UnknownCompression => "compressed in a way that this version does not know",
            Self::BadReserved => "reserved bytes of the header are not zero",
            Self::BadLengths => "the lengths in the header do not fit the record",
            Self::WrongPartition => "the record or label belongs to another partition",
            Self::WrongGeneration => "the record belongs to another generation of the volume",
            Self::WrongPlace => "the record belongs to another place on the tape",
            Self::WrongFilemarks => "a filemark was added or removed before this record",
            Self::SessionOrder => "the record belongs to a session that was written over",
            Self::BadLink => "the record's session does not follow the one that stands before it",
            Self::RolledBack => {
                "the catalogue says that a later session wrote this place: the medium was put back to an earlier state"
            }
            Self::UnknownSession => "the catalogue does not know the session that wrote this record",
            Self::BadTag => "the record was changed after it was sealed, or belongs to another volume",
            Self::BadCompression => "the record's compressed content does not have the length it names",
            Self::NoFinal => "the stream ends before its final record",
            Self::TrailingData => "something follows the final record of the stream",
            Self::CutShort => "the medium ends before the place that the catalogue knows",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.words(), self.name())
    }
}

impl std::error::Error for Refusal {}
