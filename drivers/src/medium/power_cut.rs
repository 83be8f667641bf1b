//! Losing what a drive has buffered.

use super::{DriveError, TapeDrive};

/// A drive whose buffer can be emptied by force: file-backed drives and the reference model can, real ones cannot.
pub trait PowerCut: TapeDrive {
    /// Loses everything that was not synchronised, so that it never comes back, and rewinds to the beginning of
    /// partition 0, as a drive does whose power went. Returns how many objects were lost.
    fn power_cut(&mut self) -> Result<u64, DriveError>;

    /// Loses everything that was not synchronised, and stays where it is, or at the end of data if
    /// that comes before. Returns how many objects were lost.
    fn discard_unsynchronised(&mut self) -> Result<u64, DriveError>;
}
