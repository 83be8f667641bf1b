//! sg3_utils on the virtual drive: every answer is well formed in the eyes of programs that others wrote.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::{Guest, Outcome};

fn run(script: &str) -> Outcome {
    let outcome = Guest::uml().run_chain(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    println!("{:?}\n{}", outcome.duration, outcome.output);
    outcome
}

#[test]
fn every_tool_finds_the_answers_well_formed() {
    run(r#"
        chain
        bad=0 tools=0
        # tool CODE PATTERN COMMAND...: exit code, something that the answer holds, and no complaint of the tool.
        tool() {
            local code=$1 pattern=$2 said
            said=$("${@:3}" $NSTSG 2>&1)
            local got=$?
            tools=$((tools + 1))
            ((got == code)) && grep -qE -- "$pattern" <<<"$said" &&
                ! grep -qiE 'malformed|truncat|too short|unexpected|not a tape|mismatch|decoding|badly' <<<"$said" && return
            bad=$((bad + 1))
            echo "BAD ${*:3}: exit $got, wanted $code and '$pattern': $said"
        }
        raw() {
            local code=$1 pattern=$2 said
            said=$(sg_raw -r 4096 $NSTSG "${@:3}" 2>&1)
            local got=$?
            tools=$((tools + 1))
            ((got == code)) && grep -qE -- "$pattern" <<<"$said" && return
            bad=$((bad + 1))
            echo "BAD sg_raw ${*:3}: exit $got, wanted $code and '$pattern': $said"
        }
        tool 0 '' sg_turs
        tool 0 'Peripheral device type: tape' sg_inq
        tool 0 'VIRTUAL001' sg_inq
        for page in $(sg_vpd -H -p 0 $NSTSG | sed -n 's/^ *00 *01 00 00 06 //p' | cut -c1-24); do
            tool 0 '' sg_inq -p 0x$page
            tool 0 '' sg_vpd -p 0x$page
            pages+=" $page"
        done
        echo "VPD pages:$pages"
        tool 0 'VIRTUAL001' sg_vpd -p 0x80
        tool 0 'VIRTUAL DRIVE drive0' sg_vpd -p 0x83
        tool 0 'WORM=1' sg_vpd -a
        raw 5 'Invalid field' 12 01 c0 00 ff 00
        tool 0 'Read\(6\)' sg_opcodes
        tool 0 'timeout' sg_opcodes -R
        tool 0 'cdb usage' sg_opcodes -m
        tool 0 'Logical unit reset' sg_opcodes -t
        for operation in 00 01 03 05 08 0a 10 11 12 15 1a 1b 1e 2b 34 44 4d 8c 8d 91 92 93 a0; do
            tool 0 'Command is supported' sg_opcodes -o 0x$operation
            tool 0 'Command is supported' sg_opcodes -R -o 0x$operation
        done
        for action in 05 0c 0d 0f; do tool 0 'Command is supported' sg_opcodes -o 0xa3,0x$action; done
        for operation in 02 28 2a 3c 82 b5 c0 ff; do tool 0 'Command is NOT supported' sg_opcodes -o 0x$operation; done
        for page in '' 01 02 0a 0f 10 11 1c 1d; do
            tool 0 'specific param=0x10' sg_modes ${page:+-p 0x$page}
            tool 0 '' sg_modes -6 ${page:+-p 0x$page}
        done
        tool 0 'Data Compression' sg_modes -a
        tool 0 'Device configuration extension' sg_modes -A
        for control in 1 2; do tool 0 'Medium Partition' sg_modes -a -c $control; done
        tool 5 '' sg_modes -a -c 3
        tool 0 'Volume statistics' sg_logs
        tool 0 'Volume barcode: LAB001L8' sg_logs -a
        tool 0 'Hard error: 0' sg_logs -A
        for page in 0x0 0x2 0x3 0xc 0x17 0x2e 0x31; do tool 0 '' sg_logs -p $page; done
        tool 0 'Barcode: LAB001L8' sg_read_attr
        tool 0 'Barcode' sg_read_attr -s 1
        tool 0 'First logical volume number: 0' sg_read_attr -s 2
        tool 0 'Number of partitions available: 1' sg_read_attr -s 3
        tool 0 'Medium serial number' sg_read_attr -s 5
        tool 0 'NO registered' sg_persist -i -k
        tool 0 'NO reservation' sg_persist -i -r
        tool 0 'Persist Through Power Loss Capable' sg_persist -i -c
        tool 0 '' sg_persist -i -s
        tool 0 '' sg_persist -o -G -S 0x123
        tool 0 '0x123' sg_persist -i -k
        tool 0 '' sg_persist -o -R -K 0x123 -T 3
        tool 0 'Exclusive Access' sg_persist -i -r
        tool 0 '' sg_persist -o -L -K 0x123 -T 3
        tool 0 'NO reservation' sg_persist -i -r
        tool 0 '' sg_persist -o -G -K 0x123 -S 0
        tool 0 'NO registered' sg_persist -i -k
        tool 0 '1 lun entry' sg_luns
        tool 0 'Fixed format, current; Sense key: No Sense' sg_requests
        tool 0 'Descriptor format, current; Sense key: No Sense' sg_requests -d
        tool 0 '^[0-9]{13}$' sg_timestamp
        tool 0 '' sg_timestamp --milliseconds=1234567
        tool 0 '^12[0-9]{5}$' sg_timestamp
        raw 0 'Good' 44 00 00 00 00 00 00 10 00 00
        raw 0 'Good' 44 01 00 00 00 00 00 10 00 00
        # The drive below has no list of media types.
        raw 5 'byte 1 bit 1' 44 02 00 00 00 00 00 10 00 00
        raw 0 'Good' 05 00 00 00 00 00
        raw 0 '4c 41 42|Good' ab 01 00 00 00 00 00 00 10 00 00 00
        raw 9 'Invalid command operation code' c0 00 00 00 00 00
        raw 9 'Invalid' b5 20 00 10 00 00 00 00 00 00 00 00
        echo "$tools answers, $bad bad"
        ((bad == 0 && tools > 130)) || fail "$bad bad of $tools"
        # It serves as before.
        tar -b 64 -cf $NST -C / usr/bin/tar && mt -f $NST rewind && tar -b 64 -df $NST -C / || fail "tar"
        stop_services && stop_raw_drive
        exit 0
    "#);
}

/// A reset takes what stood in a drive's buffer: the writer hears of it before anything more is acknowledged.
#[test]
fn a_reset_is_told_and_stops_a_writer() {
    run(r#"
        chain
        sg_reset -d $NSTSG || fail "reset"
        sg_turs -v $NSTSG >said 2>&1 && fail "no unit attention: $(cat said)"
        grep -qi 'unit attention' said || fail "$(cat said)"
        # The kernel's target tells it, and the unit does not tell it again.
        sg_turs -v $NSTSG >said 2>&1 || fail "told again: $(cat said run.log)"

        mt -f $NST rewind || fail "rewind"
        mkfifo feed
        "$BIN/sealtape-lab-tape" st $NST <feed >writer.log &
        writer=$!
        exec 7>feed
        printf 'open\nwrite 65536 1\nwrite 65536 3\nwrite 65536 5\nwrite 65536 7\n' >&7
        wait_for grep -q '^4 ' writer.log || fail "the writer: $(cat writer.log)"
        sg_reset -d $NSTSG || fail "reset"
        printf 'write 65536 9\nwrite 65536 11\nop 5 1\nclose\n' >&7
        exec 7>&-
        wait $writer || fail "the writer"
        cut -d'|' -f1 writer.log
        (($(grep -c '= 65536 ' writer.log) == 4)) || fail "acknowledged after the reset, or not before"
        (($(grep -c '= EIO' writer.log) == 3)) || fail "another error than EIO, or none"
        # The kernel's driver has lost its place, for the next program, too, until somebody moves the tape. Nothing that was acknowledged
        # is lost: a reset of the virtual drive loses nothing that waits in the window.
        head -c 262144 /dev/urandom >before
        dd if=before of=$NST bs=65536 count=1 status=none 2>/dev/null && fail "written at a place that nobody knows"
        mt -f $NST rewind && mt -f $NST eod || fail "eod"
        dd if=before of=$NST bs=65536 count=1 status=none || fail "the next program"
        mt -f $NST rewind || fail "rewind after the reset"
        printf 'open\nread 65536\nread 65536\nread 65536\nread 65536\nclose\n' | "$BIN/sealtape-lab-tape" st $NST | cut -d'|' -f1 | grep -c 'Read(65536) = 65536' |
            grep -q 4 || fail "acknowledged records are gone"
        mt -f $NST rewind && mt -f $NST fsr 4 && dd if=$NST bs=65536 status=none | cmp - <(head -c 65536 before) || fail "the next program's record"
        mt -f $NST rewind && dd if=before of=$NST bs=65536 status=none || fail "write after the rewind"
        mt -f $NST rewind && dd if=$NST bs=65536 status=none | cmp - before || fail "read back"
        stop_services && stop_raw_drive
        exit 0
    "#);
}
