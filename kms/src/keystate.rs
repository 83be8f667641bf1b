//! The life of a key: states and transitions of NIST SP 800-57 part 1 (rev. 5, section 7) as KMIP 2.1 (section 3.22) tables them.

use crate::protocol::{KeyState, Rights};

/// A transition that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key cannot go from {from:?} to {to:?}")]
pub struct NoTransition {
    /// Its state.
    pub from: KeyState,
    /// The state wanted.
    pub to: KeyState,
}

impl KeyState {
    /// The state after going to `to`.
    ///
    /// # Errors
    /// [`NoTransition`] when there is no such step; staying is no step.
    pub fn transition(self, to: Self) -> Result<Self, NoTransition> {
        let allowed = match self {
            Self::PreActive => matches!(to, Self::Active | Self::Destroyed | Self::Compromised),
            Self::Active => matches!(to, Self::Deactivated | Self::Compromised),
            Self::Deactivated => matches!(to, Self::Destroyed | Self::Compromised),
            Self::Compromised => matches!(to, Self::DestroyedCompromised),
            Self::Destroyed => matches!(to, Self::DestroyedCompromised),
            Self::DestroyedCompromised => false,
        };
        if allowed { Ok(to) } else { Err(NoTransition { from: self, to }) }
    }

    /// What a key in this state may be released for; none for a key that is not released. A pre-active key seals, since the
    /// generation record that makes it active is sealed with it.
    #[must_use]
    pub fn rights(self) -> Option<Rights> {
        match self {
            Self::PreActive | Self::Active => Some(Rights::SealAndOpen),
            Self::Deactivated => Some(Rights::OpenOnly),
            Self::Compromised | Self::Destroyed | Self::DestroyedCompromised => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_transitions() {
        use KeyState::{Active, Compromised, Deactivated, Destroyed, DestroyedCompromised, PreActive};
        let all = [PreActive, Active, Deactivated, Compromised, Destroyed, DestroyedCompromised];
        let allowed = [
            (PreActive, Active),
            (PreActive, Destroyed),
            (PreActive, Compromised),
            (Active, Deactivated),
            (Active, Compromised),
            (Deactivated, Destroyed),
            (Deactivated, Compromised),
            (Compromised, DestroyedCompromised),
            (Destroyed, DestroyedCompromised),
        ];
        for from in all {
            for to in all {
                assert_eq!(from.transition(to).is_ok(), allowed.contains(&(from, to)), "{from:?} {to:?}");
            }
        }
        assert_eq!(Destroyed.rights(), None);
        assert_eq!(Deactivated.rights(), Some(Rights::OpenOnly));
    }
}
