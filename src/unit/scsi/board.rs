//! What a unit is doing, for those who must not wait for its drive.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::unit::st::Counters;

/// A snapshot of a unit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BoardStatus {
    /// The service itself uses the drive now.
    pub service: bool,
    /// A command of the host is being executed now.
    pub executing: bool,
    /// The host has prevented the removal of the medium.
    pub removal_prevented: bool,
    /// What went over the unit since it exists. Bytes are the host's.
    pub counters: Counters,
    /// The last failure, in words.
    pub last_error: Option<String>,
}

/// Where the snapshot hangs. Its lock is held for a copy only.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<BoardStatus>);

impl Board {
    fn lock(&self) -> MutexGuard<'_, BoardStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> BoardStatus {
        self.lock().clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut BoardStatus)) {
        change(&mut self.lock());
    }
}
