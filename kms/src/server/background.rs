//! What the service does besides answering: checks, work of the key authority, checkpoints, health.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::{HEALTH_INTERVAL, Shared, TICK, WARN_INTERVAL};
use crate::authority::ScrubPace;

/// Checks the whole catalogue once after the start, and then every day.
pub(super) fn scrub(shared: &Shared, stop: &Arc<AtomicBool>) {
    let mut due = Instant::now();
    while !shared.stopping() {
        std::thread::sleep(Duration::from_millis(u64::from(TICK)));
        if Instant::now() < due {
            continue;
        }
        if let Err(e) = shared.authority.scrub(ScrubPace::default(), stop) {
            tracing::error!("the check of the whole catalogue: {e}");
        }
        due = Instant::now() + shared.config.scrub_interval;
    }
}

/// Goes on with what takes its time, such as rewrapping keys, piece by piece.
pub(super) fn work_on(shared: &Shared) {
    let pause = |ticks: u16| {
        for _ in 0..ticks {
            if !shared.stopping() {
                std::thread::sleep(Duration::from_millis(u64::from(TICK)));
            }
        }
    };
    while !shared.stopping() {
        match shared.authority.work() {
            Ok(true) => {}
            Ok(false) => pause(1),
            Err(e) => {
                tracing::error!("work in the background is held up, and tried again: {e}");
                pause(25);
            }
        }
    }
}

/// Once a day, and at the start, the journal is told which keys come to the end of a period.
pub(super) fn tell_of_key_ends(shared: &Shared) {
    let mut next = Instant::now();
    while !shared.stopping() {
        if Instant::now() >= next {
            next = Instant::now() + Duration::from_secs(86_400);
            if let Err(e) = shared.authority.tell_of_key_ends() {
                tracing::error!("it cannot be told which keys come to the end of their periods: {e}");
            }
        }
        std::thread::sleep(Duration::from_millis(u64::from(TICK)));
    }
}

/// Signs checkpoints: not one per leaf, since a signature in an HSM takes its time, but never long after one.
pub(super) fn keep_checkpoints(shared: &Shared) {
    let mut since: Option<Instant> = None;
    let mut not_before = Instant::now();
    let mut warned = Instant::now();
    while !shared.stopping() {
        std::thread::sleep(Duration::from_millis(u64::from(TICK)));
        if warned.elapsed() >= WARN_INTERVAL {
            warned = Instant::now();
            shared.authority.warn_of_anchors();
        }
        let unsigned = shared.authority.unsigned_leaves();
        if unsigned == 0 {
            since = None;
            continue;
        }
        let waiting = since.get_or_insert_with(Instant::now).elapsed();
        let due = unsigned >= shared.config.checkpoint_leaves || waiting >= shared.config.checkpoint_interval;
        if due && Instant::now() >= not_before {
            if let Err(e) = shared.authority.checkpoint() {
                tracing::error!("no checkpoint of the custody log could be signed: {e}");
                not_before = Instant::now() + shared.config.checkpoint_interval.min(Duration::from_secs(60));
            }
            since = None;
        }
    }
}

/// Tries the tokens' canaries, so that a token that went away is known before a tape needs its key.
pub(super) fn keep_health(shared: &Shared) {
    let mut last = Instant::now();
    while !shared.stopping() {
        std::thread::sleep(Duration::from_millis(u64::from(TICK)));
        if last.elapsed() >= HEALTH_INTERVAL {
            shared.authority.refresh_health();
            last = Instant::now();
        }
    }
}
