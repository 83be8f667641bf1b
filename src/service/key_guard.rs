//! Watches over the keys that were released to this data path, and ends them: at once when the key authority says so, and when a release
//! was not renewed in time. A key authority that is away ends nothing before that.
//!
//! Three threads, since none may wait for what another waits for: one waits for ends, one renews, one looks at the clock. None of them
//! needs the unit: keys are wiped through their switch ([`WeakKeyEnd`]), and what the unit owes follows when it is free.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sealtape_drivers::medium::SharedDrive;
use sealtape_kms::client::{CALL_TIMEOUT, ClientError, DataPathClient};
use sealtape_kms::protocol::{GenerationRef, RefusalCode, Rights, WATCH_LIMIT};
use uuid::Uuid;

use crate::seal::WeakKeyEnd;
use crate::unit::SealedTape;

/// How long the key authority is left alone after it did not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an end is remembered for a key that is on its way: longer than any answer takes.
const ON_ITS_WAY: Duration = Duration::from_secs(300);
/// How many of them.
const MOST_REMEMBERED: usize = 4096;
/// How long a renewal may take.
const RENEWAL_LIMIT: Duration = Duration::from_secs(10);

/// For how long a key may be kept.
#[derive(Clone, Copy)]
struct Lease {
    length: Duration,
    ends: Instant,
    renew: Instant,
}

impl Lease {
    /// A lease that was asked for at `asked`: what the answer took is not added.
    fn new(seconds: u32, asked: Instant) -> Self {
        let length = Duration::from_secs(u64::from(seconds));
        Self { length, ends: asked + length, renew: asked + length / 2 }
    }

    /// When a renewal is tried again.
    fn retry(&self) -> Duration {
        (self.length / 8).clamp(Duration::from_millis(200), Duration::from_secs(15))
    }
}

/// A released key that a unit holds.
struct HeldKey {
    unit: String,
    at: GenerationRef,
    end: WeakKeyEnd,
    lease: Option<Lease>,
}

#[derive(Default)]
struct Held {
    keys: Vec<HeldKey>,
    /// Keys that were ended lately: one of them may still be on its way to a unit.
    ended: VecDeque<(Instant, Uuid, String)>,
}

struct Unit {
    name: String,
    tape: SharedDrive<SealedTape>,
    noticing: Arc<AtomicBool>,
}

/// What the threads share.
pub(super) struct Guarded {
    socket: PathBuf,
    held: Mutex<Held>,
    changed: Condvar,
    units: Mutex<Vec<Unit>>,
    stop: AtomicBool,
}

/// The watch over all released keys of this data path; ends with it.
pub(super) struct KeyGuard(Arc<Guarded>);

impl KeyGuard {
    /// Starts the watch.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub(super) fn start(socket: &Path) -> std::io::Result<Self> {
        let guarded = Arc::new(Guarded {
            socket: socket.to_owned(),
            held: Mutex::default(),
            changed: Condvar::new(),
            units: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        type Work = fn(&Guarded);
        let threads: [(&str, Work); 3] =
            [("key-ends", Guarded::watch), ("key-renewal", Guarded::renew), ("key-leases", Guarded::expire)];
        for (name, work) in threads {
            let guarded = Arc::clone(&guarded);
            // They are not waited for: each may be in a call, and holds nothing that has to be put in order.
            std::thread::Builder::new().name(name.into()).spawn(move || work(&guarded))?;
        }
        Ok(Self(guarded))
    }

    /// For a unit's way to the key authority.
    pub(super) fn guarded(&self) -> Weak<Guarded> {
        Arc::downgrade(&self.0)
    }

    /// A unit that has to take notice when a key of its own ends.
    pub(super) fn attach(&self, name: &str, tape: SharedDrive<SealedTape>) {
        lock(&self.0.units).push(Unit { name: name.to_owned(), tape, noticing: Arc::default() });
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
        self.0.changed.notify_all();
        lock(&self.0.units).clear();
    }
}

impl Guarded {
    /// A key was released to `unit` by a call that was made at `asked`.
    pub(super) fn hold(&self, unit: &str, at: GenerationRef, end: WeakKeyEnd, lease: Option<u32>, asked: Instant) {
        let mut held = lock(&self.held);
        held.keys.retain(|key| key.end.upgrade().is_some());
        // What was heard before the key was asked for, the key authority knew when it released it.
        if let Some((_, _, reason)) = held.ended.iter().find(|(heard, key, _)| *key == at.key_id && *heard >= asked) {
            if let Some(end) = end.upgrade() {
                end.end(reason);
            }
            return;
        }
        let lease = lease.map(|seconds| Lease::new(seconds, asked));
        held.keys.push(HeldKey { unit: unit.to_owned(), at, end, lease });
        drop(held);
        self.changed.notify_all();
    }

    /// A unit gave a volume's keys back.
    pub(super) fn returned(&self, unit: &str, volume: Uuid) {
        lock(&self.held).keys.retain(|key| key.unit != unit || key.at.volume != volume);
    }

    /// Ends what `which` names: the keys are wiped when this returns, and their units take notice as soon as they are free.
    fn end(&self, which: impl Fn(&HeldKey) -> bool, reason: &str) {
        let mut held = lock(&self.held);
        let mut units = Vec::new();
        held.keys.retain(|key| {
            if !which(key) {
                return true;
            }
            if let Some(end) = key.end.upgrade() {
                end.end(reason);
                units.push(key.unit.clone());
            }
            false
        });
        drop(held);
        units.iter().for_each(|unit| self.notice(unit));
    }

    /// Lets a unit take notice, in a thread of its own: it may be waiting for its drive.
    fn notice(&self, name: &str) {
        let units = lock(&self.units);
        let Some(unit) = units.iter().find(|unit| unit.name == name) else { return };
        if unit.noticing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (tape, noticing) = (unit.tape.clone(), Arc::clone(&unit.noticing));
        let started = std::thread::Builder::new().name("key-ended".into()).spawn(move || {
            let mut tape = tape.lock();
            // What ends while the unit takes notice gets a thread of its own again.
            noticing.store(false, Ordering::Release);
            tape.notice_end();
        });
        if let Err(error) = started {
            unit.noticing.store(false, Ordering::Release);
            tracing::error!(drive = name, %error, "the unit takes notice of the end of its key with its host's next command only");
        }
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits for ends.
    fn watch(&self) {
        let client = DataPathClient::new(&self.socket, "watch", WATCH_LIMIT + CALL_TIMEOUT);
        let (mut after, mut away) = (0, false);
        while !self.stopping() {
            match client.watch(after) {
                Ok((to, keys)) => {
                    if away {
                        tracing::info!("the key authority tells again which keys are ended");
                    }
                    away = false;
                    for key in keys {
                        self.ended(key.key_id, &key.reason);
                    }
                    after = to;
                }
                Err(error) => {
                    if !away {
                        tracing::warn!(%error, "it is not heard which keys are ended; released ones are kept until their release ends");
                    }
                    away = true;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn ended(&self, key_id: Uuid, reason: &str) {
        let mut held = lock(&self.held);
        let now = Instant::now();
        held.ended.retain(|(at, ..)| now.duration_since(*at) < ON_ITS_WAY);
        held.ended.truncate(MOST_REMEMBERED - 1);
        held.ended.push_front((now, key_id, reason.to_owned()));
        drop(held);
        self.end(|key| key.at.key_id == key_id, reason);
    }

    /// Waits until the time that `next` gives of the leases, or until they change; gives the time it is then.
    fn wait_for(&self, next: impl Fn(&Lease) -> Instant) -> Instant {
        let held = lock(&self.held);
        let now = Instant::now();
        let due = held.keys.iter().filter_map(|key| key.lease.as_ref()).map(next).min();
        let limit = due.map_or(Duration::from_secs(3600), |due| due.saturating_duration_since(now));
        if !limit.is_zero() && !self.stopping() {
            drop(self.changed.wait_timeout(held, limit).unwrap_or_else(PoisonError::into_inner));
        }
        Instant::now()
    }

    /// Ends keys whose lease ran out.
    fn expire(&self) {
        while !self.stopping() {
            let now = self.wait_for(|lease| lease.ends);
            let over = |key: &HeldKey| key.lease.is_some_and(|lease| lease.ends <= now);
            self.end(over, "its release ran out and was not renewed");
        }
    }

    /// Renews leases.
    fn renew(&self) {
        while !self.stopping() {
            let now = self.wait_for(|lease| lease.renew);
            let due: Vec<(String, GenerationRef)> = lock(&self.held)
                .keys
                .iter()
                .filter(|key| key.lease.is_some_and(|lease| lease.renew <= now))
                .map(|key| (key.unit.clone(), key.at))
                .collect();
            for (unit, at) in due {
                self.renew_one(&unit, at);
            }
        }
    }

    fn renew_one(&self, unit: &str, at: GenerationRef) {
        let client = DataPathClient::new(&self.socket, unit, RENEWAL_LIMIT);
        let asked = Instant::now();
        let same = |key: &HeldKey| key.unit == unit && key.at == at;
        match client.renew(at) {
            Ok((seconds, rights)) => {
                let mut held = lock(&self.held);
                let Some(key) = held.keys.iter_mut().find(|key| same(key)) else { return };
                key.lease = seconds.map(|seconds| Lease::new(seconds, asked));
                let opens_only =
                    key.end.upgrade().filter(|end| rights == Rights::OpenOnly && end.sealing_ended().is_none());
                drop(held);
                self.changed.notify_all();
                if let Some(end) = opens_only {
                    end.end_sealing("the key's period for sealing is over");
                    self.notice(unit);
                }
            }
            Err(ClientError::Refused(refusal)) if decided(refusal.code) => self.end(same, &refusal.what),
            Err(error) => {
                tracing::warn!(drive = unit, volume = %at.volume, %error, "the release of the key was not renewed; it is tried again");
                let mut held = lock(&self.held);
                if let Some(lease) = held.keys.iter_mut().find(|key| same(key)).and_then(|key| key.lease.as_mut()) {
                    lease.renew = Instant::now() + lease.retry();
                }
            }
        }
    }
}

/// Whether the key authority said no, rather than that it could not say.
fn decided(code: RefusalCode) -> bool {
    !matches!(code, RefusalCode::Busy | RefusalCode::Internal | RefusalCode::LogUnwritable | RefusalCode::Damaged)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
