//! What an operation concerns, where that lies, and in which state it is. The digest of the state is signed, and computed again
//! when the operation is carried out: an approval is for things as they were.

use rusqlite::{Connection, OptionalExtension};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::rights::Rights;
use crate::catalogue::{LogState, PoolRow, TenantRow, VolumeRow, name};
use crate::custody::canonical;
use crate::fault::{bad_request, internal};
use crate::hex::Hex;
use crate::protocol::{Compromised, Operation, Principal, Refusal, RefusalCode, Scope, Target};

/// The targets of an operation.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub(super) scopes: Vec<Scope>,
    pub(super) targets: Vec<Target>,
    state: Vec<Value>,
}

/// Brings lists into one order, so that one wish has one text.
pub(super) fn normal(mut operation: Operation) -> Result<Operation, Refusal> {
    match &mut operation {
        Operation::PersonAdd { keys, .. } | Operation::PersonKeys { keys, .. } => {
            for key in keys.iter_mut() {
                *key = super::sshsig::CustodianKey::parse(key)?.text()?;
            }
            keys.sort_unstable();
            keys.dedup();
        }
        Operation::VolumeShred { volumes }
        | Operation::KeyExport { volumes, .. }
        | Operation::KeyExtend { volumes, .. } => {
            volumes.sort_unstable();
            volumes.dedup();
        }
        Operation::KeyDestroy { keys } => {
            keys.sort_unstable();
            keys.dedup();
        }
        Operation::PersonRemove { .. }
        | Operation::Grant { .. }
        | Operation::Revoke { .. }
        | Operation::KekDestroy { .. }
        | Operation::KeyCompromise { .. }
        | Operation::VolumeRescue { .. }
        | Operation::RecoveryKeyCreate { .. }
        | Operation::RecoveryKeyRetire { .. }
        | Operation::AnchorLift { .. } => {}
    }
    Ok(operation)
}

impl Targets {
    pub(super) fn of(
        sql: &Connection,
        log: &LogState,
        rights: &Rights,
        operation: &Operation,
    ) -> Result<Self, Refusal> {
        let mut targets = Self::default();
        match operation {
            Operation::PersonAdd { name, .. }
            | Operation::PersonRemove { name }
            | Operation::PersonKeys { name, .. } => {
                targets.person(rights, name)?;
                targets.scope(Scope::everywhere());
            }
            Operation::Grant { principal, tenant, pool, .. } | Operation::Revoke { principal, tenant, pool, .. } => {
                let scope = Scope { tenant: tenant.clone(), pool: pool.clone() };
                check_scope(sql, &scope)?;
                targets.principal(rights, principal)?;
                targets.scope(scope);
            }
            Operation::VolumeShred { volumes }
            | Operation::KeyExport { volumes, .. }
            | Operation::KeyExtend { volumes, .. } => {
                if volumes.is_empty() {
                    return Err(bad_request("no volume is named", "name at least one"));
                }
                volumes.iter().try_for_each(|v| targets.volume(sql, log, *v))?;
            }
            Operation::KeyDestroy { keys } => {
                if keys.is_empty() {
                    return Err(bad_request("no key is named", "name at least one"));
                }
                keys.iter().try_for_each(|k| targets.key(sql, log, *k))?;
            }
            Operation::KeyCompromise { what: Compromised::Key(key) } => targets.key(sql, log, *key)?,
            Operation::KekDestroy { kek } | Operation::KeyCompromise { what: Compromised::Kek(kek) } => {
                targets.kek(sql, log, *kek)?;
            }
            Operation::VolumeRescue { volume, .. } => targets.volume(sql, log, *volume)?,
            Operation::RecoveryKeyCreate { tenant, .. } => targets.recovery_keys_of(sql, tenant)?,
            Operation::RecoveryKeyRetire { key } => targets.recovery_key(sql, log, *key)?,
            // The alarm that is meant stands in the operation; it is compared with the one that stands when it is carried out.
            Operation::AnchorLift { anchor, subject, alarm } => {
                let target = Target::new("anchor", anchor, format!("alarm of {subject}"));
                targets.add(target, Scope::everywhere(), json!({ "alarm": alarm }));
            }
        }
        Ok(targets)
    }

    /// SHA-256 of the canonical JSON of all states.
    pub(super) fn digest(&self) -> Result<Hex<32>, Refusal> {
        let text = canonical(&Value::Array(self.state.clone()));
        let text = text.ok_or_else(|| internal("a state with a number that is no integer"))?;
        Ok(Hex(Sha256::digest(text.as_bytes()).into()))
    }

    fn scope(&mut self, scope: Scope) {
        if !self.scopes.contains(&scope) {
            self.scopes.push(scope);
        }
    }

    fn add(&mut self, target: Target, scope: Scope, state: Value) {
        let state =
            json!({"kind": target.kind, "id": target.id, "label": target.label, "scope": scope, "state": state});
        self.state.push(state);
        self.targets.push(target);
        self.scope(scope);
    }

    fn person(&mut self, rights: &Rights, name: &str) -> Result<(), Refusal> {
        let person = rights.persons()?.into_iter().find(|p| p.name == name);
        let words = match &person {
            None => "not registered".to_owned(),
            Some(p) => {
                let keys: Vec<&str> = p.keys.iter().map(|k| k.fingerprint.as_str()).collect();
                let roles: Vec<String> = p.grants.iter().map(|g| format!("{} {}", g.role, g.scope)).collect();
                format!("keys {}; roles {}", keys.join(", "), roles.join(", "))
            }
        };
        let state = serde_json::to_value(person).map_err(|e| internal(e.to_string()))?;
        self.add(Target::new("person", name, words), Scope::everywhere(), state);
        Ok(())
    }

    fn principal(&mut self, rights: &Rights, principal: &Principal) -> Result<(), Refusal> {
        if let Principal::Person(name) = principal {
            return self.person(rights, name).map(|()| self.scopes.clear());
        }
        let grants: Vec<_> = rights.grants().into_iter().filter(|g| g.principal == *principal).collect();
        let roles: Vec<String> = grants.iter().map(|g| format!("{} {}", g.role, g.scope)).collect();
        let state = serde_json::to_value(grants).map_err(|e| internal(e.to_string()))?;
        let target = Target::new("principal", principal.to_string(), format!("roles {}", roles.join(", ")));
        self.add(target, Scope::everywhere(), state);
        self.scopes.clear();
        Ok(())
    }

    fn volume(&mut self, sql: &Connection, log: &LogState, id: Uuid) -> Result<(), Refusal> {
        let volume = VolumeRow::find(sql, id)?;
        volume.tenant_agrees(sql, &|seq| log.proven_leaf(sql, seq))?;
        let pool = PoolRow::find(sql, volume.pool)?;
        let keys = rows(
            sql,
            "SELECT json_array(partition, generation, key_id, state, key_state, kek) FROM generations WHERE volume = ?1
             ORDER BY partition, generation",
            &id.to_string(),
        )?;
        let state = name(volume.state)?;
        let target = Target {
            label: (!volume.label.is_empty()).then(|| volume.label.clone()),
            barcode: volume.cartridge.barcode.clone(),
            pool: Some(pool.policy.name.clone()),
            keys: Some(keys.len() as u64),
            ..Target::new("volume", id.to_string(), &state)
        };
        let scope = Scope::pool(TenantRow::find(sql, log, pool.tenant)?.name, pool.policy.name);
        self.add(target, scope, json!({"volume": state, "keys": keys}));
        Ok(())
    }

    fn key(&mut self, sql: &Connection, log: &LogState, key: Uuid) -> Result<(), Refusal> {
        let found: Option<(String, String, String)> = sql
            .query_row(
                "SELECT volume, key_state, json_array(volume, partition, generation, state, key_state, kek)
                 FROM generations WHERE key_id = ?1",
                [key.to_string()],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
            )
            .optional()?;
        let unknown = || {
            let what = format!("there is no data key {key} in this catalogue");
            Refusal::new(RefusalCode::UnknownGeneration, what, "see: sealtape volume show")
        };
        let (volume, key_state, state) = found.ok_or_else(unknown)?;
        let volume = VolumeRow::find(sql, crate::catalogue::uuid(&volume)?)?;
        volume.tenant_agrees(sql, &|seq| log.proven_leaf(sql, seq))?;
        let pool = PoolRow::find(sql, volume.pool)?;
        let target = Target {
            label: Some(volume.words()),
            pool: Some(pool.policy.name.clone()),
            ..Target::new("key", key.to_string(), key_state)
        };
        self.add(
            target,
            Scope::pool(TenantRow::find(sql, log, pool.tenant)?.name, pool.policy.name),
            Value::String(state),
        );
        Ok(())
    }

    /// A key-encryption key, and how many keys stand under it in which state.
    fn kek(&mut self, sql: &Connection, log: &LogState, kek: Uuid) -> Result<(), Refusal> {
        let found: Option<(i64, String, String)> = sql
            .query_row(
                "SELECT tenant, purpose || ' key-encryption key, ' || state, json_array(purpose, tenant, epoch, mechanism, state)
                 FROM keks WHERE id = ?1",
                [kek.to_string()],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
            )
            .optional()?;
        let unknown = || {
            let what = format!("there is no key-encryption key {kek} in this catalogue");
            Refusal::new(RefusalCode::KekMissing, what, "see: sealtape key list")
        };
        let (tenant, words, state) = found.ok_or_else(unknown)?;
        let by_state = "SELECT json_array(key_state, count(*)) FROM generations WHERE kek = ?1 GROUP BY key_state ORDER BY key_state";
        let copies = "SELECT json_array(kind, state, count(*)) FROM copies WHERE holder = ?1 GROUP BY kind, state ORDER BY kind, state";
        let keys: i64 =
            sql.query_row("SELECT count(*) FROM generations WHERE kek = ?1", [kek.to_string()], |r| r.get(0))?;
        let state = json!({
            "kek": state,
            "keys": rows(sql, by_state, &kek.to_string())?,
            "copies": rows(sql, copies, &kek.to_string())?,
        });
        let target =
            Target { keys: Some(crate::catalogue::from_db(keys)?), ..Target::new("kek", kek.to_string(), words) };
        self.add(target, Scope::tenant(TenantRow::find(sql, log, tenant)?.name), state);
        Ok(())
    }

    /// A tenant that is to have another recovery key: which ones it had and has, since the new one takes the place of one.
    fn recovery_keys_of(&mut self, sql: &Connection, tenant: &str) -> Result<(), Refusal> {
        check_scope(sql, &Scope::tenant(tenant))?;
        let query = format!("{RECOVERY_KEY} JOIN tenants t ON t.id = r.tenant WHERE t.name = ?1 ORDER BY r.epoch");
        let keys = rows(sql, &query, tenant)?;
        let in_use = "SELECT 'recovery key ' || r.id || ' of epoch ' || r.epoch FROM recovery_keys r
                      JOIN tenants t ON t.id = r.tenant WHERE t.name = ?1 AND r.state = 'active'";
        let words = rows(sql, in_use, tenant)?.pop().unwrap_or_else(|| "no recovery key".into());
        self.add(Target::new("tenant", tenant, words), Scope::tenant(tenant), json!({ "recovery_keys": keys }));
        Ok(())
    }

    /// A recovery key, and the others of its tenant: with it the last one may go.
    fn recovery_key(&mut self, sql: &Connection, log: &LogState, key: Uuid) -> Result<(), Refusal> {
        let found: Option<(i64, String)> = sql
            .query_row(
                "SELECT tenant, 'epoch ' || epoch || ', ' || state FROM recovery_keys WHERE id = ?1",
                [key.to_string()],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .optional()?;
        let unknown = || bad_request(format!("there is no recovery key {key}"), "see: sealtape recovery list");
        let (tenant, words) = found.ok_or_else(unknown)?;
        let tenant = TenantRow::find(sql, log, tenant)?.name;
        let query = format!("{RECOVERY_KEY} JOIN tenants t ON t.id = r.tenant WHERE t.name = ?1 ORDER BY r.epoch");
        let keys = rows(sql, &query, &tenant)?;
        let target = Target::new("recovery key", key.to_string(), words);
        self.add(target, Scope::tenant(tenant), json!({ "recovery_keys": keys }));
        Ok(())
    }
}

/// A recovery key's state: whether it is in use, and what it is.
const RECOVERY_KEY: &str = "SELECT json_array(r.id, r.epoch, r.state, r.public, r.leaf) FROM recovery_keys r";

fn rows(sql: &Connection, query: &str, value: &str) -> Result<Vec<String>, Refusal> {
    let mut query = sql.prepare_cached(query)?;
    Ok(query.query_map([value], |r| r.get(0))?.collect::<Result<_, _>>()?)
}

/// Whether there are such a tenant and pool.
pub(super) fn check_scope(sql: &Connection, scope: &Scope) -> Result<(), Refusal> {
    let Some(tenant) = &scope.tenant else {
        return match &scope.pool {
            None => Ok(()),
            Some(_) => Err(bad_request("a pool without its tenant", "name the tenant too")),
        };
    };
    let id: Option<i64> = sql.query_row("SELECT id FROM tenants WHERE name = ?1", [tenant], |r| r.get(0)).optional()?;
    let id = id.ok_or_else(|| bad_request(format!("there is no tenant {tenant:?}"), "see: sealtape tenant list"))?;
    if let Some(pool) = &scope.pool
        && PoolRow::named(sql, pool)?.tenant != id
    {
        return Err(bad_request(format!("tenant {tenant:?} has no pool {pool:?}"), "see: sealtape pool list"));
    }
    Ok(())
}
