//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS data (SPC-4 6.35, 6.36).

use std::time::Duration;

use super::wire::{Bytes, WireError, at_most, flag, len16, len32};

/// A command timeouts descriptor (SPC-4 6.35.4). Seconds; 0: not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct CommandTimeouts {
    /// COMMAND SPECIFIC.
    pub command_specific: u8,
    /// NOMINAL COMMAND PROCESSING TIMEOUT: after this it is worth asking what the command is doing.
    pub nominal: u32,
    /// RECOMMENDED COMMAND TIMEOUT: before this nothing is to be done about it.
    pub recommended: u32,
}

impl CommandTimeouts {
    const LENGTH: usize = 12;

    /// The recommended timeout, where the device tells one.
    pub fn limit(&self) -> Option<Duration> {
        (self.recommended != 0).then(|| Duration::from_secs(u64::from(self.recommended)))
    }

    fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[1] = 10;
        bytes[3] = self.command_specific;
        bytes[4..8].copy_from_slice(&self.nominal.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.recommended.to_be_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let b = Bytes::new("command timeouts descriptor", bytes).at_least(Self::LENGTH).ok()?;
        Some(Self { command_specific: b.u8(3), nominal: b.u32(4), recommended: b.u32(8) })
    }
}

/// A command descriptor of the list of all commands (SPC-4 6.35.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct SupportedCommand {
    /// OPERATION CODE.
    pub operation: u8,
    /// SERVICE ACTION, where SERVACTV says that it counts.
    pub service_action: Option<u16>,
    /// CDB LENGTH.
    pub cdb_length: u16,
    /// With RCTD: its timeouts.
    pub timeouts: Option<CommandTimeouts>,
}

/// All commands: reporting option 000b.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SupportedCommands(pub Vec<SupportedCommand>);

impl SupportedCommands {
    const DESCRIPTOR: usize = 8;

    /// The header of 4 bytes, which counts what follows, and the descriptors.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        for command in &self.0 {
            bytes.extend([command.operation, 0]);
            bytes.extend(command.service_action.unwrap_or(0).to_be_bytes());
            bytes.extend([0, flag(command.timeouts.is_some(), 1) | flag(command.service_action.is_some(), 0)]);
            bytes.extend(command.cdb_length.to_be_bytes());
            bytes.extend(command.timeouts.iter().flat_map(|timeouts| timeouts.to_bytes()));
        }
        let length = len32(bytes.len() - 4).to_be_bytes();
        bytes.iter_mut().zip(length).for_each(|(to, from)| *to = from);
        bytes
    }

    /// Reads what is there. A descriptor that was cut off is left out.
    ///
    /// # Errors
    /// Not even a header.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("supported operation codes", bytes).at_least(4)?;
        let mut rest = b.slice(4, usize::try_from(b.u32(0)).unwrap_or(usize::MAX));
        let mut commands = Vec::new();
        while let Some((descriptor, behind)) = rest.split_at_checked(Self::DESCRIPTOR) {
            let b = Bytes::new("command descriptor", descriptor);
            let timeouts = if b.bit(5, 1) {
                let Some(timeouts) = CommandTimeouts::read(behind) else { break };
                rest = behind.get(CommandTimeouts::LENGTH..).unwrap_or_default();
                Some(timeouts)
            } else {
                rest = behind;
                None
            };
            commands.push(SupportedCommand {
                operation: b.u8(0),
                service_action: b.bit(5, 0).then(|| b.u16(2)),
                cdb_length: b.u16(6),
                timeouts,
            });
        }
        Ok(Self(commands))
    }

    /// One of them.
    pub fn find(&self, operation: u8, service_action: Option<u16>) -> Option<&SupportedCommand> {
        self.0.iter().find(|command| command.operation == operation && command.service_action == service_action)
    }
}

/// How a command is supported (SPC-4 table 284), 3 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Support(pub u8);

impl Support {
    /// The device cannot tell now.
    pub const UNKNOWN: Self = Self(0);
    /// Not supported.
    pub const NOT_SUPPORTED: Self = Self(1);
    /// As the standard has it.
    pub const STANDARD: Self = Self(3);
    /// In the vendor's way.
    pub const VENDOR_SPECIFIC: Self = Self(5);
}

/// One command: reporting options 001b to 011b (SPC-4 6.35.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandSupport {
    /// SUPPORT.
    pub support: Support,
    /// CDB USAGE DATA: the operation code, then a one for each bit that the device looks at. Empty when not supported.
    pub usage: Vec<u8>,
    /// With RCTD: its timeouts.
    pub timeouts: Option<CommandTimeouts>,
}

impl CommandSupport {
    /// A command that is not supported.
    pub const NOT_SUPPORTED: Self = Self { support: Support::NOT_SUPPORTED, usage: Vec::new(), timeouts: None };

    /// The whole data. CDB SIZE counts 65 535 bytes at most.
    pub fn to_bytes(&self) -> Vec<u8> {
        let usage = at_most(&self.usage, usize::from(u16::MAX));
        let mut bytes = vec![0, flag(self.timeouts.is_some(), 7) | self.support.0 & 7];
        bytes.extend(len16(usage.len()).to_be_bytes());
        bytes.extend(usage);
        bytes.extend(self.timeouts.iter().flat_map(|timeouts| timeouts.to_bytes()));
        bytes
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// Not even SUPPORT.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("supported operation code", bytes).at_least(2)?;
        let usage = b.slice(4, usize::from(b.u16(2)));
        let timeouts = b.bit(1, 7).then(|| CommandTimeouts::read(b.rest(4 + usize::from(b.u16(2))))).flatten();
        Ok(Self { support: Support(b.u8(1) & 7), usage: usage.to_vec(), timeouts })
    }
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS data (SPC-4 6.36).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
#[allow(missing_docs, reason = "the names are those of SPC-4 6.36")]
pub struct TaskManagement {
    pub abort_task: bool,
    pub abort_task_set: bool,
    pub clear_aca: bool,
    pub clear_task_set: bool,
    pub logical_unit_reset: bool,
    pub query_task: bool,
    pub query_asynchronous_event: bool,
    pub query_task_set: bool,
    pub i_t_nexus_reset: bool,
}

impl TaskManagement {
    /// 4 bytes, or with REPD 16, in which no timeouts are told (TMFTMOV 0).
    pub fn to_bytes(&self, extended: bool) -> Vec<u8> {
        let mut bytes = vec![
            flag(self.abort_task, 7)
                | flag(self.abort_task_set, 6)
                | flag(self.clear_aca, 5)
                | flag(self.clear_task_set, 4)
                | flag(self.logical_unit_reset, 3)
                | flag(self.query_task, 2),
            flag(self.query_asynchronous_event, 2) | flag(self.query_task_set, 1) | flag(self.i_t_nexus_reset, 0),
            0,
            if extended { 12 } else { 0 },
        ];
        bytes.resize(if extended { 16 } else { 4 }, 0);
        bytes
    }

    /// Reads either form.
    ///
    /// # Errors
    /// Not even the first byte.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let b = Bytes::new("supported task management functions", bytes).at_least(1)?;
        Ok(Self {
            abort_task: b.bit(0, 7),
            abort_task_set: b.bit(0, 6),
            clear_aca: b.bit(0, 5),
            clear_task_set: b.bit(0, 4),
            logical_unit_reset: b.bit(0, 3),
            query_task: b.bit(0, 2),
            query_asynchronous_event: b.bit(1, 2),
            query_task_set: b.bit(1, 1),
            i_t_nexus_reset: b.bit(1, 0),
        })
    }
}
