//! What leaves the installation, a key or a wrapped copy of one, waits here for its entry to be anchored.

use std::sync::PoisonError;
use std::time::Instant;

use super::super::Authority;
use super::view;
use crate::catalogue::{Actor, Change, Entry, leaf_text};
use crate::custody::{Leaf, Outcome, op};
use crate::fault::damaged;
use crate::protocol::{Refusal, RefusalCode};

impl Authority {
    /// Has to be called between the durable entry `leaf` of a key's release and the key's leaving: by policy it waits until a checkpoint
    /// that covers the entry is anchored. If it refuses, the key must not leave; that it did not is entered.
    ///
    /// # Errors
    /// `Damaged` if an anchor knows another history, `NotAnchored` if the anchors did not take the checkpoint in time; or what
    /// signing it failed with.
    pub(in crate::authority) fn before_key_leaves(&self, leaf: u64) -> Result<(), Refusal> {
        self.before_it_leaves("the key", leaf, leaf, |_| Ok(()))
    }

    /// The same for anything else with keys in it: `named` is the entry that tells of it, `last` the last of its entries. `take_back` runs
    /// in the transaction that enters that it did not leave, and corrects what the catalogue says of it.
    ///
    /// # Errors
    /// As [`Authority::before_key_leaves`].
    pub(in crate::authority) fn before_it_leaves(
        &self,
        what: &str,
        named: u64,
        last: u64,
        take_back: impl FnOnce(&Change<'_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let Err(refusal) = self.anchored_for(last) else { return Ok(()) };
        let withheld = self.lock().change(|c| {
            take_back(c)?;
            let of = Leaf::parse(&leaf_text(&c.sql, named)?).map_err(damaged)?;
            let reason = format!("{what} of entry {named} did not leave: {}", refusal.what);
            let mut entry = Entry::new(Actor::Service, op::KEY_WITHHELD, Outcome::Refused).reason(reason);
            if let (Some(volume), Some(key)) = (of.volume, of.key) {
                entry = entry.volume(volume).key(key);
            }
            c.record(entry)
        });
        if let Err(e) = withheld {
            tracing::error!(
                "that {what} of entry {named} did not leave could not be entered into the custody log: {e}"
            );
        }
        Err(refusal)
    }

    /// Whether the anchors take what stands in the log now. Asked before something is made that could not leave otherwise, and before
    /// approvals, which count once, are used for it.
    ///
    /// # Errors
    /// As [`Authority::before_key_leaves`].
    pub(in crate::authority) fn anchors_reach(&self) -> Result<(), Refusal> {
        let size = self.lock().log().edge.size();
        size.checked_sub(1).map_or(Ok(()), |newest| self.anchored_for(newest))
    }

    fn anchored_for(&self, leaf: u64) -> Result<(), Refusal> {
        self.anchors_allow()?;
        let board = &self.anchors.board;
        if !board.policy.before_release {
            return Ok(());
        }
        let asked = Instant::now();
        self.sign_covering(leaf, asked)?;
        let left = board.policy.deadline.saturating_sub(asked.elapsed());
        if board.wait(left, |board, state| board.quorum_size(state, true) > leaf)? {
            return Ok(());
        }
        let what = format!(
            "entry {leaf} of the custody log was not anchored within {}: {}",
            view::duration(board.policy.deadline),
            board.missing(leaf + 1)
        );
        Err(Refusal::new(
            RefusalCode::NotAnchored,
            what,
            "bring the anchor back and try again; see: sealtape audit anchors",
        ))
    }

    /// One of those that wait signs a checkpoint for all of them.
    fn sign_covering(&self, leaf: u64, asked: Instant) -> Result<(), Refusal> {
        let mut last_failure = self.anchors.signing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.anchors.board.published() > leaf {
            return Ok(());
        }
        // It failed while this one waited for its turn: another try would only make the queue longer.
        if let Some((at, refusal)) = &*last_failure
            && *at >= asked
        {
            return Err(refusal.clone());
        }
        match self.checkpoint() {
            Ok(_) => Ok(()),
            Err(refusal) => {
                *last_failure = Some((Instant::now(), refusal.clone()));
                Err(refusal)
            }
        }
    }
}
