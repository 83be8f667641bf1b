//! Known answers, where the token takes keys of known value.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};

use super::super::ladder::Fault;
use super::super::lane::Lane;
use super::super::profile::{Verdict, Weight};
use super::{Table, short};

/// RFC 3394, 4.6: 256 bits of key data with a 256-bit KEK.
const KW_KEK: [u8; 32] = *b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f";
const KW_DATA: [u8; 32] = *b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f";
const KW_WRAPPED: [u8; 40] = *b"\x28\xc9\xf4\x04\xc4\xb8\x10\xf4\xcb\xcc\xb3\x5c\xfb\x87\xf8\x26\x3f\x57\x86\xe2\xd8\x0e\xd3\x26\xcb\xc7\xf0\xe7\x1a\x99\xf4\x3b\xfb\x98\x8b\x9b\x7a\x02\xdd\x21";

/// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16: AES-256 with associated data.
const GCM_KEY: [u8; 32] = *b"\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08\xfe\xff\xe9\x92\x86\x65\x73\x1c\x6d\x6a\x8f\x94\x67\x30\x83\x08";
const GCM_NONCE: [u8; 12] = *b"\xca\xfe\xba\xbe\xfa\xce\xdb\xad\xde\xca\xf8\x88";
const GCM_AAD: [u8; 20] = *b"\xfe\xed\xfa\xce\xde\xad\xbe\xef\xfe\xed\xfa\xce\xde\xad\xbe\xef\xab\xad\xda\xd2";
const GCM_PLAIN: [u8; 60] = *b"\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a\x86\xa7\xa9\x53\x15\x34\xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72\x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25\xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";
const GCM_SEALED: [u8; 76] = *b"\x52\x2d\xc1\xf0\x99\x56\x7d\x07\xf4\x7f\x37\xa3\x2a\x84\x42\x7d\x64\x3a\x8c\xdc\xbf\xe5\xc0\xc9\x75\x98\xa2\xbd\x25\x55\xd1\xaa\x8c\xb0\x8e\x48\x59\x0d\xbb\x3d\xa7\xb0\x8b\x10\x56\x82\x88\x38\xc5\xf6\x1e\x63\x93\xba\x7a\x0a\xbc\xc9\xf6\x62\x76\xfc\x6e\xce\x0f\x4e\x17\x68\xcd\xdf\x88\x53\xbb\x2d\x55\x1b";

/// A session object of known value.
fn known(lane: &Lane, value: &[u8], uses: &[Attribute]) -> Result<ObjectHandle, Fault> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Value(value.to_vec()),
    ];
    template.extend_from_slice(uses);
    Ok(lane.session.create_object(&template)?)
}

/// The key that wraps in an attacker's hands: known outside, and allowed to wrap.
pub(super) fn attackers(lane: &Lane) -> Result<ObjectHandle, Fault> {
    known(lane, &KW_KEK, &[Attribute::Wrap(true), Attribute::Encrypt(true)])
}

/// Whether a data key can be put into the token in the clear.
pub(super) fn imports(table: &mut Table, lane: &Lane) -> bool {
    let test = "it takes a data key in the clear";
    match known(lane, &KW_DATA, &[Attribute::Sensitive(false), Attribute::Extractable(true)]) {
        Ok(object) => {
            lane.discard(object);
            table.passed(test, Weight::Note, "known answers can be tested, and keys come from other tokens");
            true
        }
        Err(fault) => {
            table.enter(test, Weight::Note, Verdict::NotTestable, short(&fault));
            false
        }
    }
}

fn compare(
    table: &mut Table,
    test: &str,
    key: Result<ObjectHandle, Fault>,
    work: impl FnOnce(ObjectHandle) -> Result<bool, Fault>,
) {
    match key {
        Err(fault) => table.enter(
            test,
            Weight::Mechanism,
            Verdict::NotTestable,
            format!("a known key is not taken: {}", short(&fault)),
        ),
        Ok(key) => match work(key) {
            Ok(true) => table.passed(test, Weight::Mechanism, "the known value"),
            Ok(false) => table.enter(test, Weight::Mechanism, Verdict::Failed, "another value"),
            Err(fault) => table.enter(test, Weight::Mechanism, Verdict::Failed, short(&fault)),
        },
    }
}

pub(super) fn key_wrap(table: &mut Table, lane: &mut Lane) {
    let kek = known(lane, &KW_KEK, &[Attribute::Wrap(true), Attribute::Unwrap(true)]);
    let data = known(lane, &KW_DATA, &[Attribute::Sensitive(false), Attribute::Extractable(true)]);
    let mut objects: Vec<ObjectHandle> = kek.iter().chain(&data).copied().collect();
    compare(table, "RFC 3394 4.6 wrapped", kek.and_then(|kek| data.map(|_| kek)), |kek| {
        let data = *objects.last().unwrap_or(&kek);
        Ok(lane.session.wrap_key(&Mechanism::AesKeyWrap, kek, data)? == KW_WRAPPED)
    });
    let unwrapping = known(lane, &KW_KEK, &[Attribute::Wrap(true), Attribute::Unwrap(true)]);
    objects.extend(unwrapping.iter().copied());
    compare(table, "RFC 3394 4.6 unwrapped", unwrapping, |kek| {
        let object = lane.unwrap_by(kek, &KW_WRAPPED)?;
        let value = lane.read_value(object);
        lane.discard(object);
        Ok(*value?.expose() == KW_DATA)
    });
    for object in objects {
        lane.discard(object);
    }
}

pub(super) fn gcm(table: &mut Table, lane: &Lane) {
    let key = known(lane, &GCM_KEY, &[Attribute::Encrypt(true), Attribute::Decrypt(true)]);
    let object = key.as_ref().ok().copied();
    compare(table, "GCM test case 16 sealed and opened", key, |key| {
        let mut nonce = GCM_NONCE;
        let sealed = {
            let params = GcmParams::new(&mut nonce, &GCM_AAD, 128.into())?;
            lane.session.encrypt(&Mechanism::AesGcm(params), key, &GCM_PLAIN)?
        };
        let mut nonce = GCM_NONCE;
        let params = GcmParams::new(&mut nonce, &GCM_AAD, 128.into())?;
        let opened = lane.session.decrypt(&Mechanism::AesGcm(params), key, &GCM_SEALED)?;
        Ok(sealed == GCM_SEALED && opened == GCM_PLAIN)
    });
    if let Some(object) = object {
        lane.discard(object);
    }
}
