//! A logical unit as a front end sees it, and a drive as a back end sees it: commands, data and status, whatever carries them.

use super::Sense;

/// Status of a command (SAM-5 5.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Status(pub u8);

#[allow(missing_docs, reason = "the names are those of SAM-5 table 39")]
impl Status {
    pub const GOOD: Self = Self(0x00);
    pub const CHECK_CONDITION: Self = Self(0x02);
    pub const BUSY: Self = Self(0x08);
    pub const RESERVATION_CONFLICT: Self = Self(0x18);
    pub const TASK_SET_FULL: Self = Self(0x28);
    pub const TASK_ABORTED: Self = Self(0x40);
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Completion {
    /// Its status.
    pub status: Status,
    /// Sense data, with CHECK CONDITION only.
    pub sense: Option<Sense>,
}

impl Completion {
    /// GOOD.
    pub const GOOD: Self = Self { status: Status::GOOD, sense: None };

    /// CHECK CONDITION with this sense.
    pub const fn check(sense: Sense) -> Self {
        Self { status: Status::CHECK_CONDITION, sense: Some(sense) }
    }
}

/// Where data for the initiator goes: bounded by what it has room for.
#[derive(Debug)]
pub struct DataIn<'a> {
    buffer: &'a mut [u8],
    filled: usize,
}

impl<'a> DataIn<'a> {
    /// Room for `buffer.len()` bytes; nothing is in it yet.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, filled: 0 }
    }

    /// How many bytes the initiator has room for.
    pub fn room(&self) -> usize {
        self.buffer.len()
    }

    /// How many bytes go to the initiator.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Sends `data`, cut to the allocation length and to the room (SPC-4 4.2.5.6).
    pub fn put(&mut self, data: &[u8], allocation: usize) {
        let length = data.len().min(allocation).min(self.buffer.len());
        self.buffer[..length].copy_from_slice(&data[..length]);
        self.filled = length;
    }

    /// The whole room, for a reader that fills it in place; [`set_filled`](Self::set_filled) says how much of it counts.
    pub fn buffer(&mut self) -> &mut [u8] {
        self.buffer
    }

    /// The first `length` bytes of the buffer go to the initiator.
    pub fn set_filled(&mut self, length: usize) {
        self.filled = length.min(self.buffer.len());
    }
}

/// A logical unit: executes one command after another. What a front end serves.
pub trait LogicalUnit: Send {
    /// Executes the command in `cdb` (at least as long as its operation code asks for). `data_out` is what the initiator sends
    /// with it; what `data_in` was filled with goes back, with whatever status. Host input never panics.
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion;

    /// LOGICAL UNIT RESET, or the loss of what the front end had in flight: the next command hears of it as a unit attention.
    fn reset(&mut self);

    /// As [`reset`](Self::reset), where the transport tells the initiators itself: the unit does not tell them a second time.
    fn reset_by_transport(&mut self) {
        self.reset();
    }
}
