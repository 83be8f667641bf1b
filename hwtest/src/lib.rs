//! Guest lab and suites for real drives.
