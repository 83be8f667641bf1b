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
            found=$(check) || fail "$plan: $(tail -n 20 books run.log)"
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
        check || fail "read by new services: $(tail -n 20 books run.log)"
        stop_services && stop_raw_drive
    "#);
    let lost: u64 = outcome.output.lines().filter_map(|line| line.rsplit_once(" lost ")?.1.parse::<u64>().ok()).sum();
    assert!(lost > 0, "no fault took anything: {}", outcome.output);
}

/// A cartridge is filled to its end. The drive warns 512 KiB before it, the window holds 64 MiB: all that was acknowledged is there,
/// and `st` says ENOSPC as it does on the raw drive.
#[test]
fn nothing_is_lost_at_early_warning_when_the_margin_is_smaller_than_the_window() {
    run(r#"
        MIB=160 chain_of_faults --early-warning 512
        # filled NODE: writes until the end, with a trailer; what was told from the first ENOSPC on.
        filled() {
            NST=$1 write --shortest 250000 --longest 262144 --trailer 4 >said || fail "$1: $(cat said)"
            sed -n '/failed/,$p' books | grep -v record
        }
        new_tape
        filled $NST >virtual
        grep -q 'failed 28' virtual && ! grep -q 'failed 5' virtual || fail "no ENOSPC, or EIO: $(cat virtual)"
        check || fail "$(tail -n 20 books run.log)"

        # The same in fixed mode, sixteen blocks a write: the count that dd was told is what stands on the tape.
        counted() {
            mt -f $1 seek 400 && mt -f $1 setblk 65536 || fail "seek"
            dd if=/dev/urandom iflag=fullblock of=$1 bs=1M 2>said && fail "no end"
            grep -q 'No space' said || fail "$1: $(cat said)"
            local bytes before=400
            bytes=$(sed -n 's/ bytes.*//p' said)
            mt -f $1 tell | tee at
            (($(grep -o '[0-9]*' at) == before + bytes / 65536 + 1)) || fail "$1: $bytes bytes, $(cat at said)"
            mt -f $1 setblk 0
        }
        counted $NST || exit
        fresh_services
        stop_services

        rm books; mt -f $RAW load; mt -f $RAW rewind && mt -f $RAW weof && mt -f $RAW rewind || fail "raw"
        printf 'end 0\nfilemark\nacknowledged\nsynchronised\n' >books
        filled $RAW >raw
        NST=$RAW check || fail "raw: $(tail books)"
        counted $RAW || exit
        diff raw virtual || fail "the virtual drive ends otherwise"
        stop_raw_drive
    "#);
}

/// Without write-behind an error is about the record that failed, alone and exactly: it is not on the tape, and a program that repeats
/// it (as tar does) goes on.
#[test]
fn an_error_of_the_record_at_hand_is_exact() {
    run(r#"
        MIB=64 chain_of_faults # Smaller than what the window has to be warned before: no write-behind.
        new_tape
        while read -r plan; do
            faults "$plan"
            write --count 30 --mark-every 12 --exact >said || fail "$plan: $(cat said)"
            grep -q 'errno' said || fail "$plan: no error"
            faults
            found=$("$BIN/sealtape-lab-writer" check $NST --log books --exact) || fail "$plan: $(tail -n 20 books run.log)"
            grep -q ' lost 0' <<<"$found" || fail "$plan: $found"
            echo "$plan: $found"
        done <<'PLANS'
write 5 medium
write 7 hardware
write-filemarks 1 medium
PLANS
        stop_services && stop_raw_drive
    "#);
}
