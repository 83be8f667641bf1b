//! Signing keys: verified outside, and kept inside.

use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use ed25519_dalek::Verifier as _;
use uuid::Uuid;

use super::super::ladder::Fault;
use super::super::lane::Lane;
use super::super::profile::{Verdict, Weight};
use super::super::wire::SignAlgorithm;
use super::{LABEL, Table, guard, known};

const TEXT: &[u8] = b"sealtape enrolment\n";

pub(super) fn signs(table: &mut Table, lane: &mut Lane, algorithm: SignAlgorithm) {
    let id = Uuid::new_v4();
    let made = lane.make_signing_key(id, LABEL, algorithm);
    let seen = |public: &Vec<u8>| format!("public half of {} bytes", public.len());
    let Some(public) = table.works("a key pair", Weight::Mechanism, made, seen) else { return };
    match lane.sign(id, algorithm, TEXT) {
        Ok(signature) if verifies(algorithm, &public, TEXT, &signature) => {
            if verifies(algorithm, &public, b"another text", &signature) {
                table.enter(
                    "a signature verifies outside",
                    Weight::Mechanism,
                    Verdict::Failed,
                    "it verifies for any text",
                );
            } else {
                table.passed("a signature verifies outside", Weight::Mechanism, "for this text only");
            }
        }
        Ok(_) => table.enter("a signature verifies outside", Weight::Mechanism, Verdict::Failed, "it does not verify"),
        Err(fault) => {
            table.works::<()>("a signature verifies outside", Weight::Mechanism, Err(fault), |()| String::new());
        }
    }
    match kept(lane, id) {
        Ok((tried, taken)) => {
            table.refuses("the private key leaving the token is refused", Weight::Leak, tried, &taken)
        }
        Err(fault) => {
            table.works::<()>("the private key leaving the token is refused", Weight::Mechanism, Err(fault), |()| {
                String::new()
            });
        }
    }
}

fn verifies(algorithm: SignAlgorithm, public: &[u8], text: &[u8], signature: &[u8]) -> bool {
    match algorithm {
        SignAlgorithm::Ed25519 => {
            let key = public.try_into().ok().and_then(|k| ed25519_dalek::VerifyingKey::from_bytes(k).ok());
            let signature = ed25519_dalek::Signature::from_slice(signature);
            key.zip(signature.ok()).is_some_and(|(key, signature)| key.verify(text, &signature).is_ok())
        }
        SignAlgorithm::EcdsaP256 => {
            use p256::ecdsa::signature::Verifier as _;
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(public);
            let signature = p256::ecdsa::Signature::from_slice(signature);
            key.ok().zip(signature.ok()).is_some_and(|(key, signature)| key.verify(text, &signature).is_ok())
        }
    }
}

/// How many ways out were tried, and which are open.
fn kept(lane: &mut Lane, id: Uuid) -> Result<(usize, Vec<String>), Fault> {
    let key = lane.key(id, ObjectClass::PRIVATE_KEY)?;
    let mut taken = Vec::new();
    let wanted = [Attribute::Sensitive(true), Attribute::Extractable(false)];
    for want in &wanted {
        let read = lane.session.get_attributes(key, &[want.attribute_type()])?;
        if !read.contains(want) {
            taken.push(format!("not {want:?}"));
        }
    }
    let read = lane.session.get_attributes(key, &[AttributeType::Value]);
    if read.iter().flatten().any(|a| matches!(a, Attribute::Value(v) if !v.is_empty())) {
        taken.push("its value is told".to_owned());
    }
    let mut tried = wanted.len() + 1;
    if let Ok(attackers) = known::attackers(lane) {
        tried += guard::wrappings().len();
        taken.extend(
            guard::wrapped(lane, attackers, key).into_iter().map(|how| format!("{how} under a key known outside")),
        );
        lane.discard(attackers);
    }
    for change in [Attribute::Extractable(true), Attribute::Sensitive(false)] {
        tried += 1;
        if lane.session.update_attributes(key, std::slice::from_ref(&change)).is_ok()
            && lane.session.get_attributes(key, &[change.attribute_type()]).map_or(true, |read| read.contains(&change))
        {
            taken.push(format!("changed to {change:?}"));
        }
    }
    Ok((tried, taken))
}
