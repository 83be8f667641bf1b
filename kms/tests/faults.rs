//! Every way into the token, under every fault of the shim: what comes back is right or a clear refusal, in time; nothing is lost; and
//! once the fault is gone everything works again, without a restart.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sealtape_kms::authority::Authority;
use sealtape_kms::protocol::{GenerationRef, PoolPolicy, Refusal, RefusalCode};
use sealtape_kms::secret::DataKey;
use sealtape_pkcs11_shim::{Fault, Plan, Rule, rv};
use support::books::Books;
use support::install::{ME, UNIT, labelled, session};
use support::shim::{Shimmed, limits};

/// What uses the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Load,
    CreateGeneration,
    CreateStream,
    CreatePool,
    Checkpoint,
    Status,
    ShutDown,
}

/// What an operation gave that must be right for ever.
enum Gave {
    Nothing,
    Key(GenerationRef, DataKey),
}

struct Bench {
    install: Shimmed,
    authority: std::sync::Arc<Authority>,
    at: GenerationRef,
    key: DataKey,
    /// Keys that were handed out and have to be the same for ever.
    given: Vec<(GenerationRef, DataKey, bool)>,
    pools: u32,
    /// What did not hold.
    wrong: Vec<String>,
}

fn long() -> bool {
    std::env::var_os("SEALTAPE_LONG").is_some()
}

/// The longest an operation may take: a call at its limit, a new worker, and the call once more; and a loaded machine.
fn bound() -> Duration {
    2 * limits().call + limits().start + Duration::from_secs(1)
}

/// What a fault of the token is told as.
fn of_the_token(code: RefusalCode) -> bool {
    use RefusalCode as R;
    matches!(code, R::TokenMissing | R::TokenHung | R::KekMissing | R::TamperedBlob | R::Token)
}

impl Bench {
    fn new() -> Self {
        let install = Shimmed::new();
        let authority = install.open();
        let (_, at, key) = labelled(&authority, "A");
        Self { install, authority, at, key, given: Vec::new(), pools: 0, wrong: Vec::new() }
    }

    fn run(&mut self, operation: Operation) -> Result<Gave, Refusal> {
        let authority = &self.authority;
        Ok(match operation {
            Operation::Load => {
                let (loaded, key) = authority.load(ME, UNIT, self.at)?;
                Gave::Key(loaded.at, key)
            }
            Operation::CreateGeneration => {
                let (generation, key) = authority.create_generation(ME, UNIT, self.at.volume, 0, None)?;
                Gave::Key(generation.at, key)
            }
            Operation::CreateStream => {
                let (generation, key) = authority.create_stream(ME, None)?;
                Gave::Key(generation.at, key)
            }
            Operation::CreatePool => {
                self.pools += 1;
                authority.create_pool(ME, &PoolPolicy::standard(format!("pool {}", self.pools)))?;
                Gave::Nothing
            }
            Operation::Checkpoint => {
                // A leaf that no checkpoint covers, so that there is something to sign.
                authority.incident(ME, UNIT, None, "before a checkpoint")?;
                authority.open_session(ME, UNIT, self.at, &session(0))?;
                let view = authority.checkpoint()?;
                assert_eq!(authority.log_key().open(&view.note).unwrap().0.size, view.size);
                Gave::Nothing
            }
            Operation::Status => {
                let status = authority.status()?;
                match status.token_error {
                    Some(refusal) => return Err(refusal),
                    None => Gave::Nothing,
                }
            }
            Operation::ShutDown => {
                authority.shut_down()?;
                Gave::Nothing
            }
        })
    }

    /// The functions that an operation calls, beginning with a new worker.
    fn functions(&mut self, operation: Operation) -> BTreeSet<String> {
        let site = &self.install.site;
        site.set(Plan::of(Rule::once("C_*", Fault::Abort))).unwrap();
        let before = site.journal().unwrap().len();
        assert!(self.run(operation).is_ok() || self.run(operation).is_ok(), "{operation:?}");
        self.install.site.mend().unwrap();
        self.install.site.journal().unwrap().into_iter().skip(before).map(|call| call.function).collect()
    }

    /// Strikes one operation and looks at everything afterwards.
    fn strike(&mut self, operation: Operation, rules: Vec<Rule>) {
        let name = format!("{operation:?} under {rules:?}");
        self.install.site.set(Plan { rules: rules.clone(), ..Plan::default() }).unwrap();
        let began = Instant::now();
        let result = self.run(operation);
        let took = began.elapsed();
        if took > bound() {
            self.wrong.push(format!("{name}: took {took:?}"));
        }
        match result {
            Ok(Gave::Key(at, key)) => self.check_key(&name, operation, &rules, at, key),
            Ok(Gave::Nothing) => {}
            Err(refusal) => {
                let named = refusal.what.contains("token") || refusal.what.contains("PKCS#11");
                if !of_the_token(refusal.code) || !named || refusal.mend.is_empty() {
                    self.wrong.push(format!("{name}: told as {refusal:?}"));
                }
            }
        }
        self.install.site.mend().unwrap();
        self.recovered(&name, operation);
    }

    fn check_key(&mut self, name: &str, operation: Operation, rules: &[Rule], at: GenerationRef, key: DataKey) {
        if key.expose().iter().all(|byte| *byte == 0) {
            self.wrong.push(format!("{name}: a key of zeros"));
        } else if at != self.at {
            self.given.push((at, key, operation == Operation::CreateStream));
        } else if !key.ct_eq(&self.key) && !rules.iter().all(lies) {
            self.wrong.push(format!("{name}: another key"));
        }
    }

    /// Works again by itself, soon.
    fn recovered(&mut self, name: &str, operation: Operation) {
        let until = Instant::now() + Duration::from_secs(3);
        loop {
            let again = self.run(operation).map(|_| ()).and_then(|()| self.authority.load(ME, UNIT, self.at));
            match again {
                Ok((_, key)) if key.ct_eq(&self.key) => return,
                Ok(_) => return self.wrong.push(format!("{name}: afterwards another key")),
                Err(refusal) if Instant::now() > until => {
                    self.wrong.push(format!("{name}: not recovered: {refusal}"));
                    // The next case begins with a token in order.
                    let load = self.authority.load(ME, UNIT, self.at);
                    assert!(load.is_ok(), "{name}: {load:?}");
                    return;
                }
                Err(_) => std::thread::sleep(limits().pause),
            }
        }
    }

    /// What was acknowledged is there, and the log agrees with the catalogue.
    fn settle(self) {
        for (at, key, stream) in &self.given {
            let loaded = if *stream { self.authority.load_stream(ME, *at) } else { self.authority.load(ME, UNIT, *at) };
            assert!(loaded.unwrap().1.ct_eq(key), "{at:?}: another key than the one handed out");
        }
        Books::audit(&self.authority, &self.install.database());
        assert!(!self.authority.token().latch().is_set());
        assert!(self.wrong.is_empty(), "{}:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(self.install.site.journal().unwrap().iter().any(|call| call.fault.is_some()));
    }
}

/// A token that lies about an old key cannot be seen through here; the data path compares the commitment on the medium.
fn lies(rule: &Rule) -> bool {
    let value = rule.function.ends_with("CKA_VALUE") && matches!(rule.fault, Fault::Flip | Fault::Nothing);
    value || rule.fault == Fault::OtherKey
}

/// All faults that end by themselves.
fn faults() -> Vec<Fault> {
    let returned = [
        rv::GENERAL_ERROR,
        rv::DEVICE_ERROR,
        rv::FUNCTION_FAILED,
        rv::HOST_MEMORY,
        rv::SESSION_HANDLE_INVALID,
        rv::USER_NOT_LOGGED_IN,
        rv::OBJECT_HANDLE_INVALID,
        rv::KEY_HANDLE_INVALID,
        rv::DEVICE_REMOVED,
        rv::TOKEN_NOT_PRESENT,
        0x8000_0bad,
    ];
    let mut faults: Vec<Fault> = returned.into_iter().map(|rv| Fault::Return { rv }).collect();
    faults.extend([
        Fault::Late { rv: rv::DEVICE_ERROR },
        Fault::Slow { millis: 30 },
        Fault::Abort,
        Fault::Segfault,
        Fault::LoseSessions,
        Fault::Logout,
        Fault::Flip,
        Fault::Short { by: 1 },
        Fault::Short { by: 1000 },
        Fault::Long { by: 64 },
        Fault::Nothing,
        Fault::OtherKey,
    ]);
    faults
}

/// Each function that the operation uses, each fault, once and lasting.
fn every_fault(operation: Operation) {
    use Operation as O;
    // These take the same way into the token as others, with more around it: once is enough, unless there is time. A pool leaves a key in
    // the token, which SoftHSM searches the slower for it.
    let lasting = long() || matches!(operation, O::Load | O::CreateGeneration | O::Checkpoint | O::Status);
    let faults = match operation {
        O::CreatePool if !long() => faults().into_iter().step_by(3).collect(),
        _ => faults(),
    };
    let mut bench = Bench::new();
    let functions = bench.functions(operation);
    let began = Instant::now();
    let mut cases = 0;
    for function in &functions {
        for fault in &faults {
            bench.strike(operation, vec![Rule::once(function, *fault)]);
            cases += 1;
            // Lasting crashes start a worker for every attempt, which takes its time.
            if long() || (lasting && !matches!(fault, Fault::Abort | Fault::Segfault)) {
                bench.strike(operation, vec![Rule::always(function, *fault)]);
                cases += 1;
            }
        }
    }
    eprintln!("{operation:?}: {} functions, {cases} cases in {:?}", functions.len(), began.elapsed());
    bench.settle();
}

#[test]
fn load_under_every_fault() {
    every_fault(Operation::Load);
}

#[test]
fn create_generation_under_every_fault() {
    every_fault(Operation::CreateGeneration);
}

#[test]
fn create_stream_under_every_fault() {
    every_fault(Operation::CreateStream);
}

#[test]
fn create_pool_under_every_fault() {
    every_fault(Operation::CreatePool);
}

#[test]
fn checkpoint_under_every_fault() {
    every_fault(Operation::Checkpoint);
}

#[test]
fn status_under_every_fault() {
    every_fault(Operation::Status);
}

#[test]
fn shutting_down_under_every_fault() {
    every_fault(Operation::ShutDown);
}
