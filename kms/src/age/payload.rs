//! The payload: STREAM over ChaCha20-Poly1305, in chunks of 64 KiB.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce, Tag};
use zeroize::Zeroizing;

use super::AgeError;

const CHUNK: usize = 64 * 1024;
const TAG: usize = 16;

/// Eleven bytes of counter, and one that marks the last chunk.
fn nonce(counter: usize, last: bool) -> Nonce {
    let mut nonce = [0u8; 12];
    let counter = (counter as u64).to_be_bytes();
    for (to, from) in nonce.iter_mut().skip(3).zip(counter) {
        *to = from;
    }
    if let Some(flag) = nonce.last_mut() {
        *flag = u8::from(last);
    }
    nonce.into()
}

pub(super) fn seal(key: &[u8; 32], plain: &[u8], to: &mut Vec<u8>) -> Result<(), AgeError> {
    let cipher = ChaCha20Poly1305::new(key.into());
    let count = plain.len().div_ceil(CHUNK).max(1);
    // Grown at once: moving a growing buffer would leave copies of plaintext behind.
    to.reserve_exact(plain.len() + count * TAG);
    for at in 0..count {
        let chunk = plain.get(at * CHUNK..plain.len().min((at + 1) * CHUNK)).unwrap_or_default();
        let start = to.len();
        to.extend_from_slice(chunk);
        let body = to.get_mut(start..).unwrap_or_default();
        let tag = cipher
            .encrypt_inout_detached(&nonce(at, at + 1 == count), b"", body.into())
            .map_err(|_| AgeError::Form("it is too long"))?;
        to.extend_from_slice(&tag);
    }
    Ok(())
}

pub(super) fn open(key: &[u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let changed = || AgeError::Changed("its payload is not the one that was written");
    let cipher = ChaCha20Poly1305::new(key.into());
    let count = sealed.len().div_ceil(CHUNK + TAG);
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    for (at, chunk) in sealed.chunks(CHUNK + TAG).enumerate() {
        let (body, tag) = chunk.split_last_chunk::<TAG>().ok_or_else(changed)?;
        if body.is_empty() && count > 1 {
            return Err(changed());
        }
        let start = plain.len();
        plain.extend_from_slice(body);
        let body = plain.get_mut(start..).unwrap_or_default();
        cipher
            .decrypt_inout_detached(&nonce(at, at + 1 == count), b"", body.into(), &Tag::from(*tag))
            .map_err(|_| changed())?;
    }
    if count == 0 { Err(AgeError::Form("it has no payload")) } else { Ok(plain) }
}
