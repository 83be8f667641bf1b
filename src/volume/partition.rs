//! One partition of a loaded volume: its generation, where the host stands in it, and what a write there means.

use uuid::Uuid;

use super::keys::{KnownEnd, LoadedGeneration, NewGeneration, VolumePolicy};
use super::session_map::{SessionExtent, SessionMap};
use crate::seal::chain::Before;
use crate::seal::{
    Chain, GenerationScope, Header, Link, OpeningKeys, RecordMark, Refusal, ReleasedKeys, SessionSealer,
};

/// What has to happen before a write at the present place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritePlan {
    /// The open session goes on.
    Continue,
    /// A session has to be opened; what stands before is known.
    OpenSession {
        /// The new session's link.
        link: Link,
        /// Filemarks before its first object.
        filemarks: u64,
        /// Ordinal of the session of the record before, 0 when there is none.
        after_ordinal: u32,
    },
    /// The record before this place has to be found and verified first.
    ConfirmBefore,
    /// The write destroys what the generation holds from its beginning: a new generation has to be written.
    NewGeneration,
    /// The policy is append-only and this is not the end of data.
    NotAtEndOfData,
}

/// The generation of a partition that is in use.
pub struct Generation {
    /// Its keys.
    pub keys: ReleasedKeys,
    /// The data key's name.
    pub key_id: Uuid,
    /// The pool's policy.
    pub policy: VolumePolicy,
    /// The end of data at the last synchronisation, as the catalogue has it.
    pub known_end: Option<KnownEnd>,
    sessions: Option<SessionMap>,
}

impl Generation {
    /// What the keys belong to.
    pub fn scope(&self) -> &GenerationScope {
        self.keys.scope()
    }

    /// Whether a header agrees with the catalogue; always, when there is none.
    ///
    /// # Errors
    /// Those of [`KnownEnd::check`] and [`SessionMap::check`].
    pub fn check_catalogue(&self, header: &Header) -> Result<(), Refusal> {
        if let Some(end) = &self.known_end {
            end.check(header)?;
        }
        self.sessions.as_ref().map_or(Ok(()), |sessions| sessions.check(header))
    }

    /// Something is written at `object`: the end that was known before it holds no longer.
    fn written_at(&mut self, object: u64) {
        self.known_end = self.known_end.filter(|end| end.object <= object);
    }

    /// Why nothing may be sealed with its key any more, or never could be.
    pub fn not_sealing(&self) -> Option<&str> {
        match self.keys.sealing() {
            Some(_) => None,
            None => Some(self.keys.end_switch().sealing_ended().unwrap_or("the key was released for opening alone")),
        }
    }

    /// Whether nothing was ever written into it.
    pub fn is_unused(&self) -> bool {
        self.sessions.as_ref().is_some_and(SessionMap::is_empty)
    }
}

/// One partition.
pub struct PartitionState {
    /// The generation; `None` when the label stands alone.
    generation: Option<Generation>,
    chain: Chain,
    session: Option<SessionSealer>,
    /// The chain's `before` is the last record that was handed to the pipeline, whose tag is not known yet.
    before_in_flight: bool,
    at_end_of_data: bool,
}

impl PartitionState {
    /// A partition whose generation was released. The host stands at its beginning.
    pub fn loaded(loaded: LoadedGeneration, key_id: Uuid, first_session_ordinal: u32) -> Self {
        let known_end = loaded.content.as_ref().and_then(|content| content.end);
        let sessions = loaded.content.map(|content| SessionMap::new(&content.sessions));
        let generation = Generation { keys: loaded.keys, key_id, policy: loaded.policy, known_end, sessions };
        Self::at_beginning(Some(generation), first_session_ordinal)
    }

    /// A partition whose generation was just written.
    pub fn new_generation(new: NewGeneration) -> Self {
        let sessions = Some(SessionMap::default());
        let generation = Generation {
            keys: ReleasedKeys::Seals(new.keys),
            key_id: new.key_id,
            policy: new.policy,
            known_end: None,
            sessions,
        };
        let mut state = Self::at_beginning(Some(generation), new.first_session_ordinal);
        state.at_end_of_data = true;
        state
    }

    /// A partition with a label and nothing behind it, as a cut leaves it: empty, until a write starts a generation.
    pub fn label_only() -> Self {
        let mut state = Self::at_beginning(None, 1);
        state.at_end_of_data = true;
        state
    }

    fn at_beginning(generation: Option<Generation>, first_session_ordinal: u32) -> Self {
        Self {
            generation,
            chain: Chain::at_beginning(first_session_ordinal),
            session: None,
            before_in_flight: false,
            at_end_of_data: false,
        }
    }

    /// The generation in use.
    pub fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    /// Where the host stands.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Whether the end of data is known to be here.
    pub fn is_at_end_of_data(&self) -> bool {
        self.at_end_of_data
    }

    /// What a write of a record here needs.
    pub fn plan_write(&self) -> WritePlan {
        let Some(generation) = &self.generation else { return WritePlan::NewGeneration };
        if let Some(session) = &self.session {
            // The suite's limit for one session is reached long after the tape is full; it is checked all the same.
            if session.records() < generation.scope().suite.session_limit() {
                return WritePlan::Continue;
            }
        }
        if let Some(plan) = self.plan_overwrite() {
            return plan;
        }
        if self.before_in_flight {
            return WritePlan::ConfirmBefore;
        }
        self.plan_session()
    }

    /// A session here, once the record before this place is known.
    fn plan_session(&self) -> WritePlan {
        match (self.chain.before(), self.chain.filemarks()) {
            (Before::Beginning, Some(filemarks)) => {
                WritePlan::OpenSession { link: Link::BEGINNING, filemarks, after_ordinal: 0 }
            }
            (Before::Record(mark), Some(filemarks)) => {
                WritePlan::OpenSession { link: mark.link_after(), filemarks, after_ordinal: mark.session_ordinal }
            }
            (Before::Unknown | Before::Earlier(_), _) | (_, None) => WritePlan::ConfirmBefore,
        }
    }

    /// What a write of a filemark here needs, `None` for nothing. Where it removes synchronised data the catalogue has to
    /// know before, or a cut behind it would look like a tape that somebody cut short: a session is opened for that, in
    /// which nothing is sealed.
    pub fn plan_filemark(&self) -> Option<WritePlan> {
        let Some(generation) = &self.generation else { return Some(WritePlan::NewGeneration) };
        if let Some(plan) = self.plan_overwrite() {
            return Some(plan);
        }
        let object = self.chain.object();
        let shortens = !self.at_end_of_data && generation.known_end.is_some_and(|end| end.object > object);
        if self.before_in_flight {
            return shortens.then_some(WritePlan::ConfirmBefore);
        }
        // Without the record before, the catalogue could not be told afterwards what stands on the medium.
        match self.plan_session() {
            WritePlan::OpenSession { link, filemarks, after_ordinal } => {
                shortens.then_some(WritePlan::OpenSession { link, filemarks, after_ordinal })
            }
            other => Some(other),
        }
    }

    fn plan_overwrite(&self) -> Option<WritePlan> {
        let generation = self.generation.as_ref()?;
        if self.at_end_of_data {
            return None;
        }
        if generation.policy.append_only && !generation.is_unused() {
            return Some(WritePlan::NotAtEndOfData);
        }
        (self.chain.object() == 0 && !generation.is_unused()).then_some(WritePlan::NewGeneration)
    }

    /// Begins a session at the present place.
    pub fn begin_session(&mut self, session: SessionSealer, link: Link) {
        if let Some(generation) = &mut self.generation {
            generation.written_at(session.first_object());
        }
        if let Some(sessions) = self.generation.as_mut().and_then(|generation| generation.sessions.as_mut()) {
            sessions.open(SessionExtent {
                ordinal: session.session_ordinal(),
                session: session.session(),
                first_object: session.first_object(),
                link,
                confirmed: false,
            });
        }
        self.session = Some(session);
    }

    /// The open session, for reserving the next record.
    pub fn session_mut(&mut self) -> Option<(&mut SessionSealer, &Chain)> {
        self.session.as_mut().map(|session| (session, &self.chain))
    }

    /// A record was reserved here and handed to the pipeline.
    pub fn pass_submitted(&mut self) {
        self.chain.skip(1, 0);
        self.before_in_flight = true;
        self.at_end_of_data = true;
    }

    /// Filemarks were written here, or handed to the pipeline.
    pub fn pass_written_filemarks(&mut self, count: u32) {
        if let Some(generation) = &mut self.generation {
            generation.written_at(self.chain.object());
        }
        (0..count).for_each(|_| self.chain.pass_filemark());
        self.at_end_of_data = true;
    }

    /// Everything that was submitted stands behind us; `last` is the last record of it.
    pub fn settle(&mut self, last: Option<RecordMark>) {
        if !self.before_in_flight {
            return;
        }
        let Some(last) = last else { return };
        let (object, filemarks) = (self.chain.object(), self.chain.filemarks());
        self.chain.pass_record(last);
        if let Some(filemarks) = filemarks {
            for _ in last.filemarks..filemarks {
                self.chain.pass_filemark();
            }
        }
        debug_assert_eq!(self.chain.object(), object);
        self.before_in_flight = false;
        if let Some(sessions) = self.generation.as_mut().and_then(|generation| generation.sessions.as_mut()) {
            sessions.confirm(last.session_ordinal);
        }
    }

    /// The end of data here, for the catalogue; `None` while records are in flight or the place is not known.
    pub fn known_end(&self) -> Option<KnownEnd> {
        if self.before_in_flight || !self.at_end_of_data {
            return None;
        }
        let filemarks = self.chain.filemarks()?;
        let (last_record, session_ordinal) = match self.chain.before() {
            Before::Beginning => (None, 0),
            Before::Record(mark) => (Some((mark.object, mark.tag)), mark.session_ordinal),
            Before::Unknown | Before::Earlier(_) => return None,
        };
        Some(KnownEnd { object: self.chain.object(), filemarks, last_record, session_ordinal })
    }

    /// A synchronising command covered everything up to here.
    pub fn remember_end(&mut self, end: KnownEnd) {
        if let Some(generation) = &mut self.generation {
            generation.known_end = Some(end);
            if let Some(sessions) = &mut generation.sessions {
                sessions.end_with(end.session_ordinal);
            }
        }
    }

    /// The session ends: the tape moved, something failed, or the direction turned.
    pub fn end_session(&mut self) {
        self.session = None;
    }

    /// The host stands at `object` after a motion, with so many filemarks before it if that is known.
    pub fn moved(&mut self, object: u64, filemarks: Option<u64>) {
        self.end_session();
        self.before_in_flight = false;
        if object != self.chain.object() || object == 0 {
            self.chain.jump(object);
        }
        if let Some(filemarks) = filemarks {
            self.chain.learn_filemarks(filemarks);
        }
        self.at_end_of_data = self.generation.is_none();
    }

    /// Everything behind this place was erased.
    pub fn erased(&mut self) {
        self.end_session();
        if let Some(generation) = &mut self.generation {
            generation.written_at(self.chain.object());
        }
        self.at_end_of_data = true;
    }

    /// The end of data was met here.
    pub fn meet_end_of_data(&mut self) {
        self.at_end_of_data = true;
    }

    /// The position has become unknown: it has to be asked for before anything else.
    pub fn lose_position(&mut self) {
        self.end_session();
        self.before_in_flight = false;
        self.at_end_of_data = false;
    }

    /// A filemark was read (or passed) here.
    pub fn pass_filemark(&mut self) {
        self.end_session();
        self.chain.pass_filemark();
        self.at_end_of_data = false;
    }

    /// A record was read and verified here.
    pub fn pass_record(&mut self, mark: RecordMark) {
        self.end_session();
        self.chain.pass_record(mark);
        self.at_end_of_data = false;
    }

    /// A record was read and refused here.
    pub fn pass_refused(&mut self, refusal: Refusal) {
        self.end_session();
        self.chain.pass_refused(refusal);
        self.at_end_of_data = false;
    }

    /// The record before this place was found and verified; only filemarks stand between.
    pub fn confirm_before(&mut self, mark: Option<RecordMark>) {
        let object = self.chain.object();
        match mark {
            None => {
                self.chain.jump(0);
                self.chain.skip(0, object);
            }
            Some(mark) => {
                self.chain.pass_record(mark);
                self.chain.skip(0, object - mark.object - 1);
            }
        }
        self.before_in_flight = false;
    }
}
