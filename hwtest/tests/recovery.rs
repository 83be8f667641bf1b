//! The service dies, drives are reset, the raw drive goes away: a writer that carries on hears of it before anything more is
//! acknowledged, and the tape holds what it was promised.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sealtape_hwtest::guest::{Guest, Outcome};

const FUNCTIONS: &str = concat!(include_str!("faults.sh"), include_str!("recovery.sh"));

fn run(script: &str) -> Outcome {
    let long = std::env::var_os("SEALTAPE_LONG").is_some();
    let guest = Guest::uml().time_limit(Duration::from_secs(if long { 1800 } else { 400 }));
    let guest = guest.env("KILLS", if long { "500" } else { "25" });
    let outcome = guest.run_chain(&format!("{FUNCTIONS}\n{script}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    eprintln!("{:?}\n{}", outcome.duration, outcome.output);
    outcome
}

/// kill -9 of the data path at random moments of a backup, every fifth time while nothing is in flight. The writer carries on over
/// its open node. Past `st`, which has an opinion of its own, the drive refuses a raw WRITE, too.
#[test]
fn the_data_path_is_killed_and_a_writer_that_carries_on_hears_of_it() {
    let outcome = run(r#"
        RANDOM=7
        MIB=1024 hand_started
        head -c 16 /dev/urandom >sixteen
        marked=0 refused=0
        for ((kill = 0; kill < KILLS; kill++)); do
            ((kill % 10)) || new_tape
            if ((kill % 5 == 4)); then
                rm -f go
                write --count $((RANDOM % 30)) --mark-every 7 --wait-for go >said 2>&1 &
                writer=$!
                wait_for grep -q waiting said || fail "kill $kill: $(cat said)"
            else
                size=$(stat -c %s books)
                write --mark-every 30 --longest 20000 >said 2>&1 &
                writer=$!
                wait_for eval "(( \$(stat -c %s books) > $size + 20 ))" || fail "kill $kill: $(cat said)"
                sleep 0.$((RANDOM % 2))$((RANDOM % 10))
            fi
            kill_data
            [[ -e $SEALTAPE_HOME/data/drive0.unsynchronised ]] && mark=1 || mark=0
            if ((kill % 2)); then >go; sleep 0.05; fi
            take_over
            >go
            wait $writer || fail "kill $kill: $(cat said; tail -5 data.log)"
            marked=$((marked + mark))
            if ((mark)); then
                for try in 1 2; do
                    sg_turs $NSTSG >/dev/null 2>&1 # Tells attentions, and has the service look at what is loaded.
                    raw_write && fail "kill $kill: a write was acknowledged: $(cat said data.log)"
                    refused=$((refused + 1))
                done
                grep -q 'Sense key: Hardware Error\|sense key: Hardware Error' raw_write.said || fail "kill $kill: $(cat raw_write.said)"
            fi
            mt -f $NST rewind || mt -f $NST rewind || fail "kill $kill: rewind: $(cat data.log)"
            # Each writer notes where it found the end of data; the books are closed every fifth time.
            ((kill % 5 == 4)) || continue
            found=$(check) || fail "kill $kill: $(tail -n 20 books data.log)"
            echo "kill $kill: $found"
        done
        echo "$KILLS kills, $marked with records that were not synchronised, $refused raw writes refused"
        stop_by_hand && stop_raw_drive
    "#);
    assert!(outcome.output.contains(" kills, "), "{}", outcome.output);
}

/// The virtual drive is reset while a backup runs: the writer hears of it, once, and after a rewind all is as it was. The raw drive
/// cannot be reset by others while the service owns it; what its own reset does is in the suite of faults.
#[test]
fn the_virtual_drive_is_reset_while_a_backup_runs() {
    run(r#"
        RANDOM=3
        MIB=512 hand_started
        new_tape
        for ((reset = 0; reset < 4; reset++)); do
            size=$(stat -c %s books)
            write --mark-every 30 --longest 20000 --count 5000 >said 2>&1 &
            writer=$!
            wait_for eval "(( \$(stat -c %s books) > $size + 20 ))" || fail "$(cat said)"
            sleep 0.0$((RANDOM % 10))
            sg_reset -d $NSTSG >/dev/null || fail sg_reset
            wait $writer && grep -q 'errno 5' said || fail "reset $reset: $(cat said)"
            mt -f $NST rewind || fail "rewind: $(tail -5 data.log)"
            found=$(check) || fail "reset $reset: $(tail -n 20 books data.log; dmesg | tail -n 5)"
            grep -q ' lost 0' <<<"$found" || fail "reset $reset: $found"
            echo "reset $reset: $found"
        done
        sg_reset -d $RAWSG >said 2>&1
        grep -q busy said || fail "the raw drive is open to others: $(cat said)"
        stop_by_hand && stop_raw_drive
    "#);
}

/// The raw drive goes away in the middle of a backup and comes back: the writer waits, then hears of it; status answers meanwhile; the
/// drive can be used again without a restart of the service.
#[test]
fn the_raw_drive_goes_away_and_comes_back() {
    run(r#"
        MIB=512 hand_started
        new_tape
        write --mark-every 30 --longest 20000 --count 5000 >said 2>&1 &
        writer=$!
        wait_for eval "(( \$(stat -c %s books) > 1000 ))" || fail "$(cat said)"
        { kill -9 $RAW_PID; wait $RAW_PID; } 2>/dev/null
        sleep 2
        timeout 10 "$BIN/sealtape" drive status drive0 >/dev/null || fail "status does not answer while the drive is away"
        raw_drive --fault-plan plan
        wait $writer && grep -q 'errno 5' said || fail "$(cat said)"
        "$BIN/sealtape" drive status drive0 >status
        mt -f $NST rewind || fail "rewind: $(tail -5 data.log)"
        found=$(check) || fail "$(tail -n 20 books data.log)"
        # Right behind a synchronisation there was nothing to lose.
        grep -q '^LOST RECORDS' status || grep -q ' lost 0' <<<"$found" || fail "the operator does not hear of it: $found"
        "$BIN/sealtape" volume unload drive0 && "$BIN/sealtape" volume load drive0 >/dev/null || fail "$(tail -5 data.log)"
        ready
        write --count 50 || fail "$(cat said)"
        check || fail "$(tail -n 20 books data.log)"
        stop_by_hand && stop_raw_drive
    "#);
}

/// An orderly stop while a host has the node open, and what a killed service left of a drive that is not configured any more.
#[test]
fn an_orderly_stop_with_an_open_node_and_leftovers_of_another_configuration() {
    run(r#"
        hand_started
        new_tape
        write --count 20 --wait-for go >said 2>&1 &
        writer=$!
        wait_for grep -q waiting said || fail "$(cat said)"
        # The host has unsynchronised records and has locked the drive: at the end nobody waits for it.
        sg_prevent --prevent=1 $NSTSG || fail "lock"
        "$BIN/sealtape" volume unload drive0 2>refused && fail "unloaded under a host that writes"
        grep -Eq 'not synchronised|prevented the removal' refused || fail "$(cat refused)"
        kill $DATA_PID
        begun=$SECONDS
        wait $DATA_PID || fail "sealtaped ended with $?: $(cat data.log)"
        grep -E 'not unloaded in order|not be given back in order|keeps the programmable' data.log && fail "not in order"
        ((SECONDS - begun < 20)) || fail "the stop took $((SECONDS - begun)) s"
        >go
        wait $writer || fail "$(cat said)"
        ls /sys/kernel/config/target/core | grep user_5773 && fail "left behind"
        data_path
        "$BIN/sealtape" volume load drive0 >/dev/null || fail "load: $(cat data.log)"
        ready
        grep -c '^acknowledged' books
        found=$(check) || fail "$(cat books; tail data.log)"
        grep -q ' lost 0' <<<"$found" || fail "an orderly stop took something: $found"
        kill_data
        sed -i '/^front_end/d; /^virtual_serial/d' $SEALTAPE_HOME/sealtape.toml # A node in a folder instead.
        rm data.log
        "$BIN/sealtaped" 2>data.log &
        DATA_PID=$!
        WAIT=30 wait_for grep -q ' ready ' data.log || fail "sealtaped: $(cat data.log)"
        grep -q 'not configured any more was removed.*drive0' data.log || fail "$(cat data.log)"
        ls /sys/kernel/config/target/core | grep user_5773 && fail "drive0 is there"
        stop_by_hand && stop_raw_drive
    "#);
}
