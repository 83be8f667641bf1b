//! Whether custody log, catalogue and what was acknowledged agree.

use std::collections::{BTreeMap, BTreeSet};

use sealtape_kms::authority::Authority;
use sealtape_kms::custody::{Leaf, Outcome, op, verify_export};
use sealtape_kms::protocol::GenerationRef;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::install::ME;

/// The whole custody log, verified.
pub struct Books {
    pub leaves: Vec<Leaf>,
}

/// A key handed out: the unit that asked, and which key.
pub type Handed = (Option<String>, Uuid, u8, u32, Uuid);

pub fn handed(unit: &str, at: GenerationRef) -> Handed {
    (Some(unit.to_owned()), at.volume, at.partition, at.generation, at.key_id)
}

impl Books {
    /// Exports and verifies the log; compares it with the catalogue of an authority that has nothing under way.
    pub fn audit(authority: &Authority, catalogue: &rusqlite::Connection) -> Self {
        let mut export = Vec::new();
        authority.audit_export(ME, &mut export).unwrap();
        let verified = verify_export(&mut export.as_slice(), &authority.log_key()).unwrap();
        let text = String::from_utf8(export).unwrap();
        let leaves: Vec<Leaf> = text.lines().filter_map(|line| Leaf::parse(line).ok()).collect();
        assert_eq!(leaves.len() as u64, verified.size);
        let books = Self { leaves };
        books.intents_are_closed(catalogue);
        books.generations_agree(catalogue);
        books.sessions_agree(catalogue);
        books
    }

    fn of(&self, op: &str, outcome: Outcome) -> impl Iterator<Item = &Leaf> {
        self.leaves.iter().filter(move |leaf| leaf.op == op && leaf.outcome == outcome)
    }

    fn intents_are_closed(&self, catalogue: &rusqlite::Connection) {
        let open: u32 = catalogue.query_row("SELECT count(*) FROM intents", [], |row| row.get(0)).unwrap();
        assert_eq!(open, 0, "open intents in the catalogue");
        for op in [op::KEY_CREATE, op::KEK_CREATE] {
            let mut outcomes: BTreeMap<Uuid, (u32, u32)> = BTreeMap::new();
            for leaf in self.leaves.iter().filter(|leaf| leaf.op == op && leaf.key.is_some()) {
                let counts = outcomes.entry(leaf.key.unwrap()).or_default();
                match leaf.outcome {
                    Outcome::Intent => counts.0 += 1,
                    _ => counts.1 += 1,
                }
            }
            let wrong: Vec<_> = outcomes.iter().filter(|(_, counts)| **counts != (1, 1)).collect();
            assert!(wrong.is_empty(), "{op}: keys without exactly one intent and one outcome: {wrong:?}");
        }
    }

    fn generations_agree(&self, catalogue: &rusqlite::Connection) {
        let mut rows = BTreeSet::new();
        let columns =
            "SELECT volume, partition, generation, key_id, created_leaf, wrapped, wrapped_leaf FROM generations";
        let mut query = catalogue.prepare(columns).unwrap();
        let mut found = query.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let id = |n: usize| row.get::<_, String>(n).unwrap().parse::<Uuid>().unwrap();
            let place =
                (Some(id(0)), Some(row.get::<_, u8>(1).unwrap()), Some(row.get::<_, u32>(2).unwrap()), Some(id(3)));
            let leaf = &self.leaves[row.get::<_, u32>(4).unwrap() as usize];
            let made = [op::KEY_CREATE, op::KEY_IMPORT].contains(&leaf.op.as_str());
            assert!(made && leaf.outcome == Outcome::Done, "{} {:?}", leaf.op, leaf.outcome);
            assert_eq!((leaf.volume, leaf.partition, leaf.generation, leaf.key), place);
            let wrapped: Vec<u8> = row.get(5).unwrap();
            let hash: [u8; 32] = Sha256::digest(&wrapped).into();
            let named = match row.get::<_, Option<u32>>(6).unwrap() {
                Some(rewrapped) => &self.leaves[rewrapped as usize],
                None => leaf,
            };
            assert_eq!((named.key, named.outcome), (place.3, Outcome::Done));
            let in_entry = named.blobs.iter().any(|blob| blob.sha256.0 == hash);
            let wiped =
                || wrapped.is_empty() && self.of(op::KEY_DESTROY, Outcome::Done).any(|leaf| leaf.key == place.3);
            assert!(in_entry || wiped(), "{place:?}: its wrapped key is not in its entry");
            rows.insert(place);
        }
        let made = || self.of(op::KEY_CREATE, Outcome::Done).chain(self.of(op::KEY_IMPORT, Outcome::Done));
        let entered: BTreeSet<_> =
            made().map(|leaf| (leaf.volume, leaf.partition, leaf.generation, leaf.key)).collect();
        assert_eq!(entered.len(), made().count(), "a generation entered twice");
        assert_eq!(rows, entered, "generations in the catalogue and in the log");
    }

    fn sessions_agree(&self, catalogue: &rusqlite::Connection) {
        let tapes = "SELECT count(*) FROM sessions s JOIN volumes v ON v.id = s.volume WHERE v.kind = 'tape'";
        let rows: u32 = catalogue.query_row(tapes, [], |row| row.get(0)).unwrap();
        assert_eq!(
            rows as usize,
            self.of(op::SESSION_OPEN, Outcome::Done).count(),
            "sessions in the catalogue and in the log"
        );
    }

    /// How often each key was handed out by a release, by the log.
    pub fn releases(&self) -> BTreeMap<Handed, u32> {
        self.count(op::KEY_RELEASE)
    }

    /// Which keys were made and handed out thereby, by the log.
    pub fn creations(&self) -> BTreeMap<Handed, u32> {
        self.count(op::KEY_CREATE)
    }

    fn count(&self, op: &str) -> BTreeMap<Handed, u32> {
        let mut counts = BTreeMap::new();
        for leaf in self.of(op, Outcome::Done) {
            let handed = (
                leaf.unit.clone(),
                leaf.volume.unwrap(),
                leaf.partition.unwrap(),
                leaf.generation.unwrap(),
                leaf.key.unwrap(),
            );
            *counts.entry(handed).or_default() += 1;
        }
        counts
    }
}
