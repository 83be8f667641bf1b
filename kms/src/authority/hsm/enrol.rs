//! Taking a token into use.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::Authority;
use super::enrolment::{Adopted, Enrolment, FORMAT};
use super::registry::environment;
use crate::catalogue::{Actor, Change, Entry, named, uuid};
use crate::custody::{Outcome, op};
use crate::fault::bad_request;
use crate::pkcs11::{PinFrom, Token, TokenConfig, TokenReport};
use crate::protocol::{EnrolOrder, Enrolled, HsmReply, Refusal, RefusalCode};
use crate::time;

/// Name of the token of the set-up.
pub(crate) const FIRST: &str = "first";

/// A token that enrolment refuses.
pub(crate) fn unfit(uri: &str, why: &str) -> Refusal {
    let what = format!("the token {uri} is refused: {why}");
    Refusal::new(
        RefusalCode::Token,
        what,
        "see the whole table with: sealtape hsm test; use another token, or its maker's newer firmware",
    )
}

/// A module runs with the key authority's rights: whoever can write it would have them.
fn check_module(module: &Path) -> Result<(), Refusal> {
    let refuse = |what: String| {
        let mend = "name a module that only root can change, as the packages of its maker install it";
        Refusal::new(RefusalCode::NotAllowed, what, mend)
    };
    let real = module
        .canonicalize()
        .map_err(|e| bad_request(format!("the module {}: {e}", module.display()), "check the path"))?;
    let me = nix::unistd::geteuid().as_raw();
    for place in real.ancestors() {
        let meta = place.metadata().map_err(|e| refuse(format!("{}: {e}", place.display())))?;
        let sticky_dir = meta.is_dir() && meta.mode() & 0o1000 != 0;
        if meta.uid() != 0 && meta.uid() != me {
            return Err(refuse(format!("{} belongs to user {}", place.display(), meta.uid())));
        }
        if meta.mode() & 0o022 != 0 && !sticky_dir {
            return Err(refuse(format!("others may write to {} (mode {:04o})", place.display(), meta.mode() & 0o7777)));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=32).contains(&name.len()) && name.chars().all(fine) {
        return Ok(());
    }
    Err(bad_request(format!("{name:?} is no name of a token"), "use 1 to 32 of a-z, 0-9 and -"))
}

impl Authority {
    /// Tests a token, and keeps its profile with a custody entry.
    pub(super) fn enrol(&self, actor: Actor, order: &EnrolOrder) -> Result<HsmReply, Refusal> {
        self.refusals_logged(
            actor,
            op::TOKEN_ENROL,
            |e| e,
            || {
                check_name(&order.name)?;
                let known = self.tokens.named(&order.name);
                let (id, token, pin) = match known {
                    Some((id, token, pin)) if order.uri.is_none() && order.module.is_none() => (id, token, pin),
                    Some(_) => {
                        let what = format!("a token called {} is enrolled already", order.name);
                        return Err(bad_request(what, "name it alone to test it anew, or give another name"));
                    }
                    None => {
                        let pin =
                            order.pin.clone().unwrap_or_else(|| PinFrom::Credential(format!("pin-{}", order.name)));
                        (Uuid::new_v4(), Arc::new(self.new_token(order, &pin)?), Some(pin))
                    }
                };
                let report = token.probe()?;
                if let Some(why) = report.refusal() {
                    let refusal = unfit(&token.uri().to_string(), &why);
                    let entry = Entry::new(actor, op::TOKEN_ENROL, Outcome::Refused).key(id).reason(&refusal.what);
                    self.lock().change(|c| c.record(entry))?;
                    return Ok(HsmReply::Unfit { why: refusal.what, report: Box::new(report) });
                }
                if let Some(other) = self.tokens.same(&report.facts, id) {
                    return Err(bad_request(
                        format!(
                            "this is the token that is enrolled as {other} (serial number {})",
                            report.facts.serial
                        ),
                        "name that one to test it anew",
                    ));
                }
                let record = self.lock().change(|c| record(c, actor, id, &order.name, &token, pin, &report))?;
                self.tokens.put(record, token);
                Ok(HsmReply::Enrolled(Box::new(Enrolled { id, name: order.name.clone(), report })))
            },
        )
    }

    fn new_token(&self, order: &EnrolOrder, pin: &PinFrom) -> Result<Token, Refusal> {
        let uri = order.uri.as_deref().ok_or_else(|| {
            bad_request(format!("no token called {} is enrolled", order.name), "add --token URI for a new one")
        })?;
        let first = self.token().config();
        let module = order.module.clone().unwrap_or_else(|| first.module.clone());
        check_module(&module)?;
        let config = TokenConfig {
            worker: first.worker.clone(),
            parameters: order.parameters.clone(),
            uri: uri.parse()?,
            pin: pin.source(),
            latch: first.latch.of(&order.name),
            environment: environment(first, &module),
            module,
            limits: first.limits,
        };
        Ok(Token::beside(config, &self.tokens.all()))
    }

    /// Enrols the first token of a set-up, or of a catalogue from before tokens were enrolled, whose keys it adopts.
    pub(crate) fn enrol_first(&self, actor: Actor, report: &TokenReport) -> Result<(), Refusal> {
        let token = Arc::clone(self.tokens.first().1);
        let id = Uuid::new_v4();
        let record = self.lock().change(|c| record(c, actor, id, FIRST, &token, None, report))?;
        self.tokens.put(record, token);
        Ok(())
    }

    /// Enrols the first token if it is not yet.
    pub(crate) fn adopt_first(&self) -> Result<(), Refusal> {
        if !self.tokens.first().0.is_nil() {
            return Ok(());
        }
        let report = self.token().probe()?;
        match report.refusal() {
            Some(why) => Err(unfit(&self.token().uri().to_string(), &why)),
            None => self.enrol_first(Actor::Service, &report),
        }
    }
}

/// Enters and keeps what was found. Keys that the token holds already keep their mechanism, so it must still have it.
fn record(
    change: &mut Change<'_>,
    actor: Actor,
    id: Uuid,
    name: &str,
    token: &Token,
    pin: Option<PinFrom>,
    report: &TokenReport,
) -> Result<Enrolment, Refusal> {
    let mut adopted = Vec::new();
    {
        let which =
            "SELECT id, mechanism, token IS NULL FROM keks WHERE (token = ?1 OR (token IS NULL AND ?2)) ORDER BY id";
        let mut query = change.sql.prepare(which)?;
        let rows: Vec<(String, String, bool)> = query
            .query_map(rusqlite::params![id.to_string(), name == FIRST], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
            .collect::<Result<_, _>>()?;
        for (kek, mechanism, orphan) in rows {
            let (kek, mechanism) = (uuid(&kek)?, named(mechanism)?);
            if !report.mechanisms.contains(&mechanism) {
                let why = format!("key-encryption key {kek} in it wraps with {mechanism:?}, which did not pass");
                return Err(unfit(&token.uri().to_string(), &why));
            }
            if orphan || adopted_before(change, id, kek)? {
                adopted.push(Adopted { kek, mechanism });
            }
        }
    }
    let record = Enrolment {
        adopted,
        format: FORMAT.into(),
        id,
        module: token.module().to_owned(),
        name: name.to_owned(),
        parameters: token.config().parameters.clone(),
        pin,
        report: report.clone(),
        time: time::now(),
        uri: token.uri().to_string(),
    };
    let digest = Sha256::digest(record.text()?).into();
    let reason = format!("{name}: {} (serial number {})", record.uri, report.facts.serial);
    let leaf = change.record(Entry::done(actor, op::TOKEN_ENROL).key(id).digest(digest).reason(reason))?;
    record.keep(change, leaf)?;
    for kek in &record.adopted {
        change.sql.execute("UPDATE keks SET token = ?2 WHERE id = ?1", [kek.kek.to_string(), id.to_string()])?;
    }
    Ok(record)
}

/// Whether the record that is being replaced had adopted this key; its entry has no digest of its own.
fn adopted_before(change: &Change<'_>, token: Uuid, kek: Uuid) -> Result<bool, Refusal> {
    use rusqlite::OptionalExtension;
    let query = "SELECT record FROM tokens WHERE id = ?1";
    let text: Option<String> = change.sql.query_row(query, [token.to_string()], |r| r.get(0)).optional()?;
    let record: Option<Enrolment> = text.and_then(|t| serde_json::from_str(&t).ok());
    Ok(record.is_some_and(|r| r.adopted.iter().any(|a| a.kek == kek)))
}
