//! The same programs and commands on a drive in the clear and on the virtual drive, both under the kernel's own `st`: same result, same
//! errno, same `mt status` and `mt tell` after each.
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
fn tar_does_on_the_virtual_drive_what_it_does_on_a_drive() {
    run(r#"
        chain && twin --create 256
        mkdir tree && cp /usr/bin/{tar,bash,find} tree && head -c 3000000 /dev/urandom >tree/random && : >tree/empty
        both "tar -b 512 -cf @ -C tree ."
        both "tar -b 20 -cf @ tree/random tree/empty"
        both "tar -b 1 -cf @ tree/find"
        both "mt -f @ rewind"
        expect "BOT"
        both "tar -b 512 -df @ -C tree"
        expect "exit 0"
        both "mt -f @ fsf" # tar stops where it reads the end of its archive.
        both "tar -b 20 -df @"
        expect "exit 0"
        both "mt -f @ asf 1"
        both "tar -b 20 -rf @ tree/bash"
        both "mt -f @ asf 1"
        both "tar -b 20 -tf @"
        expect "tree/bash"
        both "mt -f @ asf 1"
        both "mkdir out-\$ROUND && tar -b 20 -xf @ -C out-\$ROUND && cmp out-\$ROUND/tree/bash tree/bash && cmp out-\$ROUND/tree/random tree/random"
        expect "exit 0"
        both "mt -f @ asf 0"
        both "cp -p tree/find copy && echo more >>tree/find; tar -b 512 -df @ -C tree; C=\$?; cp -p copy tree/find; (exit \$C)"
        expect "exit 1"
        # Two volumes, one after the other on the same tape, as tar sees them.
        both "mt -f @ rewind"
        both "tar -b 20 -M -L 4000 -F 'mt -f @ weof 2' -cf @ tree/random tree/bash tree/find"
        expect "exit 0"
        both "mt -f @ rewind"
        both "tar -b 20 -tf %"
        expect "BOT"
        compared 19
        grep -q 'GNU bash' twin.img || fail "the twin is not in the clear"
        grep -q 'GNU bash' raw.img && fail "clear text on the medium"
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
}

#[test]
fn dd_writes_and_reads_every_length() {
    run(r#"
        chain && twin --create 256
        head -c 3000000 /dev/urandom >random
        yes 'a line that shrinks' | head -c 3000000 >text
        # What READ BLOCK LIMITS says: on the virtual drive less than on the twin, by the overhead of a record.
        limits() { set -- $(sg_raw -r 6 "$1" 05 00 00 00 00 00 2>&1 | sed -n 's/^ *00 *//p'); echo $((16#$2$3$4)); }
        largest=$(limits $NSTSG) twins=$(limits $TWINSG)
        echo "largest block: $largest, twin $twins"
        ((twins - largest == 116)) || fail "block limits"
        for length in 1 2 3 511 512 513 4095 10240 65535 65536 65537 262144 1000003 $largest; do
            for data in random text; do
                both "dd status=noxfer if=$data of=@ bs=$length count=2 iflag=fullblock"
                expect "exit 0"
            done
        done
        both "mt -f @ rewind"
        for length in 1 2 3 511 512 513 4095 10240 65535 65536 65537 262144 1000003 $largest; do
            for data in random text; do
                both "read_tape @ bs=$largest && cmp read-\$ROUND <(head -c $((2 * length)) $data)"
                expect "exit 0"
            done
        done
        both "read_tape @ bs=64k" # The end of data: nothing, then an error.
        both "read_tape @ bs=64k"
        # A block that is longer than the buffer.
        both "mt -f @ asf 12"
        both "read_tape @ bs=512 count=1"
        expect "Cannot allocate memory"
        both "read_tape @ bs=64k count=1"
        # Fixed mode.
        for length in 512 10240; do
            both "mt -f @ rewind"
            both "mt -f @ setblk $length"
            expect "block size $length bytes"
            both "dd status=noxfer if=text of=@ bs=$((length * 6)) count=3"
            both "dd status=noxfer if=random of=@ bs=$((length * 6 + 1)) count=1" # No multiple of the block length.
            expect "Invalid argument"
            both "mt -f @ rewind"
            both "read_tape @ bs=$((length * 4)) && cmp read-\$ROUND <(head -c $((length * 18)) text)"
            expect "exit 0"
            both "mt -f @ rewind"
            both "read_tape @ bs=$((length * 5)) count=2"
            both "mt -f @ setblk 0"
            both "read_tape @ bs=$length count=1 && cmp read-\$ROUND <(dd status=none if=text bs=$length skip=10 count=1)"
            both "mt -f @ rewind"
            both "dd status=noxfer if=random of=@ bs=$((length - 1)) count=2"
            both "mt -f @ setblk $length"
            both "mt -f @ rewind"
            both "read_tape @ bs=$length count=1" # A block of another length.
            expect "exit 1"
            both "mt -f @ setblk 0"
        done
        compared 80
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
}

#[test]
fn mt_moves_and_reports_as_on_a_drive() {
    run(r#"
        chain && twin --create 256
        # 3 files of 5, 3 and 0 blocks, a gap of two filemarks, one of 4 blocks without a filemark at the end.
        both "mt -f @ status"
        head -c 350000 /dev/urandom >random
        both "dd status=noxfer if=random of=@ bs=70000"
        both "dd status=noxfer if=/usr/bin/bash of=@ bs=33333 count=3"
        both "mt -f @ weof 2"
        both "mt -f @ weof"
        both "dd status=noxfer if=/usr/bin/bash of=@ bs=1000 count=4"
        for motion in 'rewind' 'fsf' 'fsr 2' 'bsr' 'fsr 9' 'bsf' 'bsfm' 'fsfm 2' 'fsf 9' 'asf 1' 'seek 7' 'bsr 9' 'seek 99' 'eod' 'bsf 2' \
            'bsfm 9' 'asf 9' 'fss' 'bss' 'seek 11' 'tell' 'asf 3' 'bsf 9' 'rewind' 'bsf' 'bsr'; do
            both "mt -f @ $motion"
        done
        # Where reading goes on after a motion, and where writing does.
        for motion in 'fsf' 'fsr 2' 'asf 1' 'seek 6' 'eod' 'bsfm'; do
            AFTER=no both "mt -f @ rewind"
            AFTER=no both "mt -f @ fsf"
            AFTER=no both "mt -f @ $motion"
            both "read_tape @ bs=100000 count=1"
        done
        both "mt -f @ seek 6"
        both "dd status=noxfer if=/usr/bin/tar of=@ bs=5000 count=2"
        both "mt -f @ bsf"
        both "mt -f @ eod"
        both "mt -f @ weof 0"
        both "mt -f @ erase 0"
        both "mt -f @ rewind"
        for n in 1 2 3 4 5 6 7 8 9 10 11; do both "read_tape @ bs=100000 count=1"; done
        both "mt -f % tell"
        AFTER=no both "mt -f @ offline" # Opening would wait two minutes for a cartridge.
        AFTER=no both "mt -f @ status"
        expect "DR_OPEN"
        compared 65
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
}

#[test]
fn two_partitions_are_as_on_a_drive() {
    run(r#"
        cd /dev/shm && target_modules && raw_drive --create 256 --second-partition 64 --barcode LAB002L8 && found && services
        "$BIN/sealtape" volume load drive0 && "$BIN/sealtape" volume label drive0 T2 --partitions 2 || fail "label: $(cat run.log)"
        wait_for sg_turs $NSTSG || fail "not ready"
        twin --create 256 --second-partition 64
        head -c 1000000 /dev/urandom >first
        head -c 700000 /dev/urandom >second
        both "mt -f @ stsetoptions can-partitions"
        expect "exit 0"
        both "dd if=first of=@ bs=65536 status=noxfer"
        both "mt -f @ setpartition 1"
        expect "partition=1"
        both "dd if=second of=@ bs=10000 status=noxfer"
        both "dd if=second of=@ bs=10000 count=3 status=noxfer"
        both "mt -f @ partseek 1 3"
        both "read_tape @ bs=65536 count=1"
        both "mt -f @ partseek 0 5"
        expect "partition=0"
        both "read_tape @ bs=65536 count=1 && cmp read-\$ROUND <(dd if=first bs=65536 skip=5 count=1 status=none)"
        expect "exit 0"
        both "mt -f @ setpartition 1"
        both "mt -f @ rewind"
        both "read_tape @ bs=65536 && cmp read-\$ROUND second"
        expect "exit 0"
        both "mt -f @ eod"
        both "mt -f @ bsf 2"
        both "mt -f @ setpartition 2" # There is none.
        expect "exit 2"
        both "mt -f @ partseek 1 999"
        both "mt -f @ setpartition 0"
        both "mt -f @ rewind"
        both "read_tape @ bs=65536 && cmp read-\$ROUND first"
        expect "exit 0"
        compared 19
        # The same commands without st between.
        for seed in 4 5; do
            "$BIN/sealtape-lab-tape" random-scsi $TWINSG --seed $seed --commands 500 >random.twin || fail "the twin"
            "$BIN/sealtape-lab-tape" random-scsi $NSTSG --seed $seed --commands 500 >random.virtual || fail "the virtual drive"
            diff random.twin random.virtual >difference || fail "seed $seed: $(head -20 difference)"
            grep -c 'partition: 1' random.virtual || fail "never in partition 1"
        done
        stop_services && stop_twin && stop_raw_drive
        exit 0
    "#);
}
