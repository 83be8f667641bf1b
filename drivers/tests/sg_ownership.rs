//! Taking and giving back a drive: reservations, byte for byte.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod sg_support;

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use sealtape_drivers::scsi::SenseKey;
use sealtape_drivers::sg::{Ownership, OwnershipError, RecordFile, StDriver};
use sg_support::*;
use tempfile::TempDir;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const KEY: u64 = 0x1122_3344_5566_7788;
const OTHER: u64 = 0xaaaa_bbbb_cccc_dddd;
const READ_RESERVATION: [u8; 10] = [0x5e, 1, 0, 0, 0, 0, 0, 0, 24, 0];
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0x10, 0, 0];

/// A machine without `st`, and the record of a key made in this boot.
struct Site {
    folder: TempDir,
    script: Script,
}

impl Site {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), script: Script::default() }
    }

    fn record(&self) -> PathBuf {
        self.folder.path().join("drive.owner")
    }

    fn remember(&self, boot: &str, key: u64, more: &str) {
        fs::write(self.record(), format!("boot {boot}\nkey {key:016x}\n{more}")).unwrap();
    }

    fn this_boot(&self, more: &str) {
        self.remember(fs::read_to_string(BOOT_ID).unwrap().trim(), KEY, more);
    }

    fn take(&self) -> Result<Ownership<Script>, OwnershipError> {
        let driver = StDriver::at(self.folder.path().join("sys"), self.folder.path().join("dev"));
        Ownership::take(self.script.clone(), "3:0:0:0".parse().unwrap(), driver, RecordFile::new(self.record()))
    }
}

fn out(action: u8, kind: u8, existing: u64, new: u64) -> Exchange {
    let list = [existing.to_be_bytes(), new.to_be_bytes(), [0; 8]].concat();
    on(&[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0]).takes(&list)
}

fn held_by(key: Option<u64>) -> Exchange {
    let mut bytes = vec![0, 0, 0, 7, 0, 0, 0, if key.is_some() { 16 } else { 0 }];
    bytes.extend(key.into_iter().flat_map(u64::to_be_bytes));
    bytes.extend(key.map(|_| [0, 0, 0, 0, 0, 3, 0, 0]).into_iter().flatten());
    on(&READ_RESERVATION).gives(&bytes)
}

fn taking() -> [Exchange; 5] {
    [on(&TEST_UNIT_READY), held_by(None), out(6, 0, 0, KEY), out(1, 3, KEY, 0), held_by(Some(KEY))]
}

fn giving_back() -> [Exchange; 2] {
    [out(2, 3, KEY, 0), out(0, 0, KEY, 0)]
}

#[test]
fn registered_reserved_and_given_back() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect(taking());
    let owner = site.take().unwrap();
    assert_eq!(owner.key().unwrap().to_string(), "0x1122334455667788");
    assert!(owner.missing().is_empty());
    site.script.assert_done();
    site.script.expect(giving_back());
    owner.release().unwrap();
    site.script.assert_done();
    assert!(!site.record().exists());
}

#[test]
fn dropped_is_given_back_too() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect(taking());
    site.script.expect(giving_back());
    drop(site.take().unwrap());
    site.script.assert_done();
}

#[test]
fn what_could_not_be_given_back_is_remembered() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect(taking());
    let owner = site.take().unwrap();
    let [release, unregister] = giving_back();
    site.script.expect([release.fails(ErrorKind::TimedOut), unregister.fails(ErrorKind::TimedOut)]);
    owner.release().unwrap_err();
    assert!(fs::read_to_string(site.record()).unwrap().contains("1122334455667788"));
}

#[test]
fn another_initiator_is_named_and_left_alone() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect([on(&TEST_UNIT_READY), held_by(Some(OTHER))]);
    let error = site.take().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, OwnershipError::Reserved { .. }), "{text}");
    assert!(text.contains("/dev/sg9") && text.contains("0xaaaabbbbccccdddd"), "{text}");
    site.script.assert_done();
}

#[test]
fn whoever_reserves_first_has_it() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect([
        on(&TEST_UNIT_READY),
        held_by(None),
        out(6, 0, 0, KEY),
        out(1, 3, KEY, 0).status(0x18),
        held_by(Some(OTHER)),
        out(0, 0, KEY, 0),
    ]);
    assert!(matches!(site.take().unwrap_err(), OwnershipError::Reserved { .. }));
    site.script.assert_done();
}

#[test]
fn after_a_crash_our_own_reservation_is_taken_over() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect([
        on(&TEST_UNIT_READY).says(sense(SenseKey::UNIT_ATTENTION, 0x29, 0x00)),
        on(&TEST_UNIT_READY),
        held_by(Some(KEY)),
        out(6, 0, 0, KEY).says(sense(SenseKey::UNIT_ATTENTION, 0x2a, 0x03)),
        out(6, 0, 0, KEY),
        out(1, 3, KEY, 0),
        held_by(Some(KEY)),
    ]);
    site.script.expect(giving_back());
    site.take().unwrap().release().unwrap();
    site.script.assert_done();
}

#[test]
fn what_another_port_of_ours_left_is_preempted() {
    let site = Site::new();
    site.this_boot(&format!("previous {OTHER:016x}\n"));
    let keys = [0, 0, 0, 7, 0, 0, 0, 16].into_iter().chain(OTHER.to_be_bytes()).chain(KEY.to_be_bytes());
    site.script.expect([
        on(&TEST_UNIT_READY),
        held_by(Some(OTHER)),
        out(6, 0, 0, KEY),
        on(&READ_KEYS).gives(&keys.collect::<Vec<u8>>()),
        out(4, 3, KEY, OTHER),
        out(1, 3, KEY, 0),
        held_by(Some(KEY)),
    ]);
    site.script.expect(giving_back());
    site.take().unwrap().release().unwrap();
    site.script.assert_done();
}

#[test]
fn without_reservations_the_drive_is_used_and_it_is_told() {
    let site = Site::new();
    site.script.expect([on(&TEST_UNIT_READY), on(&READ_RESERVATION).says(unsupported())]);
    let owner = site.take().unwrap();
    assert!(owner.key().is_none());
    assert!(owner.missing().iter().any(|text| text.contains("no persistent reservations")), "{:?}", owner.missing());
    owner.release().unwrap();
    site.script.assert_done();
}

#[test]
fn an_older_drive_is_registered_with_in_the_older_way() {
    let site = Site::new();
    site.this_boot("");
    site.script.expect([
        on(&TEST_UNIT_READY),
        held_by(None),
        out(6, 0, 0, KEY).says(sense(SenseKey::ILLEGAL_REQUEST, 0x24, 0x00)),
        out(0, 0, 0, KEY),
        out(1, 3, KEY, 0),
        held_by(Some(KEY)),
    ]);
    site.script.expect(giving_back());
    drop(site.take().unwrap());
    site.script.assert_done();
}
