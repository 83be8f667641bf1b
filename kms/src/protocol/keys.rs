//! The life of keys: states, periods, key-encryption keys, compromise: requests and replies.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dual::RequestView;
use super::tenants::{PoolView, first};
use super::types::{GenerationRef, GenerationState, KeyState, PoolPolicy, Rights, VolumeState};

/// A request on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum KeysRequest {
    /// Data keys, in the order of their ids.
    List {
        /// Which ones.
        which: KeyFilter,
        /// Those with a higher id only: the last one of the page before.
        after: Option<Uuid>,
        /// At most so many (limit 5000).
        limit: u32,
    },
    /// The key-encryption keys.
    ListKeks,
    /// A pool's policy.
    ShowPool {
        /// Its name.
        pool: String,
    },
    /// Changes a pool's policy; what stands on media changes with new generations only.
    SetPool {
        /// The policy as a whole.
        policy: PoolPolicy,
    },
    /// Asks custodians to let the keys of volumes open for longer.
    Extend {
        /// Labels or UUIDs.
        volumes: Vec<String>,
        /// Until when (RFC 3339, UTC, with milliseconds).
        open_until: String,
        /// Why.
        reason: Option<String>,
    },
    /// Asks custodians to let a volume whose key is compromised be read for a while.
    Rescue {
        /// Label or UUID.
        volume: String,
        /// For how many hours.
        hours: u32,
        /// Why.
        reason: Option<String>,
    },
    /// Carries out one of these, when it is approved.
    CarryOut {
        /// The request.
        request: Uuid,
    },
    /// A data key, all keys of a volume, or all keys under a key-encryption key are compromised, or feared to be: they are released no
    /// more, and what was released is ended. There is no way back.
    Compromise {
        /// Id of a data key or key-encryption key; UUID or label of a volume.
        target: String,
        /// Why; kept in the custody log.
        reason: String,
    },
}

impl KeysRequest {
    /// Whether it only asks.
    #[must_use]
    pub fn only_asks(&self) -> bool {
        match self {
            Self::List { .. } | Self::ListKeks | Self::ShowPool { .. } => true,
            Self::SetPool { .. }
            | Self::Extend { .. }
            | Self::Rescue { .. }
            | Self::CarryOut { .. }
            | Self::Compromise { .. } => false,
        }
    }
}

/// Which data keys are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "keys", rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyFilter {
    /// Those of generations that stand on media.
    Standing,
    /// Every one there ever was.
    All,
    /// Those of one volume, every one.
    Volume {
        /// UUID or label.
        volume: String,
    },
    /// Of those that stand on media, the ones with a period that ends within so many days or has ended.
    Expiring {
        /// Days from now.
        days: u32,
    },
    /// The compromised ones whose volumes have to be written anew.
    Compromised,
}

/// Its reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum KeysReply {
    /// To `List`.
    Keys(Vec<DataKeyView>),
    /// To `ListKeks`.
    Keks(Vec<KekView>),
    /// To `ShowPool`.
    Pool(PoolView),
    /// To `Extend` and `Rescue`: what custodians have to approve.
    Request(Box<RequestView>),
    /// To `CarryOut`.
    CarriedOut {
        /// The custody entry with the approvals.
        entry: u64,
    },
    /// To `Compromise`.
    Compromised(CompromiseReport),
    /// Done; there is nothing to tell.
    Done,
}

/// A data key, without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataKeyView {
    /// Which generation it belongs to.
    pub at: GenerationRef,
    /// The volume's label.
    pub label: String,
    /// Its barcode.
    pub barcode: Option<String>,
    /// Its pool.
    pub pool: String,
    /// Its state.
    pub volume_state: VolumeState,
    /// When what was written to it was last synchronised.
    pub written: Option<String>,
    /// The generation's state.
    pub state: GenerationState,
    /// The key's state.
    pub key_state: KeyState,
    /// What it would be released for now; none when it would not.
    pub rights: Option<Rights>,
    /// When it was made.
    pub created: String,
    /// It seals before this time; none without a limit.
    pub seal_until: Option<String>,
    /// It opens before this time; none without a limit.
    pub open_until: Option<String>,
    /// What wraps the catalogue's copy.
    pub kek: Uuid,
    /// What wraps the copy on the medium.
    pub medium_kek: Option<Uuid>,
    /// That it is compromised.
    pub compromised: Option<CompromiseView>,
}

/// That a key is compromised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompromiseView {
    /// Since when.
    pub time: String,
    /// Why.
    pub reason: String,
    /// The custody entry.
    pub entry: u64,
}

/// A key-encryption key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekView {
    /// Its id.
    pub id: Uuid,
    /// `catalogue` or `medium`.
    pub purpose: String,
    /// Its tenant.
    #[serde(default = "first")]
    pub tenant: String,
    /// With purpose `medium`: its pool.
    pub pool: Option<String>,
    /// With purpose `medium`: its epoch.
    pub epoch: Option<String>,
    /// No key under it opens after this time, where that is known.
    pub until: Option<String>,
    /// Its state.
    pub state: String,
    /// When it was made.
    pub created: String,
    /// Data keys with a copy under it, every one there ever was.
    pub keys: u64,
    /// Of those, the ones that hold back its destruction: they stand on a medium and are neither destroyed nor expired.
    pub held_by: u64,
}

/// What a compromise did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompromiseReport {
    /// What was named: `key`, `volume` or `kek`.
    pub kind: String,
    /// Its id.
    pub id: Uuid,
    /// The custody entry.
    pub entry: u64,
    /// Data keys that are compromised by it.
    pub keys: u64,
    /// Volumes that have to be written anew.
    pub volumes: u64,
    /// Keys of these whose release is ended now, wherever one has them.
    pub ended: u64,
}

/// What the key authority knows of ends that come near.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyLifeSummary {
    /// How many days ahead it looks.
    pub notice_days: u32,
    /// Standing keys whose sealing period ends within these days.
    pub sealing_ends: u64,
    /// Standing keys whose opening period ends within these days.
    pub opening_ends: u64,
    /// Standing keys whose opening period is over.
    pub expired: u64,
    /// Volumes to be written anew because a key of theirs is compromised.
    pub compromised_volumes: u64,
}
