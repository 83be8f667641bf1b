//! What has to follow what: the rules by which a reader, going forward, notices records that were exchanged,
//! filemarks that were added or removed, and sessions that were put back.

use sha2::{Digest, Sha256};

use super::envelope::Header;
use super::keys::SessionId;
use super::refusal::Refusal;
use super::suite::TAG_LEN;

/// 16 bytes that tie a session to the record that stands before its first object.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Link(pub [u8; 16]);

impl Link {
    /// No record stands before the session in this generation.
    pub const BEGINNING: Self = Self([0; 16]);

    /// The link of a session whose first object comes behind a record of `session` with `tag`.
    pub fn after(session: SessionId, tag: &[u8; TAG_LEN]) -> Self {
        let digest =
            Sha256::new().chain_update(b"sealtape link 1").chain_update(session.0).chain_update(tag).finalize();
        let mut link = [0; 16];
        link.copy_from_slice(&digest[..16]);
        Self(link)
    }
}

/// A verified record, as far as the next one depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMark {
    /// Its session.
    pub session: SessionId,
    /// Its session's ordinal.
    pub session_ordinal: u32,
    /// Its session's first object.
    pub first_object: u64,
    /// Its session's link.
    pub link: Link,
    /// Its seal counter.
    pub seal_counter: u64,
    /// Its object number.
    pub object: u64,
    /// Filemarks before it.
    pub filemarks: u64,
    /// Its tag.
    pub tag: [u8; TAG_LEN],
}

impl RecordMark {
    /// The mark of a record whose tag was verified.
    pub fn new(header: &Header, tag: [u8; TAG_LEN]) -> Self {
        Self {
            session: header.session,
            session_ordinal: header.session_ordinal,
            first_object: header.first_object,
            link: header.link,
            seal_counter: header.seal_counter,
            object: header.object,
            filemarks: header.filemarks,
            tag,
        }
    }

    /// The link of a session that begins behind this record.
    pub fn link_after(&self) -> Link {
        Link::after(self.session, &self.tag)
    }
}

/// What stands before a place, with nothing but filemarks between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before {
    /// The beginning of the generation.
    Beginning,
    /// This record.
    Record(RecordMark),
    /// This record stands somewhere before, but not next to here: a jump forward or a refused record lies between.
    Earlier(RecordMark),
    /// Nothing is known.
    Unknown,
}

/// Where a reader (or writer) stands in a generation, and what it knows of what stands before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    object: u64,
    filemarks: Option<u64>,
    before: Before,
    first_ordinal: u32,
}

impl Chain {
    /// At logical object 0 of a generation whose sessions begin at `first_ordinal`.
    pub fn at_beginning(first_ordinal: u32) -> Self {
        Self { object: 0, filemarks: Some(0), before: Before::Beginning, first_ordinal }
    }

    /// At `object`, reached by a jump: its filemarks are not known, nor what stands next before it.
    pub fn jump(&mut self, object: u64) {
        if object == 0 {
            *self = Self::at_beginning(self.first_ordinal);
        } else if object != self.object {
            *self = Self { object, filemarks: None, before: self.before.at_a_distance(object), ..*self };
        }
    }

    /// The drive's count of filemarks before this place, where the reader has none of its own.
    pub fn learn_filemarks(&mut self, filemarks: u64) {
        self.filemarks.get_or_insert(filemarks);
    }

    /// Number of the next logical object.
    pub fn object(&self) -> u64 {
        self.object
    }

    /// Filemarks before it, when they could be counted.
    pub fn filemarks(&self) -> Option<u64> {
        self.filemarks
    }

    /// What stands before.
    pub fn before(&self) -> &Before {
        &self.before
    }

    /// The next object was a filemark.
    pub fn pass_filemark(&mut self) {
        self.object += 1;
        self.filemarks = self.filemarks.map(|count| count + 1);
    }

    /// The next objects, `blocks` records and `filemarks` filemarks, were passed without being read.
    pub fn skip(&mut self, blocks: u64, filemarks: u64) {
        self.object += blocks + filemarks;
        self.filemarks = self.filemarks.map(|count| count + filemarks);
        if blocks > 0 {
            self.before = self.before.at_a_distance(self.object);
        }
    }

    /// The next object was a record, and was verified (or just sealed).
    pub fn pass_record(&mut self, mark: RecordMark) {
        self.object = mark.object + 1;
        self.filemarks = Some(mark.filemarks);
        self.before = Before::Record(mark);
    }

    /// The next object was a record, and was refused. It is one object all the same, so that filemarks stay counted,
    /// unless their count was what was wrong: then the next verified record tells it.
    pub fn pass_refused(&mut self, refusal: Refusal) {
        self.object += 1;
        self.before = self.before.at_a_distance(self.object);
        if refusal == Refusal::WrongFilemarks {
            self.filemarks = None;
        }
    }

    /// Whether a record with this header may stand here. Says nothing of its tag.
    pub fn check(&self, header: &Header) -> Result<(), Refusal> {
        if header.object != self.object {
            return Err(Refusal::WrongPlace);
        }
        if self.filemarks.is_some_and(|filemarks| filemarks != header.filemarks) {
            return Err(Refusal::WrongFilemarks);
        }
        if header.session_ordinal < self.first_ordinal {
            return Err(Refusal::SessionOrder);
        }
        match &self.before {
            Before::Unknown => Ok(()),
            Before::Beginning => check_first(header),
            Before::Record(before) => check_next(before, header),
            Before::Earlier(before) => check_later(before, header),
        }
    }
}

impl Before {
    /// What is left of this for a place that is not next to it.
    fn at_a_distance(self, object: u64) -> Self {
        match self {
            Self::Record(mark) | Self::Earlier(mark) if mark.object < object => Self::Earlier(mark),
            Self::Record(_) | Self::Earlier(_) | Self::Beginning | Self::Unknown => Self::Unknown,
        }
    }
}

/// The first record of a generation.
fn check_first(header: &Header) -> Result<(), Refusal> {
    ordered(header.seal_counter == 0 && header.first_object == header.object)?;
    linked(header.link == Link::BEGINNING)
}

/// The record next behind `before`, with nothing but filemarks between.
fn check_next(before: &RecordMark, header: &Header) -> Result<(), Refusal> {
    if header.filemarks.checked_sub(before.filemarks) != Some(header.object - before.object - 1) {
        return Err(Refusal::WrongFilemarks);
    }
    if header.session == before.session {
        ordered(
            header.session_ordinal == before.session_ordinal
                && header.first_object == before.first_object
                && before.seal_counter.checked_add(1) == Some(header.seal_counter),
        )?;
        return linked(header.link == before.link);
    }
    ordered(
        header.session_ordinal > before.session_ordinal
            && header.first_object == header.object
            && header.seal_counter == 0,
    )?;
    linked(header.link == before.link_after())
}

/// A record somewhere behind `before`.
fn check_later(before: &RecordMark, header: &Header) -> Result<(), Refusal> {
    if header.session == before.session {
        ordered(
            header.session_ordinal == before.session_ordinal
                && header.first_object == before.first_object
                && header.seal_counter > before.seal_counter,
        )?;
        return linked(header.link == before.link);
    }
    ordered(
        header.session_ordinal > before.session_ordinal
            && header.first_object > before.object
            && header.first_object <= header.object,
    )
}

fn ordered(condition: bool) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(Refusal::SessionOrder) }
}

fn linked(condition: bool) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(Refusal::BadLink) }
}
