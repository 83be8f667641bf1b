//! The front end behind `target_core_user` in a real kernel: null tapes under `st` and `sg`, killed, suspended, reset and removed.
//!
//! `SEALTAPE_TEST_GUEST=qemu` runs it all with Debian's own kernel, many times slower.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use sealtape_hwtest::guest::Guest;

/// Functions of the scripts below. Every check says what it wanted before the script ends.
const PRELUDE: &str = r#"
set -u
target=/sys/kernel/config/target
die() { echo "FAILED: $*"; tail -n 20 *.log; exit 1; }
# serve LOG ARGUMENTS...: null tapes, ready; their process is $service
serve() {
    local log=$1; shift
    "$NULL" serve "$@" >"$log" 2>&1 5>&- & service=$!
    local try
    for try in $(seq 400); do
        grep -q ^ready "$log" && return
        kill -0 $service 2>/dev/null || die "the service ended"
        sleep 0.05
    done
    die "not served"
}
# writing PID NODE: waits until the program has the node open as its standard output; one that opens it later hears of nothing.
writing() {
    local try
    for try in $(seq 400); do
        [ "$(readlink /proc/$1/fd/1)" = "$2" ] && return
        sleep 0.05
    done
    die "$2 is not opened"
}
# is NAME FIELD LOG: a field of the unit's line: 2 new or resumed, 3 address, 4 sg, 5 nst
field() { awk -v name="$1" -v n="$2" '$1 == name && $3 ~ /^[0-9:]+$/ { print $n }' "$3"; }
stop() { kill -"$1" $service; wait $service || die "the service ended with $?"; }
same() { [ "$1" = "$2" ] || die "$3: wanted '$2', found '$1'"; }
nothing_left() {
    [ -e $target/loopback ] && die "loopback is left"
    same "$(ls $target/core)" alua "what is left in configfs"
    ls /dev/nst* /dev/sg* 2>/dev/null && die "nodes are left"
    same "$(ls /sys/class/uio)" "" "what is left of uio"
}
attention() { sg_turs -v "$1" 2>&1 | grep -q 'Unit Attention'; }
"#;

/// The kind of guest that was asked for, and the time limit for it.
fn guest(limit: u64) -> (Guest, u64) {
    if std::env::var("SEALTAPE_TEST_GUEST").is_ok_and(|kind| kind == "qemu") {
        (Guest::qemu(), limit * 5)
    } else {
        (Guest::uml(), limit)
    }
}

fn pass(limit: u64, script: &str) -> String {
    let (guest, limit) = guest(limit);
    let mut guest = guest.env("NULL", env!("CARGO_BIN_EXE_sealtape-lab-null"));
    for module in ["st", "sg", "target_core_user", "tcm_loop"] {
        guest = guest.module(module);
    }
    let outcome = guest
        .time_limit(Duration::from_secs(limit))
        .run(&format!("{PRELUDE}\n{script}"))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}\n{}", outcome.output, outcome.console);
    assert!(!outcome.console.contains("Call Trace"), "{}", outcome.console);
    outcome.output
}

#[test]
fn two_units_are_tapes_of_this_kernel_and_go_without_a_trace() {
    let output = pass(
        120,
        r#"
        serve a.log --block 1048576 --file 10 a b
        sg=$(field a 4 a.log) nst=$(field a 5 a.log) other=$(field b 5 a.log)
        same "$(field a 2 a.log)" new "first start"
        [ -c $sg ] && [ -c $nst ] && [ -c $other ] && [ $nst != $other ] || die "no nodes"
        sg_inq $sg | grep -q 'Product identification: NULL TAPE' || die "INQUIRY"
        sg_inq $sg | grep -q 'Unit serial number: NULL-a' || die "unit serial number"
        sg_turs $sg || die "TEST UNIT READY"
        mt -f $nst status | grep -q ONLINE || die "mt status"
        dd if=/dev/zero of=$other bs=1M count=300 2>b.txt & writer=$!
        dd if=/dev/zero of=$nst bs=1M count=300 2>a.txt || die "dd: $(cat a.txt)"
        wait $writer || die "dd: $(cat b.txt)"
        tail -n 1 a.txt
        mt -f $nst rewind
        same "$(dd if=$nst bs=1M 2>/dev/null | wc -c)" 10485760 "ten blocks to a filemark"
        stop TERM
        grep -q 'a: gone after 314572800 bytes written' a.log || die "written"
        grep -q 'b: gone after 314572800 bytes written' a.log || die "written by the other"
        nothing_left
        "#,
    );
    println!("{output}");
}

#[test]
fn lengths_and_residues() {
    pass(
        120,
        r#"
        serve a.log --block 1000 --file 5 a
        sg=$(field a 4 a.log) nst=$(field a 5 a.log)
        # Variable mode: the block's length is the read's result, one block each.
        same "$(dd if=$nst bs=4096 count=2 2>/dev/null | wc -c)" 2000 "two short reads"
        mt -f $nst rewind
        # ILI: data and sense both arrive; the rest of the buffer is no data.
        sg_raw -r 4096 -o data.bin $sg 08 00 00 10 00 00 >raw.txt 2>&1
        same "$(stat -c %s data.bin)" 1000 "bytes of a short read by SG_IO: $(cat raw.txt)"
        grep -qi 'ILI' raw.txt || die "no ILI: $(cat raw.txt)"
        # SILI: GOOD, and still a residue.
        sg_raw -r 4096 -o data.bin $sg 08 02 00 10 00 00 >raw.txt 2>&1 || die "SILI: $(cat raw.txt)"
        same "$(stat -c %s data.bin)" 1000 "bytes with SILI"
        # 1 MiB is the longest command; st believes the block limits and refuses more by itself.
        dd if=/dev/zero of=$nst bs=1048576 count=1 2>/dev/null || die "1 MiB"
        dd if=/dev/zero of=$nst bs=1048577 count=1 2>long.txt && die "1 MiB and a byte"
        grep -q 'Invalid argument' long.txt || die "$(cat long.txt)"
        stop TERM
        nothing_left
        "#,
    );
}

#[test]
fn a_small_data_area_serves_many_commands() {
    pass(
        120,
        r#"
        serve a.log --area 1 --block 1048576 --file 1000000 a
        sg=$(field a 4 a.log) nst=$(field a 5 a.log)
        for reader in 1 2 3; do
            for i in $(seq 10); do
                sg_raw -r 1048576 -o reader$reader $sg 08 00 10 00 00 00 >raw$reader.txt 2>&1 || touch failed
            done &
            readers="${readers-} $!"
        done
        dd if=/dev/zero of=$nst bs=1M count=200 2>dd.txt || die "dd: $(cat dd.txt)"
        wait $readers
        [ -e failed ] && die "a reader: $(cat raw?.txt)"
        stop TERM
        nothing_left
        "#,
    );
}

#[test]
fn a_killed_service_is_followed_by_an_error_before_anything_is_acknowledged() {
    // A writer that opens the node anew meets no error: st's open takes the unit attention, as with any drive.
    pass(
        300,
        r#"
        serve a.log a
        sg=$(field a 4 a.log) nst=$(field a 5 a.log) address=$(field a 3 a.log)
        for round in $(seq 15); do
            # Odd rounds: killed under a writer. Even ones: killed while a writer has the node open and pauses.
            if [ $((round % 2)) = 1 ]; then
                dd if=/dev/zero of=$nst bs=256k count=1000000 2>dd.txt & writer=$!
                writing $writer $nst
                sleep 0.$((RANDOM % 9))$((RANDOM % 9))
            else
                exec 5>$nst
                dd if=/dev/zero bs=256k count=2 >&5 2>/dev/null || die "writing, round $round"
            fi
            kill -9 $service; wait $service 2>/dev/null
            serve a.log a
            same "$(field a 2 a.log)" resumed "round $round"
            same "$(field a 3 a.log) $(field a 4 a.log) $(field a 5 a.log)" "$address $sg $nst" "the nodes, round $round"
            if [ $((round % 2)) = 1 ]; then
                wait $writer && die "the writer was told of nothing, round $round"
                grep -q 'Input/output error' dd.txt || die "$(cat dd.txt)"
            else
                dd if=/dev/zero bs=256k count=1 >&5 2>dd.txt && die "a write after the kill, round $round"
                grep -q 'Input/output error' dd.txt || die "$(cat dd.txt)"
                exec 5>&-
            fi
            sg_turs $sg || die "not usable again, round $round"
            dd if=/dev/zero of=$nst bs=256k count=4 2>dd.txt || die "writing again, round $round: $(cat dd.txt)"
        done
        stop TERM
        nothing_left
        "#,
    );
}

#[test]
fn suspended_taken_over_and_served_once() {
    pass(
        120,
        r#"
        serve a.log a b
        sg=$(field a 4 a.log)
        "$NULL" serve a >second.log 2>&1 && die "served twice"
        grep -q 'served by another process already' second.log || die "served twice"
        "$NULL" clean | grep -q 'removed \[\], served \["a", "b"\]' || die "clean took what is served"
        sg_turs $sg || die "disturbed by the second one"
        stop HUP
        # BUSY, and neither an error nor a hang for good: the command waits for the next service.
        sg_turs $sg & waiting=$!
        sleep 1
        kill -0 $waiting 2>/dev/null || die "a suspended unit answered"
        serve a.log a b
        same "$(field b 2 a.log)" resumed "after a suspension"
        wait $waiting
        attention $sg && die "the waiting command had the attention already"
        # A reset of the unit reaches it; target core has an attention of its own before that.
        sg_reset -d $sg >/dev/null 2>&1
        grep -q 'a: reset' a.log || die "no reset"
        attention $sg || die "no attention after a reset"
        attention $sg
        sg_turs $sg || die "not ready after a reset"
        # Somebody resets the ring beneath us.
        nst=$(field a 5 a.log)
        dd if=/dev/zero of=$nst bs=64k count=100 2>/dev/null || die "writing"
        before=$(grep -c 'a: reset' a.log)
        echo 2 >$target/core/user_5773/a/action/reset_ring
        for i in 1 2 3; do sg_turs $sg >/dev/null 2>&1; done
        grep -q 'was reset' a.log || die "the reset ring was not noticed"
        [ "$(grep -c 'a: reset' a.log)" -gt "$before" ] || die "the unit was not told"
        sg_turs $sg || die "not ready after the ring was reset"
        stop TERM
        nothing_left
        "#,
    );
}

#[test]
fn leftovers_are_removed_even_under_a_writer() {
    pass(
        120,
        r#"
        serve a.log a b
        dd if=/dev/zero of=$(field a 5 a.log) bs=1M count=1000000 2>dd.txt & writer=$!
        writing $writer $(field a 5 a.log)
        sleep 0.5
        kill -9 $service; wait $service 2>/dev/null
        "$NULL" clean >clean.txt || die "clean: $(cat clean.txt)"
        grep -q 'removed \["a", "b"\]' clean.txt || die "$(cat clean.txt)"
        wait $writer && die "the writer was told of nothing"
        nothing_left
        # Killed while it was being made: a device that was never enabled, an adapter that leads nowhere.
        mkdir -p $target/core/user_5773/c $target/loopback/naa.35ea17a9e0000001/tpgt_1/lun/lun_0
        echo dev_config=sealtape/c >$target/core/user_5773/c/control
        # Of another program, under our number.
        mkdir $target/core/user_5773/foreign
        echo dev_config=other/thing,dev_size=1048576 >$target/core/user_5773/foreign/control
        echo 1 >$target/core/user_5773/foreign/enable
        "$NULL" clean >clean.txt || die "clean: $(cat clean.txt)"
        grep -q 'removed \["c"\]' clean.txt || die "$(cat clean.txt)"
        [ -e $target/core/user_5773/foreign ] || die "what is not ours was removed"
        "$NULL" serve foreign >foreign.log 2>&1 && die "took what is not ours"
        grep -q 'belongs to another program' foreign.log || die "foreign"
        rmdir $target/core/user_5773/foreign $target/core/user_5773
        nothing_left
        "#,
    );
}

#[test]
fn a_unit_that_panics_holds_up_nobody() {
    pass(
        120,
        r#"
        # WRITE FILEMARKS
        serve a.log --panic-on 16 a b
        sg=$(field a 4 a.log) nst=$(field a 5 a.log)
        dd if=/dev/zero of=$nst bs=64k count=2 2>dd.txt && die "close did not tell"
        sg_turs -v $sg 2>&1 | grep -q 'Hardware Error' || die "no hardware error"
        grep -q 'panicked; it answers HARDWARE ERROR' a.log || die "not in the log"
        sg_turs $(field b 4 a.log) || die "the other unit suffers"
        stop TERM
        nothing_left
        "#,
    );
}

#[test]
fn slow_commands_are_waited_for_and_removal_ends_a_writer() {
    pass(
        120,
        r#"
        serve a.log --rewind 6 a
        sg=$(field a 4 a.log) nst=$(field a 5 a.log)
        # The host's limit is 2 s: it aborts, and the abort waits for the unit.
        began=$SECONDS
        sg_raw -t 2 $sg 01 00 00 00 00 00 >raw.txt 2>&1 && die "no time-out: $(cat raw.txt)"
        grep -q DID_TIME_OUT raw.txt || die "$(cat raw.txt)"
        [ $((SECONDS - began)) -ge 5 ] || die "the abort did not wait"
        grep -q 'function=1 commands=1' a.log || die "the abort was not noted"
        sg_turs $sg || die "not ready after an abort"
        # Stopping waits for the command that is being done; it succeeds.
        mt -f $nst rewind & rewind=$!
        sleep 1
        stop TERM
        wait $rewind || die "the rewind"
        nothing_left
        serve a.log a
        dd if=/dev/zero of=$(field a 5 a.log) bs=1M count=1000000 2>dd.txt & writer=$!
        writing $writer $(field a 5 a.log)
        sleep 0.5
        stop TERM
        wait $writer && die "the writer was told of nothing"
        nothing_left
        "#,
    );
}

#[test]
fn a_link_of_somebody_else_keeps_the_unit() {
    pass(
        120,
        r#"
        serve a.log a
        other=$target/loopback/naa.5001405000000001
        mkdir -p $other/tpgt_1/lun/lun_0
        echo naa.5001405000000002 >$other/tpgt_1/nexus
        ln -s $target/core/user_5773/a $other/tpgt_1/lun/lun_0/theirs
        sg=/dev/$(ls /sys/class/scsi_device/$(cat $other/tpgt_1/address):0/device/scsi_generic)
        sg_turs $sg || die "not there for the other"
        kill $service; wait $service && die "stopped without a word"
        grep -q 'still linked at .*naa.5001405000000001' a.log || die "the link is not named"
        ls $target/loopback | grep -q naa.35ea17a9e && die "our own link is left"
        "$NULL" clean >clean.txt 2>&1 && die "clean removed it"
        grep -q 'still linked at .*theirs' clean.txt || die "$(cat clean.txt)"
        grep -q 'removed \[\], served \[\]' clean.txt || die "$(cat clean.txt)"
        [ -L $other/tpgt_1/lun/lun_0/theirs ] || die "what is not ours was removed"
        # Neither lost nor hanging: the next service takes it over, and the other has it still.
        serve a.log a
        attention $sg || die "no attention for the other"
        sg_turs $sg || die "not ready for the other"
        rm $other/tpgt_1/lun/lun_0/theirs
        rmdir $other/tpgt_1/lun/lun_0 $other/tpgt_1 $other
        stop TERM
        nothing_left
        "#,
    );
}

#[test]
fn missing_modules_are_named() {
    let null = env!("CARGO_BIN_EXE_sealtape-lab-null");
    let outcome = guest(0).0.env("NULL", null).run("\"$NULL\" serve a").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 1);
    assert!(outcome.output.contains("modprobe target_core_user tcm_loop"), "{}", outcome.output);
    let guest = guest(0).0.env("NULL", null).module("target_core_user");
    let script = "\"$NULL\" serve a; echo $?; ls /sys/kernel/config/target/core";
    let outcome = guest.run(script).unwrap_or_else(|error| panic!("{error}"));
    assert!(outcome.output.contains("no tcm_loop") && outcome.output.ends_with("1\nalua\n"), "{}", outcome.output);
}
