//! How many refused attempts are entered into the custody log: enough to see an attack, not enough to fill the disk with it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::catalogue::Actor;

/// Refusals of one actor and operation entered per window.
const PER_WINDOW: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);
/// Actors and operations kept apart at the most; beyond that the oldest windows are dropped.
const MOST: usize = 1024;

#[derive(Debug)]
struct Window {
    began: Instant,
    entered: u32,
    suppressed: u64,
}

#[derive(Debug, Default)]
pub(super) struct RefusalLimiter {
    windows: HashMap<(Actor, &'static str), Window>,
}

impl RefusalLimiter {
    /// Whether a refusal at `now` is entered; if so, how many before it were not.
    pub(super) fn enter(&mut self, actor: Actor, op: &'static str, now: Instant) -> Option<u64> {
        if self.windows.len() >= MOST {
            self.windows.retain(|_, w| now.duration_since(w.began) < WINDOW);
            if self.windows.len() >= MOST && !self.windows.contains_key(&(actor, op)) {
                return None;
            }
        }
        let window = self.windows.entry((actor, op)).or_insert(Window { began: now, entered: 0, suppressed: 0 });
        if now.duration_since(window.began) >= WINDOW {
            window.began = now;
            window.entered = 0;
        }
        if window.entered >= PER_WINDOW {
            window.suppressed += 1;
            return None;
        }
        window.entered += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_afterwards() {
        let mut limiter = RefusalLimiter::default();
        let start = Instant::now();
        let entered = (0..100).filter(|_| limiter.enter(Actor::User(1), "x", start).is_some()).count();
        assert_eq!(entered, 20);
        assert_eq!(limiter.enter(Actor::User(2), "x", start), Some(0));
        assert_eq!(limiter.enter(Actor::User(1), "x", start + WINDOW), Some(80));
        assert_eq!(limiter.enter(Actor::User(1), "x", start + WINDOW), Some(0));
        for uid in 0..5000 {
            limiter.enter(Actor::User(uid), "y", start);
        }
        assert!(limiter.windows.len() <= MOST);
    }
}
