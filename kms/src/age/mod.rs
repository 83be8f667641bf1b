//! The age file format, version 1 (c2sp.org/age), as far as Sealtape needs it: whole files in memory, one recipient, and the two
//! native recipient types with public keys: the post-quantum hybrid `age1pq1…` (MLKEM768-X25519) and the classic `age1…` (X25519).
//! Stock age opens what is sealed here, and the other way round.
//!
//! Why not the `age` crate: see `docs/adr/0017-recovery-and-exchange.md`. The primitives are those of `hpke`, `x25519-dalek`,
//! `chacha20poly1305`, `hkdf` and `hmac`; what is here is the framing.

mod format;
mod keys;
mod payload;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use keys::{Identity, Kind, Recipient};

use format::Header;

/// Bytes of a file key.
const FILE_KEY: usize = 16;

/// Why a file or key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AgeError {
    /// Not an age file, or a damaged one.
    #[error("not an age file: {0}")]
    Form(&'static str),
    /// None of its stanzas is for this identity.
    #[error("the age file is for another recipient")]
    NotForUs,
    /// It was changed.
    #[error("the age file was changed: {0}")]
    Changed(&'static str),
    /// Not a recipient or an identity.
    #[error("not an age {0}")]
    Key(&'static str),
    /// The system has no randomness, or no memory for a key.
    #[error("the system failed: {0}")]
    System(String),
}

impl From<std::io::Error> for AgeError {
    fn from(e: std::io::Error) -> Self {
        Self::System(e.to_string())
    }
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, AgeError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|e| AgeError::System(e.to_string()))?;
    Ok(bytes)
}

/// HKDF-SHA-256 to 32 bytes.
fn derive(ikm: &[u8], salt: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(info, key.as_mut_slice())
        .map_err(|_| AgeError::Form("a key of a wrong length"))?;
    Ok(key)
}

/// Encrypts `plain` to one recipient: a whole age file.
///
/// # Errors
/// [`AgeError::System`]
pub fn seal(to: &Recipient, plain: &[u8]) -> Result<Vec<u8>, AgeError> {
    let file_key = random::<FILE_KEY>()?;
    let stanza = to.wrap(&file_key)?;
    let mut file = Header::encode(&stanza, &file_key)?;
    let nonce = random::<16>()?;
    file.extend_from_slice(nonce.as_slice());
    let key = derive(file_key.as_slice(), nonce.as_slice(), b"payload")?;
    payload::seal(&key, plain, &mut file)?;
    Ok(file)
}

/// Decrypts a whole age file.
///
/// # Errors
/// [`AgeError`]
pub fn open(file: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let (header, rest) = Header::parse(file)?;
    let mut file_key = None;
    for stanza in &header.stanzas {
        if let Some(key) = identity.unwrap(stanza)? {
            file_key = Some(key);
            break;
        }
    }
    let file_key = file_key.ok_or(AgeError::NotForUs)?;
    header.verify(&file_key)?;
    let (nonce, sealed) = rest.split_first_chunk::<16>().ok_or(AgeError::Form("it ends before its payload"))?;
    let key = derive(file_key.as_slice(), nonce, b"payload")?;
    payload::open(&key, sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identities() -> [Identity; 2] {
        [Identity::generate(Kind::Hybrid).unwrap(), Identity::generate(Kind::X25519).unwrap()]
    }

    #[test]
    fn files_of_all_sizes_come_back_and_every_changed_byte_is_noticed() {
        for identity in identities() {
            for size in [0, 1, 32, 65_535, 65_536, 65_537, 131_072, 200_000] {
                let plain: Vec<u8> = (0..size).map(|n: usize| (n * 7 % 251) as u8).collect();
                let file = seal(&identity.recipient().unwrap(), &plain).unwrap();
                assert_eq!(*open(&file, &identity).unwrap(), plain, "{size}");
            }
            let file = seal(&identity.recipient().unwrap(), b"0123456789").unwrap();
            for at in 0..file.len() {
                let mut changed = file.clone();
                changed[at] ^= 1;
                assert!(open(&changed, &identity).is_err(), "byte {at}");
                assert!(open(&file[..at], &identity).is_err(), "cut at {at}");
            }
            assert!(open(&[file.as_slice(), b"x"].concat(), &identity).is_err());
            for other in identities() {
                assert_eq!(open(&file, &other).map(drop), Err(AgeError::NotForUs));
            }
        }
    }

    /// The identity, recipient and file key of the specification's own examples.
    #[test]
    fn identities_and_recipients_are_those_of_the_specification() {
        let hybrid = b"AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR";
        let identity = Identity::parse(hybrid).unwrap();
        assert_eq!(identity.kind(), Kind::Hybrid);
        let text = identity.recipient().unwrap().to_string();
        assert!(text.starts_with(
            "age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7ceq5r9rdelkjuh3y235jzxshfg87pzf5zrqtzdxz95paef6caq5aapdmwj"
        ));
        assert!(text.ends_with("9pyyzk3tlhl53k2ykx3qheyty7saeq0d3fzv49zc0k") && text.len() == 1959, "{}", text.len());
        assert_eq!(text.parse::<Recipient>().unwrap(), identity.recipient().unwrap());
        assert_eq!(identity.to_text().as_bytes(), hybrid);
        let classic = Identity::parse(
            b"# a comment\n\nAGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX\n",
        );
        let recipient = classic.unwrap().recipient().unwrap();
        assert_eq!(recipient.to_string(), "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj");
        assert!(!recipient.post_quantum());
        for bad in ["", "age1", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwk", "bc1qw508d6"] {
            assert!(bad.parse::<Recipient>().is_err(), "{bad}");
        }
        assert!(Identity::parse(b"# only a comment\n").is_err());
    }
}
