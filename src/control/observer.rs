//! Between a long operation and whoever asked for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use super::Progress;

/// Carries progress out of a long operation, and the wish to stop into it. Neither ever blocks the operation: of
/// several reports that nobody has fetched yet, the last one counts.
#[derive(Clone, Debug)]
pub struct Observer {
    progress: watch::Sender<Option<Progress>>,
    cancelled: Arc<AtomicBool>,
}

impl Observer {
    /// An observer, and the end from which the reports are fetched.
    pub(super) fn new() -> (Self, watch::Receiver<Option<Progress>>) {
        let (progress, reports) = watch::channel(None);
        (Self { progress, cancelled: Arc::default() }, reports)
    }

    /// An observer whose reports nobody fetches: for operations that a service starts by itself.
    pub fn unattended() -> Self {
        Self::new().0
    }

    /// Tells how far the operation is.
    pub fn report(&self, progress: Progress) {
        self.progress.send_replace(Some(progress));
    }

    /// Whether the client went away or asked to stop. Operations that can stop safely do; labelling does not ask.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Asks the operation to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}
