//! The drive is ours alone: `st` is kept off it, and other initiators by a persistent reservation.
//!
//! `mt -f /dev/st0 status` from somebody's cron job rewinds the raw drive, and no unit attention tells of it. What this holds is given
//! back at the end; what a crash leaves is recognised by a record on disk, and taken over at the next start.

use std::io;

use super::Transport;
use super::device::ScsiAddress;
use super::identity::consume_attentions;
use super::link::Link;
use super::owner_record::{OwnerRecord, RecordFile};
use super::reservation;
use super::st_driver::{StDriver, StHold};
use crate::medium::{DriveError, DriveErrorKind};

pub use super::reservation::ReservationKey;

/// Why the drive is not ours.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// A program has the drive's `st` node open.
    #[error("{node} is open in another program: end it (`fuser -v {node}` names it), then start again")]
    InUse {
        /// The node.
        node: String,
    },
    /// Another initiator holds the persistent reservation.
    #[error(
        "{drive} is reserved by another initiator (key {key}): end its use of the drive; if it is gone for good, clear the reservation \
         with `sg_persist --out --clear` from a registered host or by powering the drive off and on"
    )]
    Reserved {
        /// The drive.
        drive: String,
        /// The holder's key.
        key: ReservationKey,
    },
    /// A command to the drive failed.
    #[error(transparent)]
    Drive(#[from] DriveError),
    /// A file of the system, or the record, could not be read or written.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// What keeps others off a drive, as long as it lives. Dropped, it gives back what it holds; [`release`](Self::release) tells
/// whether that worked.
#[derive(Debug)]
pub struct Ownership<T: Transport> {
    link: Link<T>,
    driver: StDriver,
    st: StHold,
    key: Option<ReservationKey>,
    record: RecordFile,
    missing: Vec<String>,
    released: bool,
}

impl<T: Transport> Ownership<T> {
    /// Takes the drive behind `transport` (a second way to the same drive, such as
    /// [`SgDevice::try_clone`](super::SgDevice::try_clone)). `record` is where the key is kept for the time after a crash.
    ///
    /// What the device does not have (reservations), or the system does not permit (unbinding), is told by
    /// [`missing`](Self::missing).
    ///
    /// # Errors
    /// When somebody else uses the drive, or it does not answer. What was taken before that is given back.
    pub fn take(
        transport: T,
        address: ScsiAddress,
        driver: StDriver,
        record: RecordFile,
    ) -> Result<Self, OwnershipError> {
        let before = record.read()?;
        let fresh = OwnerRecord::for_this_boot(before.as_ref())?;
        let mut owner = Self {
            link: Link::new(transport),
            driver,
            st: StHold::NotBound,
            key: None,
            record,
            missing: Vec::new(),
            released: false,
        };
        let unbound_before = before.as_ref().and_then(|before| before.unbound);
        owner.st = owner.driver.hold(address, unbound_before)?;
        if let StHold::HeldOpen { node, .. } = &owner.st {
            owner.missing.push(format!(
                "{node} is held open, because st could not be unbound: it is busy to others, and no more"
            ));
        }
        // Before anything is registered: a key that nobody remembers locks everybody out, ourselves too.
        owner.record.write(&OwnerRecord { unbound: owner.st.unbound(), previous: fresh.previous, ..fresh })?;
        consume_attentions(&mut owner.link)?;
        match reservation::take(&mut owner.link, fresh.key, fresh.previous) {
            Ok(true) => owner.key = Some(fresh.key),
            Ok(false) => owner.missing.push(
                "the drive has no persistent reservations: other initiators are not kept off; see to it in the fabric's zoning".into(),
            ),
            // It is reserved by nobody else, and does not let itself be reserved: a backup is not to fail for that.
            Err(OwnershipError::Drive(error))
                if !matches!(error.kind, DriveErrorKind::Transport | DriveErrorKind::ReservationConflict) => owner.missing.push(format!(
                "the drive takes no persistent reservation ({error}): other initiators are not kept off; see to it in the fabric's zoning"
            )),
            Err(error) => return Err(error),
        }
        for missing in &owner.missing {
            tracing::warn!(drive = %owner.link.name, "{missing}");
        }
        Ok(owner)
    }

    /// What could not be had, in words for an operator.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    /// The key of the reservation, where the drive has them.
    pub fn key(&self) -> Option<ReservationKey> {
        self.key
    }

    /// Gives the drive back: reservation, registration, `st`.
    ///
    /// # Errors
    /// The first that failed; the others were tried all the same.
    pub fn release(mut self) -> Result<(), OwnershipError> {
        self.give_back()
    }

    fn give_back(&mut self) -> Result<(), OwnershipError> {
        if std::mem::replace(&mut self.released, true) {
            return Ok(());
        }
        let reservation = match self.key.take() {
            Some(key) => reservation::release(&mut self.link, key).map_err(OwnershipError::from),
            None => Ok(()),
        };
        let bound = self.driver.give_back(std::mem::replace(&mut self.st, StHold::NotBound));
        // What could not be given back has to be found again.
        if reservation.is_ok() && bound.is_ok() {
            self.record.remove()?;
        }
        reservation.and(bound)
    }
}

impl<T: Transport> Drop for Ownership<T> {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            tracing::error!(drive = %self.link.name, cause = %error, "the drive was not given back; the next start takes it over");
        }
    }
}
