//! Several tokens: one worker for a module, many calls at once, a second token in a running installation.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sealtape_kms::authority::Authority;
use sealtape_kms::hex::HexBytes;
use sealtape_kms::pkcs11::{
    PinFrom, PinLatch, PinSource, Token, TokenConfig, TokenError, Uri, WrapMechanism, WrapWith, init_token,
    write_pin_file,
};
use sealtape_kms::protocol::{EnrolOrder, HsmReply, HsmRequest, TokenView};
use sealtape_kms::secret::Pin;
use support::install::{self, Install, ME};
use support::{MODULE, SoftToken, environment, worker};
use uuid::Uuid;

/// One more token in a SoftHSM2 folder; its PIN is in the file `name`.pin.
fn another(dir: &Path, name: &str) -> Uri {
    let (so, user) = (Pin::generate().unwrap(), Pin::generate().unwrap());
    let uri = init_token(&worker(), Path::new(MODULE), &environment(dir), name, &so, &user).unwrap();
    write_pin_file(&dir.join(format!("{name}.pin")), &user).unwrap();
    uri
}

/// Two tokens behind one worker, each with a KEK and a wrapped key.
struct Pair {
    soft: SoftToken,
    tokens: [Arc<Token>; 2],
    wrapped: [(WrapWith, Vec<u8>); 2],
}

impl Pair {
    fn new(call: Duration) -> Self {
        let soft = SoftToken::new();
        let mut config = soft.config();
        config.limits.call = call;
        let second = TokenConfig {
            uri: another(soft.dir.path(), "second"),
            pin: PinSource::File(soft.path("second.pin")),
            latch: PinLatch::new(soft.path("second.latched")),
            ..config.clone()
        };
        let first = Arc::new(Token::new(config));
        let tokens = [Arc::clone(&first), Arc::new(Token::beside(second, &[first]))];
        let wrapped = tokens.each_ref().map(|token| {
            let with =
                WrapWith { kek: Uuid::new_v4(), mechanism: WrapMechanism::AesKeyWrap, aad: HexBytes(Vec::new()) };
            token.make_kek(with.kek, "k", with.mechanism).unwrap();
            let (_, mut blobs) = token.make_data_key(vec![with.clone()]).unwrap();
            (with, blobs.remove(0))
        });
        Self { soft, tokens, wrapped }
    }

    fn unwrap(&self, which: usize) -> Result<(), TokenError> {
        let (with, blob) = &self.wrapped[which];
        self.tokens[which].unwrap(with, blob).map(drop)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.tokens[0].worker().1.unwrap()).unwrap())
    }
}

#[test]
fn tokens_of_one_module_share_its_process_and_work_at_once() {
    let pair = Pair::new(Duration::from_secs(20));
    assert_eq!(pair.tokens[0].worker().1, pair.tokens[1].worker().1);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let pair = &pair;
            scope.spawn(move || (0..50).for_each(|_| pair.unwrap(thread % 2).unwrap()));
        }
    });
    println!("800 unwraps by 16 threads in {:?}", start.elapsed());
    assert_eq!(pair.tokens[0].worker().0, 1);
}

#[test]
fn a_process_killed_under_load_costs_nobody_a_call() {
    let pair = Pair::new(Duration::from_secs(20));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let pair = &pair;
            scope.spawn(move || (0..150).for_each(|_| pair.unwrap(thread % 2).unwrap()));
        }
        std::thread::sleep(Duration::from_millis(60));
        kill(pair.pid(), Signal::SIGKILL).unwrap();
    });
    assert_eq!(pair.tokens[0].worker().1, pair.tokens[1].worker().1);
}

#[test]
fn a_hung_process_ends_alone_and_the_next_calls_work() {
    let pair = Pair::new(Duration::from_millis(800));
    kill(pair.pid(), Signal::SIGSTOP).unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let pair = &pair;
            scope.spawn(move || match pair.unwrap(thread % 2) {
                Ok(()) | Err(TokenError::Hung { .. }) => {}
                Err(e) => panic!("{e}"),
            });
        }
    });
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    std::thread::sleep(Duration::from_millis(50));
    pair.unwrap(0).unwrap();
    pair.unwrap(1).unwrap();
}

#[test]
fn a_wrong_pin_of_one_token_is_latched_for_it_alone() {
    let pair = Pair::new(Duration::from_secs(20));
    drop(pair.tokens[1].clone());
    std::fs::write(pair.soft.path("second.pin"), "00000000").unwrap();
    kill(pair.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(pair.unwrap(1).unwrap_err(), TokenError::PinIncorrect);
    assert!(matches!(pair.unwrap(1), Err(TokenError::PinLatched { .. })));
    pair.unwrap(0).unwrap();
    assert!(pair.soft.path("second.latched").exists() && !pair.soft.path("pin.latched").exists());
}

/// Runs in a process of its own, with the token's environment: puts a second key of an id into the token.
#[test]
fn helper() {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::object::{Attribute, KeyType, ObjectClass};
    let Ok(id) = std::env::var("SEALTAPE_TEST_SECOND_KEY") else { return };
    let pin = std::fs::read_to_string(std::env::var("SEALTAPE_TEST_PIN").unwrap()).unwrap();
    let context = Pkcs11::new(MODULE).unwrap();
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = context.get_slots_with_initialized_token().unwrap()[0];
    let session = context.open_rw_session(slot).unwrap();
    session.login(cryptoki::session::UserType::User, Some(&pin.into())).unwrap();
    let key = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Id(id.parse::<Uuid>().unwrap().as_bytes().to_vec()),
        Attribute::Label(b"k".to_vec()),
        Attribute::Value(vec![1; 32]),
    ];
    session.create_object(&key).unwrap();
}

#[test]
fn two_keys_of_one_id_are_named_and_none_is_used() {
    let soft = SoftToken::new();
    let token = soft.token();
    let with = WrapWith { kek: Uuid::new_v4(), mechanism: WrapMechanism::AesKeyWrap, aad: HexBytes(Vec::new()) };
    token.make_kek(with.kek, "k", with.mechanism).unwrap();
    let (_, blobs) = token.make_data_key(vec![with.clone()]).unwrap();
    let put = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper"])
        .envs(environment(soft.dir.path()))
        .env("SEALTAPE_TEST_SECOND_KEY", with.kek.to_string())
        .env("SEALTAPE_TEST_PIN", soft.path("user.pin"))
        .output()
        .unwrap();
    assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stdout));
    let error = soft.token().unwrap(&with, &blobs[0]).unwrap_err();
    assert!(matches!(&error, TokenError::KeyAmbiguous { count: 2, .. }), "{error}");
    assert!(error.to_string().contains("remove the foreign one"));
}

#[test]
fn two_tokens_of_one_label_are_named() {
    let soft = SoftToken::new();
    // The same folder is two tokens of one label: the URI without serial number is ambiguous.
    another(soft.dir.path(), "test");
    let mut config = soft.config();
    config.uri = "pkcs11:token=test".parse().unwrap();
    let error = Token::new(config).probe().unwrap_err();
    assert!(matches!(&error, TokenError::TokenAmbiguous { count: 2, .. }), "{error}");
    assert!(error.to_string().contains("add the serial number"));
}

fn enrol(authority: &Authority, order: EnrolOrder) -> Result<HsmReply, sealtape_kms::protocol::Refusal> {
    authority.serve_hsm(ME, HsmRequest::Enrol(order))
}

fn list(authority: &Authority) -> Vec<TokenView> {
    match authority.serve_hsm(ME, HsmRequest::List).unwrap() {
        HsmReply::Tokens(tokens) => tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_token_is_enrolled_in_a_running_installation() {
    let install = Install::new();
    let authority = install.open();
    let home = install.home.dir();
    let uri = another(home, "vault");
    let order = EnrolOrder {
        name: "vault".into(),
        module: None,
        parameters: None,
        uri: Some(uri.to_string()),
        pin: Some(PinFrom::File(home.join("vault.pin"))),
    };
    let before = list(&authority);
    assert_eq!((before.len(), before[0].first, before[0].ok, before[0].name.as_str()), (1, true, true, "first"));
    let HsmReply::Enrolled(made) = enrol(&authority, order.clone()).unwrap() else { panic!() };
    let again = enrol(&authority, EnrolOrder { name: "other".into(), ..order.clone() }).unwrap_err();
    assert!(again.what.contains("enrolled as vault"), "{again}");
    assert!(enrol(&authority, order.clone()).unwrap_err().what.contains("enrolled already"));
    assert!(enrol(&authority, EnrolOrder { name: "Bad name".into(), ..order.clone() }).is_err());
    let foreign = EnrolOrder { name: "x".into(), module: Some(home.join("vault.pin")), ..order.clone() };
    std::fs::set_permissions(home.join("vault.pin"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(enrol(&authority, foreign).unwrap_err().what.contains("others may write"));
    std::fs::set_permissions(home.join("vault.pin"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    drop(authority);

    let authority = install.open();
    let tokens = list(&authority);
    assert_eq!(
        tokens.iter().map(|t| (t.name.as_str(), t.ok, t.keks)).collect::<Vec<_>>(),
        [("first", true, 2), ("vault", true, 0)]
    );
    assert_eq!(tokens[1].id, made.id);
    // Anew, by the name alone.
    let anew = EnrolOrder { module: None, uri: None, pin: None, ..order };
    assert!(matches!(enrol(&authority, anew).unwrap(), HsmReply::Enrolled(e) if e.id == made.id));
    assert_eq!(list(&authority).len(), 2);
}

#[test]
fn a_changed_enrolment_or_mechanism_is_found_at_the_start() {
    for (change, word) in [
        ("UPDATE tokens SET record = replace(record, 'aes_key_wrap', 'aes_gcm')", "enrolment of token"),
        ("UPDATE keks SET mechanism = 'aes_gcm'", "is not the one that custody entry"),
        ("UPDATE keks SET canary_sha256 = zeroblob(32)", "is not the one that custody entry"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM tokens", "damaged"),
    ] {
        let install = Install::new();
        install.database().execute_batch(change).unwrap();
        let refusal = Authority::open(&install.home, install::options()).unwrap_err();
        assert!(refusal.what.contains(word), "{change}: {refusal}");
    }
}

#[test]
fn keys_that_lost_their_token_are_not_taken_for_older_ones() {
    let install = Install::new();
    {
        let authority = install.open();
        install::labelled(&authority, "A");
    }
    // As an earlier version left it: no tokens, and keys that name none. But their entries have a digest, which theirs had not.
    install.database().execute_batch("UPDATE keks SET token = NULL; DELETE FROM tokens").unwrap();
    let refusal = Authority::open(&install.home, install::options()).unwrap_err();
    assert!(refusal.what.contains("is not the one that custody entry"), "{refusal}");
}
