//! Which session wrote which place, as the catalogue knows it.
//!
//! Sessions are handed out in order, and each one removes everything behind its first object when its first record
//! is written. So the session that stands at a place is the newest whose first object is not behind it; unless that
//! one never wrote (a crash between being opened and its first record), in which case the one before it may still
//! stand there. A session is *confirmed* when a synchronisation was reported for it or a later session was opened
//! behind one of its records.

use crate::seal::{Header, Link, Refusal, SessionId};

/// One session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionExtent {
    /// Its ordinal.
    pub ordinal: u32,
    /// Its name.
    pub session: SessionId,
    /// Its first object.
    pub first_object: u64,
    /// What stands before it.
    pub link: Link,
    /// Something of it is known to stand on the medium.
    pub confirmed: bool,
}

/// The sessions that can still be met, by rising first object and ordinal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionMap {
    sessions: Vec<SessionExtent>,
    used: bool,
}

impl SessionMap {
    /// Builds the map from all sessions of a generation, in the order of their ordinals.
    pub fn new(sessions: &[SessionExtent]) -> Self {
        let mut map = Self::default();
        for session in sessions {
            map.open(*session);
        }
        map
    }

    /// A session was opened. What a confirmed one wrote over is forgotten.
    pub fn open(&mut self, session: SessionExtent) {
        self.sessions.push(session);
        if session.confirmed {
            self.confirm(session.ordinal);
        }
    }

    /// A record of this session stands on the medium.
    pub fn confirm(&mut self, ordinal: u32) {
        let Some(at) = self.sessions.iter().rposition(|session| session.ordinal == ordinal) else { return };
        let told_again = self.sessions[at].confirmed;
        self.sessions[at].confirmed = true;
        if told_again && at + 1 == self.sessions.len() && at > 0 && self.sessions[at - 1].confirmed {
            // Told again at every synchronisation; what it hides was removed the first time.
            return;
        }
        let first_object = self.sessions[at].first_object;
        self.sessions.retain(|session| session.ordinal >= ordinal || session.first_object < first_object);
    }

    /// A synchronising command covered everything, and the last record on the medium is of session `ordinal` (0: there
    /// is no record): no later session has a record there, and none of them will write again.
    pub fn end_with(&mut self, ordinal: u32) {
        self.used |= !self.sessions.is_empty();
        self.sessions.retain(|session| session.ordinal <= ordinal);
    }

    /// Whether any session was ever opened in the generation.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty() && !self.used
    }

    /// Whether a verified record with this header may stand at its place.
    ///
    /// # Errors
    /// [`Refusal::RolledBack`] when a later session is known to have written there, [`Refusal::UnknownSession`] when
    /// the catalogue knows nothing of the record's session.
    pub fn check(&self, header: &Header) -> Result<(), Refusal> {
        for session in self.sessions.iter().rev().filter(|session| session.first_object <= header.object) {
            let same = session.session == header.session
                && session.ordinal == header.session_ordinal
                && session.first_object == header.first_object
                && session.link == header.link;
            if same {
                return Ok(());
            }
            if session.confirmed && session.ordinal > header.session_ordinal {
                return Err(Refusal::RolledBack);
            }
        }
        Err(Refusal::UnknownSession)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::{Compression, RecordKind, Suite};

    fn extent(ordinal: u32, first_object: u64, confirmed: bool) -> SessionExtent {
        SessionExtent {
            ordinal,
            session: SessionId([ordinal as u8; 16]),
            first_object,
            link: Link::BEGINNING,
            confirmed,
        }
    }

    fn header(extent: &SessionExtent, object: u64) -> Header {
        Header {
            kind: RecordKind::TapeBlock,
            suite: Suite::AES_256_GCM_SIV,
            compression: Compression::NONE,
            partition: 0,
            generation: 1,
            session_ordinal: extent.ordinal,
            plain_len: 1,
            stored_len: 1,
            session: extent.session,
            link: extent.link,
            first_object: extent.first_object,
            seal_counter: object - extent.first_object,
            object,
            filemarks: 0,
        }
    }

    #[test]
    fn a_confirmed_session_hides_what_it_wrote_over() {
        let (a, b) = (extent(1, 0, true), extent(2, 5, true));
        let map = SessionMap::new(&[a, b]);
        assert_eq!(map.check(&header(&a, 4)), Ok(()));
        assert_eq!(map.check(&header(&a, 5)), Err(Refusal::RolledBack));
        assert_eq!(map.check(&header(&b, 9)), Ok(()));
        let c = extent(3, 2, true);
        let map = SessionMap::new(&[a, b, c]);
        assert_eq!(map.check(&header(&b, 9)), Err(Refusal::RolledBack));
        assert_eq!(map.check(&header(&a, 1)), Ok(()));
    }

    #[test]
    fn a_session_that_may_never_have_written_hides_nothing_yet() {
        let (a, b) = (extent(1, 0, true), extent(2, 5, false));
        let mut map = SessionMap::new(&[a, b]);
        assert_eq!(map.check(&header(&a, 7)), Ok(()));
        assert_eq!(map.check(&header(&b, 7)), Ok(()));
        map.confirm(2);
        assert_eq!(map.check(&header(&a, 7)), Err(Refusal::RolledBack));
    }
}
