//! What crosses the control socket.

use serde::{Deserialize, Serialize};

use super::anchor::AnchoringView;
use super::audit::{AuditReply, AuditRequest, ScrubView};

use super::backup::{BackupReply, BackupRequest};
use super::data_path::Ticket;
use super::destruction::{DestructionReply, DestructionRequest};
use super::dual::{DualReply, DualRequest};
use super::exchange::{ExchangeReply, ExchangeRequest};
use super::hsm::{HsmReply, HsmRequest};
use super::keys::{KeyLifeSummary, KeysReply, KeysRequest};
use super::recovery::{RecoveryReply, RecoveryRequest};
use super::refusal::Refusal;
use super::tenants::{PoolView, TenantReply, TenantRequest};
use super::types::{CheckpointView, PoolPolicy, VolumePage, VolumeQuery, VolumeState, VolumeView};
use crate::cartridge::Cartridge;
use crate::hex::Hex;

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlRequest {
    /// Allows a unit to label one medium.
    AuthorizeLabel(LabelOrder),
    /// Volumes that fit, page by page.
    ListVolumes(VolumeQuery),
    /// One volume, by UUID or by the label of an active one.
    ShowVolume {
        /// UUID or label.
        volume: String,
    },
    /// Retires a volume, or takes it back into use.
    SetVolumeState {
        /// UUID or label.
        volume: String,
        /// `Retired` or `Active`.
        state: VolumeState,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// A volume stands in this cartridge now, whatever the catalogue had: its barcode was exchanged, say.
    SetCartridge {
        /// UUID or label.
        volume: String,
        /// The cartridge as it is now; what it does not tell stays as it was.
        cartridge: Cartridge,
        /// Why; kept in the custody log.
        reason: String,
    },
    /// The pools.
    ListPools,
    /// A new pool.
    CreatePool {
        /// Its policy.
        policy: PoolPolicy,
        /// Its tenant; none for the one called default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
    },
    /// Tenants.
    Tenants {
        /// What is asked.
        request: TenantRequest,
    },
    /// Which pools a unit may load and label; an empty list lifts the restriction.
    RestrictUnit {
        /// The unit.
        unit: String,
        /// Names of pools.
        pools: Vec<String>,
    },
    /// Signs a checkpoint of the custody log now.
    Checkpoint,
    /// Token, log, catalogue.
    Status,
    /// After a rejected PIN was put right.
    ClearPinLatch,
    /// Tokens and their enrolment.
    Hsm {
        /// What is asked.
        request: HsmRequest,
    },
    /// The life of keys: states, periods, key-encryption keys, compromise.
    Keys {
        /// What is asked.
        request: KeysRequest,
    },
    /// Custodians, roles and approvals.
    Dual {
        /// What is asked.
        request: DualRequest,
    },
    /// Destroying keys, and the certificates of it.
    Destruction {
        /// What is asked.
        request: DestructionRequest,
    },
    /// Giving keys to partners and taking theirs.
    Exchange {
        /// What is asked.
        request: ExchangeRequest,
    },
    /// The offline recovery key.
    Recovery {
        /// What is asked.
        request: RecoveryRequest,
    },
    /// Backups of the catalogue.
    Backup {
        /// What is asked.
        request: BackupRequest,
    },
    /// The custody log: anchors, exports, its signing key.
    Audit {
        /// What is asked.
        request: AuditRequest,
    },
}

/// What an operator wants labelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelOrder {
    /// The unit whose medium is meant.
    pub unit: String,
    /// The label: 1 to 64 printable characters.
    pub label: String,
    /// The barcode: 1 to 32 printable characters.
    pub barcode: Option<String>,
    /// The pool; none for the default pool.
    pub pool: Option<String>,
    /// 1 or 2.
    pub partitions: u8,
    /// Whether a medium that holds one of our volumes may be labelled again; it may keep its label.
    pub relabel: bool,
}

/// A permission to label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelTicket {
    /// To hand to the data path, once.
    pub ticket: Ticket,
    /// Until when (RFC 3339, UTC).
    pub expires: String,
}

/// Health of the key authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The token's URI.
    pub token_uri: String,
    /// Whether a real unwrap just worked.
    pub token_ok: bool,
    /// Why not.
    pub token_error: Option<Refusal>,
    /// Whether a rejected PIN holds everything back.
    pub pin_latched: bool,
    /// How often the PKCS#11 worker was started.
    pub worker_starts: u64,
    /// Origin of the custody log.
    pub log_origin: String,
    /// Number of leaves.
    pub log_size: u64,
    /// Root of the tree.
    pub log_root: Hex<32>,
    /// Size at the last signed checkpoint.
    pub checkpoint_size: u64,
    /// Number of volumes.
    pub volumes: u64,
    /// The public key that verifies exports, as a C2SP verifier key.
    pub log_key: String,
    /// The check of the whole catalogue in the background.
    pub scrub: ScrubView,
    /// How the log's anchors stand; none if there are none.
    #[serde(default)]
    pub anchoring: Option<Box<AnchoringView>>,
    /// All tokens.
    #[serde(default)]
    pub tokens: Vec<super::hsm::TokenView>,
    /// Ends of keys that come near.
    #[serde(default)]
    pub key_life: KeyLifeSummary,
    /// Every backup of the catalogue is closed, and there is no new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_lacking: Option<Box<super::backup::BackupLacking>>,
}

/// A reply on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum ControlReply {
    /// To `AuthorizeLabel`.
    Ticket(LabelTicket),
    /// To `ListVolumes`.
    Volumes(VolumePage),
    /// To `ShowVolume`.
    Volume(VolumeView),
    /// To `ListPools`.
    Pools(Vec<PoolView>),
    /// To `Tenants`.
    Tenants(TenantReply),
    /// Lines of an export, each ended by a newline.
    ExportPart(String),
    /// The end of an export.
    Exported(CheckpointView),
    /// To `Checkpoint`.
    Checkpoint(CheckpointView),
    /// To `Status`.
    Status(Status),
    /// To `Hsm`.
    Hsm(HsmReply),
    /// To `Keys`.
    Keys(KeysReply),
    /// To `Dual`.
    Dual(DualReply),
    /// To `Destruction`.
    Destruction(DestructionReply),
    /// To `Exchange`.
    Exchange(ExchangeReply),
    /// To `Recovery`.
    Recovery(RecoveryReply),
    /// To `Backup`.
    Backup(BackupReply),
    /// To `Audit`.
    Audit(AuditReply),
    /// To everything else.
    Done,
    /// No.
    Refused(Refusal),
}
