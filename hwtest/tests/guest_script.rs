//! The functions of `lab.sh`, which every script in a guest has, on the kernel's own emulated disks.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape_hwtest::guest::{Guest, Outcome};

fn run(script: &str) -> Outcome {
    Guest::uml().run(script).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn devices_are_found_by_what_they_are_and_not_by_number() {
    let outcome = run(r#"
        load sg sd_mod "scsi_debug num_tgts=3 dev_size_mb=8 inq_vendor=SEALTAPE" || fail load
        lsscsi -g
        for sg in sg0 sg1 sg2; do
            wait_for test -c /dev/$sg || fail "no $sg"
            serial=$(sg_inq --page=sn --raw /dev/$sg | tail -c +5)
            [[ -n $serial ]] || fail "no serial number of $sg"
            read -r found disk rest < <(scsi_by_serial "$serial")
            [[ $found == $sg && $disk == sd[abc] && -z $rest ]] || fail "$serial: '$found' '$disk' '$rest', not $sg"
            address=$(scsi_address serial "$serial") || fail "no address of $serial"
            [[ -d /sys/bus/scsi/devices/$address/scsi_generic/$sg ]] || fail "$address is not $sg"
            echo "$serial $found $disk"
        done | sort -u | grep -c sg
        scsi_address vendor SEALTAPE 2>&1 && fail 'three are not one'
        scsi_address serial nobody 2>&1 && fail 'none is not one'
        exit 0
    "#);
    assert_eq!(outcome.exit_code, 0, "{}", outcome.output);
    assert!(outcome.output.contains("\n3\n3 SCSI devices with vendor SEALTAPE: "), "{}", outcome.output);
    assert!(outcome.output.contains("\n0 SCSI devices with serial nobody: "), "{}", outcome.output);

    let outcome = run(r#"
        load sg sd_mod "scsi_debug num_tgts=1 dev_size_mb=8 inq_vendor=SEALTAPE inq_product=ONE"
        scsi_by_vendor SEALTAPE && scsi_by_vendor SEALTAPE ONE
        WAIT=1 scsi_by_vendor SEALTAPE OTHER
    "#);
    assert_eq!(outcome.exit_code, 1);
    assert_eq!(outcome.output, "sg0 sda\nsg0 sda\nnot within 1 s: scsi_find vendor SEALTAPE OTHER\n");
}

#[test]
fn waiting_ends_either_way() {
    let outcome = run(r#"
        (sleep 0.3; touch late) &
        wait_for test -e late && echo came
        WAIT=1 wait_for test -e never; echo $?
    "#);
    assert_eq!(outcome.output, "came\nnot within 1 s: test -e never\n1\n");
}

#[test]
fn failing_ends_the_script() {
    let outcome = run("fail the reason; echo unreachable");
    assert_eq!((outcome.exit_code, outcome.output.as_str()), (1, "FAILED: the reason\n"));
    let outcome = run("load no_such_module || fail 'no module'; echo unreachable");
    assert_eq!(outcome.exit_code, 1);
    assert!(
        outcome.output.contains("no_such_module") && outcome.output.ends_with("FAILED: no module\n"),
        "{}",
        outcome.output
    );
}

#[test]
fn scratch_folders_are_writable_copies() {
    let outcome = run(r#"
        scratch /etc/iscsi || fail scratch
        [[ -s /etc/iscsi/iscsid.conf ]] || fail 'the content is gone'
        echo changed >>/etc/iscsi/iscsid.conf && tail -n 1 /etc/iscsi/iscsid.conf
    "#);
    assert_eq!((outcome.exit_code, outcome.output.as_str()), (0, "changed\n"));
    assert!(!std::fs::read_to_string("/etc/iscsi/iscsid.conf").unwrap().contains("changed"));
}

#[test]
fn serial_numbers_are_read_from_the_page_of_any_device_type() {
    // Disk, tape, changer; blanks before, zeros behind; a length with the value of a letter; empty; another page; none.
    let outcome = run(r#"
        page() { mkdir -p d; printf "$1" >d/vpd_pg80; REPLY=; scsi_read_serial d; echo "$? '$REPLY'"; }
        page '\x00\x80\x00\x04D001'
        page '\x01\x80\x00\x08  T 1 \x00\x00'
        page '\x08\x80\x00\x41C%064d'
        page '\x01\x80\x00\x00'
        page '\x01\x83\x00\x04T001'
        rm d/vpd_pg80; scsi_read_serial d; echo $?
    "#);
    let long = format!("C{}", "0".repeat(64));
    assert_eq!(outcome.output, format!("0 'D001'\n0 'T 1'\n0 '{long}'\n1 ''\n1 ''\n1\n"));
}
