//! The table: each request, the roles that may ask for it, and where its target lies. A new request does not compile without a line
//! here.

use super::{FIRST_TENANT, Need};
use crate::authority::Authority;
use crate::authority::admin::by_name;
use crate::authority::dual::tenant_name;
use crate::authority::label::DEFAULT_POOL;
use crate::catalogue::PoolRow;
use crate::protocol::Role::{Administrator, Auditor, Backup, Operator, Recovery, SecurityOfficer};
use crate::protocol::{
    AnchorRequest, AuditRequest, BackupRequest, ControlRequest, DestructionRequest, ExchangeRequest, ExportScope,
    HsmRequest, KeysRequest, RecoveryRequest, Refusal, Role, Scope,
};

const OPERATION: Need = Need::OneOf(&[Operator, Administrator]);
const ADMINISTRATION: Need = Need::OneOf(&[Administrator]);
const AUDIT: Need = Need::OneOf(&[Auditor]);
const SECURITY: Need = Need::OneOf(&[Administrator, SecurityOfficer]);
/// Giving keys to partners.
const GIVING: Need = Need::OneOf(&[Administrator, SecurityOfficer, Backup]);
/// Copies of the catalogue.
const BACKUP: Need = Need::OneOf(&[Administrator, Backup]);
const RECOVERY: Need = Need::OneOf(&[Administrator, Recovery]);
/// What there is of packages, backups and recovery keys concerns the whole installation, and no operator's work.
const READING: Need = Need::OneOf(&[Administrator, SecurityOfficer, Auditor, Backup, Recovery]);

impl Authority {
    pub(super) fn need(&self, request: &ControlRequest) -> Result<(Need, Scope), Refusal> {
        use ControlRequest as Q;
        let everywhere = |need| Ok((need, Scope::everywhere()));
        match request {
            Q::AuthorizeLabel(order) => {
                let pool = order.pool.as_deref().unwrap_or(DEFAULT_POOL);
                Ok((OPERATION, Scope::pool(FIRST_TENANT, pool)))
            }
            Q::SetVolumeState { volume, .. } | Q::SetCartridge { volume, .. } => self.at_volume(OPERATION, volume),
            Q::ShowVolume { volume } => self.at_volume(Need::OneOf(&Role::ALL), volume),
            // What lists show is limited to the pools of the asker's roles.
            Q::ListVolumes(_) | Q::ListPools | Q::Status => everywhere(Need::AnyRole),
            Q::CreatePool { .. } => Ok((ADMINISTRATION, Scope::tenant(FIRST_TENANT))),
            Q::RestrictUnit { .. } | Q::ClearPinLatch => everywhere(ADMINISTRATION),
            Q::Checkpoint => everywhere(Need::OneOf(&[Auditor, Administrator])),
            Q::Dual { .. } => everywhere(Need::Nothing),
            Q::Keys { request } => self.keys(request),
            Q::Hsm { request } => everywhere(hsm(request)),
            Q::Destruction { request } => everywhere(destruction(request)),
            Q::Exchange { request } => self.exchange(request),
            Q::Recovery { request } => everywhere(recovery(request)),
            Q::Backup { request } => everywhere(backup(request)),
            Q::Audit { request } => audit(request),
        }
    }

    fn keys(&self, request: &KeysRequest) -> Result<(Need, Scope), Refusal> {
        use KeysRequest as Q;
        match request {
            Q::List { .. } | Q::ListKeks => Ok((Need::OneOf(&Role::ALL), Scope::everywhere())),
            Q::ShowPool { pool } => Ok((Need::OneOf(&Role::ALL), Scope::pool(FIRST_TENANT, pool))),
            Q::SetPool { policy } => Ok((ADMINISTRATION, Scope::pool(FIRST_TENANT, &policy.name))),
            // What these ask for is decided by custodians.
            Q::Extend { .. } | Q::Rescue { .. } | Q::CarryOut { .. } => Ok((SECURITY, Scope::everywhere())),
            Q::Compromise { .. } => Ok((SECURITY, Scope::everywhere())),
        }
    }

    fn exchange(&self, request: &ExchangeRequest) -> Result<(Need, Scope), Refusal> {
        use ExchangeRequest as Q;
        match request {
            Q::Ask(order) => self.at_volumes(GIVING, &order.volumes),
            // Custodians decided about it; whose volumes they are stands in what they signed.
            Q::Export { .. } => Ok((GIVING, Scope::everywhere())),
            Q::Import { pool, .. } => {
                let pool = pool.as_deref().unwrap_or(DEFAULT_POOL);
                Ok((RECOVERY, Scope::pool(FIRST_TENANT, pool)))
            }
            Q::Packages => Ok((READING, Scope::everywhere())),
        }
    }

    /// Where several volumes lie: in one pool, or else everywhere.
    fn at_volumes(&self, need: Need, volumes: &[String]) -> Result<(Need, Scope), Refusal> {
        let mut places = volumes.iter().map(|volume| self.at_volume(need, volume));
        let Some(first) = places.next().transpose()? else { return Ok((need, Scope::everywhere())) };
        for place in places {
            if place? != first {
                return Ok((need, Scope::everywhere()));
            }
        }
        Ok(first)
    }

    /// Where a volume lies. Of an unknown one the answer is that it is unknown, for whoever has the role somewhere.
    fn at_volume(&self, need: Need, volume: &str) -> Result<(Need, Scope), Refusal> {
        let catalogue = self.lock();
        let sql = catalogue.sql();
        let Ok(row) = by_name(sql, volume) else { return Ok((Need::AnyRole, Scope::everywhere())) };
        let pool = PoolRow::find(sql, row.pool)?;
        Ok((need, Scope::pool(tenant_name(sql, pool.tenant)?, pool.policy.name)))
    }
}

fn hsm(request: &HsmRequest) -> Need {
    match request {
        // The status shows the tokens too.
        HsmRequest::List => Need::AnyRole,
        HsmRequest::Enrol(_) => SECURITY,
    }
}

fn recovery(request: &RecoveryRequest) -> Need {
    use RecoveryRequest as Q;
    match request {
        // Custodians decide about them.
        Q::Install { .. } | Q::Retire { .. } => Need::OneOf(&[Administrator, SecurityOfficer, Recovery]),
        Q::Keys => READING,
        Q::Backfill { .. } | Q::Canary { .. } | Q::EnterDrill { .. } => RECOVERY,
    }
}

fn backup(request: &BackupRequest) -> Need {
    use BackupRequest as Q;
    match request {
        Q::Make { .. } | Q::Read { .. } | Q::Forget { .. } => BACKUP,
        Q::List => READING,
        // Certificates of destruction rely on it: not whoever holds the backups alone.
        Q::Destroyed { .. } => SECURITY,
    }
}

/// What was destroyed may be known to everybody who has a role; what is to be is for security officers.
fn destruction(request: &DestructionRequest) -> Need {
    use DestructionRequest as Q;
    match request {
        Q::ShowRotation | Q::Show { .. } | Q::List | Q::Certificate { .. } | Q::Holds => Need::AnyRole,
        Q::Rotate { .. }
        | Q::StopRotation { .. }
        | Q::Plan { .. }
        | Q::Ask { .. }
        | Q::CarryOut { .. }
        | Q::Hold { .. } => SECURITY,
    }
}

fn audit(request: &AuditRequest) -> Result<(Need, Scope), Refusal> {
    let of_tenant = |tenant: &Option<String>| match tenant {
        Some(tenant) => Scope::tenant(tenant.as_str()),
        None => Scope::everywhere(),
    };
    let need = match request {
        AuditRequest::Export { order } => {
            let scope = match &order.scope {
                ExportScope::Full => Scope::everywhere(),
                ExportScope::Tenant(tenant) => Scope::tenant(tenant.as_str()),
                ExportScope::Selection(filter) => of_tenant(&filter.tenant),
            };
            return Ok((AUDIT, scope));
        }
        // Who stands behind a pseudonym is for those who answer for persons.
        AuditRequest::Entries { names: true, filter, .. } => {
            return Ok((Need::OneOf(&[SecurityOfficer, Administrator]), of_tenant(&filter.tenant)));
        }
        AuditRequest::Entries { filter, .. } => return Ok((AUDIT, of_tenant(&filter.tenant))),
        AuditRequest::Consistency { .. } => AUDIT,
        AuditRequest::LogKeys => Need::AnyRole,
        AuditRequest::RotateLogKey { .. } => SECURITY,
        AuditRequest::Anchor { request: AnchorRequest::Status } => Need::AnyRole,
        AuditRequest::Anchor { request: AnchorRequest::Now } => Need::OneOf(&[Auditor, Administrator, SecurityOfficer]),
        // It says that what an anchor does not hold any more, or contradicts, is nevertheless right.
        AuditRequest::Anchor { request: AnchorRequest::Accept { .. } | AnchorRequest::Lift { .. } } => SECURITY,
    };
    Ok((need, Scope::everywhere()))
}
