//! How long a record the kernel carries in one FUSE request, and raising that.
//!
//! A request holds at most `max_pages` pages of the caller's buffer. A longer transfer is cut into
//! several requests, and a cut record would become two records on the tape. The first piece of a cut
//! transfer always fills all pages but for the part of the first one that lies before the buffer: it
//! is longer than `(max_pages - 1) * 4096` bytes. So a request up to that length is certainly whole,
//! and a longer one is refused, whole or not.
//!
//! `writev` and `readv` of many small pieces use up a page for each piece and can be cut below the
//! limit; the kernel gives no sign of it. No known backup program does that on a tape.

use std::fs;
use std::path::Path;

use nix::unistd::geteuid;

/// Linux 6.13 and later: host-wide limit on the pages of a request, read when a folder is mounted.
const MAX_PAGES_LIMIT: &str = "/proc/sys/fs/fuse/max_pages_limit";
/// The limit of a kernel that has no such switch, and the default of one that has.
const BUILT_IN_LIMIT: u32 = 256;
/// The limit of a kernel that does not negotiate it.
const OLD_LIMIT: u32 = 32;
/// The crate `fuser` receives requests into a buffer of 16 MiB (and a page for their header).
const RECEIVE_LIMIT: u32 = 4096;
const PAGE: u32 = 4096;

/// How many pages of a request the kernel grants, and how it came to that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferLimit {
    /// Pages of one request.
    pub pages: u32,
    /// What came of raising the limit, in words for the log and for status.
    pub explanation: String,
}

impl TransferLimit {
    /// The longest record that certainly arrives whole, in bytes.
    pub fn max_record(&self) -> u32 {
        max_record(self.pages)
    }

    /// A limit for a kernel that does not negotiate pages.
    pub(super) fn of_old_kernel() -> Self {
        Self { pages: OLD_LIMIT, explanation: "this kernel carries 32 pages in a FUSE request and no more".into() }
    }

    /// Reads the limit of this host and, if a record of `max_block` bytes does not fit and we may,
    /// raises it.
    pub(super) fn determine(max_block: u32, raise: bool) -> Self {
        let wanted = pages_for(max_block).max(BUILT_IN_LIMIT);
        let switch = Path::new(MAX_PAGES_LIMIT);
        let limit = match fs::read_to_string(switch) {
            Ok(text) => match text.trim().parse::<u32>() {
                Ok(limit) => limit,
                Err(_) => {
                    return Self {
                        pages: BUILT_IN_LIMIT,
                        explanation: format!("{MAX_PAGES_LIMIT} holds no number: taking {BUILT_IN_LIMIT} pages"),
                    };
                }
            },
            Err(_) => {
                return Self {
                    pages: BUILT_IN_LIMIT,
                    explanation: format!(
                        "this kernel has no {MAX_PAGES_LIMIT} (Linux 6.13 and later): {BUILT_IN_LIMIT} pages"
                    ),
                };
            }
        };
        if limit >= wanted {
            return Self { pages: wanted, explanation: format!("{MAX_PAGES_LIMIT} is {limit}, {wanted} are needed") };
        }
        let short = format!("{MAX_PAGES_LIMIT} is {limit}, records of {max_block} bytes need {wanted}");
        if !raise {
            return Self { pages: limit, explanation: format!("{short}; raising it is switched off") };
        }
        if !geteuid().is_root() {
            return Self { pages: limit, explanation: format!("{short}; raise it as root, then start again") };
        }
        match fs::write(switch, wanted.to_string()) {
            Ok(()) => Self { pages: wanted, explanation: format!("raised {MAX_PAGES_LIMIT} from {limit} to {wanted}") },
            Err(error) => Self { pages: limit, explanation: format!("{short}; raising it failed: {error}") },
        }
    }
}

/// Linux 6.15 and later may end the connection when a request takes longer than this many seconds;
/// a rewind does. `None` where nothing is set.
pub(super) fn request_timeout_s() -> Option<u32> {
    let set = |name: &str| {
        let text = fs::read_to_string(Path::new("/proc/sys/fs/fuse").join(name)).ok()?;
        text.trim().parse::<u32>().ok().filter(|seconds| *seconds > 0)
    };
    let set = [set("default_request_timeout"), set("max_request_timeout")];
    set.into_iter().flatten().min()
}

/// Bytes of the longest transfer that is never cut.
fn max_record(pages: u32) -> u32 {
    pages.saturating_sub(1) * PAGE
}

/// Pages that a transfer of `bytes` from an unaligned buffer covers, within what we can receive.
fn pages_for(bytes: u32) -> u32 {
    (bytes.div_ceil(PAGE) + 1).min(RECEIVE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_and_its_pages_agree() {
        for bytes in [1, 4095, 4096, 4097, 262_144, 1_044_480, 1_048_576, 2 << 20] {
            let pages = pages_for(bytes);
            assert!(max_record(pages) >= bytes, "{bytes} bytes do not fit {pages} pages");
            assert!(max_record(pages - 1) < bytes, "{bytes} bytes would fit fewer than {pages} pages");
        }
        assert_eq!(max_record(256), 1_044_480);
        assert_eq!(pages_for(16 << 20), RECEIVE_LIMIT);
        assert_eq!(max_record(0), 0);
    }
}
