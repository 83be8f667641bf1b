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
    AnchorRequest, AuditRequest, ControlRequest, DestructionRequest, ExportOrder, ExportScope, KeysRequest, Refusal, Role,
    Scope,
};

const OPERATION: Need = Need::OneOf(&[Operator, Administrator]);
const ADMINISTRATION: Need = Need::OneOf(&[Administrator]);
const AUDIT: Need = Need::OneOf(&[Auditor]);
const SECURITY: Need = Need::OneOf(&[Administrator, SecurityOfficer]);

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
            Q::Hsm { .. } => everywhere(SECURITY),
            Q::Destruction { request } => everywhere(destruction(request)),
            Q::Exchange { .. } => everywhere(Need::OneOf(&[Administrator, SecurityOfficer, Backup, Recovery])),
            Q::Recovery { .. } => everywhere(Need::OneOf(&[Administrator, SecurityOfficer, Recovery])),
            Q::Backup { .. } => everywhere(Need::OneOf(&[Administrator, Backup])),
            Q::Audit { request } => audit(request),
        }
    }

    fn keys(&self, request: &KeysRequest) -> Result<(Need, Scope), Refusal> {
        use KeysRequest as Q;
        match request {
            Q::List { .. } | Q::ListKeks => Ok((Need::OneOf(&Role::ALL), Scope::everywhere())),
            Q::ShowPool { pool } => Ok((Need::OneOf(&Role::ALL), Scope::pool(FIRST_TENANT, pool))),
            Q::SetPool { policy } => Ok((ADMINISTRATION, Scope::pool(FIRST_TENANT, &policy.name))),
            Q::Compromise { .. } => Ok((SECURITY, Scope::everywhere())),
        }
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
    let need = match request {
        AuditRequest::Export { order: ExportOrder { scope: ExportScope::Tenant(name), .. } } => {
            return Ok((AUDIT, Scope::tenant(name)));
        }
        AuditRequest::Export { .. } | AuditRequest::Entries { .. } | AuditRequest::Consistency { .. } => AUDIT,
        AuditRequest::LogKeys => Need::AnyRole,
        AuditRequest::RotateLogKey { .. } => SECURITY,
        AuditRequest::Anchor { request: AnchorRequest::Status } => Need::AnyRole,
        AuditRequest::Anchor { request: AnchorRequest::Now } => Need::OneOf(&[Auditor, Administrator, SecurityOfficer]),
        // It says that what an anchor contradicts is nevertheless right.
        AuditRequest::Anchor { request: AnchorRequest::Accept { .. } } => {
            Need::OneOf(&[SecurityOfficer, Administrator])
        }
    };
    Ok((need, Scope::everywhere()))
}
