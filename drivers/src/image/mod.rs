//! File-backed drive.
