//! Whether the host may read and write, and why not. A refusal of a key or of something on the medium closes the
//! volume for writing until it is unloaded or an operator acknowledges it: backup programs take "unreadable" for
//! "blank", and label over it.

/// What the host may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read only, and the reason in words.
    ReadOnly(String),
    /// Neither, and the reason in words.
    None(String),
}

/// Collects what closes a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AccessLatch {
    locked: Option<String>,
    refused: Option<String>,
    standing: Option<String>,
}

impl AccessLatch {
    /// Nothing can be read: no key, no label.
    pub fn lock(&mut self, reason: impl Into<String>) {
        self.locked.get_or_insert(reason.into());
    }

    /// Something was refused: no writing until unload or acknowledgement. The first reason stays.
    pub fn refuse_writing(&mut self, reason: impl Into<String>) {
        self.refused.get_or_insert(reason.into());
    }

    /// Writing is not possible as long as this cartridge is loaded (write protected, key may only open).
    pub fn never_write(&mut self, reason: impl Into<String>) {
        self.standing.get_or_insert(reason.into());
    }

    /// An operator acknowledges what was refused. Returns what that was; a missing key stays missing.
    pub fn acknowledge(&mut self) -> Option<String> {
        self.refused.take()
    }

    /// What the host may do now.
    pub fn access(&self) -> Access {
        match (&self.locked, self.refused.as_ref().or(self.standing.as_ref())) {
            (Some(reason), _) => Access::None(reason.clone()),
            (None, Some(reason)) => Access::ReadOnly(reason.clone()),
            (None, None) => Access::ReadWrite,
        }
    }
}
