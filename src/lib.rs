//! Sealtape: inline encryption for tapes and removable disks.
