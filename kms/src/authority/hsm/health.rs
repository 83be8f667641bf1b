//! Health of tokens: the canary of a key-encryption key, really unwrapped.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use rusqlite::OptionalExtension;
use uuid::Uuid;

use super::super::Authority;
use crate::catalogue::{KekRow, from_db, uuid};
use crate::protocol::{Refusal, TokenView};
use crate::time;

/// What was seen of each token last.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<BTreeMap<Uuid, (String, Option<Refusal>)>>);

impl Health {
    fn note(&self, token: Uuid, error: Option<Refusal>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.insert(token, (time::now(), error.clone()));
        match (before.and_then(|(_, error)| error), error) {
            (None, Some(error)) => tracing::error!("token {token}: {error}"),
            (Some(_), None) => tracing::info!("token {token} works again"),
            _ => {}
        }
    }

    fn of(&self, token: Uuid) -> Option<(String, Option<Refusal>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&token).cloned()
    }
}

impl Authority {
    /// Tries each token with a canary and notes what comes of it; a token without keys has to make one. Each try is bounded by the
    /// deadlines of the token. The service does this now and then.
    pub fn refresh_health(&self) {
        for id in self.token_ids() {
            let error = self.try_token(id).err();
            self.health.note(id, error);
        }
    }

    fn try_token(&self, id: Uuid) -> Result<(), Refusal> {
        if id == self.first_token() {
            return self.check_token();
        }
        let kek = {
            let catalogue = self.lock();
            let query = "SELECT id FROM keks WHERE token = ?1 AND state = 'active' ORDER BY created DESC LIMIT 1";
            let kek: Option<String> = catalogue.sql().query_row(query, [id.to_string()], |r| r.get(0)).optional()?;
            kek.map(|kek| KekRow::find(catalogue.sql(), uuid(&kek)?)).transpose()?
        };
        match kek {
            Some(kek) => self.check_canary(&kek),
            None => Ok(self.token_by_id(id)?.make_data_key(Vec::new()).map(drop)?),
        }
    }

    /// The tokens as they are now, each tried.
    pub(crate) fn list_tokens(&self) -> Result<Vec<TokenView>, Refusal> {
        self.refresh_health();
        self.token_views()
    }

    /// The tokens as they were when last tried.
    pub(crate) fn token_views(&self) -> Result<Vec<TokenView>, Refusal> {
        let first = self.first_token();
        let mut views = Vec::new();
        for id in self.token_ids() {
            let token = self.token_by_id(id)?;
            let record = self.tokens.record(id);
            let query = "SELECT count(*) FROM keks WHERE token = ?1 AND state = 'active'";
            let keks: i64 = self.lock().sql().query_row(query, [id.to_string()], |r| r.get(0))?;
            let (checked, error) = self.health.of(id).unzip();
            views.push(TokenView {
                id,
                name: record.as_ref().map_or_else(|| super::enrol::FIRST.to_owned(), |r| r.name.clone()),
                first: id == first,
                module: token.module().to_owned(),
                uri: token.uri().to_string(),
                mechanism: record.as_ref().and_then(|r| r.report.mechanisms.first().copied()),
                signing: record.as_ref().and_then(|r| r.report.signing.first().copied()),
                enrolled: record.map(|r| r.time),
                keks: from_db(keks)?,
                ok: matches!(error, Some(None)),
                error: error.flatten(),
                checked,
                pin_latched: token.latch().is_set(),
                worker_starts: token.worker().0,
            });
        }
        Ok(views)
    }
}
