//! The end of a released key: every copy of it, and of what was derived from it, is wiped at once, wherever it is in use.
//!
//! A unit may be waiting for its drive for minutes when its key is ended. So the copies are not reached through the unit: each
//! stands in a cell that the switch knows, and a cell is emptied as soon as the operation on one record that looks into it is over.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};

use super::suite::{RecordCipher, RecordOpener, TAG_LEN, TagMismatch};

/// Holds something secret that the end of a key takes away.
trait Wipe: Send + Sync {
    fn wipe(&self);
}

/// A secret that can be taken away. What it holds wipes itself when it is dropped.
pub(super) struct Cell<T>(RwLock<Option<T>>);

impl<T> Cell<T> {
    pub(super) fn get(&self) -> RwLockReadGuard<'_, Option<T>> {
        // A panic under the lock leaves the secret as it was.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + Sync> Wipe for Cell<T> {
    fn wipe(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[derive(Default)]
struct Shared {
    ended: OnceLock<String>,
    sealing_ended: OnceLock<String>,
    cells: Mutex<Vec<Weak<dyn Wipe>>>,
}

/// The switch that ends the keys of one generation. Copies of it are the same switch.
#[derive(Clone, Default)]
pub struct KeyEnd(Arc<Shared>);

/// The switch of keys that somebody else holds, as long as they are held.
#[derive(Clone)]
pub struct WeakKeyEnd(Weak<Shared>);

impl WeakKeyEnd {
    /// The switch, unless the keys are gone.
    pub fn upgrade(&self) -> Option<KeyEnd> {
        self.0.upgrade().map(KeyEnd)
    }
}

impl fmt::Debug for KeyEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyEnd").field("ended", &self.0.ended.get()).finish_non_exhaustive()
    }
}

impl KeyEnd {
    /// Wipes the data key, every cipher that was made from it, and what is made later. The first reason stays.
    pub fn end(&self, reason: &str) {
        self.0.ended.get_or_init(|| reason.to_owned());
        let cells = std::mem::take(&mut *self.0.cells.lock().unwrap_or_else(PoisonError::into_inner));
        for cell in cells {
            if let Some(cell) = cell.upgrade() {
                cell.wipe();
            }
        }
    }

    /// Why it was ended, if it was.
    pub fn ended(&self) -> Option<&str> {
        self.0.ended.get().map(String::as_str)
    }

    /// The right to seal ends; records that were reserved are sealed, others can still be opened.
    pub fn end_sealing(&self, reason: &str) {
        self.0.sealing_ended.get_or_init(|| reason.to_owned());
    }

    /// Why it no longer seals, if that is so.
    pub fn sealing_ended(&self) -> Option<&str> {
        self.0.sealing_ended.get().map(String::as_str).or(self.ended())
    }

    /// For who ends keys and does not hold them.
    pub fn downgrade(&self) -> WeakKeyEnd {
        WeakKeyEnd(Arc::downgrade(&self.0))
    }

    /// A cell for a secret that goes when the key ends.
    pub(super) fn cell<T: Send + Sync + 'static>(&self, secret: T) -> Arc<Cell<T>> {
        let cell = Arc::new(Cell(RwLock::new(Some(secret))));
        let mut cells = self.0.cells.lock().unwrap_or_else(PoisonError::into_inner);
        // Sessions come and go; those that are gone leave nothing here.
        cells.retain(|cell| cell.strong_count() > 0);
        cells.push(Arc::downgrade(&cell) as Weak<dyn Wipe>);
        drop(cells);
        if self.ended().is_some() {
            cell.wipe();
        }
        cell
    }
}

/// Overwrites what functions that have returned left on this thread's stack: a key schedule is made there before it is moved to where it
/// stays, and round keys are put down there while a record is worked on.
#[inline(never)]
pub(super) fn scrub_stack() {
    // In one sweep: by words it would take as long as sealing a small record.
    let below = [0_u64; 1024];
    zeroize::optimization_barrier(&below);
}

/// A record cipher that goes when its key ends.
pub(super) struct EndingCipher(pub(super) Arc<Cell<Box<dyn RecordCipher>>>);

impl RecordOpener for EndingCipher {
    fn open_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8], tag: &[u8; TAG_LEN]) -> Result<(), TagMismatch> {
        let opened = match self.0.get().as_ref() {
            Some(cipher) => cipher.open_in_place(counter, aad, text, tag),
            None => Err(TagMismatch),
        };
        scrub_stack();
        opened
    }

    fn open_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        self.0.get().as_ref()?.open_with_nonce(nonce, aad, text)
    }
}

impl RecordCipher for EndingCipher {
    fn seal_in_place(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> Result<[u8; TAG_LEN], TagMismatch> {
        let sealed = self.0.get().as_ref().map_or(Err(TagMismatch), |cipher| cipher.seal_in_place(counter, aad, text));
        scrub_stack();
        sealed
    }

    fn seal_with_nonce(&self, nonce: &[u8], aad: &[u8], text: &[u8]) -> Option<Vec<u8>> {
        self.0.get().as_ref()?.seal_with_nonce(nonce, aad, text)
    }

    fn is_ended(&self) -> bool {
        self.0.get().is_none()
    }
}
