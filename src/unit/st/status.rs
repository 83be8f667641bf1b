//! What a drive is doing, for those who must not wait for it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sealtape_drivers::fuse::Opener;

/// What the node is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Activity {
    /// Nobody has it open.
    #[default]
    Idle,
    /// Open, and neither reading nor writing.
    Open,
    /// Open, and reading.
    Reading,
    /// Open, and writing.
    Writing,
    /// In a motion of the tape (rewind, space, locate, erase, format).
    Moving,
    /// Loading or unloading.
    Loading,
    /// Putting accepted records on the medium.
    Synchronising,
    /// Used by the service itself.
    Service,
}

/// What went over the node since it exists. Bytes are the host's: as written and as delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Records delivered.
    pub records_read: u64,
    /// Bytes delivered.
    pub bytes_read: u64,
    /// Records accepted.
    pub records_written: u64,
    /// Bytes accepted.
    pub bytes_written: u64,
    /// Filemarks written.
    pub filemarks_written: u64,
    /// Commands that failed.
    pub errors: u64,
    /// Times the node was opened.
    pub opened: u64,
}

/// A snapshot of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StStatus {
    /// The drive's name.
    pub name: String,
    /// What it is doing now.
    pub activity: Activity,
    /// Who opened it.
    pub opener: Option<Opener>,
    /// A medium is loaded, as of the last open.
    pub loaded: bool,
    /// It is write protected.
    pub write_protected: bool,
    /// The current partition.
    pub partition: u8,
    /// Filemarks before the position, where known.
    pub file: Option<u32>,
    /// Records since the last filemark, where known.
    pub block: Option<u32>,
    /// At the end of recorded data.
    pub end_of_data: bool,
    /// Past early warning.
    pub early_warning: bool,
    /// Block length in fixed block mode, 0 in variable.
    pub block_size: u32,
    /// The drive lost its place; the host has to rewind or locate.
    pub position_lost: bool,
    /// What went over the node.
    pub counters: Counters,
    /// The last failure, in words.
    pub last_error: Option<String>,
}

/// Where the snapshot hangs. Its lock is held for a copy only.
pub(super) struct Board(Mutex<StStatus>);

impl Board {
    pub(super) fn new(name: String) -> Self {
        Self(Mutex::new(StStatus { name, ..StStatus::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, StStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> StStatus {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut StStatus)) {
        change(&mut self.lock());
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut self.lock().counters);
    }

    /// Shows a lengthy activity until the guard is dropped.
    pub(super) fn begin(self: &std::sync::Arc<Self>, activity: Activity) -> Busy {
        let before = std::mem::replace(&mut self.lock().activity, activity);
        Busy { board: std::sync::Arc::clone(self), before }
    }
}

pub(super) struct Busy {
    board: std::sync::Arc<Board>,
    before: Activity,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.board.lock().activity = self.before;
    }
}
