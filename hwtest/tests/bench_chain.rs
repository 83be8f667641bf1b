//! The program behind `cargo xtask bench chain`: what goes through a virtual drive comes back whole, and stands on the drive below in clear
//! where the unit is raw, as ciphertext where it is sealed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::Guest;

const CHAIN: &str = include_str!("../guest/chain.sh");

#[test]
fn a_raw_chain_passes_records_on_and_a_sealed_one_their_ciphertext() {
    let script = r#"
        # serve NAME ARGUMENT...: starts it; its node is then in NODE, its process in PID, and it ends when descriptor INPUT is closed.
        serve() {
            local name=$1
            mkdir $name && mkfifo $name.in || fail "$name: no folder"
            "$PROGRAM" serve --folder $name --front-end tcmu --name $name- "${@:2}" <$name.in >$name.out 2>$name.log &
            PID=$!
            exec {INPUT}>$name.in
            wait_for grep -q nodes $name.out || fail "$name does not start: $(cat $name.log)"
            NODE=$(grep -o '/dev/nst[0-9]*' $name.out)
        }
        client() {
            "$PROGRAM" "$1" "$2" --block 262144 --records 16 "${@:3}"
        }
        cd /dev/shm && target_modules
        for unit in raw sealed; do
            serve lab-$unit --unit raw --drive image --mib 64
            lab=$INPUT lab_pid=$PID
            serve $unit --unit $unit --drive scsi --over lab-$unit-
            # Twice: the second time writes from the beginning over what stands there.
            for round in 1 2; do
                client write $NODE && client read $NODE --compare || fail "$unit: $(cat $unit.log lab-$unit.log)"
            done
            mt -f $NODE rewind && dd if=$NODE of=record bs=262144 count=1 status=none || fail "$unit: dd"
            echo used >&$INPUT
            wait_for grep cpu_seconds $unit.out || fail "$unit: nothing used"
            exec {INPUT}>&-
            wait $PID || fail "$unit ended with $?: $(cat $unit.log)"

            # The drive below, by itself.
            pattern=$(tail -c 16 record | od -An -tx1 | sed 's/ /\\x/g')
            LC_ALL=C grep -qaP "$pattern" lab-$unit/lab-$unit-0.image && found=clear || found=ciphertext
            read -r sg st < <(scsi_by_serial lab-$unit-0) || fail "st did not come back"
            client read /dev/n$st --compare && opened=readable || opened=unreadable
            echo "$unit: $found, $opened"
            exec {lab}>&-
            wait $lab_pid || fail "the lab drive ended with $?: $(cat lab-$unit.log)"
            grep -c 'NOT SEALED' $unit.log
        done
        ls /sys/kernel/config/target/core | grep user_ && fail "left behind"
        exit 0
    "#;
    let guest = Guest::uml().env("PROGRAM", env!("CARGO_BIN_EXE_sealtape-bench-node"));
    let outcome = guest.run(&format!("{CHAIN}\n{script}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    println!("{:?}\n{}", outcome.duration, outcome.output);
    for wanted in ["\nraw: clear, readable\n1\n", "\nsealed: ciphertext, unreadable\n0\n"] {
        assert!(outcome.output.contains(wanted), "{wanted}: {}", outcome.output);
    }
}
