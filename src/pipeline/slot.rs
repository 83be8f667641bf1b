//! Where the outcome of one record is put by the thread that worked on it, and taken by the one that writes in order.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a thread that kept its promise or could not leaves behind.
pub(crate) enum Left<T> {
    /// What it made.
    Outcome(T),
    /// It panicked.
    Nothing,
}

/// A place that is filled once and emptied, over and over. It is no channel of the crate that the queues are of: each of those is
/// allocated, and what nobody takes out of one stays in memory as long as anything can be sent, and these go round.
pub(crate) struct Slot<T> {
    place: Mutex<Place<T>>,
    put: Condvar,
}

struct Place<T> {
    left: Option<Left<T>>,
    /// Somebody sleeps until something is put here; where nobody does, waking would be a system call for nothing.
    waited_for: bool,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { place: Mutex::new(Place { left: None, waited_for: false }), put: Condvar::new() }
    }
}

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, Place<T>> {
        // A panic under the lock leaves either all of an outcome or none.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, left: Left<T>) {
        let mut place = self.lock();
        place.left = Some(left);
        let wake = place.waited_for;
        drop(place);
        if wake {
            self.put.notify_one();
        }
    }

    /// Waits for what is put here.
    pub(crate) fn take(&self) -> Left<T> {
        let mut place = self.lock();
        loop {
            if let Some(left) = place.left.take() {
                return left;
            }
            place.waited_for = true;
            place = self.put.wait(place).unwrap_or_else(PoisonError::into_inner);
            place.waited_for = false;
        }
    }
}

/// The duty to put an outcome into a slot: whoever waits there is not left waiting.
pub(crate) struct Promise<T>(Option<Arc<Slot<T>>>);

impl<T> Promise<T> {
    pub(crate) fn for_slot(slot: &Arc<Slot<T>>) -> Self {
        Self(Some(Arc::clone(slot)))
    }

    pub(crate) fn keep(mut self, outcome: T) {
        if let Some(slot) = self.0.take() {
            slot.put(Left::Outcome(outcome));
        }
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.put(Left::Nothing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_that_nobody_takes_goes_with_its_slot_and_a_broken_promise_is_told() {
        let slot = Arc::new(Slot::default());
        let gone = Arc::downgrade(&slot);
        let promise = Promise::for_slot(&slot);
        // The writer gave up before: its end is dropped first.
        drop(slot);
        promise.keep(());
        assert!(gone.upgrade().is_none(), "buffers are wiped when the last end goes");

        let slot = Arc::new(Slot::<()>::default());
        let promise = Promise::for_slot(&slot);
        let waiting = std::thread::spawn(move || matches!(slot.take(), Left::Nothing));
        drop(promise);
        assert!(waiting.join().unwrap());
    }
}
