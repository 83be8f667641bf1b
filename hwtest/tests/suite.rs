//! The suite for drives on the lab's own drive: every case that it has the means for passes, and no other volume than the one named is touched.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::Guest;

#[test]
fn the_lab_drive_passes_and_another_volume_is_refused() {
    let script = r#"
        cd /dev/shm && target_modules && raw_drive --create 64 --barcode LAB001L8
        before=$(sha256sum <raw.img)
        "$BIN/sealtape-hwtest" --drive $RAWSG --scratch LAB002L8 && fail "the wrong volume was taken"
        [[ $(sha256sum <raw.img) == "$before" ]] || fail "the wrong volume was changed"
        "$BIN/sealtape-hwtest" --drive $RAWSG --scratch LAB001L8 --commands 4000 --seed 1 --product "$BIN" || fail "a case failed"
        stop_raw_drive
        exit 0
    "#;
    let outcome = Guest::uml().run_chain(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    assert!(outcome.output.contains("MAM attribute 0806h says that LAB001L8 is in the drive"), "{}", outcome.output);
    for case in ["lengths", "random", "partitions", "capacity-end", "product"] {
        assert!(outcome.output.contains(&format!("### {case}: passed")), "{case}: {}", outcome.output);
    }
}
