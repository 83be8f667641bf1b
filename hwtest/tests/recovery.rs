//! The service dies, drives are reset, the raw drive goes away: a writer that carries on hears of it before anything more is
//! acknowledged, and the tape holds what it was promised.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sealtape_hwtest::guest::{Guest, Outcome};

const FUNCTIONS: &str = concat!(include_str!("faults.sh"), include_str!("recovery.sh"));

fn run(script: &str) -> Outcome {
    let long = std::env::var_os("SEALTAPE_LONG").is_some();
    let guest = Guest::uml().time_limit(Duration::from_secs(if long { 1800 } else { 400 }));
    let guest = guest.env("KILLS", if long { "500" } else { "50" });
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
            found=$(check) || fail "kill $kill: $(tail -20 books data.log)"
            echo "kill $kill: $found"
        done
        echo "$KILLS kills, $marked with records that were not synchronised, $refused raw writes refused"
        stop_by_hand && stop_raw_drive
    "#);
    assert!(outcome.output.contains(" kills, "), "{}", outcome.output);
}
