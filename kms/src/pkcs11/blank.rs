//! Making a token out of a blank one: SoftHSM2 in an installation's folder.

use cryptoki::session::UserType;
use cryptoki::slot::Slot;

use super::error::TokenError;
use super::ladder::Fault;
use super::module::{Module, auth_pin};
use super::uri::Uri;
use crate::secret::Pin;

/// A token whose user PIN is missing yet.
pub(super) struct BlankToken {
    slot: Slot,
    so_pin: Pin,
}

impl BlankToken {
    /// Initialises a token that is not.
    pub(super) fn initialise(module: &Module, so_pin: Pin, label: &str) -> Result<Self, TokenError> {
        let name = module.path().display().to_string();
        let plain = |e: cryptoki::error::Error| Fault::from(e).plain(&name);
        let slots = module.context.get_slots_with_token().map_err(plain)?;
        let free = slots
            .into_iter()
            .find(|slot| module.context.get_token_info(*slot).is_ok_and(|info| !info.token_initialized()));
        let slot = free.ok_or(TokenError::TokenMissing { uri: "a token that is not initialised".into() })?;
        module.context.init_token(slot, &auth_pin(&so_pin)?, label).map_err(plain)?;
        Ok(Self { slot, so_pin })
    }

    /// Sets the user PIN, and names the token by serial number.
    pub(super) fn set_user_pin(self, module: &Module, user_pin: &Pin) -> Result<Uri, TokenError> {
        let result = (|| -> Result<Uri, Fault> {
            let session = module.context.open_rw_session(self.slot)?;
            session.login(UserType::So, Some(&auth_pin(&self.so_pin)?))?;
            session.init_pin(&auth_pin(user_pin)?)?;
            session.logout()?;
            let info = module.context.get_token_info(self.slot)?;
            Ok(Uri {
                token: Some(info.label().to_owned()),
                serial: Some(info.serial_number().to_owned()),
                manufacturer: Some(info.manufacturer_id().to_owned()),
                ..Uri::default()
            })
        })();
        result.map_err(|f| f.plain(&module.path().display().to_string()))
    }
}
