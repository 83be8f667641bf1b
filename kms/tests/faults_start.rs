//! Starting and setting up with a token that fails, wrong PINs against a token that counts them, and a token that hangs while the data
//! path works with the keys that it has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sealtape_kms::authority::{Authority, AuthorityOptions};
use sealtape_kms::client::{ClientError, ControlClient, DataPathClient};
use sealtape_kms::custody::Outcome;
use sealtape_kms::home::{InitOptions, init_home};
use sealtape_kms::protocol::{CONTROL_SOCKET, Cartridge, KEYS_SOCKET, RefusalCode};
use sealtape_kms::server::{Server, ServerConfig};
use sealtape_pkcs11_shim::{Fault, PinLimit, Plan, Rule, rv};
use support::books::Books;
use support::install::{ME, UNIT, labelled, session};
use support::shim::{Shimmed, init_options, limits, site_dir};

/// What a machine with other work may take beyond a deadline.
const SLACK: Duration = Duration::from_secs(10);

fn long() -> bool {
    std::env::var_os("SEALTAPE_LONG").is_some()
}

fn of_the_token(code: RefusalCode) -> bool {
    use RefusalCode as R;
    matches!(code, R::TokenMissing | R::TokenHung | R::KekMissing | R::TamperedBlob | R::Token)
}

fn may_be_away(install: &Shimmed) -> AuthorityOptions {
    AuthorityOptions { token_may_be_away: true, ..install.options() }
}

/// Waits until a key can be had; without a restart.
fn until_loaded(authority: &Authority, at: sealtape_kms::protocol::GenerationRef, what: &str) -> Duration {
    let began = Instant::now();
    loop {
        match authority.load(ME, UNIT, at) {
            Ok(_) => return began.elapsed(),
            Err(e) if began.elapsed() > Duration::from_secs(10) => panic!("{what}: not recovered: {e}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn the_service_starts_whatever_the_token_does_and_finds_it_again() {
    let install = Shimmed::new();
    let (at, functions) = {
        let authority = install.open();
        let at = labelled(&authority, "A").1;
        let calls = install.site.journal().unwrap();
        let names: std::collections::BTreeSet<String> = calls.into_iter().map(|call| call.function).collect();
        let at_start = [
            "C_Initialize",
            "C_GetSlotList",
            "C_GetTokenInfo",
            "C_OpenSession",
            "C_Login",
            "C_FindObjects",
            "C_UnwrapKey",
        ];
        assert!(at_start.iter().all(|name| names.contains(*name)), "{names:?}");
        (at, at_start)
    };
    let mut plans = vec![("pulled out".to_owned(), Plan::pulled_out())];
    for function in functions {
        for fault in [
            Fault::Return { rv: rv::GENERAL_ERROR },
            Fault::Return { rv: rv::DEVICE_REMOVED },
            Fault::Return { rv: rv::SESSION_HANDLE_INVALID },
            Fault::Slow { millis: 100 },
            Fault::Abort,
            Fault::Segfault,
            Fault::Nothing,
        ] {
            plans.push((format!("{function}: {fault:?}"), Plan::of(Rule::always(function, fault))));
        }
    }
    // Each of these waits for the limit of a start.
    let hanging = if long() { &functions[..] } else { &functions[3..4] };
    plans.extend(hanging.iter().map(|f| (format!("{f}: hangs"), Plan::of(Rule::always(*f, Fault::Hang)))));
    let count = plans.len();
    let began = Instant::now();
    for (name, plan) in plans {
        install.site.set(plan).unwrap();
        let start = Instant::now();
        let authority = Authority::open(&install.home, may_be_away(&install)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let result = authority.load(ME, UNIT, at).map(|_| ());
        let bound = 2 * (limits().start + 2 * limits().call) + SLACK;
        assert!(start.elapsed() < bound, "{name}: {:?}", start.elapsed());
        if let Err(refusal) = result {
            assert!(of_the_token(refusal.code), "{name}: {refusal:?}");
        }
        // What needs no token goes on.
        authority.open_session(ME, UNIT, at, &session(0)).unwrap();
        install.site.mend().unwrap();
        until_loaded(&authority, at, &name);
        assert!(!authority.token().latch().is_set(), "{name}: taken for a wrong PIN");
    }
    eprintln!("{count} starts in {:?}", began.elapsed());
    let authority = install.open();
    Books::audit(&authority, &install.database());
    // Strictly, it does not start.
    drop(authority);
    install.site.set(Plan::pulled_out()).unwrap();
    let refusal = install.try_open().map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TokenMissing, "{refusal}");
    assert!(refusal.what.contains("pkcs11:token=sealtape"), "{refusal}");
}

#[test]
fn setting_up_fails_clearly_or_holds() {
    let functions = [
        "C_InitToken",
        "C_GenerateKey",
        "C_GenerateKeyPair",
        "C_WrapKey",
        "C_UnwrapKey",
        "C_Sign",
        "C_GetMechanismList",
    ];
    let faults = [
        Fault::Return { rv: rv::DEVICE_ERROR },
        Fault::Late { rv: rv::DEVICE_ERROR },
        Fault::Abort,
        Fault::Flip,
        Fault::Nothing,
        Fault::Short { by: 1 },
        Fault::LoseSessions,
    ];
    let (began, mut failed) = (Instant::now(), 0);
    for (n, function) in functions.iter().enumerate() {
        for (m, fault) in faults.iter().enumerate() {
            // Each set-up makes a token and its keys: a third of them, unless there is time.
            if !long() && (n + m) % 3 != 0 {
                continue;
            }
            let (dir, home, site) = Shimmed::place();
            site.set(Plan::of(Rule::once(*function, *fault))).unwrap();
            let site_dir = site_dir(dir.path());
            let options = InitOptions { limits: limits(), ..init_options(&site_dir) };
            match init_home(&home, &options) {
                Ok(report) => {
                    site.mend().unwrap();
                    let authority = Authority::open(&home, support::shim::options(&site_dir)).unwrap();
                    assert_eq!(authority.log_key().to_string(), report.log_key);
                    let at = labelled(&authority, "A").1;
                    authority.load(ME, UNIT, at).unwrap();
                }
                Err(refusal) => {
                    failed += 1;
                    assert!(
                        of_the_token(refusal.code) || refusal.code == RefusalCode::Internal,
                        "{function} {fault:?}: {refusal:?}"
                    );
                    // Half an installation does not serve.
                    assert!(Authority::open(&home, support::shim::options(&site_dir)).is_err());
                }
            }
        }
    }
    assert!(failed > 0);
    eprintln!("set-ups in {:?}, {failed} failed", began.elapsed());
}

#[test]
fn a_wrong_pin_is_tried_once_in_fifty_restarts() {
    let install = Shimmed::new();
    let at = labelled(&install.open(), "A").1;
    let pin = install.home.dir().join("user.pin");
    let right = std::fs::read(&pin).unwrap();
    std::fs::write(&pin, "00000000").unwrap();
    // Three wrong ones and the token is locked for good.
    let counting = || Plan { pin: Some(PinLimit { tries: 3 }), ..Plan::default() };
    install.site.set(counting()).unwrap();
    let before = install.site.logins().unwrap();
    for restart in 0..50 {
        let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
        for _ in 0..3 {
            let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::PinLatched, "restart {restart}: {refusal}");
            assert!(refusal.mend.contains("sealtape hsm unlatch"), "{refusal}");
        }
        authority.checkpoint().map(drop).ok();
        assert!(authority.status().unwrap().pin_latched);
    }
    assert_eq!(install.site.logins().unwrap() - before, 1, "logins with a wrong PIN");
    // Put right and unlatched, it works, and the token forgets.
    std::fs::write(&pin, &right).unwrap();
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    assert!(authority.load(ME, UNIT, at).is_err(), "the latch stands until somebody clears it");
    authority.clear_pin_latch(ME).unwrap();
    until_loaded(&authority, at, "unlatched");
    assert_eq!(install.site.logins().unwrap() - before, 2);
    Books::audit(&authority, &install.database());
    drop(authority);

    // One wrong PIN from being locked, or locked: it is not tried at all, or once, whatever the PIN, and restarts change nothing.
    std::fs::write(&pin, "00000000").unwrap();
    install.site.set(Plan { pin: Some(PinLimit { tries: 1 }), ..Plan::default() }).unwrap();
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    assert_eq!(authority.load(ME, UNIT, at).map(drop).unwrap_err().code, RefusalCode::PinLatched);
    std::fs::write(&pin, &right).unwrap();
    authority.clear_pin_latch(ME).unwrap();
    let before = install.site.logins().unwrap();
    let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::PinLatched);
    assert!(refusal.what.contains("lock"), "{refusal}");
    drop(authority);
    for _ in 0..5 {
        let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
        assert!(authority.load(ME, UNIT, at).is_err());
    }
    assert!(install.site.logins().unwrap() - before <= 1, "{} logins", install.site.logins().unwrap() - before);
    install.site.unlock().unwrap();
    install.site.mend().unwrap();
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    authority.clear_pin_latch(ME).unwrap();
    until_loaded(&authority, at, "unlocked");
}

/// What could be the last try, or the second of a PIN that was rejected unheard, is not spent.
#[test]
fn a_last_try_and_a_login_in_doubt_are_left_to_people() {
    let install = Shimmed::new();
    let at = labelled(&install.open(), "A").1;
    let pin = install.home.dir().join("user.pin");
    let right = std::fs::read(&pin).unwrap();
    let counting = |tries, rules| Plan { pin: Some(PinLimit { tries }), rules, ..Plan::default() };
    let refused = |authority: &Authority, words: &str| {
        let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
        assert!(refusal.what.contains(words), "{words}: {refusal}");
        refusal
    };
    let logins = || install.site.logins().unwrap();

    // One of two is spent on a wrong PIN.
    std::fs::write(&pin, "00000000").unwrap();
    install.site.set(counting(2, Vec::new())).unwrap();
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    assert_eq!(refused(&authority, "rejected").code, RefusalCode::PinLatched);
    let before = logins();
    // Neither the right PIN nor a cleared latch nor a restart spends the other.
    std::fs::write(&pin, &right).unwrap();
    authority.clear_pin_latch(ME).unwrap();
    refused(&authority, "one more wrong PIN before it locks");
    drop(authority);
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    refused(&authority, "one more wrong PIN before it locks");
    assert_eq!(logins(), before);
    // With the vendor's tool somebody logs in, which resets the count: the next attempt finds it so.
    install.site.unlock().unwrap();
    authority.clear_pin_latch(ME).unwrap();
    until_loaded(&authority, at, "the count was reset");
    drop(authority);

    // A wrong PIN of many; then a login of which nobody knows how it went, since the module died in it.
    std::fs::write(&pin, "00000000").unwrap();
    install.site.set(counting(9, Vec::new())).unwrap();
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    assert_eq!(refused(&authority, "rejected").code, RefusalCode::PinLatched);
    std::fs::write(&pin, &right).unwrap();
    install.site.set(counting(9, vec![Rule::always("C_Login", Fault::Abort)])).unwrap();
    authority.clear_pin_latch(ME).unwrap();
    assert!(authority.load(ME, UNIT, at).is_err());
    drop(authority);
    install.site.set(counting(9, Vec::new())).unwrap();
    let before = logins();
    for _ in 0..3 {
        let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
        assert_eq!(refused(&authority, "").code, RefusalCode::PinLatched);
    }
    assert_eq!(logins(), before);
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    authority.clear_pin_latch(ME).unwrap();
    until_loaded(&authority, at, "somebody decided");
    // Without a rejected PIN a login that was cut off is tried again by itself.
    drop(authority);
    install.site.set(counting(9, vec![Rule::always("C_Login", Fault::Abort)])).unwrap();
    let authority = Authority::open(&install.home, may_be_away(&install)).unwrap();
    assert!(authority.load(ME, UNIT, at).is_err());
    install.site.set(counting(9, Vec::new())).unwrap();
    until_loaded(&authority, at, "cut off");
}

struct Running {
    install: Shimmed,
    run: tempfile::TempDir,
    server: Server,
    authority: Arc<Authority>,
}

impl Running {
    fn start() -> Self {
        let install = Shimmed::new();
        let run = tempfile::tempdir().unwrap();
        let authority = install.open();
        let config = ServerConfig { checkpoint_interval: Duration::from_secs(3600), ..ServerConfig::new(run.path()) };
        let server = Server::start(Arc::clone(&authority), config).unwrap();
        Self { install, run, server, authority }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.run.path().join(name)
    }
}

#[test]
fn while_the_token_hangs_everything_else_goes_on() {
    let running = Running::start();
    let at = labelled(&running.authority, "A").1;
    for function in ["C_UnwrapKey", "C_*"] {
        running.install.site.set(Plan::of(Rule::always(function, Fault::Hang))).unwrap();
        std::thread::scope(|scope| {
            let socket = running.socket(KEYS_SOCKET);
            let waiting: Vec<_> = (0..20)
                .map(|n| {
                    let client = DataPathClient::new(&socket, format!("drive{}", n % 4), Duration::from_secs(30));
                    scope.spawn(move || {
                        let began = Instant::now();
                        (client.load(at, &Cartridge::default()).map(drop), began.elapsed())
                    })
                })
                .collect();
            let client = DataPathClient::new(&socket, UNIT, Duration::from_secs(30));
            let control = ControlClient::new(running.socket(CONTROL_SOCKET), Duration::from_secs(30));
            let mut rounds = Vec::new();
            while waiting.iter().any(|thread| !thread.is_finished()) {
                let began = Instant::now();
                client.open_session(at, session(0)).unwrap();
                client.incident(None, "still writing").unwrap();
                assert_eq!(control.list_volumes().unwrap().len(), 1);
                rounds.push(began.elapsed());
                std::thread::sleep(Duration::from_millis(10));
            }
            // Twenty at once wait no longer than one or two: each call has its deadline, and a hang is not waited for twenty times
            // over (80 s).
            let bound = 2 * limits().start + 3 * limits().call + SLACK;
            for thread in waiting {
                let (result, took) = thread.join().unwrap();
                match result {
                    Err(ClientError::Refused(refusal)) => {
                        assert!(of_the_token(refusal.code) || refusal.code == RefusalCode::Busy, "{refusal:?}");
                    }
                    other => panic!("{other:?}"),
                }
                assert!(took < bound, "{function}: {took:?}");
            }
            // Not the slowest one: that is for the machine to say.
            rounds.sort_unstable();
            let median = rounds.get(rounds.len() / 2).copied();
            assert!(rounds.len() > 5 && median.is_some_and(|m| m < limits().call), "{function}: {rounds:?}");
            eprintln!("{function} hangs: {} rounds of others meanwhile, the slowest {:?}", rounds.len(), rounds.last());
        });
        running.install.site.mend().unwrap();
        until_loaded(&running.authority, at, function);
    }
    let books = Books::audit(&running.authority, &running.install.database());
    let failed = books.leaves.iter().filter(|l| l.op == "key.release" && l.outcome == Outcome::Failed).count();
    assert!(failed > 0, "refused attempts are entered");
    // The hang does not hinder the stop, and what was done is durable.
    running.install.site.set(Plan::of(Rule::always("C_*", Fault::Hang))).unwrap();
    let began = Instant::now();
    assert!(running.server.stop().is_err());
    assert!(began.elapsed() < limits().start + 3 * limits().call + SLACK, "{:?}", began.elapsed());
    drop(running.authority);
    running.install.site.mend().unwrap();
    let again = running.install.open();
    assert!(Books::audit(&again, &running.install.database()).leaves.len() > books.leaves.len());
}

#[test]
fn a_slow_token_is_waited_for() {
    let install = Shimmed::new();
    let authority = install.open();
    let (_, at, key) = labelled(&authority, "A");
    install.site.set(Plan::of(Rule::always("C_*", Fault::Slow { millis: 60 }))).unwrap();
    assert!(authority.load(ME, UNIT, at).unwrap().1.ct_eq(&key));
    // Slower than its deadline: ended, told, and found again when it is faster.
    install.site.set(Plan::of(Rule::always("C_UnwrapKey", Fault::Slow { millis: 30_000 }))).unwrap();
    let began = Instant::now();
    let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TokenHung, "{refusal}");
    assert!(refusal.what.contains("1200 ms"), "{refusal}");
    assert!(began.elapsed() < limits().call + SLACK, "{:?}", began.elapsed());
    install.site.mend().unwrap();
    until_loaded(&authority, at, "slow");
}

#[test]
fn a_token_pulled_out_and_put_back_a_hundred_times() {
    let install = Shimmed::new();
    let authority = install.open();
    let (_, at, key) = labelled(&authority, "A");
    let starts = authority.token().worker().0;
    for round in 0..100 {
        install.site.set(Plan::pulled_out()).unwrap();
        let refusal = authority.load(ME, UNIT, at).map(drop).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::TokenMissing, "round {round}: {refusal}");
        assert!(refusal.what.contains("pkcs11:token=sealtape"), "{refusal}");
        install.site.mend().unwrap();
        until_loaded(&authority, at, "put back");
        assert!(authority.load(ME, UNIT, at).unwrap().1.ct_eq(&key));
    }
    eprintln!("{} workers for 100 removals", authority.token().worker().0 - starts);
    Books::audit(&authority, &install.database());
}
