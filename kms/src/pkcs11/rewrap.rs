//! Replacing key-encryption keys and destroying them: the key authority's side.

use uuid::Uuid;

use super::error::TokenError;
use super::token::{Token, fault};
use super::wire::{Area, Canary, Reply, Request, Rewrapped, WrapWith, WrappedItem};
use crate::secret::DataKey;

impl Token {
    /// Wraps each key by another KEK of this token; each new copy was unwrapped and compared. One place per item.
    ///
    /// # Errors
    /// [`TokenError`] when the token or one of the KEKs fails; a damaged copy is told in its place.
    pub fn rewrap(&self, from: &Canary, to: &Canary, items: Vec<WrappedItem>) -> Result<Vec<Rewrapped>, TokenError> {
        let count = items.len();
        let request = Request::Rewrap { from: from.clone(), to: to.clone(), items };
        self.rewrapped(&request, count)
    }

    /// Opens each wrapped key and keeps none. One place per item.
    ///
    /// # Errors
    /// As [`Token::rewrap`].
    pub fn check_wrapped(&self, kek: &Canary, items: Vec<WrappedItem>) -> Result<Vec<Rewrapped>, TokenError> {
        let count = items.len();
        self.rewrapped(&Request::RewrapCheck { kek: kek.clone(), items }, count)
    }

    fn rewrapped(&self, request: &Request, count: usize) -> Result<Vec<Rewrapped>, TokenError> {
        match self.call(request)?.0 {
            Reply::Rewrapped(list) if list.len() == count => Ok(list),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Wraps a data key that another token gave; the copy was unwrapped and compared.
    ///
    /// # Errors
    /// [`TokenError`]
    pub fn wrap(&self, with: &WrapWith, key: &DataKey) -> Result<Vec<u8>, TokenError> {
        match self.call_with(&Request::Wrap { with: with.clone() }, &Area::key(key).map_err(fault)?)?.0 {
            Reply::Blobs(mut blobs) if blobs.len() == 1 => Ok(blobs.remove(0).0),
            _ => Err(fault("unexpected reply")),
        }
    }

    /// Destroys a KEK in the token, and looks for it again; false when it was not there.
    ///
    /// # Errors
    /// [`TokenError`]; also when the token says that it did and the key still stands there.
    pub fn destroy_kek(&self, id: Uuid) -> Result<bool, TokenError> {
        match self.call(&Request::DestroyKey { id })?.0 {
            Reply::Destroyed(was) => Ok(was),
            _ => Err(fault("unexpected reply")),
        }
    }
}
