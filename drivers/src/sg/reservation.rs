//! Persistent reservations (SPC-4 5.13): exclusive access, with a key that is ours.

use std::fmt;

use super::fault::{self, Intent};
use super::link::Link;
use super::ownership::OwnershipError;
use super::{Data, Transport};
use crate::medium::{DriveError, DriveErrorKind};
use crate::scsi::{Command, SenseKey};

/// PERSISTENT RESERVE OUT, service actions (SPC-4 table 235).
const REGISTER: u8 = 0x00;
const RESERVE: u8 = 0x01;
const RELEASE: u8 = 0x02;
const PREEMPT: u8 = 0x04;
const REGISTER_AND_IGNORE_EXISTING_KEY: u8 = 0x06;
/// PERSISTENT RESERVE IN, service actions.
const READ_KEYS: u8 = 0x00;
const READ_RESERVATION: u8 = 0x01;
/// TYPE: exclusive access.
const EXCLUSIVE_ACCESS: u8 = 0x03;
/// Header of 8 bytes and 511 keys; who reads more learns nothing that matters here.
const KEYS_ALLOCATION: u16 = 4096;
const RESERVATION_ALLOCATION: u16 = 24;
const LIST_BYTES: usize = 24;
/// A registration or preemption by somebody else shows as a unit attention first.
const MOST_ATTENTIONS: u32 = 8;

/// A registration key. It is no secret (every initiator can read it), and never zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ReservationKey(pub(super) u64);

impl fmt::Display for ReservationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}

/// Registers `key` and reserves with it. `previous` is a key that may be left from before a crash. `false`: the drive has no
/// persistent reservations.
pub(super) fn take<T: Transport>(
    link: &mut Link<T>,
    key: ReservationKey,
    previous: Option<ReservationKey>,
) -> Result<bool, OwnershipError> {
    let Some(holder) = holder(link)? else { return Ok(false) };
    let ours = |holder: ReservationKey| holder == key || Some(holder) == previous;
    if let Some(other) = holder.filter(|holder| !ours(*holder)) {
        return Err(reserved(link, other));
    }
    if !register(link, key, previous)? {
        return Ok(false);
    }
    let taken = reserve(link, key, previous);
    if taken.is_err()
        && let Err(further) = out(link, REGISTER, Some(key), None)
    {
        tracing::warn!(drive = %link.name, cause = %further, "the key stays registered");
    }
    taken.map(|()| true)
}

fn reserve<T: Transport>(
    link: &mut Link<T>,
    key: ReservationKey,
    previous: Option<ReservationKey>,
) -> Result<(), OwnershipError> {
    // By another port of this host, before it crashed: that registration is not this nexus's, and goes with its reservation.
    if let Some(left) = previous.filter(|left| *left != key)
        && keys(link)?.contains(&left)
    {
        out(link, PREEMPT, Some(key), Some(left))?;
    }
    match out(link, RESERVE, Some(key), None) {
        Ok(()) => {}
        Err(error) if error.kind == DriveErrorKind::ReservationConflict => {
            return Err(match holder(link)?.flatten() {
                Some(other) => reserved(link, other),
                None => error.into(),
            });
        }
        Err(error) => return Err(error.into()),
    }
    match holder(link)?.flatten() {
        Some(holder) if holder == key => Ok(()),
        Some(other) => Err(reserved(link, other)),
        None => Err(fault::nonsense(&link.name, "PERSISTENT RESERVE OUT", "reserved, and held by nobody", None).into()),
    }
}

/// Gives reservation and registration back.
pub(super) fn release<T: Transport>(link: &mut Link<T>, key: ReservationKey) -> Result<(), DriveError> {
    let released = out(link, RELEASE, Some(key), None);
    // Taking the registration away releases too.
    let unregistered = out(link, REGISTER, Some(key), None);
    match unregistered {
        // Preempted: there is nothing to give back any more.
        Err(error) if error.kind == DriveErrorKind::ReservationConflict => {
            tracing::warn!(drive = %link.name, "the reservation was taken away by another initiator");
            Ok(())
        }
        Ok(()) => Ok(()),
        Err(error) => Err(released.err().unwrap_or(error)),
    }
}

fn reserved<T: Transport>(link: &Link<T>, key: ReservationKey) -> OwnershipError {
    OwnershipError::Reserved { drive: link.name.clone(), key }
}

/// REGISTER AND IGNORE EXISTING KEY, or REGISTER where the drive is older. `false`: it has neither.
fn register<T: Transport>(
    link: &mut Link<T>,
    key: ReservationKey,
    previous: Option<ReservationKey>,
) -> Result<bool, DriveError> {
    match out(link, REGISTER_AND_IGNORE_EXISTING_KEY, None, Some(key)) {
        Ok(()) => return Ok(true),
        Err(error) if fault::is_unsupported(&error) => {}
        Err(error) => return Err(error),
    }
    let mut last = None;
    for existing in [None, Some(key), previous] {
        match out(link, REGISTER, existing, Some(key)) {
            Ok(()) => return Ok(true),
            Err(error) if fault::is_unsupported(&error) => return Ok(false),
            Err(error) if error.kind == DriveErrorKind::ReservationConflict => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    last.map_or(Ok(false), Err)
}

/// PERSISTENT RESERVE OUT with the basic parameter list (SPC-4 table 237), scope logical unit.
fn out<T: Transport>(
    link: &mut Link<T>,
    action: u8,
    existing: Option<ReservationKey>,
    new: Option<ReservationKey>,
) -> Result<(), DriveError> {
    let mut list = [0; LIST_BYTES];
    let value = |key: Option<ReservationKey>| key.map_or(0, |key| key.0).to_be_bytes();
    let fields = value(existing).into_iter().chain(value(new));
    list.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    let kind = if matches!(action, RESERVE | RELEASE | PREEMPT) { EXCLUSIVE_ACCESS } else { 0 };
    let command = Command::PersistentReserveOut { action, scope: 0, kind, length: LIST_BYTES as u32 };
    for _ in 0..MOST_ATTENTIONS {
        match link.send(command, Data::Out(&list))?.sense {
            None => return Ok(()),
            Some(sense) if fault::is_done(&sense) => return Ok(()),
            // Whatever was pending: the command was not executed.
            Some(sense) if sense.key == SenseKey::UNIT_ATTENTION && !sense.flags.deferred => {}
            Some(sense) => return Err(link.fault(&command, sense, Intent::Other)),
        }
    }
    Err(link.nonsense(&command, "unit attentions without end", None))
}

fn read<T: Transport>(link: &mut Link<T>, action: u8, allocation: u16) -> Result<Option<Vec<u8>>, DriveError> {
    let command = Command::PersistentReserveIn { action, allocation };
    for _ in 0..MOST_ATTENTIONS {
        match link.fetch_if_told(command, usize::from(allocation)) {
            Err(error) if error.sense.key == SenseKey::UNIT_ATTENTION && !error.sense.flags.deferred => {}
            done => return done,
        }
    }
    Err(link.nonsense(&command, "unit attentions without end", None))
}

/// READ RESERVATION: who holds it. The outer `None`: the drive has no persistent reservations.
fn holder<T: Transport>(link: &mut Link<T>) -> Result<Option<Option<ReservationKey>>, DriveError> {
    let Some(bytes) = read(link, READ_RESERVATION, RESERVATION_ALLOCATION)? else { return Ok(None) };
    // ADDITIONAL LENGTH, then the one descriptor's key.
    let length = bytes.get(4..8).and_then(|field| field.try_into().ok()).map_or(0, u32::from_be_bytes);
    let key = bytes.get(8..16).filter(|_| length >= 16).and_then(|field| field.try_into().ok());
    Ok(Some(key.map(|field| ReservationKey(u64::from_be_bytes(field)))))
}

/// READ KEYS.
fn keys<T: Transport>(link: &mut Link<T>) -> Result<Vec<ReservationKey>, DriveError> {
    let bytes = read(link, READ_KEYS, KEYS_ALLOCATION)?.unwrap_or_default();
    let length = bytes.get(4..8).and_then(|field| field.try_into().ok()).map_or(0, u32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let fields = bytes.get(8..).unwrap_or_default().chunks_exact(8).take(length / 8);
    Ok(fields
        .filter_map(|field| field.try_into().ok())
        .map(|field| ReservationKey(u64::from_be_bytes(field)))
        .collect())
}
