//! Random commands, and doing one to a drive so that two drives can be compared.

use sealtape_drivers::medium::{
    DriveError, DriveErrorKind, Position, ReadOutcome, SpaceKind, SpaceOutcome, TapeDrive, Warning,
};

/// SplitMix64: small, and the same on every machine, so that a seed in a report can be run again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `limit`, the latter left out.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// A block that is like no other of the same run, and that nothing compresses.
pub(super) fn block(length: usize, number: u64) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x1000_0001));
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(random.next().to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Command {
    Write { length: usize },
    WriteFilemarks { count: u32, immediate: bool },
    Read { room: usize },
    Space { kind: SpaceKind, count: i64 },
    Locate { object: u64 },
    Rewind,
}

impl Command {
    /// `end` is the number of objects on the tape: places beyond it are asked for too, but not often.
    /// Who has begun to write (`writing`) mostly goes on, or no tape would ever grow.
    pub(super) fn draw(random: &mut Random, end: u64, longest: u32, writing: bool) -> Self {
        let longest = u64::from(longest);
        let length = |random: &mut Random| {
            let most = match random.below(20) {
                0 => longest,
                1..=3 => longest.min(40_000),
                _ => longest.min(2_000),
            };
            usize::try_from(random.below(most) + 1).unwrap_or(1)
        };
        let goes_on = writing && random.below(10) < 7;
        match random.below(if goes_on { 37 } else { 100 }) {
            0..27 => Self::Write { length: length(random) },
            27..37 => Self::WriteFilemarks { count: random.below(4) as u32, immediate: random.below(2) == 0 },
            37..62 => Self::Read { room: length(random) },
            62..80 => {
                let kind = if random.below(3) == 0 { SpaceKind::Filemarks } else { SpaceKind::Blocks };
                let most = if random.below(12) == 0 { 3_000 } else { 7 };
                let count = random.below(2 * most + 1) as i64 - most as i64;
                Self::Space { kind, count }
            }
            80..87 => Self::Space { kind: SpaceKind::EndOfData, count: 0 },
            87..98 => Self::Locate { object: random.below(end + 2) },
            _ => Self::Rewind,
        }
    }

    /// Does it. `number` makes what is written unique.
    pub(super) fn execute(self, drive: &mut dyn TapeDrive, number: u64) -> Outcome {
        let result = match self {
            Self::Write { length } => drive.write(&block(length, number)).map(Outcome::Warned),
            Self::WriteFilemarks { count, immediate } => drive.write_filemarks(count, immediate).map(Outcome::Warned),
            Self::Read { room } => {
                let mut buffer = vec![0; room];
                drive.read(&mut buffer).map(|read| {
                    let came = if let ReadOutcome::Block { length } = read { length.min(room) } else { 0 };
                    buffer.truncate(came);
                    Outcome::Read(read, buffer)
                })
            }
            Self::Space { kind, count } => drive.space(kind, count).map(Outcome::Spaced),
            Self::Locate { object } => drive.locate(Position { partition: 0, object }).map(|()| Outcome::Done),
            Self::Rewind => drive.rewind().map(|()| Outcome::Done),
        };
        result.unwrap_or_else(Outcome::Failed)
    }

    pub(super) fn writes(self) -> bool {
        match self {
            Self::Write { .. } => true,
            Self::WriteFilemarks { count, .. } => count > 0,
            Self::Read { .. } | Self::Space { .. } | Self::Locate { .. } | Self::Rewind => false,
        }
    }
}

/// What a command yielded.
pub(super) enum Outcome {
    Done,
    Warned(Warning),
    Read(ReadOutcome, Vec<u8>),
    Spaced(SpaceOutcome),
    Failed(DriveError),
}

impl Outcome {
    /// Errors are the same when their kind is: the words differ, and the model's sense is the least that a drive says.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Done, Self::Done) => true,
            (Self::Warned(one), Self::Warned(other)) => one == other,
            (Self::Read(one, bytes), Self::Read(other, others)) => one == other && bytes == others,
            (Self::Spaced(one), Self::Spaced(other)) => one == other,
            (Self::Failed(one), Self::Failed(other)) => one.kind == other.kind,
            (Self::Done | Self::Warned(_) | Self::Read(..) | Self::Spaced(_) | Self::Failed(_), _) => false,
        }
    }

    /// In a word, for telling differences apart.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Warned(warning) => format!("warning {warning:?}"),
            Self::Read(ReadOutcome::Block { .. }, _) => "a block".to_owned(),
            Self::Read(outcome, _) => format!("{outcome:?}"),
            Self::Spaced(SpaceOutcome { stopped: None }) => "all done".to_owned(),
            Self::Spaced(SpaceOutcome { stopped: Some((stop, _)) }) => format!("stopped by {stop:?}"),
            Self::Failed(error) => format!("{:?} ({:?})", error.kind, error.sense.additional),
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Done => "done".to_owned(),
            Self::Warned(warning) => format!("written, warning {warning:?}"),
            Self::Read(outcome, bytes) => format!("{outcome:?} beginning {:02X?}", bytes.get(..4).unwrap_or(bytes)),
            Self::Spaced(SpaceOutcome { stopped: None }) => "spaced".to_owned(),
            Self::Spaced(SpaceOutcome { stopped: Some((stop, left)) }) => {
                format!("stopped by {stop:?} with {left} left")
            }
            Self::Failed(error) if error.kind == DriveErrorKind::EndOfData => "end of data".to_owned(),
            Self::Failed(error) => format!("{:?}: {error}", error.kind),
        }
    }
}
