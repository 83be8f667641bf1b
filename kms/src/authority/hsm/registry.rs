//! The tokens of an installation. A key-encryption key names its token; the first token holds the signing key of the custody log.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use uuid::Uuid;

use super::super::Authority;
use crate::catalogue::KekRow;
use crate::pkcs11::{Token, WrapWith};
use crate::protocol::{Refusal, RefusalCode};
use crate::secret::DataKey;

/// The tokens by their ids.
#[derive(Debug)]
pub(crate) struct Registry {
    first: (Uuid, Arc<Token>),
    others: RwLock<BTreeMap<Uuid, Arc<Token>>>,
}

impl Registry {
    pub(crate) fn new(id: Uuid, first: Token) -> Self {
        Self { first: (id, Arc::new(first)), others: RwLock::default() }
    }

    pub(crate) fn first(&self) -> &Arc<Token> {
        &self.first.1
    }

    fn find(&self, id: Uuid) -> Option<Arc<Token>> {
        if id == self.first.0 {
            return Some(Arc::clone(&self.first.1));
        }
        self.others.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Authority {
    /// The installation's first token, which holds the signing key of the custody log.
    #[must_use]
    pub fn token(&self) -> &Token {
        self.tokens.first()
    }

    /// The id of the first token: where keys are made unless another token is named.
    #[must_use]
    pub fn first_token(&self) -> Uuid {
        self.tokens.first.0
    }

    /// The ids of all tokens, the first one first.
    #[must_use]
    pub fn token_ids(&self) -> Vec<Uuid> {
        let others = self.tokens.others.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(self.tokens.first.0).chain(others.keys().copied()).collect()
    }

    /// A token by its id.
    ///
    /// # Errors
    /// When this installation has none of that id.
    pub fn token_by_id(&self, id: Uuid) -> Result<Arc<Token>, Refusal> {
        self.tokens.find(id).ok_or_else(|| {
            let what = format!("this installation has no token {id}");
            Refusal::new(
                RefusalCode::TokenMissing,
                what,
                "see: sealtape hsm list; another one is added with: sealtape hsm enrol",
            )
        })
    }

    /// The token that holds a key-encryption key. Takes the catalogue's lock for a moment.
    pub(crate) fn token_of_kek(&self, kek: Uuid) -> Result<Arc<Token>, Refusal> {
        let token = KekRow::find(self.lock().sql(), kek)?.token;
        self.token_by_id(token)
    }

    /// Unwraps in the token that holds the key-encryption key. Takes the catalogue's lock for a moment.
    pub(crate) fn unwrap_in_token(&self, with: &WrapWith, blob: &[u8]) -> Result<DataKey, Refusal> {
        Ok(self.token_of_kek(with.kek)?.unwrap(with, blob)?)
    }

    /// Makes a data key and its wrapped copies. The first key-encryption key's token makes it; copies under key-encryption keys of
    /// other tokens are wrapped there.
    pub(crate) fn make_data_key(&self, wraps: Vec<WrapWith>) -> Result<(DataKey, Vec<Vec<u8>>), Refusal> {
        let tokens: Vec<Uuid> = {
            let catalogue = self.lock();
            wraps.iter().map(|w| Ok(KekRow::find(catalogue.sql(), w.kek)?.token)).collect::<Result<_, Refusal>>()?
        };
        let maker = *tokens.first().ok_or_else(|| crate::fault::internal("a data key under no key-encryption key"))?;
        let of = |token: Uuid| wraps.iter().zip(&tokens).filter(move |(_, t)| **t == token).map(|(w, _)| w.clone());
        let (key, blobs) = self.token_by_id(maker)?.make_data_key(of(maker).collect())?;
        let mut made = BTreeMap::from([(maker, blobs.into_iter())]);
        for token in &tokens {
            if !made.contains_key(token) {
                let blobs = self.token_by_id(*token)?.wrap(&key, of(*token).collect())?;
                made.insert(*token, blobs.into_iter());
            }
        }
        let in_order = tokens.iter().map(|token| made.get_mut(token).and_then(Iterator::next));
        let blobs: Option<Vec<Vec<u8>>> = in_order.collect();
        Ok((key, blobs.ok_or_else(|| crate::fault::internal("a wrapped key too few"))?))
    }

    /// Wraps what `blob` holds under another key-encryption key, in the same token or in another one.
    #[allow(dead_code, reason = "for the rotation of key-encryption keys")]
    pub(crate) fn rewrap(&self, from: &WrapWith, blob: &[u8], to: &WrapWith) -> Result<Vec<u8>, Refusal> {
        let (source, target) = {
            let catalogue = self.lock();
            (KekRow::find(catalogue.sql(), from.kek)?.token, KekRow::find(catalogue.sql(), to.kek)?.token)
        };
        if source == target {
            return Ok(self.token_by_id(source)?.rewrap(from, blob, to)?);
        }
        let key = self.token_by_id(source)?.unwrap(from, blob)?;
        let blobs = self.token_by_id(target)?.wrap(&key, vec![to.clone()])?;
        blobs.into_iter().next().ok_or_else(|| crate::fault::internal("nothing was wrapped"))
    }
}
