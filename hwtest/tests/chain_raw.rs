//! The virtual drive's SCSI answers and `st`'s view of it, against a drive in the clear over the same kind of cartridge: the same commands, by a
//! seed, must print the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::{Guest, Outcome};

const COMPARE: &str = include_str!("../guest/compare.sh");

fn run(script: &str) -> Outcome {
    let outcome = Guest::uml().run_chain(&format!("{COMPARE}\n{script}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    println!("{:?}\n{}", outcome.duration, outcome.output);
    outcome
}

#[test]
fn read_with_fixed_and_sili_follows_the_table() {
    run(r#"
        chain && twin --create 256
        "$BIN/sealtape-lab-tape" table $TWINSG >table.twin || fail "the twin: $(tail -1 table.twin)"
        "$BIN/sealtape-lab-tape" table $NSTSG >table.virtual || fail "the virtual drive: $(tail -1 table.virtual)"
        diff table.twin table.virtual || fail "different"
        tail -1 table.virtual
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
}

#[test]
fn any_sequence_of_commands_has_the_same_status_sense_residue_and_data() {
    let outcome = run(r#"
        chain && twin --create 256
        for seed in 1 2 3; do
            "$BIN/sealtape-lab-tape" random-scsi $TWINSG --seed $seed --commands 1000 >random.twin || fail "the twin"
            "$BIN/sealtape-lab-tape" random-scsi $NSTSG --seed $seed --commands 1000 >random.virtual ||
                fail "the virtual drive: $(tail -2 random.virtual)"
            diff random.twin random.virtual >difference || fail "seed $seed: $(head -20 difference)"
            wc -l <random.virtual
            cat random.virtual >>all
        done
        for met in FILEMARK EOM ILI 'BLANK CHECK' 'ILLEGAL' '00h/05h' '00h/04h' 'INFORMATION=-'; do
            echo "met $met: $(grep -c -- "$met" all)"
        done
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
    assert!(!outcome.output.contains(": 0\n"), "{}", outcome.output);
}

#[test]
fn any_sequence_of_reads_writes_and_motions_through_st_is_the_same() {
    let outcome = run(r#"
        chain && twin --create 256
        for seed in 1 2 3; do
            "$BIN/sealtape-lab-tape" random-st $TWIN --seed $seed --steps 600 >random.twin || fail "the twin"
            "$BIN/sealtape-lab-tape" random-st $NST --seed $seed --steps 600 >random.virtual || fail "the virtual drive"
            diff random.twin random.virtual >difference || fail "seed $seed: $(head -20 difference)"
            wc -l <random.virtual
            cat random.virtual >>all
        done
        for met in ENOMEM EIO 'Read(65536) = 0 ' 'Write(512' 'Read(65536) = 4096'; do
            echo "met $met: $(grep -c -- "$met" all)"
        done
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
    assert!(!outcome.output.contains(": 0\n"), "{}", outcome.output);
}

/// Read, read ahead across a filemark, then write: the record goes to where the host stood.
#[test]
fn a_write_after_reading_goes_where_the_host_stood() {
    let outcome = run(r#"
        chain && twin --create 256
        for length in 0 512; do
            cat >script <<END
                open
                op 20 $length
                op 6 1
                $(for n in 1 2 3 4 5 6; do echo "write 4096 $n"; done)
                op 5 1
                $(for n in 11 12 13 14; do echo "write 4096 $n"; done)
                op 5 1
                write 4096 99
                close
                open
                op 6 1
                read 4096   # The drive may read on by itself, over the filemark.
                read 4096
                read 1024
                read 4096
                read 4096
                read 16384
                write 4096 77
                close
                open
                op 6 1
                $(for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo "read 65536"; done)
                op 6 1
                op 1 1
                write 4096 55  # Straight behind the filemark.
                op 6 1
                $(for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do echo "read 1024"; done)
                close
END
            "$BIN/sealtape-lab-tape" st $TWIN <script >out.twin || fail "the twin"
            "$BIN/sealtape-lab-tape" st $NST <script >out.virtual || fail "the virtual drive"
            diff out.twin out.virtual || fail "different"
            cat out.virtual
        done
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
    assert!(outcome.output.contains("ENOMEM"), "{}", outcome.output);
}
