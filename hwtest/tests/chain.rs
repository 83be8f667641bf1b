//! Real programs on the virtual drive, over the kernel's own drivers on both sides: tar, dd, mt → st → virtual drive → service → SG_IO → sg →
//! lab drive.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::{Guest, Outcome};

fn run(script: &str) -> Outcome {
    let outcome = Guest::uml().run_chain(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    outcome
}

#[test]
fn tar_writes_and_compares_and_the_raw_drive_has_ciphertext() {
    let outcome = run(r#"
        chain
        tar -b 512 -cf $NST -C / usr/bin/tar usr/bin/bash || fail "tar -c"
        mt -f $NST rewind && tar -b 512 -df $NST -C / || fail "tar -d"
        mt -f $NST rewind && mt -f $NST fsf && mt -f $NST tell
        grep -c 'GNU bash' /usr/bin/bash >/dev/null || fail "the text to look for is not there"
        stop_services
        [[ -e $RAW ]] || fail "st did not come back"
        grep -q 'GNU bash' raw.img && fail "clear text on the medium"
        grep -q 'SEALTAPE VOLUME 1' raw.img || fail "no label on the medium"
        stop_raw_drive
        ls /sys/kernel/config/target/core | grep user_ && fail "left behind"
        exit 0
    "#);
    assert!(outcome.output.contains("At block 8.\n"), "{}", outcome.output);
}
