//! Areas of the control socket, each with requests and replies of its own.

use super::{ClientError, ControlClient};
use crate::protocol::{
    AuditReply, AuditRequest, BackupReply, BackupRequest, ControlReply, ControlRequest, DestructionReply,
    DestructionRequest, DualReply, DualRequest, ExchangeReply, ExchangeRequest, HsmReply, HsmRequest, KeysReply,
    KeysRequest, RecoveryReply, RecoveryRequest, TenantReply, TenantRequest,
};
use crate::secret::DataKey;

impl ControlClient {
    /// Tokens and their enrolment.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn hsm(&self, request: HsmRequest) -> Result<HsmReply, ClientError> {
        match self.call(&ControlRequest::Hsm { request })? {
            ControlReply::Hsm(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Tenants.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn tenants(&self, request: TenantRequest) -> Result<TenantReply, ClientError> {
        match self.call(&ControlRequest::Tenants { request })? {
            ControlReply::Tenants(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// The life of keys.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn keys(&self, request: KeysRequest) -> Result<KeysReply, ClientError> {
        match self.call(&ControlRequest::Keys { request })? {
            ControlReply::Keys(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Custodians, roles and approvals.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn dual(&self, request: DualRequest) -> Result<DualReply, ClientError> {
        match self.call(&ControlRequest::Dual { request })? {
            ControlReply::Dual(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Destroying keys, and the certificates of it.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn destruction(&self, request: DestructionRequest) -> Result<DestructionReply, ClientError> {
        match self.call(&ControlRequest::Destruction { request })? {
            ControlReply::Destruction(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Giving keys to partners and taking theirs.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn exchange(&self, request: ExchangeRequest) -> Result<ExchangeReply, ClientError> {
        match self.call(&ControlRequest::Exchange { request })? {
            ControlReply::Exchange(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Takes a partner's package in: the identity that opens it goes with the request, in the frame's secret area.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn import(&self, request: ExchangeRequest, identity: &DataKey) -> Result<ExchangeReply, ClientError> {
        match self.call_with_secret(&ControlRequest::Exchange { request }, identity)? {
            ControlReply::Exchange(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// The offline recovery key.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn recovery(&self, request: RecoveryRequest) -> Result<RecoveryReply, ClientError> {
        match self.call(&ControlRequest::Recovery { request })? {
            ControlReply::Recovery(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// Backups of the catalogue.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn backup(&self, request: BackupRequest) -> Result<BackupReply, ClientError> {
        match self.call(&ControlRequest::Backup { request })? {
            ControlReply::Backup(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }

    /// The custody log: anchors, exports, its signing key.
    ///
    /// # Errors
    /// [`ClientError`]
    pub fn audit(&self, request: AuditRequest) -> Result<AuditReply, ClientError> {
        match self.call(&ControlRequest::Audit { request })? {
            ControlReply::Audit(reply) => Ok(reply),
            _ => Err(self.channel.unexpected("reply")),
        }
    }
}
