//! Replacing the key-encryption key of many keys, and destroying key-encryption keys: in the worker, and the key authority's side.

use uuid::Uuid;

use super::child::fault;
use super::error::TokenError;
use super::token::Token;
use super::wire::{Canary, Reply, Request, Rewrapped, WrapWith, WrappedItem};
use crate::hex::HexBytes;

impl Token {
    /// Wraps each key by another KEK of this token; each new copy was unwrapped and compared. One place per item.
    ///
    /// # Errors
    /// [`TokenError`] when the token or one of the KEKs fails; a damaged copy is told in its place.
    pub fn rewrap_all(
        &self,
        from: &Canary,
        to: &Canary,
        items: Vec<WrappedItem>,
    ) -> Result<Vec<Rewrapped>, TokenError> {
        let count = items.len();
        let request = Request::RewrapAll { from: from.clone(), to: to.clone(), items };
        self.rewrapped(&request, count)
    }

    /// Opens each wrapped key and keeps none. One place per item.
    ///
    /// # Errors
    /// As [`Token::rewrap_all`].
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

    /// Destroys a KEK in the token, and looks for it again; false when it was not there.
    ///
    /// # Errors
    /// [`TokenError`]; also when the token says that it did and the key still stands there.
    pub fn destroy_kek(&self, id: Uuid) -> Result<bool, TokenError> {
        match self.call(&Request::DestroyKek { id })?.0 {
            Reply::Destroyed(was) => Ok(was),
            _ => Err(fault("unexpected reply")),
        }
    }
}

/// What is done with one wrapped key in the token.
pub(super) enum Step<'a> {
    /// Another copy of it.
    Rewrap(&'a WrapWith, &'a [u8], &'a WrapWith),
    /// Only whether it opens.
    Open(&'a WrapWith, &'a [u8]),
}

/// Rewraps each key. A copy that does not open although the KEKs work is the copy's fault and is told in its place; anything else
/// ends the call.
pub(super) fn rewrap_all(
    mut step: impl FnMut(Step<'_>) -> Result<HexBytes, TokenError>,
    from: &Canary,
    to: &Canary,
    items: &[WrappedItem],
) -> Result<Vec<Rewrapped>, TokenError> {
    let mut done = Vec::new();
    for item in items {
        let [source, target] = [from, to].map(|kek| WrapWith { aad: item.aad.clone(), ..kek.with.clone() });
        done.push(match step(Step::Rewrap(&source, &item.blob.0, &target)) {
            Ok(blob) => Rewrapped::To(blob),
            Err(e) => blame(&mut step, e, &[from, to])?,
        });
    }
    Ok(done)
}

/// Opens each wrapped key, keeping none.
pub(super) fn check_all(
    mut step: impl FnMut(Step<'_>) -> Result<HexBytes, TokenError>,
    kek: &Canary,
    items: &[WrappedItem],
) -> Result<Vec<Rewrapped>, TokenError> {
    let mut done = Vec::new();
    for item in items {
        let with = WrapWith { aad: item.aad.clone(), ..kek.with.clone() };
        done.push(match step(Step::Open(&with, &item.blob.0)) {
            Ok(_) => Rewrapped::Opens,
            Err(e) => blame(&mut step, e, &[kek])?,
        });
    }
    Ok(done)
}

/// Tokens answer a damaged copy with the same values as a fault of their own: whether the canaries still open decides.
fn blame(
    step: &mut impl FnMut(Step<'_>) -> Result<HexBytes, TokenError>,
    error: TokenError,
    keks: &[&Canary],
) -> Result<Rewrapped, TokenError> {
    let of_the_token = matches!(
        error,
        TokenError::WrapFault { .. }
            | TokenError::Unsupported { .. }
            | TokenError::KeyNotFound { .. }
            | TokenError::KeyAmbiguous { .. }
            | TokenError::Worker { .. }
    );
    if of_the_token {
        return Err(error);
    }
    for kek in keks {
        step(Step::Open(&kek.with, &kek.blob.0))?;
    }
    Ok(Rewrapped::Damaged(error.to_string()))
}
