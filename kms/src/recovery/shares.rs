//! Shares of a recovery key: Shamir's scheme over GF(256), byte by byte (crate `blahaj`), printed as text that can be typed.
//!
//! A share's text is Bech32m with the prefix `sealtape-share`, over: version (1), set id (8), index (1), number of shares (1),
//! threshold (1), epoch (4), recovery key id (16), length of the tenant's name (1), the name, and the share of the identity's
//! 32 bytes. Each share carries all that is needed to tell a wrong one by name; none tells anything of the key.

use std::fmt::Write;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use blahaj::Sharks;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{PublicHalf, key_id};
use crate::age::{AgeError, Identity, Kind, Recipient};
use crate::hex::Hex;
use crate::secret::DataKey;

const PREFIX: Hrp = Hrp::parse_unchecked("sealtape-share");
const VERSION: u8 = 1;
const SECRET: usize = 32;
/// Columns of the text to type.
const GROUP: usize = 5;
const GROUPS: usize = 8;
/// Longest text that is read as a share.
pub const MAX_TEXT: usize = 4096;

/// Why shares do not give the key. Each names the share by where it came from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The numbers for splitting make no sense.
    #[error("{0}")]
    Numbers(String),
    /// Not a share, or one with a slip of the pen.
    #[error("{name} is damaged or no share of a recovery key: {what}; compare it with the paper, letter by letter")]
    Damaged {
        /// Where it came from.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// Two shares of different splits.
    #[error(
        "{name} (share {index}, set {set}) is of another set than {other} (set {other_set}); use shares of one set"
    )]
    OtherSet {
        /// Where it came from.
        name: String,
        /// Its index.
        index: u8,
        /// Its set.
        set: Hex<8>,
        /// The first share.
        other: String,
        /// The first share's set.
        other_set: Hex<8>,
    },
    /// A share of another recovery key than the one that is needed.
    #[error(
        "{name} (share {index}) is of the recovery key {has} (tenant {tenant:?}, epoch {epoch}); {wanted} is needed"
    )]
    OtherKey {
        /// Where it came from.
        name: String,
        /// Its index.
        index: u8,
        /// Its recovery key.
        has: Uuid,
        /// Its tenant.
        tenant: String,
        /// Its epoch.
        epoch: u32,
        /// What is needed, in words.
        wanted: String,
    },
    /// One share twice.
    #[error("{name} and {other} are the same share ({index}); every share counts once")]
    Twice {
        /// Where it came from.
        name: String,
        /// The other.
        other: String,
        /// The index of both.
        index: u8,
    },
    /// Too few.
    #[error("{have} of {need} shares are there (set {set}, tenant {tenant:?}, epoch {epoch}); bring {} more", need - have)]
    TooFew {
        /// What is there.
        have: u8,
        /// What is needed.
        need: u8,
        /// The set.
        set: Hex<8>,
        /// The tenant.
        tenant: String,
        /// The epoch.
        epoch: u32,
    },
    /// Whole shares that do not give the key that they name.
    #[error(
        "these shares do not give the recovery key {key} that they name: one of them was forged ({names}); try other shares of the set"
    )]
    Forged {
        /// The key that they name.
        key: Uuid,
        /// Where they came from.
        names: String,
    },
    /// The system failed.
    #[error(transparent)]
    Age(#[from] AgeError),
}

/// What a share says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareHead {
    /// The set.
    pub set: Hex<8>,
    /// Its index, from 1.
    pub index: u8,
    /// Number of shares in the set.
    pub shares: u8,
    /// How many it takes.
    pub threshold: u8,
    /// The tenant.
    pub tenant: String,
    /// The epoch.
    pub epoch: u32,
    /// The recovery key.
    pub key: Uuid,
}

/// One share.
pub struct Share {
    head: ShareHead,
    /// Where it came from, for messages.
    name: String,
    value: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share({:?}, secret)", self.head)
    }
}

/// What the shares gave.
#[derive(Debug)]
pub struct Recovered {
    /// The private half.
    pub identity: Identity,
    /// Its name.
    pub key: Uuid,
    /// The set.
    pub set: Hex<8>,
    /// Indices of the shares that were used.
    pub used: Vec<u8>,
    /// The tenant.
    pub tenant: String,
    /// The epoch.
    pub epoch: u32,
}

pub(super) fn split(identity: &Identity, public: &PublicHalf, recipient: &Recipient) -> Result<Vec<Share>, ShareError> {
    let mut random = hpke::rand_core::UnwrapErr(getrandom::SysRng);
    let dealer = Sharks(public.threshold).dealer_rng(identity.seed().expose(), &mut random);
    let shares = dealer.take(usize::from(public.shares)).map(|share| {
        let bytes = Zeroizing::new(Vec::<u8>::from(&share));
        let (index, value) = bytes.split_first().ok_or(AgeError::System("an empty share".into()))?;
        Ok(Share {
            head: ShareHead {
                set: public.set,
                index: *index,
                shares: public.shares,
                threshold: public.threshold,
                tenant: public.tenant.clone(),
                epoch: public.epoch,
                key: key_id(recipient),
            },
            name: format!("share {index}"),
            value: Zeroizing::new(value.to_vec()),
        })
    });
    let shares: Vec<Share> = shares.collect::<Result<_, ShareError>>()?;
    // What was split is put together again before anybody relies on it: the last shares, and the first.
    let need = usize::from(public.threshold);
    for tried in [shares.get(..need), shares.get(shares.len() - need..)] {
        combine(tried.unwrap_or_default(), None)?;
    }
    Ok(shares)
}

impl Share {
    /// What it says of itself.
    #[must_use]
    pub fn head(&self) -> &ShareHead {
        &self.head
    }

    /// The text in one line.
    #[must_use]
    pub fn line(&self) -> Zeroizing<String> {
        let head = &self.head;
        let mut bytes = Zeroizing::new(Vec::with_capacity(160));
        bytes.push(VERSION);
        bytes.extend_from_slice(&head.set.0);
        bytes.extend_from_slice(&[head.index, head.shares, head.threshold]);
        bytes.extend_from_slice(&head.epoch.to_be_bytes());
        bytes.extend_from_slice(head.key.as_bytes());
        bytes.push(u8::try_from(head.tenant.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(head.tenant.as_bytes());
        bytes.extend_from_slice(&self.value);
        let mut text = Zeroizing::new(String::with_capacity(512));
        // It is far shorter than the code's length, and writing into a string cannot fail.
        let _ = bech32::encode_lower_to_fmt::<Bech32m, _>(&mut *text, PREFIX, &bytes);
        text
    }

    /// The sheet to print: what it is in words, and the text in groups to type.
    #[must_use]
    pub fn sheet(&self) -> Zeroizing<String> {
        let head = &self.head;
        let mut sheet = Zeroizing::new(String::with_capacity(2048));
        let _ = write!(
            sheet,
            "SEALTAPE RECOVERY SHARE {} of {}\n\n\
             Any {} of these {} shares open all tapes of tenant \"{}\". Keep this sheet sealed, and apart from the others.\n\n\
             tenant        {}\nepoch         {}\nset           {}\nrecovery key  {}\n\n",
            head.index,
            head.shares,
            head.threshold,
            head.shares,
            head.tenant,
            head.tenant,
            head.epoch,
            head.set,
            head.key
        );
        let line = self.line();
        let mut rest = line.as_str();
        let mut column = 0;
        while !rest.is_empty() {
            let (group, more) = rest.split_at(GROUP.min(rest.len()));
            sheet.push_str(group);
            column += 1;
            sheet.push(if column % GROUPS == 0 || more.is_empty() { '\n' } else { ' ' });
            rest = more;
        }
        sheet
    }

    /// Reads a share from a sheet or from its text alone; `name` is for messages. Spaces, line breaks and case do not matter.
    ///
    /// # Errors
    /// [`ShareError::Damaged`]
    pub fn parse(text: &[u8], name: &str) -> Result<Self, ShareError> {
        let damaged = |what| ShareError::Damaged { name: name.to_owned(), what };
        if text.len() > MAX_TEXT {
            return Err(damaged("it is longer than any share"));
        }
        let mut joined = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        joined.extend(text.iter().filter(|b| !b.is_ascii_whitespace()).map(u8::to_ascii_lowercase));
        let prefix = b"sealtape-share1";
        let at = joined.windows(prefix.len()).position(|w| w == prefix);
        let at = at.ok_or_else(|| damaged("no \"sealtape-share1\" stands in it"))?;
        let text =
            joined.get(at..).and_then(|t| std::str::from_utf8(t).ok()).ok_or_else(|| damaged("it is no text"))?;
        let parsed = CheckedHrpstring::new::<Bech32m>(text).map_err(|_| damaged("its checksum is not right"))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        bytes.extend(parsed.byte_iter());
        Self::decode(&bytes, name).ok_or_else(|| damaged("its content does not have the form of a share"))
    }

    fn decode(bytes: &[u8], name: &str) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (set, rest) = rest.split_first_chunk::<8>()?;
        let ([index, shares, threshold], rest) = rest.split_first_chunk::<3>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first()?;
        let (tenant, value) = rest.split_at_checked(usize::from(*length))?;
        let tenant = std::str::from_utf8(tenant).ok()?.to_owned();
        let epoch = u32::from_be_bytes(*epoch);
        let fine = *version == VERSION
            && value.len() == SECRET
            && (1..=*shares).contains(index)
            && super::check_split(&tenant, epoch, *shares, *threshold).is_ok();
        fine.then(|| Self {
            head: ShareHead {
                set: Hex(*set),
                index: *index,
                shares: *shares,
                threshold: *threshold,
                tenant,
                epoch,
                key: Uuid::from_bytes(*key),
            },
            name: name.to_owned(),
            value: Zeroizing::new(value.to_vec()),
        })
    }
}

/// The private half from enough shares of one set; `wanted` is the key that is needed, if that is known.
///
/// # Errors
/// [`ShareError`], naming the share.
pub fn combine(shares: &[Share], wanted: Option<Uuid>) -> Result<Recovered, ShareError> {
    let first = shares.first().ok_or_else(|| ShareError::Numbers("there is no share".into()))?;
    let head = &first.head;
    for (at, share) in shares.iter().enumerate() {
        let has = &share.head;
        if let Some(wanted) = wanted.filter(|w| *w != has.key) {
            return Err(ShareError::OtherKey {
                name: share.name.clone(),
                index: has.index,
                has: has.key,
                tenant: has.tenant.clone(),
                epoch: has.epoch,
                wanted: format!("the recovery key {wanted}"),
            });
        }
        if (&has.tenant, has.epoch, has.key) != (&head.tenant, head.epoch, head.key) {
            return Err(ShareError::OtherKey {
                name: share.name.clone(),
                index: has.index,
                has: has.key,
                tenant: has.tenant.clone(),
                epoch: has.epoch,
                wanted: format!(
                    "{} is of the recovery key {} (tenant {:?}, epoch {}), and one like that",
                    first.name, head.key, head.tenant, head.epoch
                ),
            });
        }
        if (has.set, has.shares, has.threshold) != (head.set, head.shares, head.threshold) {
            return Err(ShareError::OtherSet {
                name: share.name.clone(),
                index: has.index,
                set: has.set,
                other: first.name.clone(),
                other_set: head.set,
            });
        }
        if let Some(other) = shares.iter().take(at).find(|s| s.head.index == has.index) {
            return Err(ShareError::Twice { name: share.name.clone(), other: other.name.clone(), index: has.index });
        }
    }
    let have = u8::try_from(shares.len()).unwrap_or(u8::MAX);
    if have < head.threshold {
        return Err(ShareError::TooFew {
            have,
            need: head.threshold,
            set: head.set,
            tenant: head.tenant.clone(),
            epoch: head.epoch,
        });
    }
    let forged = || ShareError::Forged {
        key: head.key,
        names: shares.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", "),
    };
    let points: Vec<blahaj::Share> = shares
        .iter()
        .map(|s| {
            let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET + 1));
            bytes.push(s.head.index);
            bytes.extend_from_slice(&s.value);
            blahaj::Share::try_from(bytes.as_slice()).map_err(|_| forged())
        })
        .collect::<Result<_, _>>()?;
    let secret = Zeroizing::new(Sharks(head.threshold).recover(&points).map_err(|_| forged())?);
    let seed: &[u8; SECRET] = secret.as_slice().try_into().map_err(|_| forged())?;
    let identity = Identity::from_seed(Kind::Hybrid, DataKey::copy_from(seed).map_err(AgeError::from)?);
    if key_id(&identity.recipient()?) != head.key {
        return Err(forged());
    }
    Ok(Recovered {
        identity,
        key: head.key,
        set: head.set,
        used: shares.iter().map(|s| s.head.index).collect(),
        tenant: head.tenant.clone(),
        epoch: head.epoch,
    })
}

#[cfg(test)]
mod tests {
    use super::super::generate;
    use super::*;

    fn sheets(shares: &[Share]) -> Vec<Vec<u8>> {
        shares.iter().map(|s| s.sheet().as_bytes().to_vec()).collect()
    }

    fn read(sheets: &[Vec<u8>], which: &[usize]) -> Vec<Share> {
        which.iter().map(|i| Share::parse(&sheets[*i], &format!("sheet {i}")).unwrap()).collect()
    }

    #[test]
    fn any_m_of_n_sheets_give_the_key_and_fewer_do_not() {
        let (public, shares) = generate("default", 1, 5, 3).unwrap();
        let id = key_id(&public.check().unwrap());
        let sheets = sheets(&shares);
        let recipient: Recipient = public.recipient.parse().unwrap();
        for a in 0..5 {
            for b in 0..5 {
                for c in 0..5 {
                    if a != b && b != c && a != c {
                        let recovered = combine(&read(&sheets, &[a, b, c]), Some(id)).unwrap();
                        assert_eq!(recovered.identity.recipient().unwrap(), recipient);
                    }
                }
            }
        }
        assert_eq!(combine(&read(&sheets, &[0, 1, 2, 3, 4]), None).unwrap().used, [1, 2, 3, 4, 5]);
        let few = combine(&read(&sheets, &[3, 1]), None).map(drop).unwrap_err();
        assert!(few.to_string().starts_with("2 of 3 shares"), "{few}");
        let twice = combine(&read(&sheets, &[3, 1, 3]), None).map(drop).unwrap_err().to_string();
        assert!(twice.contains("same share (4)"), "{twice}");
    }

    #[test]
    fn wrong_shares_are_named() {
        let (public, one) = generate("default", 1, 3, 2).unwrap();
        let (_, two) = generate("default", 1, 3, 2).unwrap();
        let (_, later) = generate("default", 2, 3, 2).unwrap();
        let (_, other) = generate("other", 1, 3, 2).unwrap();
        for (shares, what) in [(two, "epoch 1"), (later, "epoch 2"), (other, "\"other\"")] {
            let mixed = [read(&sheets(&one), &[0]), read(&sheets(&shares), &[1])].concat_shares();
            let text = combine(&mixed, None).map(drop).unwrap_err().to_string();
            assert!(text.contains("sheet 1") && text.contains(what), "{text}");
        }
        let wanted = Uuid::from_u128(7);
        let text = combine(&read(&sheets(&one), &[0, 1]), Some(wanted)).map(drop).unwrap_err().to_string();
        assert!(text.contains("sheet 0") && text.contains(&wanted.to_string()), "{text}");
        // The same key split twice: the sets differ, and their shares do not go together.
        let identity = combine(&read(&sheets(&one), &[0, 1]), None).unwrap().identity;
        let again = PublicHalf { set: Hex([9; 8]), ..public };
        let second = split(&identity, &again, &identity.recipient().unwrap()).unwrap();
        let mixed = [read(&sheets(&one), &[0]), read(&sheets(&second), &[1])].concat_shares();
        let text = combine(&mixed, None).map(drop).unwrap_err().to_string();
        assert!(text.contains("0909090909090909") && text.contains("another set"), "{text}");
        // A share that was made to fit, its checksum right: found by the key that comes out.
        let mut forged = read(&sheets(&one), &[0, 1]);
        forged[1].value[5] ^= 1;
        let forged = read(&sheets(&forged), &[0, 1]);
        assert!(matches!(combine(&forged, None), Err(ShareError::Forged { .. })));
    }

    #[test]
    fn every_slip_of_the_pen_is_noticed() {
        let (_, shares) = generate("default", 1, 2, 2).unwrap();
        let line = shares[0].line();
        let text = line.as_bytes();
        for at in 0..text.len() {
            for c in *b"qpzry9x8gf2tvdw0s3jn54khce6mua7l" {
                if c != text[at] {
                    let mut slipped = text.to_vec();
                    slipped[at] = c;
                    let error = Share::parse(&slipped, "the sheet").map(drop).unwrap_err();
                    assert!(error.to_string().starts_with("the sheet is damaged"), "{error}");
                }
            }
            let mut swapped = text.to_vec();
            if at > 0 && swapped[at] != swapped[at - 1] {
                swapped.swap(at, at - 1);
                assert!(Share::parse(&swapped, "x").is_err(), "swapped at {at}");
            }
            assert!(Share::parse(&text[..at], "x").is_err());
        }
        assert!(Share::parse(line.to_uppercase().as_bytes(), "x").is_ok());
        assert_eq!(format!("{:?}", shares[0]).matches("secret").count(), 1);
    }

    /// RUSTSEC-2024-0398 (`sharks`): coefficients were never zero, so that shares told something of the secret. Here each
    /// coefficient, the highest too, is zero once in 256, as any other value is.
    #[test]
    fn coefficients_are_uniform() {
        let (rounds, bytes) = (40, 4096);
        let secret = vec![0x5a; bytes];
        let mut random = hpke::rand_core::UnwrapErr(getrandom::SysRng);
        let mut counts = [[0u32; 256]; 2];
        for _ in 0..rounds {
            // Over x = 1, 2, 3 with threshold 3: y = s + a x + b x². From x = 1: s + a + b; from the three: b by interpolation.
            let shares: Vec<Vec<u8>> =
                Sharks(3).dealer_rng(&secret, &mut random).take(2).map(|s| Vec::from(&s)).collect();
            let shares2: Vec<Vec<u8>> =
                Sharks(2).dealer_rng(&secret, &mut random).take(1).map(|s| Vec::from(&s)).collect();
            for at in 1..=bytes {
                // y1 = s ^ a ^ b and y2 = s ^ 2a ^ 4b: 2(y1 ^ s) ^ (y2 ^ s) = 2b ^ 4b = 6b, a bijection of b.
                let [y1, y2] = [shares[0][at] ^ 0x5a, shares[1][at] ^ 0x5a];
                let doubled = (y1 << 1) ^ if y1 & 0x80 != 0 { 0x1d } else { 0 };
                counts[0][usize::from(doubled ^ y2)] += 1;
                counts[1][usize::from(shares2[0][at] ^ 0x5a)] += 1;
            }
        }
        let expected = f64::from(rounds * bytes as u32) / 256.0;
        for counts in counts {
            assert!(counts[0] > 0 && f64::from(counts[0]) > expected * 0.7, "zero came {} times", counts[0]);
            let chi2: f64 = counts.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
            // 255 degrees of freedom: mean 255, deviation 22.6; beyond 420 by chance once in 10^9.
            assert!(chi2 < 420.0, "{chi2}");
        }
    }

    trait Concat {
        fn concat_shares(self) -> Vec<Share>;
    }

    impl Concat for [Vec<Share>; 2] {
        fn concat_shares(self) -> Vec<Share> {
            self.into_iter().flatten().collect()
        }
    }
}
