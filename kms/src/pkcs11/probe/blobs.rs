//! The way of a data key, and what must not open.

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{ObjectClass, ObjectHandle};
use zeroize::Zeroizing;

use super::super::ladder::Fault;
use super::super::lane::Lane;
use super::super::profile::{Verdict, Weight};
use super::super::wire::{WrapMechanism, WrapWith};
use super::Table;

/// Makes a data key as it is done for a volume, and then tries what must be refused.
pub(super) fn path(table: &mut Table, lane: &mut Lane, with: &WrapWith, other: &WrapWith) {
    let made = lane.make_data_key(std::slice::from_ref(with)).and_then(|(key, blobs)| {
        let (again, _) = lane.make_data_key(std::slice::from_ref(with))?;
        let blob = blobs.into_iter().next().map(|b| b.0).unwrap_or_default();
        let opened = lane.unwrap(with, &blob)?;
        Ok((blob, opened.ct_eq(&key), again.ct_eq(&key)))
    });
    let test = "a data key made, read, wrapped and unwrapped";
    let blob = match made {
        Ok((_, _, true)) => return table.enter(test, Weight::Mechanism, Verdict::Failed, "the same key is made twice"),
        Ok((_, false, _)) => return table.enter(test, Weight::Mechanism, Verdict::Failed, "another key comes back"),
        Ok((blob, true, false)) => blob,
        Err(fault) => {
            table.works::<()>(test, Weight::Mechanism, Err(fault), |()| String::new());
            return;
        }
    };
    table.passed(test, Weight::Mechanism, format!("{} bytes wrapped", blob.len()));

    let flipped = (0..blob.len()).map(|at| {
        let mut bad = blob.clone();
        if let Some(byte) = bad.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
        (format!("with byte {at} changed"), bad)
    });
    refused(table, lane, "a changed copy", with, flipped);
    let lengths = [0, 8, 16, 24, 32, blob.len() - 8, blob.len() - 1];
    let cut = lengths.map(|n| (format!("cut to {n} bytes"), blob.get(..n).unwrap_or_default().to_vec()));
    refused(table, lane, "a truncated copy", with, cut.into_iter());
    let longer = [1, 8, 16].map(|n| {
        let mut bad = blob.clone();
        bad.resize(blob.len() + n, 0);
        (format!("with {n} bytes more"), bad)
    });
    refused(table, lane, "an extended copy", with, longer.into_iter());
    refused(
        table,
        lane,
        "under another key-encryption key",
        other,
        [("as it is".to_owned(), blob.clone())].into_iter(),
    );
    if with.mechanism == WrapMechanism::AesGcm {
        let mut elsewhere = with.clone();
        elsewhere.aad.0.push(0);
        refused(
            table,
            lane,
            "with other associated data",
            &elsewhere,
            [("as it is".to_owned(), blob.clone())].into_iter(),
        );
    }
}

fn refused(
    table: &mut Table,
    lane: &mut Lane,
    test: &str,
    with: &WrapWith,
    copies: impl Iterator<Item = (String, Vec<u8>)>,
) {
    let kek = match lane.key(with.kek, ObjectClass::SECRET_KEY) {
        Ok(kek) => kek,
        Err(fault) => {
            table.works::<()>(test, Weight::Mechanism, Err(fault), |()| String::new());
            return;
        }
    };
    let mut tried = 0;
    let mut taken = Vec::new();
    for (how, blob) in copies {
        tried += 1;
        if open(lane, with, kek, &blob).is_ok() {
            taken.push(format!("taken {how}"));
        }
    }
    table.refuses(&format!("{test} is refused"), Weight::Mechanism, tried, &taken);
}

/// Straight to the token: our own checks of length are left out.
fn open(lane: &mut Lane, with: &WrapWith, kek: ObjectHandle, blob: &[u8]) -> Result<(), Fault> {
    match with.mechanism {
        WrapMechanism::AesKeyWrap => {
            let object = lane.unwrap_by(kek, blob)?;
            lane.discard(object);
        }
        WrapMechanism::AesGcm => {
            let (nonce, sealed) = blob.split_at_checked(12).unwrap_or((&[0; 12], blob));
            let mut nonce = nonce.to_vec();
            let params = GcmParams::new(&mut nonce, &with.aad.0, 128.into())?;
            drop(Zeroizing::new(lane.session.decrypt(&Mechanism::AesGcm(params), kek, sealed)?));
        }
    }
    Ok(())
}
