//! The life of keys: states, periods, key-encryption keys, compromise.

mod compromise;
mod dual;
mod epoch;
mod list;
mod pool;

use std::sync::Mutex;

use super::Authority;
use super::lease::Watchers;
use crate::catalogue::Actor;
use crate::protocol::{KeysReply, KeysRequest, Refusal};

pub(super) use dual::rescued_until;
pub(super) use epoch::{Terms, assign_first};
pub(super) use list::held_by;
pub(super) use pool::{check_policy, life_text};

/// What is kept in memory about the life of keys.
#[derive(Debug, Default)]
pub(super) struct LifeState {
    /// Held while an epoch's key-encryption key is made.
    making: Mutex<()>,
    pub(super) watchers: Watchers,
}

impl Authority {
    /// Serves a request of this area.
    ///
    /// # Errors
    /// When rules, token or log forbid it.
    pub fn serve_keys(&self, actor: Actor, request: KeysRequest) -> Result<KeysReply, Refusal> {
        use KeysRequest as Q;
        Ok(match request {
            Q::List { which, after, limit } => KeysReply::Keys(self.list_keys(&which, after, limit)?),
            Q::ListKeks => KeysReply::Keks(self.list_keks()?),
            Q::ShowPool { pool } => KeysReply::Pool(self.pool_with_tenant(&pool)?),
            Q::SetPool { policy } => {
                self.set_pool(actor, &policy)?;
                KeysReply::Done
            }
            Q::Extend { volumes, open_until, reason } => {
                KeysReply::Request(Box::new(self.request_extension(actor, &volumes, &open_until, reason.as_deref())?))
            }
            Q::Rescue { volume, hours, reason } => {
                KeysReply::Request(Box::new(self.request_rescue(actor, &volume, hours, reason.as_deref())?))
            }
            Q::CarryOut { request } => KeysReply::CarriedOut { entry: self.carry_out_key_request(actor, request)? },
            Q::Compromise { target, reason } => KeysReply::Compromised(self.compromise(actor, &target, &reason)?),
        })
    }
}
