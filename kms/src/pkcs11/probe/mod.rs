//! Enrolment: what a token has to do and to refuse before keys are entrusted to it.
//!
//! Run inside the worker, on the real token, with keys made for it and removed again. A refusal is tested by the call that an
//! attacker who has the PIN would make: success is the failure.

mod blobs;
mod guard;
mod known;
mod signing;

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, ObjectClass};
use cryptoki::slot::Slot;
use uuid::Uuid;

use super::ladder::Fault;
use super::lane::Lane;
use super::profile::{Check, TokenFacts, TokenReport, Verdict, Weight};
use super::wire::{SignAlgorithm, UnwrapTemplate, WrapMechanism, WrapWith};
use crate::hex::HexBytes;

/// Label of every object that a test makes in the token, so that what a crash left behind is found.
const LABEL: &str = "sealtape enrolment test";

const CKM_AES_KEY_GEN: u64 = 0x1080;
const CKM_AES_GCM: u64 = 0x1087;
const CKM_AES_KEY_WRAP: u64 = 0x2109;
const CKM_EC_KEY_PAIR_GEN: u64 = 0x1040;
const CKM_ECDSA: u64 = 0x1041;
const CKM_EC_EDWARDS_KEY_PAIR_GEN: u64 = 0x1055;
const CKM_EDDSA: u64 = 0x1057;

/// The table as it grows.
struct Table {
    subject: &'static str,
    checks: Vec<Check>,
}

impl Table {
    fn enter(&mut self, test: &str, weight: Weight, verdict: Verdict, seen: impl Into<String>) {
        let (subject, test, seen) = (self.subject.to_owned(), test.to_owned(), seen.into());
        self.checks.push(Check { subject, test, verdict, weight, seen });
    }

    fn passed(&mut self, test: &str, weight: Weight, seen: impl Into<String>) {
        self.enter(test, weight, Verdict::Passed, seen);
    }

    /// What has to work.
    fn works<T>(
        &mut self,
        test: &str,
        weight: Weight,
        result: Result<T, Fault>,
        seen: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match result {
            Ok(value) => {
                self.passed(test, weight, seen(&value));
                Some(value)
            }
            Err(fault) => {
                self.enter(test, weight, Verdict::Failed, short(&fault));
                None
            }
        }
    }

    /// What has to be refused: `taken` says which attempts were not.
    fn refuses(&mut self, test: &str, weight: Weight, tried: usize, taken: &[String]) {
        match taken {
            [] if tried == 0 => self.enter(test, weight, Verdict::NotTestable, "no key for the attempt could be made"),
            [] => self.passed(test, weight, format!("refused ({tried} tried)")),
            taken => self.enter(test, weight, Verdict::Failed, taken.join(", ")),
        }
    }

    fn failed_since(&self, first: usize) -> bool {
        let new = self.checks.get(first..).unwrap_or_default();
        new.iter().any(|c| c.verdict == Verdict::Failed && c.weight != Weight::Note)
    }
}

/// The beginning of what a token says: `cryptoki` adds the standard's whole paragraph.
fn short(fault: &Fault) -> String {
    let text = fault.text();
    let end = text.find(". ").unwrap_or(text.len()).min(160);
    text.chars().take(end).collect()
}

/// Runs the table of tests.
pub(super) fn run(lane: &mut Lane, context: &Pkcs11, slot: Slot) -> Result<TokenReport, Fault> {
    let mut table = Table { subject: "token", checks: Vec::new() };
    let facts = facts(context, slot)?;
    let has = lane.raw.mechanisms(slot.id()).map_err(|e| super::ladder::raw_fault("C_GetMechanismList", e))?;
    sweep(lane)?;
    token_flags(&mut table, context, slot)?;
    if !has.contains(&CKM_AES_KEY_GEN) {
        table.enter("making AES keys", Weight::Mechanism, Verdict::Absent, "no CKM_AES_KEY_GEN");
    }
    let imports = known::imports(&mut table, lane);
    let mut mechanisms = Vec::new();
    for (mechanism, number, subject) in
        [(WrapMechanism::AesKeyWrap, CKM_AES_KEY_WRAP, "AES_KEY_WRAP"), (WrapMechanism::AesGcm, CKM_AES_GCM, "AES_GCM")]
    {
        table.subject = subject;
        if !has.contains(&number) {
            table.enter("the mechanism", Weight::Mechanism, Verdict::Absent, "not among the token's mechanisms");
            continue;
        }
        let first = table.checks.len();
        wrapping(&mut table, lane, mechanism);
        if !table.failed_since(first) {
            mechanisms.push(mechanism);
        }
        sweep(lane)?;
    }
    let mut signing = Vec::new();
    for (algorithm, numbers, subject) in [
        (SignAlgorithm::Ed25519, [CKM_EC_EDWARDS_KEY_PAIR_GEN, CKM_EDDSA], "Ed25519"),
        (SignAlgorithm::EcdsaP256, [CKM_EC_KEY_PAIR_GEN, CKM_ECDSA], "ECDSA P-256"),
    ] {
        table.subject = subject;
        if !numbers.iter().all(|n| has.contains(n)) {
            table.enter("the mechanism", Weight::Mechanism, Verdict::Absent, "not among the token's mechanisms");
            continue;
        }
        let first = table.checks.len();
        signing::signs(&mut table, lane, algorithm);
        if !table.failed_since(first) {
            signing.push(algorithm);
        }
    }
    table.subject = "token";
    let left = sweep(lane)?;
    match left {
        0 => table.passed("the tests' keys are removed again", Weight::Note, "nothing is left"),
        n => table.enter(
            "the tests' keys are removed again",
            Weight::Note,
            Verdict::Failed,
            format!("{n} objects called {LABEL:?} are left; remove them"),
        ),
    }
    Ok(TokenReport { facts, checks: table.checks, mechanisms, unwrap_template: lane.template, signing, imports })
}

fn facts(context: &Pkcs11, slot: Slot) -> Result<TokenFacts, Fault> {
    let (token, library) = (context.get_token_info(slot)?, context.get_library_info()?);
    Ok(TokenFacts {
        cryptoki: library.cryptoki_version().to_string(),
        firmware: token.firmware_version().to_string(),
        hardware: token.hardware_version().to_string(),
        label: token.label().to_owned(),
        library: library.library_description().to_owned(),
        library_manufacturer: library.manufacturer_id().to_owned(),
        library_version: library.library_version().to_string(),
        manufacturer: token.manufacturer_id().to_owned(),
        model: token.model().to_owned(),
        serial: token.serial_number().to_owned(),
    })
}

fn token_flags(table: &mut Table, context: &Pkcs11, slot: Slot) -> Result<(), Fault> {
    let info = context.get_token_info(slot)?;
    if info.write_protected() {
        table.enter("it can be written", Weight::Mechanism, Verdict::Failed, "the token is write-protected");
    } else {
        table.passed("it can be written", Weight::Mechanism, "not write-protected");
    }
    if info.login_required() {
        table.passed("a login is required", Weight::Leak, "CKF_LOGIN_REQUIRED");
    } else {
        table.enter("a login is required", Weight::Leak, Verdict::Failed, "its keys can be used without a PIN");
    }
    Ok(())
}

/// The tests of one wrapping mechanism.
fn wrapping(table: &mut Table, lane: &mut Lane, mechanism: WrapMechanism) {
    lane.template = UnwrapTemplate::default();
    match mechanism {
        WrapMechanism::AesKeyWrap => known::key_wrap(table, lane),
        WrapMechanism::AesGcm => known::gcm(table, lane),
    }
    let (kek, other) = (Uuid::new_v4(), Uuid::new_v4());
    let made = lane.make_kek(kek, LABEL, mechanism).and_then(|()| lane.make_kek(other, LABEL, mechanism));
    let seen = |_: &()| "AES-256, made in the token, sensitive, never extractable, one purpose".to_owned();
    if table.works("a key-encryption key and its attributes", Weight::Mechanism, made, seen).is_none() {
        return;
    }
    let with = |kek| WrapWith { kek, mechanism, aad: HexBytes(b"sealtape enrolment".to_vec()) };
    blobs::path(table, lane, &with(kek), &with(other));
    guard::guarded(table, lane, kek, mechanism);
}

/// Removes what tests made, also what an earlier run left; gives how much could not be removed.
fn sweep(lane: &mut Lane) -> Result<usize, Fault> {
    lane.forget();
    let mut left = 0;
    for class in [ObjectClass::SECRET_KEY, ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        let template = [Attribute::Class(class), Attribute::Token(true), Attribute::Label(LABEL.as_bytes().to_vec())];
        for object in lane.session.find_objects(&template)? {
            if lane.session.destroy_object(object).is_err() {
                left += 1;
            }
        }
    }
    Ok(left)
}
