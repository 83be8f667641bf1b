//! A tape library in the guest: a lab changer that knows the lab drive by its serial number. Whose tape it is, what the catalogue makes of
//! it, and getting files back from the drive alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::{Guest, Outcome};

fn run(script: &str) -> Outcome {
    let outcome = Guest::uml().run_chain(script).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    outcome
}

#[test]
fn the_inventory_says_what_is_where_and_what_the_catalogue_knows() {
    let outcome = run(r#"
        cd /dev/shm && target_modules
        raw_drive --create 64
        library "transport 1" "slot 1000 TAPE01L8" "slot 1001" "slot 1002 CLN001L1" "slot 1003 ?" "mail 10 MAIL01L8" "drive 256 LAB007L8 $RAW_SERIAL"
        "$BIN/sealtape" --home /dev/shm/none library inventory 2>none.err || fail "without services: $(cat none.err)"
        grep -q 'what the catalogue knows is missing' none.err || fail "no warning: $(cat none.err)"
        "$BIN/sealtape" library inventory --changer $RAWSG 2>&1; [[ $? == 9 ]] || fail "a drive passed for a changer"
        echo ===; mtx -f $CHANGER status; echo ===
        found && services
        "$BIN/sealtape" volume load drive0 >/dev/null || fail load
        "$BIN/sealtape" volume label drive0 WEEK1 --barcode OTHER1L8 2>&1 && fail "another barcode was taken"
        "$BIN/sealtape" volume label drive0 WEEK1 || fail "label: $(cat run.log)"
        tar -cf $NST -C /etc passwd || fail tar
        "$BIN/sealtape" library inventory --changer $CHANGER || fail inventory
        "$BIN/sealtape" library inventory --json || fail "inventory --json"
        "$BIN/sealtape" volume show WEEK1
        stop_services; stop_library; stop_raw_drive
    "#);
    let text = &outcome.output;
    let parts: Vec<&str> = text.split("===\n").collect();
    let squeezed = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let before = squeezed(parts[0]);
    for line in [
        "1000 slot TAPE01L8 not in the catalogue - - - -",
        "1001 slot empty - - - - -",
        "1002 slot CLN001L1 cleaning cartridge - - - -",
        "1003 slot no barcode - - - - -",
        "10 import/export MAIL01L8 not in the catalogue - - - -",
        "256 drive RAW0000042 LAB007L8 not in the catalogue - - - -",
    ] {
        assert!(before.iter().any(|known| known == line), "{line}: {text}");
    }
    let mtx = squeezed(parts[1]);
    for words in [
        "Data Transfer Element 0:Full",
        "VolumeTag = LAB007L8",
        "Storage Element 1:Full :VolumeTag=TAPE01L8",
        "Storage Element 2:Empty",
        "IMPORT/EXPORT:Full :VolumeTag=MAIL01L8",
    ] {
        assert!(mtx.iter().any(|line| line.contains(words)), "mtx: {words}: {text}");
    }
    assert!(text.contains("has barcode LAB007L8, not OTHER1L8"), "{text}");
    let after = squeezed(parts[2]);
    let drive = after.iter().find(|line| line.starts_with("256 drive drive0 LAB007L8 WEEK1 default active 2")).unwrap();
    assert!(drive.ends_with(" drive0"), "{drive}");
    let json = parts[2].lines().find(|line| line.starts_with('[')).unwrap();
    assert!(json.contains(r#""drive":"drive0""#) && json.contains(r#""label":"WEEK1""#), "{json}");
    assert!(text.contains("is no medium changer"), "{text}");
}

#[test]
fn a_volume_in_another_cartridge_is_not_opened_until_an_operator_says_so() {
    let outcome = run(r#"
        cd /dev/shm && target_modules
        raw_drive --create 64
        library "drive 256 LAB007L8 $RAW_SERIAL"
        found && services
        seal() { "$BIN/sealtape" "$@"; }
        seal volume load drive0 >/dev/null && seal volume label drive0 >/dev/null || fail label
        seal volume show LAB007L8 | grep -q 'barcode *LAB007L8' || fail "the library's barcode was not taken"
        tar -cf $NST -C /etc passwd || fail tar
        seal volume unload drive0 && seal volume load drive0 >/dev/null || fail "the same cartridge"
        mt -f $NST rewind && tar -df $NST -C /etc || fail "reading the same cartridge"
        mt -f $NST rewind
        seal volume unload drive0 || fail unload
        holds "drive 256 LAB008L8 $RAW_SERIAL"
        seal volume load drive0 || fail "load as another"
        dd if=$NST of=/dev/null bs=64k count=1 2>&1 && fail "read from another cartridge"
        tar -cf $NST -C /etc passwd 2>/dev/null && fail "wrote to another cartridge"
        seal volume rebarcode drive0 --barcode LAB009L8 --reason typo 2>&1 && fail "a barcode that nobody read"
        seal volume rebarcode drive0 --barcode LAB008L8 --reason 'new label stuck on' || fail rebarcode
        seal volume unload drive0 && seal volume load drive0 >/dev/null || fail "load after rebarcode"
        tar -df $NST -C /etc || fail "reading after rebarcode"
        seal audit show --count 200 | grep -e volume.cartridge -e '"incident"' -e incident || fail "not in the custody log"
        stop_services; stop_library; stop_raw_drive
    "#);
    let text = &outcome.output;
    assert!(text.contains("barcode LAB008L8 and not LAB007L8"), "{text}");
    assert!(text.contains("has barcode LAB008L8, not LAB009L8"), "{text}");
    assert!(text.contains("volume.cartridge") && text.contains("new label stuck on"), "{text}");
}

#[test]
fn blank_cartridges_are_labelled_by_policy_where_the_barcode_fits() {
    let outcome = run(r#"
        cd /dev/shm && target_modules
        raw_drive --create 64
        library "drive 256 XX0001L8 $RAW_SERIAL"
        found
        sed -i 's/^\[pool.default\]/[pool.default]\nauto_label = true\nbarcodes = "BK*"/' $SEALTAPE_HOME/sealtape.toml
        services
        seal() { "$BIN/sealtape" "$@"; }
        seal pool list
        seal volume load drive0 | grep -q blank || fail "another barcode was labelled"
        seal volume list | grep XX0001L8 && fail "a volume was made"
        seal volume unload drive0 || fail unload
        holds "drive 256 BK0001L8 $RAW_SERIAL"
        seal volume load drive0 || fail load
        tar -cf $NST -C /etc passwd && mt -f $NST rewind && tar -df $NST -C /etc || fail "writing to it"
        seal volume show BK0001L8 || fail "no volume of that label"
        seal audit show --count 200 | grep label.authorize || fail "not in the custody log"
        stop_services; stop_library; stop_raw_drive
    "#);
    assert!(outcome.output.contains("BK*") && outcome.output.contains("BK0001L8"), "{}", outcome.output);
}

#[test]
fn files_come_back_from_the_drive_alone() {
    let outcome = run(r#"
        chain
        mkdir in && head -c 3000000 /usr/bin/bash >in/a && head -c 100001 /usr/bin/tar >in/b
        tar -b 512 -cf $NST -C in a || fail "tar 1"
        dd if=in/b of=$NST bs=64k 2>/dev/null || fail "dd 2"
        "$BIN/sealtape" restore $RAWSG --out busy 2>&1; [[ $? == 6 ]] || fail "a drive that the service has was taken"
        stop_services
        mv $SEALTAPE_HOME/data data.gone
        "$BIN/sealtape" restore $RAWSG --out out || fail "restore from $RAWSG"
        tar -df out/file-00000 -C in || fail "file 0"
        cmp out/file-00001 in/b || fail "file 1"
        "$BIN/sealtape" restore $RAW --stdout --file 1 | cmp - in/b || fail "restore from $RAW"
        "$BIN/sealtape" restore /dev/null --out null 2>&1; [[ $? == 9 ]] || fail "/dev/null passed for a drive"
        stop_raw_drive
    "#);
    assert!(outcome.output.contains("systemctl stop sealtaped"), "{}", outcome.output);
}

#[test]
fn udev_names_virtual_drives_and_closes_real_ones() {
    let rules = include_str!("../../systemd/60-sealtape.rules");
    let script = format!("cat >/run/60-sealtape.rules <<'RULES'\n{rules}RULES\n")
        + r#"
        udevd=/lib/systemd/systemd-udevd
        [[ -x $udevd ]] || udevd=/usr/lib/systemd/systemd-udevd
        [[ -x $udevd ]] || { echo "no systemd-udevd on this machine"; exit 0; }
        scratch /etc
        echo 'sealtape:x:911:911::/:/bin/false' >>/etc/passwd; echo 'sealtape:x:911:' >>/etc/group
        mkdir -p /etc/sealtape /run/udev/rules.d && cp /run/60-sealtape.rules /run/udev/rules.d
        chain
        cp $SEALTAPE_HOME/sealtape.toml /etc/sealtape/
        sed -i 's/^serial = .*/& # the real one/' /etc/sealtape/sealtape.toml
        $udevd --debug >udevd.log 2>&1 & 
        WAIT=5 wait_for test -S /run/udev/control || fail "udevd does not start: $(tail udevd.log)"
        udevadm trigger --action=add --subsystem-match=scsi_tape --subsystem-match=scsi_generic && udevadm settle --timeout=20 || fail "settle: $(tail udevd.log)"
        grep -e 60-sealtape.rules udevd.log | grep -i -e invalid -e unknown -e fail && fail 'udev finds fault with the rules'
        ls -l /dev/sealtape /dev/tape/by-id 2>&1
        points() { [[ $(readlink -f "$1") == "$2" ]] || fail "$1 is $(readlink -f "$1"), not $2: $(grep 60-sealtape udevd.log | tail -20)"; }
        points /dev/sealtape/drive0 $ST
        points /dev/sealtape/drive0-nst $NST
        points /dev/sealtape/drive0-sg $NSTSG
        [[ $(stat -c %U:%G:%a $RAWSG) == sealtape:sealtape:600 ]] || fail "raw: $(stat -c %U:%G:%a $RAWSG)"
        [[ $(stat -c %G:%a $NSTSG) == tape:660 ]] || fail "virtual: $(stat -c %U:%G:%a $NSTSG)"
        ls /dev/tape/by-id 2>/dev/null | grep VIRTUAL001 && fail "a second name"
        stop_services
        # st is back on the real drive: its nodes are no one else's, and have the names that a drive has.
        udevadm settle --timeout=20
        [[ $(stat -c %U:%a $RAW) == sealtape:600 ]] || fail "raw st: $(stat -c %U:%G:%a $RAW)"
        # udev's own rules need bsg nodes for these, which not every kernel has.
        [[ ! -d /dev/tape/by-id ]] || points /dev/tape/by-id/scsi-$RAW_SERIAL-nst $RAW
        ls /dev/sealtape 2>/dev/null | grep . && fail "names of a drive that is gone"
        stop_raw_drive
    "#;
    let outcome = run(&script);
    println!("{}", outcome.output);
}
