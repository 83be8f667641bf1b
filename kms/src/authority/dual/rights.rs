//! Who is a custodian and who has which role.
//!
//! Nothing of it is believed because it stands in the database. At the start every change is read in order, each proven by its leaf,
//! and from the moment on at which there are two security officers each only with the signatures of two of those who were
//! registered then. Whoever can write the database, or even append to the log, cannot make himself a custodian without theirs.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::sshsig::{CustodianKey, Signature};
use crate::catalogue::{LogState, RightsRow, dual_leaves};
use crate::custody::{Approval, Leaf, Outcome, canonical, op};
use crate::fault::{bad_request, damaged, internal};
use crate::hex::Hex;
use crate::protocol::{
    ApprovalRequest, GrantView, KeyView, Operation, PersonView, Principal, Refusal, RefusalCode, Role, Scope,
    plain_name,
};

/// Security officers without whom nothing under dual control goes.
pub(super) const OFFICERS: usize = 2;
const MOST_KEYS: usize = 8;
const MOST_PERSONS: usize = 1000;
const MOST_GRANTS: usize = 10_000;
const RECORD_FORMAT: &str = "sealtape rights 1";

/// A change of persons, keys or roles, as its leaf's digest has it. Members in the order of their names.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// The leaf of the change before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<u64>,
    format: String,
    operation: Operation,
    /// SHA-256 of the request that was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<Hex<32>>,
}

#[derive(Debug, Clone)]
struct Person {
    name: String,
    keys: Vec<CustodianKey>,
    entry: u64,
}

#[derive(Debug, Clone)]
struct Grant {
    role: Role,
    principal: Principal,
    scope: Scope,
    entry: u64,
}

/// Persons, grants, and what is spent.
#[derive(Debug, Clone, Default)]
pub(in crate::authority) struct Rights {
    persons: BTreeMap<String, Person>,
    grants: Vec<Grant>,
    /// Names once given, in lower case: a name means one person for ever.
    names: BTreeSet<String>,
    /// Digests of requests that were carried out or taken back.
    spent: HashSet<[u8; 32]>,
    head: Option<u64>,
}

/// Who has to approve an operation. Every operation needs at least [`OFFICERS`] persons.
pub(super) fn requirement(operation: &Operation) -> (Role, u8) {
    match operation {
        Operation::PersonAdd { .. }
        | Operation::PersonRemove { .. }
        | Operation::PersonKeys { .. }
        | Operation::Grant { .. }
        | Operation::Revoke { .. }
        | Operation::VolumeShred { .. }
        | Operation::KeyDestroy { .. }
        | Operation::KekDestroy { .. }
        | Operation::KeyCompromise { .. }
        | Operation::KeyExtend { .. }
        | Operation::VolumeRescue { .. }
        | Operation::RecoveryKeyCreate { .. }
        | Operation::RecoveryKeyRetire { .. }
        | Operation::KeyExport { .. }
        | Operation::AnchorLift { .. } => (Role::SecurityOfficer, 2),
    }
}

/// Name of the leaf of a change.
pub(super) fn change_op(operation: &Operation) -> Option<&'static str> {
    match operation {
        Operation::PersonAdd { .. } => Some(op::CUSTODIAN_ADD),
        Operation::PersonRemove { .. } => Some(op::CUSTODIAN_REMOVE),
        Operation::PersonKeys { .. } => Some(op::CUSTODIAN_KEYS),
        Operation::Grant { .. } => Some(op::ROLE_GRANT),
        Operation::Revoke { .. } => Some(op::ROLE_REVOKE),
        Operation::VolumeShred { .. }
        | Operation::KeyDestroy { .. }
        | Operation::KekDestroy { .. }
        | Operation::KeyCompromise { .. }
        | Operation::KeyExtend { .. }
        | Operation::VolumeRescue { .. }
        | Operation::RecoveryKeyCreate { .. }
        | Operation::RecoveryKeyRetire { .. }
        | Operation::KeyExport { .. }
        | Operation::AnchorLift { .. } => None,
    }
}

fn unknown_person(name: &str) -> Refusal {
    Refusal::new(RefusalCode::UnknownPerson, format!("there is no person {name:?}"), "see: sealtape custodian list")
}

/// A verified approval.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) person: String,
    pub(super) key: String,
    pub(super) signature: String,
}

impl Rights {
    /// Reads every change there was and checks it.
    pub(in crate::authority) fn load(
        sql: &rusqlite::Connection,
        log: &LogState,
        origins: &[String],
    ) -> Result<Self, Refusal> {
        let mut rights = Self::default();
        let mut changes = 0;
        for seq in dual_leaves(sql)? {
            let leaf = log.proven_leaf(sql, seq)?;
            if leaf.outcome != Outcome::Done {
                return Err(damaged(format!("custody entry {seq} is indexed as something that it is not")));
            }
            let foreign = |what: &str| {
                Refusal::new(
                    RefusalCode::Damaged,
                    format!(
                        "custody entry {seq} ({}) {what}: the catalogue was changed behind the key authority's back",
                        leaf.op
                    ),
                    "do not use it; export the custody log for the auditor, and restore the catalogue from a backup",
                )
            };
            let digest = leaf.digest.ok_or_else(|| foreign("names no record"))?;
            if leaf.op == op::APPROVAL_EXECUTE || leaf.op == op::APPROVAL_WITHDRAW {
                if !rights.spent.insert(digest.0) {
                    return Err(foreign("spends a request that was spent before"));
                }
                continue;
            }
            let row = RightsRow::find(sql, seq)?.ok_or_else(|| foreign("has no record"))?;
            rights.replay(sql, log, origins, seq, &leaf, &row).map_err(|what| foreign(&what))?;
            changes += 1;
        }
        if RightsRow::count(sql)? != changes {
            return Err(damaged("the catalogue holds changes of persons or roles that no custody entry knows"));
        }
        Ok(rights)
    }

    /// One change of the past, checked as it was when it was made.
    fn replay(
        &mut self,
        sql: &rusqlite::Connection,
        log: &LogState,
        origins: &[String],
        seq: u64,
        leaf: &Leaf,
        row: &RightsRow,
    ) -> Result<(), String> {
        if leaf.digest != Some(Hex(Sha256::digest(row.record.as_bytes()).into())) {
            return Err("is of another record than the one in the catalogue".into());
        }
        let record: Record = serde_json::from_str(&row.record).map_err(|e| format!("has an unreadable record: {e}"))?;
        if record.format != RECORD_FORMAT || record.before != self.head {
            return Err("does not follow the change before it".into());
        }
        if change_op(&record.operation) != Some(leaf.op.as_str()) {
            return Err("is of another operation than its record".into());
        }
        if self.officers() >= OFFICERS {
            let digest = record.request.ok_or("was made without approvals, when two were needed")?;
            let text = row.request.as_deref().ok_or("has no request")?;
            let executed = seq.checked_sub(1).and_then(|before| log.proven_leaf(sql, before).ok());
            let carried_out = executed.is_some_and(|e| {
                e.op == op::APPROVAL_EXECUTE && e.outcome == Outcome::Done && e.digest == Some(digest)
            });
            if ApprovalRequest::digest(text) != digest || !carried_out {
                return Err("does not carry the request out that it names".into());
            }
            let request = ApprovalRequest::parse(text).map_err(|e| format!("has a request that is {e}"))?;
            let in_time = request.created <= leaf.time && leaf.time <= request.expires;
            if request.operation != record.operation || !origins.contains(&request.origin) || !in_time {
                return Err("has a request for something else".into());
            }
            self.approved(&request, text, leaf.approvals.iter().map(|a| a.signature.as_str()))
                .map_err(|e| format!("is not approved: {e}"))?;
        }
        self.apply(&record.operation, seq).map_err(|e| format!("cannot be: {}", e.what))
    }

    /// The record of a change that comes next, and SHA-256 of it.
    pub(super) fn record(
        &self,
        operation: &Operation,
        request: Option<[u8; 32]>,
    ) -> Result<(String, [u8; 32]), Refusal> {
        let record = Record {
            before: self.head,
            format: RECORD_FORMAT.into(),
            operation: operation.clone(),
            request: request.map(Hex),
        };
        let value = serde_json::to_value(record).map_err(|e| internal(e.to_string()))?;
        let text = canonical(&value).ok_or_else(|| internal("a record with a number that is no integer"))?;
        let digest = Sha256::digest(text.as_bytes()).into();
        Ok((text, digest))
    }

    /// Persons whose security officer's right is not limited.
    pub(super) fn officers(&self) -> usize {
        let officer = |p: &&Person| {
            self.grants.iter().any(|g| {
                g.role == Role::SecurityOfficer
                    && g.scope == Scope::everywhere()
                    && g.principal == Principal::Person(p.name.clone())
            })
        };
        self.persons.values().filter(officer).count()
    }

    /// Makes a change, if the rules of persons and roles allow it. `self` is unusable after an error.
    pub(super) fn apply(&mut self, operation: &Operation, entry: u64) -> Result<(), Refusal> {
        let officers = self.officers();
        match operation {
            Operation::PersonAdd { name, keys } => self.add(name, keys, entry)?,
            Operation::PersonRemove { name } => {
                self.persons.remove(name).ok_or_else(|| unknown_person(name))?;
                self.grants.retain(|g| g.principal != Principal::Person(name.clone()));
            }
            Operation::PersonKeys { name, keys } => {
                let keys = self.check_keys(keys, Some(name))?;
                let person = self.persons.get_mut(name).ok_or_else(|| unknown_person(name))?;
                (person.keys, person.entry) = (keys, entry);
            }
            Operation::Grant { role, principal, tenant, pool } => {
                let scope = Scope { tenant: tenant.clone(), pool: pool.clone() };
                self.grant(*role, principal, scope, entry)?;
            }
            Operation::Revoke { role, principal, tenant, pool } => {
                let scope = Scope { tenant: tenant.clone(), pool: pool.clone() };
                let at =
                    self.grants.iter().position(|g| g.role == *role && g.principal == *principal && g.scope == scope);
                let at = at.ok_or_else(|| {
                    bad_request(format!("{principal} has not the role {role} {scope}"), "see: sealtape role list")
                })?;
                self.grants.remove(at);
            }
            other => return Err(internal(format!("no change of rights: {}", other.words()))),
        }
        if officers >= OFFICERS && self.officers() < OFFICERS {
            return Err(Refusal::new(
                RefusalCode::NotAllowed,
                format!("this would leave {} security officer(s) for everything, and two are needed", self.officers()),
                "register another one first",
            ));
        }
        self.head = Some(entry);
        Ok(())
    }

    fn add(&mut self, name: &str, keys: &[String], entry: u64) -> Result<(), Refusal> {
        if !plain_name(name) {
            let mend = "use letters, digits and . _ - @ of ASCII, at most 64";
            return Err(bad_request(format!("{name:?} is no name of a person"), mend));
        }
        if self.persons.len() >= MOST_PERSONS {
            return Err(bad_request(format!("there are {MOST_PERSONS} persons already"), "remove some"));
        }
        let keys = self.check_keys(keys, None)?;
        if !self.names.insert(name.to_ascii_lowercase()) {
            let what = format!("the name {name:?} was given before");
            return Err(bad_request(what, "a name stands for one person for ever: choose another one"));
        }
        self.persons.insert(name.to_owned(), Person { name: name.to_owned(), keys, entry });
        Ok(())
    }

    fn check_keys(&self, keys: &[String], of: Option<&String>) -> Result<Vec<CustodianKey>, Refusal> {
        if keys.is_empty() || keys.len() > MOST_KEYS {
            return Err(bad_request(format!("{} keys are given", keys.len()), format!("give 1 to {MOST_KEYS}")));
        }
        let mut checked: Vec<CustodianKey> = Vec::new();
        for line in keys {
            let key = CustodianKey::parse(line)?;
            if key.text()? != *line {
                return Err(bad_request("a key is not in the form that is kept", "give it without comment"));
            }
            let owner = self.owner(&key.fingerprint()).map(|(p, _)| p.name.clone()).filter(|owner| Some(owner) != of);
            if let Some(owner) = owner {
                let what = format!("the key {} is that of {owner:?}", key.fingerprint());
                return Err(bad_request(what, "each person has keys of their own"));
            }
            if checked.contains(&key) {
                return Err(bad_request(format!("the key {} is given twice", key.fingerprint()), "give it once"));
            }
            checked.push(key);
        }
        Ok(checked)
    }

    fn grant(&mut self, role: Role, principal: &Principal, scope: Scope, entry: u64) -> Result<(), Refusal> {
        if let Principal::Person(name) = principal
            && !self.persons.contains_key(name)
        {
            return Err(unknown_person(name));
        }
        if scope.pool.is_some() && scope.tenant.is_none() {
            return Err(bad_request("a pool without its tenant", "name the tenant too"));
        }
        let same = |g: &Grant| g.role == role && g.principal == *principal && g.scope == scope;
        if self.grants.iter().any(same) {
            return Err(bad_request(format!("{principal} has the role {role} {scope}"), "see: sealtape role list"));
        }
        if self.grants.len() >= MOST_GRANTS {
            return Err(bad_request(format!("there are {MOST_GRANTS} grants already"), "grant to groups"));
        }
        self.grants.push(Grant { role, principal: principal.clone(), scope, entry });
        Ok(())
    }

    fn owner(&self, fingerprint: &str) -> Option<(&Person, &CustodianKey)> {
        self.persons.values().find_map(|p| p.keys.iter().find(|k| k.fingerprint() == fingerprint).map(|k| (p, k)))
    }

    /// Verifies a signature over a request by a person who may approve it; else why not, in words.
    pub(super) fn verify(&self, request: &ApprovalRequest, text: &str, signature: &str) -> Result<Verified, String> {
        let signature = Signature::from_base64(signature).map_err(|e| format!("the signature cannot be read: {e}"))?;
        let fingerprint = signature.fingerprint();
        let (person, key) = self
            .owner(&fingerprint)
            .ok_or_else(|| format!("the key {fingerprint} is not that of a registered person"))?;
        signature.verify(key, text).map_err(|e| format!("the signature of {fingerprint} does not count: {e}"))?;
        let (role, _) = requirement(&request.operation);
        let may = |target: &Scope| {
            self.grants.iter().any(|g| {
                g.role == role && g.principal == Principal::Person(person.name.clone()) && g.scope.covers(target)
            })
        };
        match request.scopes.iter().find(|target| !may(target)) {
            _ if request.scopes.is_empty() => Err("the request does not say where it holds".into()),
            Some(target) => Err(format!("{:?} has not the role {role} for {target}", person.name)),
            None => {
                Ok(Verified { person: person.name.clone(), key: fingerprint, signature: signature.base64().to_owned() })
            }
        }
    }

    /// The approvals that count, if they are enough and of distinct persons.
    pub(super) fn approved<'a>(
        &self,
        request: &ApprovalRequest,
        text: &str,
        signatures: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Verified>, String> {
        let (mut counting, mut faults): (Vec<Verified>, Vec<String>) = Default::default();
        for signature in signatures {
            match self.verify(request, text, signature) {
                Ok(one) if counting.iter().any(|v| v.person == one.person) => {
                    faults.push(format!("{:?} approved twice", one.person));
                }
                Ok(one) => counting.push(one),
                Err(fault) => faults.push(fault),
            }
        }
        let (role, needed) = requirement(&request.operation);
        if counting.len() >= usize::from(needed).max(OFFICERS) {
            return Ok(counting);
        }
        let faults = if faults.is_empty() { String::new() } else { format!(" ({})", faults.join("; ")) };
        Err(format!("{} of {needed} approvals by persons with the role {role} count{faults}", counting.len()))
    }

    pub(super) fn is_spent(&self, digest: &[u8; 32]) -> bool {
        self.spent.contains(digest)
    }

    pub(super) fn spend(&mut self, digest: [u8; 32]) {
        self.spent.insert(digest);
    }

    pub(in crate::authority) fn persons(&self) -> Result<Vec<PersonView>, Refusal> {
        let view = |p: &Person| {
            let key = |k: &CustodianKey| Ok(KeyView { fingerprint: k.fingerprint(), public: k.text()? });
            let principal = Principal::Person(p.name.clone());
            Ok(PersonView {
                name: p.name.clone(),
                keys: p.keys.iter().map(key).collect::<Result<_, Refusal>>()?,
                grants: self.grants().into_iter().filter(|g| g.principal == principal).collect(),
                entry: p.entry,
            })
        };
        self.persons.values().map(view).collect()
    }

    pub(super) fn grants(&self) -> Vec<GrantView> {
        let view = |g: &Grant| GrantView {
            role: g.role,
            principal: g.principal.clone(),
            scope: g.scope.clone(),
            entry: g.entry,
        };
        self.grants.iter().map(view).collect()
    }

    /// Whether users or groups of this machine have roles; if not, the control socket's admission decides.
    pub(in crate::authority) fn local(&self) -> bool {
        self.grants.iter().any(|g| !matches!(g.principal, Principal::Person(_)))
    }

    /// Roles of a user who is in `groups`.
    pub(in crate::authority) fn of_user(&self, uid: u32, in_group: impl Fn(&str) -> bool) -> Vec<(Role, Scope)> {
        let has = |g: &&Grant| match &g.principal {
            Principal::User(granted) => *granted == uid,
            Principal::Group(name) => in_group(name),
            Principal::Person(_) => false,
        };
        self.grants.iter().filter(has).map(|g| (g.role, g.scope.clone())).collect()
    }
}

/// The leaf's form of verified approvals.
pub(super) fn for_leaf(
    verified: Vec<Verified>,
    pseudonym: impl Fn(&str) -> Result<String, Refusal>,
) -> Result<Vec<Approval>, Refusal> {
    let one = |v: Verified| Ok(Approval { key: v.key, person: pseudonym(&v.person)?, signature: v.signature });
    verified.into_iter().map(one).collect()
}
