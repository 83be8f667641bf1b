//! Ways by which a key-encryption key could leave the token. Each has to be closed.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use uuid::Uuid;

use super::super::lane::Lane;
use super::super::profile::Weight;
use super::super::wire::WrapMechanism;
use super::{LABEL, Table, known};

/// How a key can be wrapped.
pub(super) fn wrappings() -> [(&'static str, Mechanism<'static>); 4] {
    [
        ("AES_KEY_WRAP", Mechanism::AesKeyWrap),
        ("AES_KEY_WRAP_PAD", Mechanism::AesKeyWrapPad),
        ("AES_CBC_PAD", Mechanism::AesCbcPad([0; 16])),
        ("AES_ECB", Mechanism::AesEcb),
    ]
}

/// Which wrappings of `key` under `wrapping` the token does.
pub(super) fn wrapped(lane: &Lane, wrapping: ObjectHandle, key: ObjectHandle) -> Vec<String> {
    let done = wrappings().into_iter().filter(|(_, mechanism)| lane.session.wrap_key(mechanism, wrapping, key).is_ok());
    done.map(|(name, _)| format!("wrapped by {name}")).collect()
}

pub(super) fn guarded(table: &mut Table, lane: &mut Lane, id: Uuid, mechanism: WrapMechanism) {
    let kek = match lane.key(id, ObjectClass::SECRET_KEY) {
        Ok(kek) => kek,
        Err(fault) => {
            table.works::<()>("the key-encryption key is found", Weight::Mechanism, Err(fault), |()| String::new());
            return;
        }
    };
    let ways = wrappings().len();
    table.refuses("wrapping the KEK by itself is refused", Weight::Leak, ways, &wrapped(lane, kek, kek));
    let mut tried = 0;
    let mut taken = Vec::new();
    for (whose, key) in [("a key known outside", known::attackers(lane)), ("a key of the token", made_to_wrap(lane))] {
        if let Ok(key) = key {
            tried += ways;
            taken.extend(wrapped(lane, key, kek).into_iter().map(|how| format!("{how} under {whose}")));
            lane.discard(key);
        }
    }
    table.refuses("wrapping the KEK by another key is refused", Weight::Leak, tried, &taken);
    let read = lane.session.get_attributes(kek, &[AttributeType::Value]);
    let told: Vec<String> = read
        .iter()
        .flatten()
        .filter(|a| matches!(a, Attribute::Value(v) if !v.is_empty()))
        .map(|_| "its value is told".to_owned())
        .collect();
    table.refuses("reading the KEK is refused", Weight::Leak, 1, &told);
    changes(table, lane, kek, mechanism);
}

/// A wrapping key that the token makes itself.
fn made_to_wrap(lane: &Lane) -> Result<ObjectHandle, super::super::ladder::Fault> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(32.into()),
        Attribute::Token(false),
        Attribute::Label(LABEL.as_bytes().to_vec()),
        Attribute::Wrap(true),
        Attribute::Encrypt(true),
    ];
    Ok(lane.session.generate_key(&Mechanism::AesKeyGen, &template)?)
}

/// Copies and changes that would let it out, or give it a second purpose (what one wraps the other decrypts).
fn changes(table: &mut Table, lane: &Lane, kek: ObjectHandle, mechanism: WrapMechanism) {
    let second = match mechanism {
        WrapMechanism::AesKeyWrap => [Attribute::Decrypt(true), Attribute::Encrypt(true)],
        WrapMechanism::AesGcm => [Attribute::Wrap(true), Attribute::Unwrap(true)],
    };
    let harmful: Vec<Attribute> =
        [Attribute::Extractable(true), Attribute::Sensitive(false)].into_iter().chain(second).collect();
    let stands = |object: ObjectHandle, wanted: &Attribute| {
        // What cannot be read back is taken as it was asked for.
        let read = lane.session.get_attributes(object, &[wanted.attribute_type()]);
        read.map_or(true, |read| read.contains(wanted))
    };
    let mut copied = Vec::new();
    for wanted in &harmful {
        if let Ok(copy) = lane.session.copy_object(kek, &[Attribute::Token(false), wanted.clone()]) {
            if stands(copy, wanted) {
                copied.push(format!("copied with {wanted:?}"));
            }
            lane.discard(copy);
        }
    }
    table.refuses("a copy of the KEK that could leave is refused", Weight::Leak, harmful.len(), &copied);
    let mut changed = Vec::new();
    for wanted in &harmful {
        if lane.session.update_attributes(kek, std::slice::from_ref(wanted)).is_ok() && stands(kek, wanted) {
            changed.push(format!("changed to {wanted:?}"));
        }
    }
    table.refuses("changing the KEK so that it could leave is refused", Weight::Leak, harmful.len(), &changed);
}
