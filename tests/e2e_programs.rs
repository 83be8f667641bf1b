//! The main job with real programs: through the node, sealed, with both services and a token.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod e2e_support;

use e2e_support::programs::must;
use e2e_support::{Site, ready};

#[test]
fn an_archive_goes_there_and_back() {
    if !ready() {
        return;
    }
    let mut site = Site::new();
    site.volume(0, "FIRST", "256M");
    must(&site.work(), &[("N", &site.nst(0))], "tar -cf $N -C / etc/hostname && mt -f $N rewind && tar -tf $N");
    site.unload(0);
    site.stop();
}
