//! The check of the whole catalogue in the background: from a connection of its own, piece by piece.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};

use super::super::Authority;
use crate::catalogue::{Actor, Entry, Scrub, check_database};
use crate::custody::{Outcome, op};
use crate::fault::damaged;
use crate::protocol::{Refusal, ScrubState, ScrubView};
use crate::time;

/// How hard the check works.
#[derive(Debug, Clone, Copy)]
pub struct ScrubPace {
    /// Rows per piece.
    pub rows: u64,
    /// Rest after each piece; and after every hundred thousand steps of SQLite's own check.
    pub rest: Duration,
}

impl Default for ScrubPace {
    /// About half of a processor, at most.
    fn default() -> Self {
        Self { rows: 500, rest: Duration::from_millis(20) }
    }
}

impl Authority {
    /// Checks the whole log, the rows tied to it, and the database, until `stop`. A fault is entered, is told in the status, and
    /// from then on no key is released. True if everything was checked.
    ///
    /// # Errors
    /// The fault.
    pub fn scrub(&self, pace: ScrubPace, stop: &Arc<AtomicBool>) -> Result<bool, Refusal> {
        let begun = Instant::now();
        match self.scrub_all(pace, stop) {
            Ok(true) => {
                let entries = self.scrub_view().entries;
                tracing::info!(
                    entries,
                    seconds = begun.elapsed().as_secs(),
                    "the whole catalogue was checked: no fault"
                );
                self.note_scrub(|view| {
                    view.state = ScrubState::Clean;
                    view.finished = Some(time::now());
                });
                Ok(true)
            }
            Ok(false) => {
                self.note_scrub(|view| view.state = ScrubState::Stopped);
                Ok(false)
            }
            Err(fault) => {
                self.found_fault(&fault);
                Err(fault)
            }
        }
    }

    fn scrub_all(&self, pace: ScrubPace, stop: &Arc<AtomicBool>) -> Result<bool, Refusal> {
        let signer = self.lock().log().signer.as_ref().clone();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut sql = Connection::open_with_flags(self.home.catalogue(), flags)?;
        sql.busy_timeout(Duration::from_secs(5))?;
        sql.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
        let mut scrub = Scrub::new(&sql, signer)?;
        self.note_scrub(|view| {
            *view = ScrubView { state: ScrubState::Running, of: scrub.progress().1, ..ScrubView::default() };
        });
        while !scrub.step(&sql, pace.rows)? {
            self.note_scrub(|view| view.entries = scrub.progress().0);
            if stop.load(Ordering::Acquire) {
                return Ok(false);
            }
            std::thread::sleep(pace.rest);
        }
        // SQLite's checks are single statements: they rest in the handler that SQLite calls along the way.
        check_database(&mut sql, pace.rest, stop)
    }

    /// Where the check stands.
    #[must_use]
    pub fn scrub_view(&self) -> ScrubView {
        self.scrub.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_scrub(&self, change: impl FnOnce(&mut ScrubView)) {
        change(&mut self.scrub.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Stops releases, then enters the fault: in this order, since entering may fail.
    fn found_fault(&self, fault: &Refusal) {
        tracing::error!("the catalogue has a fault; no key is released any more: {fault}");
        let held = damaged(format!("the check in the background found: {}", fault.what));
        let mut catalogue = self.lock();
        // An earlier fault stands as well as this one.
        let _ = catalogue.log().fault().set(held);
        self.note_scrub(|view| {
            view.state = ScrubState::Fault;
            view.fault = Some(fault.clone());
            view.finished = Some(time::now());
        });
        let entry = Entry::new(Actor::Service, op::LOG_FAULT, Outcome::Failed).reason(&fault.what);
        if let Err(e) = catalogue.change(|c| c.record(entry)) {
            tracing::error!("the fault could not be entered into the custody log: {e}");
        }
    }
}
