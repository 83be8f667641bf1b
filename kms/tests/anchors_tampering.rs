//! What an attacker with root and the PIN does to the catalogue is found through a witness alone, and through a file alone.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anchors_support;
mod support;

use anchors_support::{Copy, Lab, duplicate, file, leaves, loose, only, open, strict};
use sealtape_kms::anchor::AnchorConfig;
use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{Outcome, op};
use sealtape_kms::home::Home;
use sealtape_kms::protocol::{AnchorTrouble, GenerationRef, RefusalCode};
use support::install::{Install, ME, UNIT, labelled, options};

/// An installation whose log is anchored over a volume `A`; then the key authority was stopped.
struct Anchored {
    install: Install,
    lab: Lab,
    medium: tempfile::TempDir,
    volume: GenerationRef,
    before: Copy,
    size: u64,
}

impl Anchored {
    fn new(by: fn(&Self) -> AnchorConfig) -> (Self, AnchorConfig) {
        let install = Install::new();
        let lab = Lab::new(&install);
        let medium = tempfile::tempdir().unwrap();
        let nothing =
            GenerationRef { volume: uuid::Uuid::nil(), partition: 0, generation: 0, key_id: uuid::Uuid::nil() };
        let mut it =
            Self { install, lab, medium, volume: nothing, before: Copy::of(std::path::Path::new("/")), size: 0 };
        let anchor = by(&it);
        // A volume that stands in both histories.
        let authority = open(&it.install, strict(vec![anchor.clone()]));
        it.volume = labelled(&authority, "A").1;
        authority.shut_down().unwrap();
        drop(authority);
        it.before = Copy::of(it.install.home.dir());
        let authority = open(&it.install, strict(vec![anchor.clone()]));
        authority.load(ME, UNIT, it.volume).unwrap();
        labelled(&authority, "B");
        authority.shut_down().unwrap();
        it.size = authority.status().unwrap().log_size;
        assert_eq!(only(&authority).size, it.size);
        (it, anchor)
    }

    fn by_witness() -> (Self, AnchorConfig) {
        Self::new(|it| it.lab.anchor())
    }

    fn by_file() -> (Self, AnchorConfig) {
        Self::new(|it| file(it.medium.path().join("anchor")))
    }

    /// Another history under the same origin and key, grown in a copy until it has at least `least` entries.
    fn other_history(&self, from: &Copy, least: u64) -> Copy {
        let dir = duplicate(&self.install);
        let home = Home::new(dir.path().join("home"));
        from.restore(home.dir());
        let authority = Authority::open(&home, options()).unwrap();
        let mut n = 0;
        while authority.status().unwrap().log_size < least {
            labelled(&authority, &format!("X{n}"));
            n += 1;
        }
        authority.shut_down().unwrap();
        drop(authority);
        Copy::of(home.dir())
    }

    /// Opens after the tampering: it is found at the start, everything stays refused, and it is entered.
    fn found(&self, anchor: &AnchorConfig, words: &[&str]) {
        let authority = open(&self.install, loose(vec![anchor.clone()]));
        let view = only(&authority);
        assert_eq!(view.trouble, Some(AnchorTrouble::Contradicts), "{view:?}");
        let fault = view.fault.unwrap();
        for word in words {
            assert!(fault.contains(word), "{word} in {fault}");
        }
        let refused = authority.load(ME, UNIT, self.volume).map(drop).unwrap_err();
        assert_eq!(refused.code, RefusalCode::Damaged);
        assert!(refused.what.contains(&fault), "{refused}");
        let ticket = authority.authorize_label(ME, &support::install::order("Z")).unwrap();
        let volume = authority.create_volume(ME, &ticket.ticket, UNIT, None, &Default::default()).unwrap();
        assert_eq!(
            authority.create_generation(ME, UNIT, volume.volume, 0, None).map(drop).unwrap_err().code,
            RefusalCode::Damaged
        );
        assert_eq!(authority.create_stream(ME, None).map(drop).unwrap_err().code, RefusalCode::Damaged);
        assert!(authority.anchoring().unwrap().refused.unwrap().contains(&fault));
        let all = leaves(&authority);
        let alarm = all.iter().find(|l| l.op == op::ANCHOR_ALARM && l.outcome == Outcome::Failed);
        assert!(alarm.unwrap().reason.as_ref().unwrap().contains(words[0]), "{alarm:?}");
        let started = all.iter().rposition(|l| l.op == op::SERVICE_START).unwrap();
        assert!(all[started..].iter().all(|l| l.op != op::KEY_RELEASE || l.outcome == Outcome::Refused));
    }
}

#[test]
fn a_rollback_is_found_through_the_witness_alone() {
    let (it, anchor) = Anchored::by_witness();
    it.before.restore(it.install.home.dir());
    it.found(&anchor, &["rolled back", &format!("cosigned {} entries", it.size), "proven by its checkpoint"]);
}

#[test]
fn a_rollback_is_found_through_the_file_alone() {
    let (it, anchor) = Anchored::by_file();
    it.before.restore(it.install.home.dir());
    it.found(&anchor, &["rolled back", &format!("is over {}", it.size), "signed by this log's key"]);
}

#[test]
fn a_rollback_that_grew_beyond_the_anchor_is_found_by_both() {
    for (it, anchor) in [Anchored::by_witness(), Anchored::by_file()] {
        it.other_history(&it.before, it.size + 3).restore(it.install.home.dir());
        it.found(&anchor, &["history", "root there"]);
    }
}

/// Rewrites the history from its beginning, and has the token sign it: all that the database alone could show agrees with it.
fn rewritten(it: &Anchored) -> Copy {
    use sealtape_kms::custody::tree::{RightEdge, leaf_hash};
    let dir = duplicate(&it.install);
    let home = Home::new(dir.path().join("home"));
    let sql = rusqlite::Connection::open(home.dir().join("catalogue.db")).unwrap();
    sql.execute_batch("DELETE FROM custody_nodes; DELETE FROM custody_checkpoints; DELETE FROM custody_anchors")
        .unwrap();
    let leaves: Vec<String> = {
        let mut query = sql.prepare("SELECT leaf FROM custody_leaves ORDER BY seq").unwrap();
        query.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let mut edge = RightEdge::default();
    let mut changed = 0;
    for (seq, leaf) in leaves.iter().enumerate() {
        // One that is no tenant's: else the tenant's tree would have to be made anew too.
        let new = if changed == 0 { leaf.replace(op::SERVICE_START, op::SERVICE_STOP) } else { leaf.clone() };
        changed += usize::from(new != *leaf);
        let seq = i64::try_from(seq).unwrap();
        sql.execute("UPDATE custody_leaves SET leaf = ?2 WHERE seq = ?1", rusqlite::params![seq, new]).unwrap();
        edge.append(leaf_hash(new.as_bytes()), |node, hash| {
            let insert = "INSERT INTO custody_nodes (level, idx, hash) VALUES (?1, ?2, ?3)";
            sql.execute(insert, rusqlite::params![node.level, i64::try_from(node.index).unwrap(), hash]).unwrap();
        });
    }
    assert_eq!(changed, 1, "a start looks like a stop");
    drop(sql);
    let authority = Authority::open(&home, options()).unwrap();
    authority.load(ME, UNIT, it.volume).unwrap();
    authority.shut_down().unwrap();
    drop(authority);
    Copy::of(home.dir())
}

#[test]
fn a_history_rewritten_and_signed_with_the_token_is_found_by_both() {
    for (it, anchor) in [Anchored::by_witness(), Anchored::by_file()] {
        rewritten(&it).restore(it.install.home.dir());
        // Without an anchor nothing shows.
        let unanchored = open(&it.install, loose(Vec::new()));
        unanchored.load(ME, UNIT, it.volume).unwrap();
        unanchored.shut_down().unwrap();
        drop(unanchored);
        it.found(&anchor, &["history", "root there"]);
    }
}

#[test]
fn another_installation_in_place_of_this_one_is_found_by_the_file() {
    let (it, anchor) = Anchored::by_file();
    let other = Install::new();
    let authority = open(&other, loose(vec![anchor]));
    let view = only(&authority);
    assert_eq!(view.trouble, Some(AnchorTrouble::Contradicts));
    assert!(view.fault.unwrap().contains(it.install.report.log_key.split('+').next().unwrap()));
}

#[test]
fn an_anchor_that_goes_away_does_not_lift_its_alarm() {
    let (it, anchor) = Anchored::by_witness();
    it.before.restore(it.install.home.dir());
    let authority = open(&it.install, loose(vec![anchor]));
    assert_eq!(only(&authority).trouble, Some(AnchorTrouble::Contradicts));
    let Anchored { lab, volume, .. } = it;
    drop(lab.serving);
    let view = authority.serve_anchor(ME, sealtape_kms::protocol::AnchorRequest::Now).unwrap();
    let sealtape_kms::protocol::AnchorReply::Status(view) = view else { panic!("{view:?}") };
    assert_eq!(view.anchors[0].trouble, Some(AnchorTrouble::Contradicts));
    assert_eq!(authority.load(ME, UNIT, volume).map(drop).unwrap_err().code, RefusalCode::Damaged);
}
