//! Copies of keys for others and from others, under the faults of the shim: data keys wrapped to a recovery key, and a partner's keys
//! taken in. What was told to be there opens, what failed can be done again, and nothing else is touched.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::age::{Identity, Kind};
use sealtape_kms::authority::Authority;
use sealtape_kms::exchange::Package;
use sealtape_kms::protocol::{
    ExchangeReply, ExchangeRequest, GenerationRef, IdentityKind, PartnerOrder, RecoveryReply, RecoveryRequest, Refusal,
};
use sealtape_kms::recovery::shares::combine;
use sealtape_kms::recovery::{generate, stanza};
use sealtape_kms::secret::DataKey;
use sealtape_pkcs11_shim::{Fault, Plan, Rule, rv};
use support::books::Books;
use support::custodians::{Custodians, root};
use support::install::{Install, ME, UNIT, labelled};
use support::shim::{Shimmed, limits};

/// A token that hands out another key and says that all is well cannot be told from one that does not; see `faults.rs`.
fn faults() -> Vec<Fault> {
    vec![
        Fault::Return { rv: rv::GENERAL_ERROR },
        Fault::Return { rv: rv::DEVICE_REMOVED },
        Fault::Return { rv: rv::SESSION_HANDLE_INVALID },
        Fault::Late { rv: rv::DEVICE_ERROR },
        Fault::Abort,
        Fault::Nothing,
        Fault::LoseSessions,
    ]
}

/// Something that is done under a fault, and again without it.
trait Work {
    /// What has to be there before, made anew for each case.
    fn prepare(&mut self);
    fn attempt(&mut self) -> Result<(), Refusal>;
    /// Whether what was told to be done is.
    fn check(&mut self, name: &str);
}

fn every_fault(install: &Shimmed, work: &mut impl Work) {
    let before = install.site.journal().unwrap().len();
    work.prepare();
    let prepared = install.site.journal().unwrap().len();
    work.attempt().unwrap();
    work.check("without a fault");
    let journal = install.site.journal().unwrap();
    let functions: BTreeSet<String> = journal.into_iter().skip(prepared).map(|call| call.function).collect();
    assert!(prepared >= before && functions.len() > 2, "{functions:?}");
    let mut rules = Vec::new();
    for function in &functions {
        rules.extend(faults().into_iter().map(|fault| Rule::once(function, fault)));
        rules.push(Rule::always(function, Fault::Return { rv: rv::GENERAL_ERROR }));
    }
    let count = rules.len();
    for rule in rules {
        let name = format!("{rule:?}");
        work.prepare();
        install.site.set(Plan::of(rule)).unwrap();
        let began = Instant::now();
        let mut result = work.attempt();
        // Some calls at their limit, each with a new worker, on a machine that has other work.
        assert!(began.elapsed() < 3 * (2 * limits().call + limits().start) + Duration::from_secs(10), "{name}");
        install.site.mend().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(refusal) = result {
            assert!(Instant::now() < until, "{name}: not recovered: {refusal}");
            std::thread::sleep(limits().pause);
            result = work.attempt();
        }
        work.check(&name);
    }
    assert!(install.site.journal().unwrap().iter().any(|call| call.fault.is_some()));
    eprintln!("{} functions, {count} cases", functions.len());
}

struct Backfill {
    authority: Arc<Authority>,
    people: Custodians,
    database: rusqlite::Connection,
    kept: Vec<(GenerationRef, DataKey)>,
    epoch: u32,
    identity: Option<Identity>,
}

impl Work for Backfill {
    fn prepare(&mut self) {
        self.epoch += 1;
        let (public, shares) = generate("default", self.epoch, 2, 2).unwrap();
        let install = |request| RecoveryRequest::Install { key: Box::new(public.clone()), request, reason: None };
        let asked = self.authority.serve_recovery(root(), install(None)).unwrap();
        let RecoveryReply::Asked(view) = asked else { panic!("without approval") };
        self.people.approve(&self.authority, view.request);
        self.authority.serve_recovery(ME, install(Some(view.request))).unwrap();
        self.identity = Some(combine(&shares, None).unwrap().identity);
    }

    fn attempt(&mut self) -> Result<(), Refusal> {
        loop {
            match self.authority.serve_recovery(ME, RecoveryRequest::Backfill { most: 2 })? {
                RecoveryReply::Backfilled { remaining: 0, .. } => return Ok(()),
                RecoveryReply::Backfilled { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn check(&mut self, name: &str) {
        let identity = self.identity.as_ref().unwrap();
        for (at, key) in &self.kept {
            let mut query = self.database.prepare("SELECT body FROM recovery_stanzas WHERE key_id = ?1").unwrap();
            let bodies: Vec<Vec<u8>> =
                query.query_map([at.key_id.to_string()], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
            let opened: Vec<DataKey> =
                bodies.iter().filter_map(|body| stanza::unwrap(identity, body, *at).ok()).collect();
            assert!(opened.len() == 1 && opened[0].ct_eq(key), "{name}: {} copies of {at:?}", opened.len());
            assert!(self.authority.load(ME, UNIT, *at).unwrap().1.ct_eq(key), "{name}");
        }
    }
}

#[test]
fn copies_for_the_recovery_key_under_every_fault() {
    let install = Shimmed::new();
    let authority = install.open();
    let kept = ["ONE", "TWO", "THREE"].map(|label| labelled(&authority, label)).map(|(_, at, key)| (at, key));
    let (people, database) = (Custodians::register(&authority), install.database());
    let mut work =
        Backfill { authority: Arc::clone(&authority), people, database, kept: kept.into(), epoch: 0, identity: None };
    every_fault(&install, &mut work);
    Books::audit(&authority, &install.database());
}

struct Import {
    /// The partner that sends, with a token of its own.
    sender: Arc<Authority>,
    people: Custodians,
    identity: Identity,
    authority: Arc<Authority>,
    count: u32,
    sent: Option<(Package, GenerationRef, DataKey)>,
}

impl Work for Import {
    fn prepare(&mut self) {
        self.count += 1;
        let label = format!("SENT{}", self.count);
        let (_, at, key) = labelled(&self.sender, &label);
        let order = PartnerOrder {
            partner: "partner".into(),
            recipient: self.identity.recipient().unwrap().to_string(),
            volumes: vec![label],
            expires: "2999-01-01T00:00:00.000Z".into(),
            labels: true,
            allow_classic: false,
            reason: None,
        };
        let asked = self.sender.serve_exchange(root(), ExchangeRequest::Ask(order), None).unwrap();
        let ExchangeReply::Asked(view) = asked else { panic!("without approval") };
        self.people.approve(&self.sender, view.request);
        let made = self.sender.serve_exchange(root(), ExchangeRequest::Export { request: view.request }, None);
        let ExchangeReply::Package(package) = made.unwrap() else { panic!("no package") };
        self.sent = Some((*package, at, key));
    }

    fn attempt(&mut self) -> Result<(), Refusal> {
        let request = ExchangeRequest::Import {
            package: Box::new(self.sent.as_ref().unwrap().0.clone()),
            site_key: self.sender.log_key().to_string(),
            identity: IdentityKind::Hybrid,
            pool: None,
        };
        let seed = DataKey::copy_from(self.identity.seed().expose()).unwrap();
        self.authority.serve_exchange(ME, request, Some(seed)).map(drop)
    }

    fn check(&mut self, name: &str) {
        let (_, at, key) = self.sent.as_ref().unwrap();
        assert!(self.authority.load(ME, UNIT, *at).unwrap().1.ct_eq(key), "{name}: another key of {at:?}");
    }
}

#[test]
fn a_partners_package_under_every_fault() {
    let (install, partner) = (Shimmed::new(), Install::new());
    let (authority, sender) = (install.open(), partner.open());
    let (_, ours, key) = labelled(&authority, "OURS");
    let people = Custodians::register(&sender);
    let identity = Identity::generate(Kind::Hybrid).unwrap();
    let mut work = Import { sender, people, identity, authority: Arc::clone(&authority), count: 0, sent: None };
    every_fault(&install, &mut work);
    assert!(authority.load(ME, UNIT, ours).unwrap().1.ct_eq(&key));
    Books::audit(&authority, &install.database());
}
