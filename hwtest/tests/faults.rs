//! Faults of the raw drive through the kernel's own drivers on both sides: what a writer is told agrees with what is on the medium.
//!
//! The writer keeps books (`sealtape-lab-writer`): numbered records in their order, what was acknowledged, what a filemark covered.
//! Afterwards the tape is read back by services that were started anew, and compared: a gapless beginning of what was acknowledged,
//! everything that was synchronised in it, and nothing behind a record that was lost.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sealtape_hwtest::guest::{Guest, Outcome};

const FUNCTIONS: &str = include_str!("faults.sh");

fn run(script: &str) -> Outcome {
    let guest = Guest::uml().time_limit(Duration::from_secs(240));
    let outcome = guest.run_chain(&format!("{FUNCTIONS}\n{script}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    eprintln!("{:?}\n{}", outcome.duration, outcome.output);
    outcome
}

/// The k-th command after the tenth record fails. With write-behind the error is about records that were acknowledged; the writer
/// writes on, and nothing is acknowledged any more.
#[test]
fn a_record_in_flight_fails_and_nothing_is_acknowledged_after_the_error() {
    let outcome = run(r#"
        MIB=1024 chain_of_faults
        new_tape
        while read -r plan; do
            write --count 10 >/dev/null || fail "$plan: before"
            faults "$plan"
            write --count 60 --mark-every 25 >said || fail "$plan: $(cat said)"
            grep -q 'errno 5' said || fail "$plan: no error: $(cat said)"
            faults
            mt -f $NST rewind || fail "$plan: rewind: $(tail -5 run.log)"
            "$BIN/sealtape" --json drive status drive0 >status
            grep -q '"lost_records":null' status || fail "$plan: after a rewind: $(cat status)"
            found=$(check) || fail "$plan: $(tail -20 books run.log)"
            echo "$plan: $found"
        done <<'PLANS'
write 5 medium
write 30 hardware
write 9 end-of-medium
write 20 reset
write 12 lost
write-filemarks 1 lost
write-filemarks 1 reset
write 4 transport-after
write 7 unit-attention
PLANS
        fresh_services
        check || fail "read by new services: $(tail -20 books run.log)"
        stop_services && stop_raw_drive
    "#);
    let lost: u64 = outcome.output.lines().filter_map(|line| line.rsplit_once(" lost ")?.1.parse::<u64>().ok()).sum();
    assert!(lost > 0, "no fault took anything: {}", outcome.output);
}
