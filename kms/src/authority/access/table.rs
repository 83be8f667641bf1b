//! The table: each request, the roles that may ask for it, and where its target lies. A new request does not compile without a line
//! here.

use super::Need;
use crate::authority::Authority;
use crate::authority::admin::by_name;
use crate::authority::label::DEFAULT_POOL;
use crate::catalogue::{PoolRow, TenantRow};
use crate::protocol::Role::{Administrator, Auditor, Backup, Operator, Recovery, SecurityOfficer};
use crate::protocol::{
    AnchorRequest, AuditRequest, BackupRequest, ControlRequest, DestructionRequest, ExchangeRequest, ExportScope,
    HsmRequest, KeysRequest, RecoveryRequest, Refusal, RefusalCode, Role, Scope, TenantRequest,
};

/// What the tenant is called that an installation begins with.
const DEFAULT_TENANT_NAME: &str = "default";

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
            Q::AuthorizeLabel(order) => self.at_pool(OPERATION, order.pool.as_deref().unwrap_or(DEFAULT_POOL)),
            Q::SetVolumeState { volume, .. } | Q::SetCartridge { volume, .. } => self.at_volume(OPERATION, volume),
            Q::ShowVolume { volume } => self.at_volume(Need::OneOf(&Role::ALL), volume),
            // What lists show is limited to the pools of the asker's roles.
            Q::ListVolumes(_) | Q::ListPools | Q::Status => everywhere(Need::AnyRole),
            Q::CreatePool { tenant, .. } => Ok((ADMINISTRATION, at_tenant(tenant.as_deref()))),
            // It makes a key-encryption key, as a rotation does, and there is no tenant yet in which a role could hold.
            Q::Tenants { request: TenantRequest::Create { .. } } => everywhere(SECURITY),
            Q::Tenants { request: TenantRequest::List } => everywhere(Need::AnyRole),
            Q::RestrictUnit { .. } | Q::ClearPinLatch => everywhere(ADMINISTRATION),
            Q::Checkpoint => everywhere(Need::OneOf(&[Auditor, Administrator])),
            Q::Dual { .. } => everywhere(Need::Nothing),
            Q::Keys { request } => self.keys(request),
            Q::Hsm { request } => everywhere(hsm(request)),
            Q::Destruction { request } => self.destroying(request),
            Q::Exchange { request } => self.exchange(request),
            Q::Recovery { request } => Ok(recovery(request)),
            Q::Backup { request } => everywhere(backup(request)),
            Q::Audit { request } => audit(request),
        }
    }

    fn keys(&self, request: &KeysRequest) -> Result<(Need, Scope), Refusal> {
        use KeysRequest as Q;
        match request {
            Q::List { .. } | Q::ListKeks => Ok((Need::OneOf(&Role::ALL), Scope::everywhere())),
            Q::ShowPool { pool } => self.at_pool(Need::OneOf(&Role::ALL), pool),
            Q::SetPool { policy } => self.at_pool(ADMINISTRATION, &policy.name),
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
            Q::Import { pool, .. } => self.at_pool(RECOVERY, pool.as_deref().unwrap_or(DEFAULT_POOL)),
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
        row.tenant_agrees(sql, &|seq| catalogue.log().proven_leaf(sql, seq))?;
        let pool = PoolRow::find(sql, row.pool)?;
        let tenant = TenantRow::find(sql, catalogue.log(), row.tenant)?;
        Ok((need, Scope::pool(tenant.name, pool.policy.name)))
    }

    /// A pool, in its tenant. An unknown one lies in no tenant, so that whose roles do not hold everywhere cannot tell it from another
    /// tenant's; while there is one tenant, it would be there.
    fn at_pool(&self, need: Need, pool: &str) -> Result<(Need, Scope), Refusal> {
        let catalogue = self.lock();
        let (sql, log) = (catalogue.sql(), catalogue.log());
        let tenant = match PoolRow::named(sql, pool) {
            Ok(row) => {
                row.confirm(sql, log)?;
                TenantRow::find(sql, log, row.tenant)?.name
            }
            Err(e) if e.code != RefusalCode::UnknownPool => return Err(e),
            Err(_) if TenantRow::several(sql)? => String::new(),
            Err(_) => TenantRow::named(sql, log, None)?.name,
        };
        Ok((need, Scope::pool(tenant, pool)))
    }

    /// What was destroyed may be known to everybody who has a role, while there is one tenant; of several, whose roles hold everywhere.
    /// What is to be destroyed is for security officers.
    fn destroying(&self, request: &DestructionRequest) -> Result<(Need, Scope), Refusal> {
        use DestructionRequest as Q;
        let several = TenantRow::several(self.lock().sql())?;
        let need = if several { Need::OneOf(&Role::ALL) } else { Need::AnyRole };
        Ok(match request {
            Q::ShowRotation { tenant } => (need, at_tenant(tenant.as_deref())),
            Q::Show { .. } | Q::List | Q::Certificate { .. } | Q::Holds => (need, Scope::everywhere()),
            Q::Rotate { tenant, .. } | Q::StopRotation { tenant, .. } => (SECURITY, at_tenant(tenant.as_deref())),
            Q::Plan { .. } | Q::Ask { .. } | Q::CarryOut { .. } | Q::Hold { .. } => (SECURITY, Scope::everywhere()),
        })
    }
}

/// A tenant by its name; an unknown one is where no role in a tenant holds.
fn at_tenant(name: Option<&str>) -> Scope {
    Scope::tenant(name.unwrap_or(DEFAULT_TENANT_NAME))
}

fn hsm(request: &HsmRequest) -> Need {
    match request {
        // The status shows the tokens too.
        HsmRequest::List => Need::AnyRole,
        HsmRequest::Enrol(_) => SECURITY,
    }
}

fn recovery(request: &RecoveryRequest) -> (Need, Scope) {
    use RecoveryRequest as Q;
    const INSTALLING: Need = Need::OneOf(&[Administrator, SecurityOfficer, Recovery]);
    match request {
        // Custodians decide about them.
        Q::Install { key, .. } => (INSTALLING, Scope::tenant(&key.tenant)),
        Q::Retire { .. } => (INSTALLING, Scope::everywhere()),
        Q::Keys => (READING, Scope::everywhere()),
        Q::Backfill { tenant, .. } | Q::Canary { key: None, tenant } => (RECOVERY, at_tenant(tenant.as_deref())),
        // Whose they are is not said.
        Q::Canary { key: Some(_), .. } | Q::EnterDrill { .. } => (RECOVERY, Scope::everywhere()),
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
