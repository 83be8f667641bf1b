//! Calls inside the module, and the end of the worker between them.
//!
//! A module may be writing when its caller goes: SoftHSM rewrites its whole token at every login, in place, and a process that ends
//! in the middle of that leaves a token without keys. So a worker whose parent has gone takes no further call, and waits for those
//! under way; not for ever, for a hung module never ends one.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::sys::exit_now;

/// As long does a worker wait for calls under way when its parent has gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many calls are under way, and whether any more are taken.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    calls: usize,
    leaving: bool,
}

/// A call under way, until it is dropped.
#[must_use]
pub(super) struct Within<'a>(&'a UnderWay);

impl UnderWay {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call; none when the process is about to end.
    pub(super) fn begin(&self) -> Option<Within<'_>> {
        let mut state = self.state();
        if state.leaving {
            return None;
        }
        state.calls += 1;
        Some(Within(self))
    }

    /// Takes no more calls, and waits until none is under way, at most for `patience`; whether all came to their end.
    fn settle(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let mut state = self.state();
        state.leaving = true;
        while state.calls > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) = self.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Ends the process once no call is under way. Without unloading the module: a call that never ends would crash in it.
    pub(super) fn leave(&self, code: i32) -> ! {
        self.settle(PATIENCE);
        exit_now(code)
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.0.state().calls -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_calls_under_way_and_takes_no_more() {
        let desk = UnderWay::default();
        let call = desk.begin().unwrap();
        std::thread::scope(|scope| {
            let settled = scope.spawn(|| desk.settle(Duration::from_secs(60)));
            while desk.begin().is_some() {
                std::thread::yield_now();
            }
            assert!(!settled.is_finished());
            drop(call);
            assert!(settled.join().unwrap());
        });
        assert!(desk.begin().is_none());
    }

    #[test]
    fn a_call_that_never_ends_does_not_hold_the_process() {
        let desk = UnderWay::default();
        let _hung = desk.begin();
        assert!(!desk.settle(Duration::from_millis(5)));
    }
}
