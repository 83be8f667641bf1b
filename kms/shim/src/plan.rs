//! What goes wrong, and when.

use serde::{Deserialize, Serialize};

/// Return values that tests name.
pub mod rv {
    pub use cryptoki_sys::{
        CKR_DEVICE_ERROR as DEVICE_ERROR, CKR_DEVICE_REMOVED as DEVICE_REMOVED, CKR_FUNCTION_FAILED as FUNCTION_FAILED,
        CKR_GENERAL_ERROR as GENERAL_ERROR, CKR_HOST_MEMORY as HOST_MEMORY,
        CKR_KEY_HANDLE_INVALID as KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID as OBJECT_HANDLE_INVALID, CKR_OK as OK,
        CKR_PIN_INCORRECT as PIN_INCORRECT, CKR_PIN_LOCKED as PIN_LOCKED,
        CKR_SESSION_HANDLE_INVALID as SESSION_HANDLE_INVALID, CKR_TOKEN_NOT_PRESENT as TOKEN_NOT_PRESENT,
        CKR_USER_NOT_LOGGED_IN as USER_NOT_LOGGED_IN,
    };
}

/// What one call does in place of, or beside, its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Fault {
    /// Returns this and does nothing.
    Return {
        /// The return value.
        rv: u64,
    },
    /// Does its work and then returns this: the answer was lost.
    Late {
        /// The return value.
        rv: u64,
    },
    /// Never returns.
    Hang,
    /// Waits, then does its work.
    Slow {
        /// For how long.
        millis: u64,
    },
    /// Ends the process by `abort`.
    Abort,
    /// Ends the process by SIGSEGV.
    Segfault,
    /// Closes all sessions of all slots first, which logs out too.
    LoseSessions,
    /// Logs out first and returns `CKR_USER_NOT_LOGGED_IN`.
    Logout,
    /// Turns over a byte in the middle of each output.
    Flip,
    /// Says that the output is shorter.
    Short {
        /// By how many bytes.
        by: u64,
    },
    /// Says that the output is longer than the buffer.
    Long {
        /// By how many bytes.
        by: u64,
    },
    /// Succeeds and writes nothing into the output.
    Nothing,
    /// `C_UnwrapKey` gives a key, but another one.
    OtherKey,
}

impl Fault {
    /// Whether it concerns what a call puts out, and therefore not a call that only asks for a length.
    pub(crate) fn on_output(self) -> bool {
        match self {
            Self::Flip | Self::Short { .. } | Self::Long { .. } | Self::Nothing | Self::OtherKey => true,
            Self::Return { .. } | Self::Late { .. } | Self::Hang | Self::Slow { .. } => false,
            Self::Abort | Self::Segfault | Self::LoseSessions | Self::Logout => false,
        }
    }

    /// In the journal.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Return { .. } => "return",
            Self::Late { .. } => "late",
            Self::Hang => "hang",
            Self::Slow { .. } => "slow",
            Self::Abort => "abort",
            Self::Segfault => "segfault",
            Self::LoseSessions => "lose_sessions",
            Self::Logout => "logout",
            Self::Flip => "flip",
            Self::Short { .. } => "short",
            Self::Long { .. } => "long",
            Self::Nothing => "nothing",
            Self::OtherKey => "other_key",
        }
    }
}

/// Which calls a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The function, `C_…`; a `*` at the end stands for any rest. Reading a key's value is `C_GetAttributeValue:CKA_VALUE`.
    pub function: String,
    /// How many calls pass before, counted over all processes.
    #[serde(default)]
    pub skip: u64,
    /// How many calls after them are struck; none for all.
    #[serde(default)]
    pub times: Option<u64>,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// Strikes every call.
    pub fn always(function: impl Into<String>, fault: Fault) -> Self {
        Self { function: function.into(), skip: 0, times: None, fault }
    }

    /// Strikes one call.
    pub fn once(function: impl Into<String>, fault: Fault) -> Self {
        Self { times: Some(1), ..Self::always(function, fault) }
    }

    pub(crate) fn fits(&self, function: &str) -> bool {
        match self.function.strip_suffix('*') {
            Some(beginning) => function.starts_with(beginning),
            None => function == self.function,
        }
    }
}

/// How the token counts wrong PINs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinLimit {
    /// After so many wrong ones in a row it is locked for good, the right PIN included.
    pub tries: u64,
}

/// All that goes wrong. The empty plan forwards everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plan {
    /// The first rule that fits a call decides.
    pub rules: Vec<Rule>,
    /// The token is not in its slot; its sessions are gone when it comes back.
    pub removed: bool,
    /// The token counts wrong PINs.
    pub pin: Option<PinLimit>,
    /// Names this writing of the plan, so that its rules count from the beginning.
    pub id: String,
}

impl Plan {
    /// One rule.
    #[must_use]
    pub fn of(rule: Rule) -> Self {
        Self { rules: vec![rule], ..Self::default() }
    }

    /// A token that was pulled out.
    #[must_use]
    pub fn pulled_out() -> Self {
        Self { removed: true, ..Self::default() }
    }
}
