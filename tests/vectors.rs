//! Known answers: the ciphers, HKDF and HMAC against the RFCs and Project Wycheproof, and every value of format version 1
//! against `tests/vectors/format-1.json`, which an independent writer made.

#[path = "format_support/mod.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod support;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sealtape::seal::chain::Chain;
use sealtape::seal::opener::check_record;
use sealtape::seal::sealer::PlainRecord;
use sealtape::seal::{
    Compression, GenerationKeys, GenerationRecord, GenerationScope, HEADER_LEN, Link, RecordKind, SessionId,
    SessionSealer, Stanza, Suite, VolumeKind, VolumeLabel, open_record,
};
use sealtape_kms::secret::DataKey;
use serde_json::Value;
use sha2::Sha256;
use uuid::Uuid;

use support::{hex, hex_array, json, number};

/// Groups with their tests, of those groups that `fits`.
fn tests_of(file: &Value, fits: impl Fn(&Value) -> bool) -> Vec<&Value> {
    let groups = file["testGroups"].as_array().expect("groups").iter().filter(|group| fits(group));
    groups.flat_map(|group| group["tests"].as_array().expect("tests")).collect()
}

fn aead(suite: Suite, file: &str, nonce_bits: u64, least: usize) {
    let file = json(file);
    let tests =
        tests_of(&file, |group| group["keySize"] == 256 && group["ivSize"] == nonce_bits && group["tagSize"] == 128);
    assert!(tests.len() >= least, "{} tests of {suite}", tests.len());
    for test in tests {
        let cipher = suite.cipher(&hex_array(&test["key"])).expect("a known suite");
        let (nonce, aad, text) = (hex(&test["iv"]), hex(&test["aad"]), hex(&test["msg"]));
        let sealed = [hex(&test["ct"]), hex(&test["tag"])].concat();
        let opened = cipher.open_with_nonce(&nonce, &aad, &sealed);
        if test["result"] == "valid" {
            assert_eq!(opened.as_ref(), Some(&text), "{suite}: test {}", test["tcId"]);
            assert_eq!(cipher.seal_with_nonce(&nonce, &aad, &text), Some(sealed), "{suite}: test {}", test["tcId"]);
        } else {
            assert_eq!(opened, None, "{suite}: test {}: {}", test["tcId"], test["comment"]);
        }
    }
}

#[test]
fn wycheproof_aes_gcm_siv() {
    aead(Suite::AES_256_GCM_SIV, "tests/vectors/wycheproof/aes_gcm_siv_test.json", 96, 100);
}

#[test]
fn wycheproof_aes_gcm() {
    aead(Suite::AES_256_GCM, "tests/vectors/wycheproof/aes_gcm_test.json", 96, 60);
}

#[test]
fn wycheproof_xchacha20_poly1305() {
    aead(Suite::XCHACHA20_POLY1305, "tests/vectors/wycheproof/xchacha20_poly1305_test.json", 192, 200);
}

#[test]
fn rfc_8452_aes_256_gcm_siv() {
    let file = json("tests/vectors/rfc8452.json");
    let vectors = file["vectors"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 26);
    for vector in vectors {
        let cipher = Suite::AES_256_GCM_SIV.cipher(&hex_array(&vector["key"])).expect("a known suite");
        let (nonce, aad) = (hex(&vector["nonce"]), hex(&vector["aad"]));
        let (text, sealed) = (hex(&vector["plaintext"]), hex(&vector["ciphertext"]));
        assert_eq!(cipher.seal_with_nonce(&nonce, &aad, &text).as_ref(), Some(&sealed));
        assert_eq!(cipher.open_with_nonce(&nonce, &aad, &sealed), Some(text));
    }
}

fn expand(ikm: &[u8], salt: &[u8], info: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut okm = vec![0; length];
    Hkdf::<Sha256>::new(Some(salt), ikm).expand(info, &mut okm).ok().map(|()| okm)
}

#[test]
fn rfc_5869_hkdf_sha_256() {
    let file = json("tests/vectors/rfc5869.json");
    let vectors = file["vectors"].as_array().expect("vectors");
    assert_eq!(vectors.len(), 3);
    for vector in vectors {
        let okm = expand(&hex(&vector["ikm"]), &hex(&vector["salt"]), &hex(&vector["info"]), number(&vector["length"]));
        assert_eq!(okm, Some(hex(&vector["okm"])));
    }
}

#[test]
fn wycheproof_hkdf_sha_256() {
    let file = json("tests/vectors/wycheproof/hkdf_sha256_test.json");
    let tests = tests_of(&file, |_| true);
    assert!(tests.len() > 80);
    for test in tests {
        let okm = expand(&hex(&test["ikm"]), &hex(&test["salt"]), &hex(&test["info"]), number(&test["size"]));
        let wanted = (test["result"] == "valid").then(|| hex(&test["okm"]));
        assert_eq!(okm, wanted, "test {}", test["tcId"]);
    }
}

#[test]
fn wycheproof_hmac_sha_256() {
    let file = json("tests/vectors/wycheproof/hmac_sha256_test.json");
    let tests = tests_of(&file, |group| group["tagSize"] == 256);
    assert!(tests.len() > 50);
    for test in tests {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&hex(&test["key"])).expect("a key of any length");
        mac.update(&hex(&test["msg"]));
        let verified = mac.verify_slice(&hex(&test["tag"])).is_ok();
        assert_eq!(verified, test["result"] == "valid", "test {}", test["tcId"]);
    }
}

fn scope(case: &Value) -> GenerationScope {
    GenerationScope {
        volume: Uuid::from_bytes(hex_array(&case["volume"])),
        partition: number(&case["partition"]),
        generation: number(&case["generation"]),
        suite: Suite(number(&case["suite"])),
    }
}

fn keys(case: &Value) -> GenerationKeys {
    let data_key = DataKey::copy_from(&hex_array(&case["data_key"])).expect("a page for the key");
    GenerationKeys::new(data_key, scope(case))
}

#[test]
fn key_schedule() {
    let file = json("tests/vectors/format-1.json");
    let cases = file["key_schedule"].as_array().expect("cases");
    assert_eq!(cases.len(), 9);
    for case in cases {
        let (keys, key) = (keys(case), hex_array::<32>(&case["key"]));
        assert_eq!(expand(&hex(&case["data_key"]), &[], &hex(&case["info"]), 32), Some(key.to_vec()));
        match case["purpose"].as_str() {
            Some("commit") => assert_eq!(keys.commitment(), key),
            Some("mac") => {
                let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).expect("a key of any length");
                mac.update(b"two parts");
                assert_eq!(keys.mac(&[b"two ", b"parts"])[..], mac.finalize().into_bytes()[..]);
            }
            Some("record") => {
                let session = SessionId(hex_array(&case["session_id"]));
                let derived = keys.record_cipher(session).expect("a known suite");
                let given = keys.scope().suite.cipher(&key).expect("a known suite");
                let (mut one, mut two) = (*b"some text", *b"some text");
                let tag = derived.seal_in_place(9, b"aad", &mut one);
                assert_eq!(tag, given.seal_in_place(9, b"aad", &mut two));
                assert_eq!(one, two);
            }
            other => panic!("purpose {other:?}"),
        }
    }
}

fn records() -> Vec<Value> {
    let file = json("tests/vectors/format-1.json");
    let records = file["records"].as_array().expect("records").clone();
    assert_eq!(records.len(), 9, "every suite with every compression");
    records
}

/// A chain that stands where the vectors' records stand.
fn chain_at(object: u64) -> Chain {
    let mut chain = Chain::at_beginning(2);
    chain.jump(object);
    chain
}

#[test]
fn records_open() {
    for case in records() {
        let keys = keys(&case);
        let mut block = hex(&case["record"]);
        let header = check_record(&block, keys.scope(), false, &chain_at(4)).expect("a good record");
        assert_eq!(header.encode()[..], hex(&case["header"]));
        assert_eq!(header.aad(keys.scope().volume)[..], hex(&case["aad"]));
        assert_eq!(header.session, SessionId(hex_array(&case["session_id"])));
        assert_eq!(header.link, Link(hex_array(&case["link"])));
        let numbers = [header.first_object, header.seal_counter, header.object, header.filemarks];
        let wanted: [u64; 4] = ["first_object", "counter", "object", "filemarks"].map(|name| number(&case[name]));
        assert_eq!(numbers, wanted);
        let cipher = keys.record_cipher(header.session).expect("a known suite");
        let mut plain = Vec::new();
        let opened = open_record(&header, &mut block, &*cipher, keys.scope(), &mut plain).expect("a good tag");
        assert_eq!(plain[..opened.plain_len], hex(&case["plain"]));
        assert_eq!(opened.mark.tag[..], hex(&case["tag"]));
    }
}

#[test]
fn links() {
    for case in records() {
        let keys = keys(&case);
        let mut before = hex(&case["record_before_session"]);
        let header = check_record(&before, keys.scope(), false, &chain_at(0)).expect("a good record");
        let cipher = keys.record_cipher(header.session).expect("a known suite");
        let opened = open_record(&header, &mut before, &*cipher, keys.scope(), &mut Vec::new()).expect("a good tag");
        assert_eq!(opened.mark.link_after(), Link(hex_array(&case["link"])));
    }
}

/// Sealed by Sealtape, a record has the vector's bytes. Two compressors need not give the same bytes, so a compressed
/// record has the vector's header but for the stored length, and opens to the vector's text.
#[test]
fn records_seal() {
    for case in records() {
        let keys = keys(&case);
        let (session, link) = (SessionId(hex_array(&case["session_id"])), Link(hex_array(&case["link"])));
        let (ordinal, first_object) = (number(&case["ordinal"]), number(&case["first_object"]));
        let mut sealer = SessionSealer::open(&keys, RecordKind::TapeBlock, session, ordinal, first_object, link)
            .expect("a known suite");
        let _first = sealer.reserve(3, 2).expect("a new session");
        let reservation = sealer.reserve(number(&case["object"]), number(&case["filemarks"])).expect("a new session");
        let mut plain = PlainRecord::in_buffer(Vec::new());
        plain.extend(&hex(&case["plain"]));
        let compression = Compression(number(&case["compression"]));
        let mut sealed = reservation.seal(plain, compression).expect("a good length").into_buffer();
        let wanted = hex(&case["record"]);
        if compression == Compression::NONE {
            assert_eq!(sealed, wanted);
        }
        assert_eq!(sealed[..24], wanted[..24]);
        assert_eq!(sealed[28..HEADER_LEN], wanted[28..HEADER_LEN]);
        let header = check_record(&sealed, keys.scope(), false, &chain_at(4)).expect("a good record");
        let cipher = keys.record_cipher(session).expect("a known suite");
        let mut plain = Vec::new();
        open_record(&header, &mut sealed, &*cipher, keys.scope(), &mut plain).expect("a good tag");
        assert_eq!(plain, hex(&case["plain"]));
    }
}

#[test]
fn label_and_generation_record() {
    let file = json("tests/vectors/format-1.json");
    let case = &file["label_and_generation"];
    let keys = keys(case);
    let block = hex_array(&case["label_block"]);
    let label = VolumeLabel::parse(&block).expect("a good label");
    let wanted = VolumeLabel {
        volume: keys.scope().volume,
        kind: VolumeKind::Tape,
        partition: 1,
        partitions: 2,
        label: Some("Büro 7".into()),
        barcode: Some("AB1234L8".into()),
    };
    assert_eq!(label, wanted);
    let record = GenerationRecord::parse(&hex(&case["record"]), &label).expect("a good generation record");
    assert_eq!(record.scope, *keys.scope());
    assert_eq!(record.key_id, Uuid::from_bytes(hex_array(&case["key_id"])));
    assert_eq!(record.commitment, hex_array::<32>(&case["commitment"]));
    let stanzas = case["stanzas"].as_array().expect("stanzas").iter();
    let stanzas: Vec<_> =
        stanzas.map(|stanza| Stanza { kind: number(&stanza["type"]), body: hex(&stanza["body"]) }).collect();
    assert_eq!(record.stanzas, stanzas);
    record.verify(&keys, &hex(&case["record"]), &block).expect("a good MAC");
    assert_eq!(record.encode(&keys, &block).expect("it fits"), hex(&case["record"]));
}
