//! The tokens of an installation. A key-encryption key names its token; the first token holds the signing key of the custody log.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rusqlite::Connection;
use uuid::Uuid;

use super::super::Authority;
use super::enrolment::Enrolment;
use crate::catalogue::{KekRow, LogState};
use crate::fault::damaged;
use crate::pkcs11::{PinFrom, PinSource, Token, TokenConfig, TokenFacts, WrapMechanism, WrapWith};
use crate::protocol::{Refusal, RefusalCode};
use crate::secret::DataKey;

/// The tokens, the first one first.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The token of the set-up stays the same for the life of this process; only its enrolment is replaced.
    first: Arc<Token>,
    all: RwLock<Vec<Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    id: Uuid,
    token: Arc<Token>,
    record: Option<Enrolment>,
}

impl Registry {
    /// The first token, and those of the catalogue. Without a record the first token is not enrolled yet.
    pub(crate) fn open(first: Token, sql: &Connection, log: &LogState) -> Result<Self, Refusal> {
        let mut records = Enrolment::all(sql, log)?.into_iter();
        let mut all: Vec<Known> = Vec::new();
        let first = match records.next() {
            None => {
                let first = Arc::new(first);
                all.push(Known { id: Uuid::nil(), token: Arc::clone(&first), record: None });
                first
            }
            Some(record) => {
                if first.module() != record.module || first.uri().to_string() != record.uri {
                    return Err(damaged(format!(
                        "the token {} in {} is not the one that was enrolled",
                        first.uri(),
                        first.module().display()
                    )));
                }
                let first = Arc::new(first.with_template(record.report.unwrap_template));
                all.push(Known { id: record.id, token: Arc::clone(&first), record: Some(record) });
                first
            }
        };
        for record in records {
            let config = TokenConfig {
                worker: first.config().worker.clone(),
                module: record.module.clone(),
                parameters: record.parameters.clone(),
                uri: record.uri.parse()?,
                pin: record.pin.as_ref().map_or(PinSource::Credential, PinFrom::source),
                latch: first.latch().of(&record.name),
                environment: Vec::new(),
                limits: first.config().limits,
            };
            let others: Vec<_> = all.iter().map(|k| Arc::clone(&k.token)).collect();
            let token = Token::beside(config, &others).with_template(record.report.unwrap_template);
            all.push(Known { id: record.id, token: Arc::new(token), record: Some(record) });
        }
        Ok(Self { first, all: RwLock::new(all) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Vec<Known>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn first(&self) -> (Uuid, &Arc<Token>) {
        (self.read().first().map(|k| k.id).unwrap_or_default(), &self.first)
    }

    /// A token that was enrolled, in the place of the one of its id or of the first one's when that had none.
    pub(crate) fn put(&self, record: Enrolment, token: Arc<Token>) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        let known = Known { id: record.id, token, record: Some(record) };
        match all.iter_mut().find(|k| k.id == known.id || (k.id.is_nil() && Arc::ptr_eq(&k.token, &known.token))) {
            Some(place) => *place = known,
            None => all.push(known),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Token>> {
        self.read().iter().map(|k| Arc::clone(&k.token)).collect()
    }

    pub(crate) fn record(&self, id: Uuid) -> Option<Enrolment> {
        self.read().iter().find(|k| k.id == id)?.record.clone()
    }

    /// The enrolled token of this name.
    pub(crate) fn named(&self, name: &str) -> Option<(Uuid, Arc<Token>, Option<PinFrom>)> {
        let of = |k: &Known| k.record.as_ref().is_some_and(|r| r.name == name);
        let all = self.read();
        let known = all.iter().find(|k| of(k))?;
        Some((known.id, Arc::clone(&known.token), known.record.as_ref().and_then(|r| r.pin.clone())))
    }

    /// The name of another token that is the same piece of hardware.
    pub(crate) fn same(&self, facts: &TokenFacts, except: Uuid) -> Option<String> {
        let same = |r: &Enrolment| {
            let has = &r.report.facts;
            r.id != except
                && has.serial == facts.serial
                && has.manufacturer == facts.manufacturer
                && has.model == facts.model
        };
        self.read().iter().filter_map(|k| k.record.as_ref()).find(|r| same(r)).map(|r| r.name.clone())
    }

    fn find(&self, id: Uuid) -> Option<Arc<Token>> {
        self.read().iter().find(|k| k.id == id).map(|k| Arc::clone(&k.token))
    }
}

impl Authority {
    /// The installation's first token, which holds the signing key of the custody log.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.tokens.first
    }

    /// The id of the first token: where keys are made unless another token is named.
    #[must_use]
    pub fn first_token(&self) -> Uuid {
        self.tokens.first().0
    }

    /// The ids of all tokens, the first one first.
    #[must_use]
    pub fn token_ids(&self) -> Vec<Uuid> {
        self.tokens.read().iter().map(|k| k.id).collect()
    }

    /// How a token wraps under new key-encryption keys, by its enrolment.
    pub(crate) fn mechanism_of(&self, token: Uuid) -> Result<WrapMechanism, Refusal> {
        let record = self.tokens.record(token).ok_or_else(|| {
            let what = "the token is not enrolled, so no key is made in it";
            Refusal::new(RefusalCode::Token, what, "connect it and restart sealtape-keyd, which enrols it")
        })?;
        record.mechanism()
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
