//! The virtual drive behind the kernel's iSCSI target, used by open-iscsi as the host of another machine would: what `docs/iscsi.md` tells
//! operators to do, and what it promises.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::{Guest, Outcome};

const ISCSI: &str = include_str!("../guest/iscsi.sh");

fn run(script: &str) -> Outcome {
    let outcome = Guest::uml().run_chain(&format!("{ISCSI}\n{script}")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}\nkernel:\n{}", outcome.output, outcome.console);
    outcome
}

#[test]
fn blocks_up_to_8_mib_pass_and_the_medium_has_ciphertext() {
    run(r#"
        exported_drive 8MiB && export_unit && initiator && log_in || fail "no drive"
        iscsiadm -m session -P 2 >session
        for line in 'username: host' 'username_in: sealtape' 'HeaderDigest: CRC32C' 'DataDigest: CRC32C'; do
            grep -q "$line" session || fail "the session has no '$line': $(cat session)"
        done
        sg_raw -r 6 -o limits $NSTSG 05 00 00 00 00 00 2>/dev/null || fail "READ BLOCK LIMITS"
        [[ $(od -An -tx1 limits) == ' 00 80 00 00 00 01' ]] || fail "block limits: $(od -An -tx1 limits)"

        # Random bytes do not shrink, so that a text among them would stand on a medium in the clear as it is.
        export LC_ALL=C
        text=$(head -c 4096 /dev/urandom | tr -dc '\001-\011\013-\377' | head -c 64)
        { printf %s "$text"; head -c 8388545 /dev/urandom; } >data
        sizes='1 1048577 4194304 8388608'
        for size in $sizes; do
            dd if=data of=$NST bs=$size count=1 iflag=fullblock status=none || fail "a block of $size bytes is not written"
        done
        dd if=data of=$NST bs=8388609 count=1 iflag=fullblock status=none 2>said && fail "a block that is too long was accepted"
        grep -q 'Invalid argument' said || fail "a block that is too long: $(cat said)"
        mt -f $NST weof && mt -f $NST rewind || fail "no filemark"
        for size in $sizes; do
            # One block, whatever its length, and then its filemark: each dd closed the device behind it.
            dd if=$NST of=back bs=8M count=1 status=none && [[ $(stat -c %s back) == $size ]] || fail "$size bytes came back as $(stat -c %s back)"
            cmp -n $size data back || fail "a block of $size bytes came back changed"
            mt -f $NST fsf || fail "no filemark behind $size bytes"
        done
        mt -f $NST bsfm 2 && dd if=$NST of=back bs=4M count=1 status=none 2>said && fail "8 MiB fit into 4 MiB"
        grep -q 'Cannot allocate memory' said || fail "a buffer that is too small: $(cat said)"

        mt -f $NST eod && at=$(mt -f $NST tell) && at=${at//[!0-9]/}
        tar -b 8192 -cf $NST -C / usr/bin/tar usr/bin/bash usr/bin/perl || fail "tar -c"
        mt -f $NST seek $at && tar -b 8192 -df $NST -C / || fail "tar -d"

        log_out
        stop_initiator
        unexport
        stop_services
        grep -aqF "$text" data || fail "the text to look for is not there"
        grep -aqF "$text" A00001L8.tape && fail "clear text on the medium"
        grep -aq 'SEALTAPE VOLUME 1' A00001L8.tape || fail "no label on the medium"
        ls /sys/kernel/config/target/core | grep user_ && fail "left behind"
        exit 0
    "#);
}

#[test]
fn only_the_host_of_the_access_list_that_knows_both_secrets_gets_the_drive() {
    let outcome = run(r#"
        exported_drive 4MiB && export_unit && initiator || fail "no drive"
        refused stranger "not in the access list"
        iscsiadm -m discovery -t sendtargets -p $PORTAL -I stranger -o nonpersistent 2>/dev/null && fail "a stranger sees the target"
        iscsiadm -m discovery -t sendtargets -p $PORTAL -I host -o nonpersistent | grep -q $TARGET || fail "the host does not see the target"
        set_node host node.session.auth.password wrong-secret-0123
        refused host "wrong secret of the host"
        set_node host node.session.auth.username "" -n node.session.auth.password -v ""
        refused host "no secret"
        set_node host node.session.auth.username host -n node.session.auth.password -v $HOST_SECRET -n node.session.auth.password_in -v wrong-secret-4567
        refused host "a target that does not know its secret"
        # The same record, mended, so that none of these was refused for another reason.
        set_node host node.session.auth.password_in $TARGET_SECRET
        log_in
        log_out
        stop_initiator
        unexport
        stop_services
    "#);
    for refusal in [
        "not in the access list: 24 ",
        "wrong secret of the host: 24 ",
        "no secret: 24 ",
        "a target that does not know its secret: 19 ",
    ] {
        assert!(outcome.output.contains(refusal), "{refusal}:\n{}", outcome.output);
    }
}

#[test]
fn a_restart_of_the_services_keeps_the_export_and_a_writer_hears_of_it() {
    run(r#"
        exported_drive 4MiB && export_unit && initiator && log_in || fail "no drive"
        # Up to 1 MiB st hands a block on before it answers; of longer ones it keeps one back, and tells an error one block late.
        head -c 1M /dev/urandom >data
        head -c 1M /dev/urandom >other
        # A backup program that has the drive open throughout.
        exec 3>$NST
        dd if=data bs=1M iflag=fullblock status=none >&3 || fail write
        kill $RUN_PID
        wait $RUN_PID && fail "stopped under an export without a word"
        grep -q 'still linked at .*/iscsi/.*initiators are told BUSY until it is served again' run.log || fail "$(cat run.log)"
        run_services 3>&-
        "$BIN/sealtape" volume load drive0 A00001L8.tape >/dev/null || fail "load: $(cat run.log)"
        for try in 1 2 3 4 5 6; do
            dd if=other bs=1M iflag=fullblock status=none 2>said >&3 && fail "written at try $try, at a place that the host does not know"
            grep -q 'Input/output error' said || fail "try $try: $(cat said)"
        done
        exec 3>&-
        mt -f $NST rewind && dd if=$NST of=back bs=1M count=1 status=none && cmp data back || fail "what was written is gone"
        log_out
        stop_initiator
        unexport
        stop_services
        ls /sys/kernel/config/target/core | grep user_ && fail "left behind"
        exit 0
    "#);
}
