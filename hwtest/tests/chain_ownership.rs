//! The drive is the product's alone: what others on the machine and on the bus try while a backup runs does not harm it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::Guest;

#[test]
fn others_are_kept_off_the_drive_while_a_backup_runs() {
    let script = r#"
        # A second port of the raw drive's target, and with it a second initiator: another nexus, for which reservations count.
        second_port() {
            local fabric=/sys/kernel/config/target/loopback/naa.5001234500000099/tpgt_1
            mkdir -p $fabric && echo naa.5001234500000098 >$fabric/nexus && mkdir -p $fabric/lun/lun_0 &&
                ln -s /sys/kernel/config/target/core/user_5774/lab $fabric/lun/lun_0/lab || fail "second port"
        }
        drop_second_port() {
            local fabric=/sys/kernel/config/target/loopback/naa.5001234500000099
            rm $fabric/tpgt_1/lun/lun_0/lab && rmdir $fabric/tpgt_1/lun/lun_0 $fabric/tpgt_1 $fabric || fail "drop"
        }
        chain 512
        second_port
        other=
        for device in /sys/bus/scsi/devices/*:*:*:*; do
            address=${device##*/}
            scsi_read_serial $device && [[ $REPLY == $RAW_SERIAL && $address != $RAW_ADDRESS ]] || continue
            read -r other other_st < <(scsi_nodes $address)
        done
        [[ $other ]] || fail "no second way to the raw drive"
        echo "the raw drive: $RAW_ADDRESS and /dev/$other (st: /dev/${other_st-none})"

        # The st nodes of the owned drive are gone: nobody rewinds it by looking.
        # (By its address: the name may be the virtual drive's now.)
        [[ -d /sys/bus/scsi/devices/$RAW_ADDRESS/scsi_generic ]] || fail "the raw drive is gone"
        [[ ! -e /sys/bus/scsi/devices/$RAW_ADDRESS/scsi_tape ]] || fail "the raw drive has st nodes"
        scsi_nodes $RAW_ADDRESS | grep st && fail "the raw drive has st nodes"

        head -c 150000000 /dev/urandom >data
        dd if=data of=$NST bs=262144 iflag=fullblock 2>dd.log &
        writer=$!
        sleep 0.1
        tries=0 conflicts=0
        while kill -0 $writer 2>/dev/null; do
            for command in '01 00 00 00 00 00' '0a 00 00 02 00 00' '10 00 00 00 01 00' '1b 00 00 00 00 00' '08 00 00 02 00 00' \
                '19 00 00 00 00 00' '2b 00 00 00 00 00 00 00 00 00'; do
                case $command in
                0a*) said=$(head -c 512 /dev/zero | sg_raw -s 512 /dev/$other $command 2>&1) ;;
                08*) said=$(sg_raw -r 512 /dev/$other $command 2>&1) ;;
                *) said=$(sg_raw /dev/$other $command 2>&1) ;;
                esac
                code=$?
                tries=$((tries + 1))
                [[ $said == *'Unit Attention'* || $said == *'Unit attention'* ]] && continue
                grep -qi 'reservation conflict' <<<"$said" && conflicts=$((conflicts + 1)) && continue
                fail "$command from another initiator: exit $code: $said"
            done
        done
        wait $writer || fail "the backup failed: $(cat dd.log run.log)"
        tail -1 dd.log
        echo "$tries commands of another initiator, $conflicts reservation conflicts"
        ((conflicts >= 7)) || fail "too few"
        if [[ ${other_st-} ]]; then
            for operation in rewind offline 'weof 1' status; do
                mt -f /dev/n$other_st $operation >said 2>&1 && [[ $operation != status ]] && fail "mt $operation by the second path"
            done
        fi
        # A second service for the same drive does not get it either.
        sg_persist -i -r /dev/$other | grep -i 'key=\|type' || fail "no reservation: $(sg_persist -i -r /dev/$other)"

        mt -f $NST rewind && dd if=$NST bs=262144 status=none | cmp - data || fail "the backup is not what was written"

        # The nodes of the virtual drive: the host's own prevention holds.
        mt -f $NST lock || fail lock
        "$BIN/sealtape" volume unload drive0 && fail "unloaded although the host has locked it"
        mt -f $NST unlock || fail unlock
        drop_second_port
        stop_services
        wait_for test -e /sys/bus/scsi/devices/$RAW_ADDRESS/scsi_tape || fail "st did not come back"
        stop_raw_drive
        exit 0
    "#;
    let outcome = Guest::uml().run_chain(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    println!("{:?}\n{}", outcome.duration, outcome.output);
}
