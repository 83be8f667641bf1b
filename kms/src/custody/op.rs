//! Names of operations. A name once used keeps its meaning.

/// The log begins; `reason` is its origin.
pub const LOG_OPEN: &str = "log.open";
/// A key-encryption key is made in the token.
pub const KEK_CREATE: &str = "kek.create";
/// A data key is made in the token and wrapped.
pub const KEY_CREATE: &str = "key.create";
/// A data key comes into use; older ones of the partition are deactivated.
pub const KEY_ACTIVATE: &str = "key.activate";
/// A data key goes to the data path or to a pipe.
pub const KEY_RELEASE: &str = "key.release";
/// The data path says that it has wiped a volume's keys.
pub const KEY_RETURN: &str = "key.return";
/// A session begins.
pub const SESSION_OPEN: &str = "session.open";
/// A pipe has been written to its end.
pub const STREAM_FINISH: &str = "stream.finish";
/// An operator allows a medium to be labelled.
pub const LABEL_AUTHORIZE: &str = "label.authorize";
/// A volume is registered.
pub const VOLUME_CREATE: &str = "volume.create";
/// A volume changes its state.
pub const VOLUME_STATE: &str = "volume.state";
/// A volume's cartridge: what is known of it is entered, changed, or contradicts (then it is refused).
pub const VOLUME_CARTRIDGE: &str = "volume.cartridge";
/// What the catalogue knows of a volume is asked for (entered only when refused).
pub const VOLUME_LOOKUP: &str = "volume.lookup";
/// A pool is made.
pub const POOL_CREATE: &str = "pool.create";
/// Which blank cartridges a pool takes without being asked.
pub const POOL_AUTO_LABEL: &str = "pool.auto_label";
/// A unit is confined to pools.
pub const UNIT_RESTRICT: &str = "unit.restrict";
/// The PIN latch is cleared.
pub const PIN_UNLATCH: &str = "pin.unlatch";
/// The log is exported.
pub const AUDIT_EXPORT: &str = "audit.export";
/// Something the data path reports.
pub const INCIDENT: &str = "incident";
/// The key authority starts.
pub const SERVICE_START: &str = "service.start";
/// The key authority stops.
pub const SERVICE_STOP: &str = "service.stop";
/// A peer that may not speak here.
pub const PEER: &str = "peer";

// Tokens.

/// A token is tested and taken into use; `key` is its id, `digest` that of its enrolment.
pub const TOKEN_ENROL: &str = "token.enrol";

// Key life.

/// The release of a data key is renewed.
pub const KEY_RENEW: &str = "key.renew";
/// A data key, or all keys under a key-encryption key, are compromised; the digest is over the list of their ids.
pub const KEY_COMPROMISE: &str = "key.compromise";
/// The periods of a data key are extended.
pub const KEY_EXTEND: &str = "key.extend";
/// Two custodians let a volume whose key is compromised be read for a while.
pub const VOLUME_RESCUE: &str = "volume.rescue";
/// A pool's policy is changed; the digest is that of the policy.
pub const POOL_SET: &str = "pool.set";
/// A medium key-encryption key is given a pool and an epoch.
pub const POOL_EPOCH: &str = "pool.epoch";

// Custodians, roles, approvals.

/// A person is registered as a custodian.
pub const CUSTODIAN_ADD: &str = "custodian.add";
/// A person is removed.
pub const CUSTODIAN_REMOVE: &str = "custodian.remove";
/// A person's keys are replaced.
pub const CUSTODIAN_KEYS: &str = "custodian.keys";
/// Somebody gets a role.
pub const ROLE_GRANT: &str = "role.grant";
/// A role is taken back.
pub const ROLE_REVOKE: &str = "role.revoke";
/// An operation under dual control is asked for; `digest` is that of the request.
pub const APPROVAL_REQUEST: &str = "approval.request";
/// A custodian approves a request.
pub const APPROVAL_ADD: &str = "approval.add";
/// A request is taken back.
pub const APPROVAL_WITHDRAW: &str = "approval.withdraw";
/// An approved request is carried out: it can never be again.
pub const APPROVAL_EXECUTE: &str = "approval.execute";
/// Something is asked for without the role that it needs (entered only when refused).
pub const ACCESS: &str = "access";

// Destruction.

/// A catalogue's key-encryption key (`key`: the new one) is replaced: intent, then done, failed or interrupted.
pub const KEK_ROTATE: &str = "kek.rotate";
/// A data key is wrapped by another key-encryption key; `blobs` names the new copy.
pub const KEK_REWRAP: &str = "kek.rewrap";
/// A key-encryption key is taken out of use: it opens, and wraps no more.
pub const KEK_DEACTIVATE: &str = "kek.deactivate";
/// A destruction is planned: its digest is that of the plan.
pub const DESTRUCTION_PLAN: &str = "destruction.plan";
/// A destruction: the intent bears the approvals; `done`: its digest is that of the certificate.
pub const DESTRUCTION: &str = "destruction";
/// A data key is destroyed.
pub const KEY_DESTROY: &str = "key.destroy";
/// A key-encryption key is destroyed in the token.
pub const KEK_DESTROY: &str = "kek.destroy";
/// A volume may not be destroyed, or may be again.
pub const VOLUME_HOLD: &str = "volume.hold";

// Exchange.

/// A data key is wrapped to a partner; `reason` is the package.
pub const KEY_EXPORT: &str = "key.export";
/// A package for a partner is complete; `blobs` has the hash of what was signed.
pub const EXPORT_MADE: &str = "export.made";
/// A partner's data key is taken in; it opens only.
pub const KEY_IMPORT: &str = "key.import";
/// A partner's package was taken in; `digest` is the hash of what they signed.
pub const IMPORT_DONE: &str = "import.done";

// Recovery.

/// A recovery key is installed: from then on data keys are wrapped to it.
pub const RECOVERY_KEY_CREATE: &str = "recovery.key_create";
/// A recovery key is taken out of use.
pub const RECOVERY_KEY_RETIRE: &str = "recovery.key_retire";
/// A data key that was made before is wrapped to the recovery key.
pub const RECOVERY_WRAP: &str = "recovery.wrap";
/// A canary for a drill is made; `digest` binds the key that verifies the drill's report.
pub const RECOVERY_CANARY: &str = "recovery.canary";
/// The report of a drill is entered; `digest` is its hash.
pub const RECOVERY_DRILL: &str = "recovery.drill";

// Backups.

/// A backup of the catalogue is made; `digest` is the hash of its manifest.
pub const BACKUP_MADE: &str = "backup.made";
/// What became of a backup, as an operator reports it.
pub const BACKUP_STATE: &str = "backup.state";
/// The catalogue was restored from a backup; `digest` is the hash of its manifest.
pub const BACKUP_RESTORED: &str = "backup.restored";

// The log itself: anchors, tenants, signing key.

/// A new key signs the log from here on.
pub const LOG_KEY: &str = "log.key";
/// A tenant is entered into the catalogue.
pub const TENANT_CREATE: &str = "tenant.create";
/// Size and root of a tenant's tree.
pub const TENANT_ROOT: &str = "tenant.root";
/// The background check of the whole catalogue found a fault; `reason` names it.
pub const LOG_FAULT: &str = "log.fault";
/// Which anchors there are and what depends on them, at a start that finds them changed; `digest` is that of the policy.
pub const ANCHOR_POLICY: &str = "anchor.policy";
/// An anchor knows another history than the catalogue has: `failed`. The same anchor agrees again: `done`.
pub const ANCHOR_ALARM: &str = "anchor.alarm";
/// An anchor cannot be used (`failed`), and can be again (`done`).
pub const ANCHOR_STATE: &str = "anchor.state";
/// An anchor that has lost what was anchored in it begins from nothing.
pub const ANCHOR_ACCEPT: &str = "anchor.accept";
/// The alarm of an anchor is lifted by custodians.
pub const ANCHOR_LIFT: &str = "anchor.lift";
/// A key whose release was entered did not leave, because the entry could not be anchored.
pub const KEY_WITHHELD: &str = "key.withheld";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// What stands in backquotes, one after the other.
    fn quoted(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    #[test]
    fn the_specification_lists_every_operation() {
        let code: BTreeSet<&str> = include_str!("op.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("pub const ")?.split_once("&str = \"")?.1.strip_suffix("\";"))
            .collect();
        assert!(code.len() > 60 && code.contains(super::KEY_WITHHELD), "{code:?}");
        let specification = include_str!("../../../docs/custody/custody-log.md");
        let (_, table) = specification.split_once("| `op` | what |\n").unwrap();
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let listed: Vec<&str> = rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap())).collect();
        let documented: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(listed.len(), documented.len(), "an operation stands there twice");
        let lacking: Vec<_> = code.difference(&documented).collect();
        let foreign: Vec<_> = documented.difference(&code).collect();
        assert!(lacking.is_empty() && foreign.is_empty(), "not documented: {lacking:?}; not in the code: {foreign:?}");
    }
}
