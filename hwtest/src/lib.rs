//! Guest lab and suites for real drives (built by the issue on real SCSI).
