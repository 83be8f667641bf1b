//! The longer works that use the token (a change of the catalogue's key, a destruction, a package for a partner, a new key of the log)
//! under the faults of the shim: nothing is lost, nothing that was to go stays, and once the fault is gone they come to their end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::age::{Identity, Kind};
use sealtape_kms::authority::Authority;
use sealtape_kms::custody::VerifierKey;
use sealtape_kms::custody::certificate::verify;
use sealtape_kms::protocol::{
    BatchState, DestructionOrder, ExchangeReply, ExchangeRequest, GenerationRef, PartnerOrder, PoolPolicy, Refusal,
    RotationState,
};
use sealtape_kms::secret::DataKey;
use sealtape_pkcs11_shim::{Fault, Plan, Rule, rv};
use support::books::Books;
use support::custodians::{Custodians, root};
use support::install::{ME, UNIT, labelled};
use support::shim::{Shimmed, limits};
use uuid::Uuid;

/// A token that hands out another key and says that all is well cannot be told from one that does not; see `faults.rs`.
fn faults(work: Work) -> Vec<Fault> {
    let some = [
        Fault::Return { rv: rv::GENERAL_ERROR },
        Fault::Return { rv: rv::DEVICE_REMOVED },
        Fault::Late { rv: rv::DEVICE_ERROR },
        Fault::Abort,
        Fault::Nothing,
        Fault::LoseSessions,
    ];
    let more = [
        Fault::Return { rv: rv::KEY_HANDLE_INVALID },
        Fault::Return { rv: rv::SESSION_HANDLE_INVALID },
        Fault::Segfault,
        Fault::Logout,
        Fault::Short { by: 1 },
        Fault::Long { by: 64 },
    ];
    let long = std::env::var_os("SEALTAPE_LONG").is_some();
    // A destruction takes the same steps as a rotation, and more.
    let every = if long || !matches!(work, Work::Destruction) { 1 } else { 3 };
    some.into_iter().step_by(every).chain(more.into_iter().filter(|_| long)).collect()
}

struct Bench {
    install: Shimmed,
    authority: Arc<Authority>,
    people: Custodians,
    partner: Identity,
    kept: Vec<(GenerationRef, DataKey)>,
    count: u32,
    wrong: Vec<String>,
}

/// One of the works: it begins, and goes on until its end.
#[derive(Debug, Clone, Copy)]
enum Work {
    Rotation,
    Destruction,
    Package,
    LogKey,
}

/// What has to be looked at once a work is over.
enum Begun {
    Rotation,
    Destruction(Uuid, GenerationRef),
    Repeat,
}

impl Bench {
    fn new() -> Self {
        let install = Shimmed::new();
        let authority = install.open();
        let people = Custodians::register(&authority);
        authority.create_pool(ME, &PoolPolicy { key_on_medium: false, ..PoolPolicy::standard("secret") }).unwrap();
        let kept = ["KEPT1", "KEPT2", "KEPT3"].map(|label| labelled(&authority, label)).map(|(_, at, key)| (at, key));
        let partner = Identity::generate(Kind::Hybrid).unwrap();
        Self { install, authority, people, partner, kept: kept.into(), count: 0, wrong: Vec::new() }
    }

    /// What can be done before the fault: the request and its approvals.
    fn prepare(&mut self, work: Work) -> (Option<Uuid>, Option<GenerationRef>) {
        self.count += 1;
        match work {
            Work::Destruction => {
                let (volume, at, _) = labelled(&self.authority, &format!("DOOMED{}", self.count));
                let order = DestructionOrder {
                    volumes: vec![volume.volume.to_string()],
                    keys: Vec::new(),
                    even_active: true,
                    hsm_backups: "none".into(),
                };
                let asked = self.authority.ask_destruction(ME, &order, "end of retention").unwrap();
                self.people.approve(&self.authority, asked.request);
                (Some(asked.request), Some(at))
            }
            Work::Package => {
                let order = PartnerOrder {
                    partner: "partner".into(),
                    recipient: self.partner.recipient().unwrap().to_string(),
                    volumes: vec!["KEPT1".into()],
                    expires: "2999-01-01T00:00:00.000Z".into(),
                    labels: true,
                    allow_classic: false,
                    reason: None,
                };
                let asked = self.authority.serve_exchange(root(), ExchangeRequest::Ask(order), None).unwrap();
                let ExchangeReply::Asked(view) = asked else { panic!("without approval") };
                self.people.approve(&self.authority, view.request);
                (Some(view.request), None)
            }
            Work::Rotation | Work::LogKey => (None, None),
        }
    }

    fn begin(&self, work: Work, request: Option<Uuid>, doomed: Option<GenerationRef>) -> Result<Begun, Refusal> {
        let authority = &self.authority;
        Ok(match work {
            Work::Rotation => {
                authority.rotate(ME, "yearly")?;
                Begun::Rotation
            }
            Work::Destruction => {
                let batch = authority.carry_out_destruction(root(), request.unwrap())?;
                Begun::Destruction(batch.batch, doomed.unwrap())
            }
            Work::Package => {
                authority.serve_exchange(root(), ExchangeRequest::Export { request: request.unwrap() }, None)?;
                Begun::Repeat
            }
            Work::LogKey => {
                authority.rotate_log_key(ME, "yearly")?;
                Begun::Repeat
            }
        })
    }

    /// Goes on until there is nothing left to do, or `tries` pieces failed.
    fn work(&self, tries: u32) -> Result<(), Refusal> {
        let mut failed = 0;
        loop {
            match self.authority.work() {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(refusal) => {
                    failed += 1;
                    if failed == tries {
                        return Err(refusal);
                    }
                }
            }
        }
    }

    fn functions(&mut self, work: Work) -> BTreeSet<String> {
        let (request, doomed) = self.prepare(work);
        let before = self.install.site.journal().unwrap().len();
        let begun = self.begin(work, request, doomed).unwrap();
        self.work(1).unwrap();
        self.ended(&format!("{work:?}"), &begun);
        self.install.site.journal().unwrap().into_iter().skip(before).map(|call| call.function).collect()
    }

    fn strike(&mut self, work: Work, rule: Rule) {
        let name = format!("{work:?} under {rule:?}");
        let (request, doomed) = self.prepare(work);
        self.install.site.set(Plan::of(rule)).unwrap();
        let began = Instant::now();
        let begun = self.begin(work, request, doomed);
        let _held_up = self.work(2);
        // Some calls at their limit, each with a new worker.
        if began.elapsed() > 3 * (2 * limits().call + limits().start) {
            self.wrong.push(format!("{name}: took {:?}", began.elapsed()));
        }
        self.install.site.mend().unwrap();
        let until = Instant::now() + Duration::from_secs(3);
        let mut begun = begun;
        loop {
            let result = begun.and_then(|begun| self.work(1).map(|()| begun));
            match result {
                Ok(begun) => return self.ended(&name, &begun),
                Err(refusal) if Instant::now() > until => {
                    return self.wrong.push(format!("{name}: not recovered: {refusal}"));
                }
                Err(_) => std::thread::sleep(limits().pause),
            }
            // What was refused is asked for again; what was begun only goes on.
            begun = match (work, doomed) {
                (Work::Destruction, Some(at)) => self.batch_of(request.unwrap(), at, work),
                (Work::Package, _) => {
                    let (request, _) = self.prepare(work);
                    self.begin(work, request, None)
                }
                _ => self.begin(work, request, doomed),
            };
        }
    }

    fn batch_of(&self, request: Uuid, at: GenerationRef, work: Work) -> Result<Begun, Refusal> {
        let batch = self.authority.destructions().unwrap().into_iter().find(|b| b.request == request).unwrap();
        match batch.state {
            BatchState::Asked => self.begin(work, Some(request), Some(at)),
            _ => Ok(Begun::Destruction(batch.batch, at)),
        }
    }

    /// Everything that was to stay opens, what was to go does not, and the work is at its end.
    fn ended(&mut self, name: &str, begun: &Begun) {
        for (at, key) in &self.kept {
            match self.authority.load(ME, UNIT, *at) {
                Ok((_, loaded)) if loaded.ct_eq(key) => {}
                Ok(_) => self.wrong.push(format!("{name}: another key of {at:?}")),
                Err(refusal) => self.wrong.push(format!("{name}: {refusal}")),
            }
        }
        match begun {
            Begun::Rotation => {
                let state = self.authority.rotation().unwrap().unwrap().state;
                if state != RotationState::Done {
                    // Held up for a fault of the token: an operator lets it go on.
                    self.authority.rotate(ME, "once more").unwrap();
                    self.work(1).unwrap();
                    let state = self.authority.rotation().unwrap().unwrap().state;
                    assert_eq!(state, RotationState::Done, "{name}");
                }
            }
            Begun::Destruction(batch, doomed) => {
                let mut view = self.authority.destruction(*batch).unwrap();
                if view.state == BatchState::Rewrapping {
                    self.authority.rotate(ME, "once more").unwrap();
                    self.work(1).unwrap();
                    view = self.authority.destruction(*batch).unwrap();
                }
                if view.state != BatchState::Done || self.authority.load(ME, UNIT, *doomed).is_ok() {
                    return self.wrong.push(format!("{name}: {view:?}"));
                }
                let note = self.authority.certificate(*batch).unwrap();
                let key: VerifierKey = self.authority.log_key().to_string().parse().unwrap();
                assert!(verify(&note, &key).is_ok(), "{name}");
            }
            Begun::Repeat => {}
        }
    }

    fn settle(self) {
        Books::audit(&self.authority, &self.install.database());
        assert!(!self.authority.token().latch().is_set());
        assert!(self.wrong.is_empty(), "{}:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(self.install.site.journal().unwrap().iter().any(|call| call.fault.is_some()));
        // And all that was entered still holds at the next start.
        let Self { install, authority, kept, .. } = self;
        drop(authority);
        let authority = install.open();
        assert!(kept.iter().all(|(at, key)| authority.load(ME, UNIT, *at).unwrap().1.ct_eq(key)));
    }
}

fn every_fault(work: Work) {
    let mut bench = Bench::new();
    let functions = bench.functions(work);
    let (began, mut cases) = (Instant::now(), 0);
    for function in &functions {
        for fault in faults(work) {
            bench.strike(work, Rule::once(function, fault));
            cases += 1;
        }
        bench.strike(work, Rule::always(function, Fault::Return { rv: rv::GENERAL_ERROR }));
        cases += 1;
    }
    eprintln!("{work:?}: {} functions, {cases} cases in {:?}", functions.len(), began.elapsed());
    bench.settle();
}

#[test]
fn a_rotation_under_every_fault() {
    every_fault(Work::Rotation);
}

#[test]
fn a_destruction_under_every_fault() {
    every_fault(Work::Destruction);
}

#[test]
fn a_package_under_every_fault() {
    every_fault(Work::Package);
}

#[test]
fn a_new_key_of_the_log_under_every_fault() {
    every_fault(Work::LogKey);
}
