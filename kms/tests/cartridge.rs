//! Volumes and their cartridges: compared, learned, put right; and cartridges that a pool takes by their barcode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sealtape_kms::authority::{Actor, Authority};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{BarcodePattern, Cartridge, PoolPolicy, Refusal, RefusalCode, VolumeState};
use support::install::{Install, ME, UNIT, labelled, order};

fn cartridge(barcode: Option<&str>, serial: Option<&str>) -> Cartridge {
    Cartridge { barcode: barcode.map(Into::into), serial: serial.map(Into::into) }
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> RefusalCode {
    result.unwrap_err().code
}

/// Operation, outcome, reason of the entries about cartridges and labels, the oldest first.
fn entries(authority: &Authority, op: &str) -> Vec<String> {
    let leaves = authority.audit_show(None, 1000).unwrap();
    leaves.into_iter().filter(|leaf| leaf.contains(&format!("\"op\":\"{op}\""))).collect()
}

#[test]
fn another_cartridge_is_refused_and_entered() {
    let install = Install::new();
    let authority = install.open();
    let (volume, ..) = labelled(&authority, "A");
    let id = volume.volume;
    let check = |found: &Cartridge| authority.check_cartridge(ME, UNIT, id, found);
    assert!(!check(&Cartridge::default()).unwrap(), "nothing is known, nothing is learned");
    assert!(!check(&cartridge(Some("A00001L9"), None)).unwrap());
    let refusal = check(&cartridge(Some("B00001L9"), None)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OtherCartridge);
    assert!(refusal.what.contains("B00001L9 and not A00001L9") && refusal.mend.contains("rebarcode"), "{refusal}");
    let refused = entries(&authority, "volume.cartridge");
    assert!(refused.len() == 1 && refused[0].contains("\"refused\"") && refused[0].contains(&id.to_string()));

    // The serial number is learned once, and holds from then on, over a restart too.
    let whole = cartridge(Some("A00001L9"), Some("S1"));
    assert!(check(&whole).unwrap());
    assert_eq!(
        code(authority.learn_cartridge(ME, UNIT, id, &cartridge(Some("X"), Some("S1")))),
        RefusalCode::OtherCartridge
    );
    authority.learn_cartridge(ME, UNIT, id, &whole).unwrap();
    authority.learn_cartridge(ME, UNIT, id, &whole).unwrap();
    assert_eq!(entries(&authority, "volume.cartridge").iter().filter(|e| e.contains("learned")).count(), 1);
    drop(authority);
    let authority = install.open();
    assert_eq!(
        code(authority.check_cartridge(ME, UNIT, id, &cartridge(None, Some("S2")))),
        RefusalCode::OtherCartridge
    );
    assert_eq!(authority.show_volume("A").unwrap().cartridge_serial.as_deref(), Some("S1"));
}

#[test]
fn an_operator_puts_right_what_the_catalogue_has() {
    let install = Install::new();
    let authority = install.open();
    let (volume, ..) = labelled(&authority, "A");
    let id = volume.volume.to_string();
    authority.set_cartridge(ME, &id, &cartridge(Some("NEW"), Some("S1")), "sticker came off").unwrap();
    let now = authority.show_volume(&id).unwrap();
    assert_eq!((now.barcode.as_deref(), now.cartridge_serial.as_deref()), (Some("NEW"), Some("S1")));
    authority.set_cartridge(ME, &id, &cartridge(Some("NEWER"), None), "again").unwrap();
    assert_eq!(authority.show_volume(&id).unwrap().cartridge_serial.as_deref(), Some("S1"), "not told, not changed");
    let entered = entries(&authority, "volume.cartridge");
    assert!(entered[0].contains("was barcode A00001L9") && entered[0].contains("sticker came off"), "{entered:?}");

    let ticket = authority.authorize_label(ME, &order("B")).unwrap().ticket;
    let other = authority.create_volume(ME, &ticket, UNIT, None, &Cartridge::default()).unwrap();
    let (generation, _) = authority.create_generation(ME, UNIT, other.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([7; 32])).unwrap();
    let taken = authority.set_cartridge(ME, "B", &cartridge(Some("NEWER"), None), "no");
    assert!(taken.unwrap_err().what.contains("barcode NEWER is that of volume A"));
    authority.set_volume_state(ME, "A", VolumeState::Retired, "worn").unwrap();
    authority.set_cartridge(ME, "B", &cartridge(Some("NEWER"), None), "yes").unwrap();
    for wrong in [cartridge(Some(" x"), None), cartridge(None, Some("a\nb")), cartridge(Some(""), None)] {
        assert_eq!(code(authority.set_cartridge(ME, "B", &wrong, "no")), RefusalCode::BadRequest);
    }
}

#[test]
fn the_cartridge_that_is_labelled_is_the_one_that_was_meant() {
    let install = Install::new();
    let authority = install.open();
    let ticket = authority.authorize_label(ME, &order("A")).unwrap().ticket;
    let other = cartridge(Some("B00001L9"), Some("S1"));
    let refusal = authority.create_volume(ME, &ticket, UNIT, None, &other).unwrap_err();
    assert!(refusal.code == RefusalCode::OtherCartridge && refusal.what.contains("B00001L9 and not A00001L9"));
    let right = cartridge(Some("A00001L9"), Some("S1"));
    let volume = authority.create_volume(ME, &ticket, UNIT, None, &right).unwrap();
    let view = authority.show_volume(&volume.volume.to_string()).unwrap();
    assert_eq!((view.barcode.as_deref(), view.cartridge_serial.as_deref()), (Some("A00001L9"), Some("S1")));

    let nameless = sealtape_kms::protocol::LabelOrder { barcode: None, ..order("B") };
    let ticket = authority.authorize_label(ME, &nameless).unwrap().ticket;
    let volume = authority.create_volume(ME, &ticket, UNIT, None, &other).unwrap();
    assert_eq!(volume.barcode.as_deref(), Some("B00001L9"), "the barcode of the cartridge is taken");
}

#[test]
fn pools_take_blank_cartridges_by_barcode() {
    let install = Install::new();
    let authority = install.open();
    let ask = |barcode: Option<&str>| authority.authorize_by_policy(UNIT, &cartridge(barcode, None));
    assert_eq!(ask(Some("BK0001L8")).unwrap(), None, "no pool wants any");
    let pattern = |text: &str| BarcodePattern::try_from(text.to_owned()).unwrap();
    authority.set_auto_label(Actor::Service, "default", Some(&pattern("BK*"))).unwrap();
    assert_eq!(authority.list_pools().unwrap()[0].auto_label, Some(pattern("BK*")));
    assert_eq!(ask(Some("AK0001L8")).unwrap(), None);
    assert_eq!(ask(None).unwrap(), None);

    let ticket = ask(Some("BK0001L8")).unwrap().unwrap();
    let found = cartridge(Some("BK0001L8"), Some("S1"));
    assert!(authority.create_volume(ME, &ticket, "drive1", None, &found).is_err(), "for this unit only");
    let volume = authority.create_volume(ME, &ticket, UNIT, None, &found).unwrap();
    assert_eq!((volume.label.as_str(), volume.partitions), ("BK0001L8", 1));
    let (generation, _) = authority.create_generation(ME, UNIT, volume.volume, 0, None).unwrap();
    authority.activate_generation(ME, UNIT, generation.at, Hex([7; 32])).unwrap();
    // Who ordered it was the policy.
    let actor: String = install
        .database()
        .query_row("SELECT actor FROM tickets WHERE label = 'BK0001L8'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(actor, "policy");
    assert_eq!(entries(&authority, "label.authorize").len(), 1);

    // Blank, and known as another one's: no.
    assert_eq!(code(ask(Some("BK0001L8"))), RefusalCode::OtherCartridge);
    // Two pools that want it: no.
    let second = PoolPolicy { auto_label: Some(pattern("BK00*")), ..PoolPolicy::standard("second") };
    authority.create_pool(ME, &second).unwrap();
    assert!(ask(Some("BK0002L8")).unwrap_err().what.contains("default and second"));
    // A pool that the unit may not use does not count.
    authority.restrict_unit(ME, UNIT, &["second".into()]).unwrap();
    assert!(ask(Some("BK0002L8")).unwrap().is_some());
    assert_eq!(ask(Some("BK1002L8")).unwrap(), None);
    authority.set_auto_label(ME, "second", None).unwrap();
    assert_eq!(ask(Some("BK0003L8")).unwrap(), None);
}
