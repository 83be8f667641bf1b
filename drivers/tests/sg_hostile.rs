//! A drive that answers anything at all: no panic, no endless loop, and no block that is longer than what came.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::time::Duration;

use proptest::prelude::*;
use sealtape_drivers::medium::{Attribute, Description, Position, ReadOutcome, SpaceKind, TapeDrive};
use sealtape_drivers::scsi::{Completion, Sense, Status};
use sealtape_drivers::sg::{Answer, Changer, Data, ScsiTapeDrive, Transport};

/// Answers from a stream of random bytes; GOOD with nothing when it is used up.
struct Hostile {
    random: Vec<u8>,
    at: usize,
    device_type: u8,
    commands: u32,
}

impl Hostile {
    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.random.get(self.at - 1).copied().unwrap_or(0)
    }

    fn sense(&mut self) -> Option<Sense> {
        let mut bytes: Vec<u8> = (0..18).map(|_| self.byte()).collect();
        // Something that is read as sense mostly, of either format, current or deferred.
        bytes[0] = 0x70 | bytes[0] & 0x83;
        if !self.byte().is_multiple_of(4) {
            // What a tape drive says often.
            bytes[2] =
                [0x00, 0x80, 0x40, 0x20, 0x03, 0x08, 0x06, 0x02, 0x0d, 0x01, 0x05, 0x43][usize::from(bytes[2] % 12)];
            bytes[12] = [0x00, 0x28, 0x29, 0x2a, 0x30, 0x3a, 0x20, 0x24][usize::from(bytes[12] % 8)];
            bytes[13] %= 8;
        }
        let length = usize::from(self.byte() % 19);
        Sense::parse(&bytes[..length])
    }
}

impl Transport for Hostile {
    fn execute(&mut self, cdb: &[u8], data: Data<'_>, _limit: Duration) -> io::Result<Answer> {
        self.commands += 1;
        assert!(self.commands < 20_000, "commands without end");
        let mut transferred = 0;
        match data {
            Data::None => {}
            Data::Out(bytes) => transferred = bytes.len() - usize::from(self.byte() == 1),
            Data::In(buffer) => {
                let most = buffer.len().min(4096);
                let length = match self.byte() % 4 {
                    0 => usize::from(self.byte()).min(most),
                    _ => most,
                };
                for byte in buffer.iter_mut().take(length.min(96)) {
                    *byte = self.byte();
                }
                transferred = if self.byte() == 7 { usize::MAX } else { length };
                if cdb.first() == Some(&0x12) && cdb.get(1) == Some(&0) {
                    buffer.iter_mut().take(5).zip([self.device_type, 0x80, 6, 2, 91]).for_each(|(to, from)| *to = from);
                    return Ok(Answer { completion: Completion::GOOD, transferred: most.min(96) });
                }
            }
        }
        // Opened it is, most of the time: there is more to break behind that.
        let good = self.commands <= 6 && !self.byte().is_multiple_of(8);
        let completion = match self.byte() % 8 {
            _ if good => Completion::GOOD,
            0..=3 => Completion::GOOD,
            4..=6 => Completion { status: Status::CHECK_CONDITION, sense: self.sense() },
            _ => match self.byte() % 4 {
                0 => return Err(io::Error::from(io::ErrorKind::TimedOut)),
                1 => Completion { status: Status(self.byte()), sense: self.sense() },
                // Becoming ready is waited for in real time: not here.
                _ => Completion::GOOD,
            },
        };
        let waits = completion.sense.is_some_and(|sense| sense.key.0 == 2 && sense.additional.asc == 4);
        let completion = if waits { Completion::GOOD } else { completion };
        Ok(Answer { completion, transferred })
    }
    fn largest_transfer(&self) -> usize {
        1 << 20
    }
    fn name(&self) -> &str {
        "hostile"
    }
}

fn hostile(random: Vec<u8>, device_type: u8) -> Hostile {
    Hostile { random, at: 0, device_type, commands: 0 }
}

fn command(drive: &mut ScsiTapeDrive<Hostile>, code: u8, number: u16) {
    let mut buffer = vec![0; usize::from(number % 700)];
    let count = i64::from(number) - 0x8000;
    match code % 20 {
        0 | 1 => {
            if let Ok(ReadOutcome::Block { length }) = drive.read(&mut buffer) {
                assert!((1..=0xff_ffff).contains(&length));
            }
        }
        2 | 3 => drop(drive.write(&buffer)),
        4 => drop(drive.write_filemarks(u32::from(number % 3), number.is_multiple_of(2))),
        5 => {
            if let Ok(outcome) = drive.space(SpaceKind::Blocks, count)
                && let Some((_, residue)) = outcome.stopped
            {
                assert!((1..=count.unsigned_abs()).contains(&residue));
            }
        }
        6 => drop(drive.space(SpaceKind::Filemarks, count << 20)),
        7 => drop(drive.space(SpaceKind::EndOfData, 0)),
        8 => drop(drive.locate(Position { partition: number as u8, object: u64::from(number) << 20 })),
        9 => drop(drive.rewind()),
        10 => drop(drive.read_position()),
        11 => drop(drive.load()),
        12 => drop(drive.unload()),
        13 => drop(drive.medium_status()),
        14 => drop(drive.block_limits()),
        15 => drop(drive.format_medium((number.is_multiple_of(2)).then_some(u64::from(number) << 20))),
        16 => drop(drive.set_programmable_early_warning(u64::from(number) << 16)),
        17 => drop(drive.read_attribute(number)),
        18 => drop(drive.write_attribute(&Attribute { id: number, format: code % 4, value: buffer })),
        _ => {
            drop(drive.test_unit_ready());
            drop(drive.erase(number.is_multiple_of(2)));
            let page = number as u8;
            for what in [
                Description::LogPage { page, subpage: 0 },
                Description::LogPage { page: 0x2e, subpage: 0 },
                Description::ModePage { page, subpage: 1 },
                Description::VitalProductData { page },
                Description::DensitySupport { medium: true },
                Description::AttributeList,
            ] {
                drop(drive.describe(what));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_answers_of_a_drive(
        random in prop::collection::vec(any::<u8>(), 0..6000),
        commands in prop::collection::vec(any::<(u8, u16)>(), 1..60),
    ) {
        if let Ok(mut drive) = ScsiTapeDrive::open(hostile(random, 0x01)) {
            for (code, number) in commands {
                command(&mut drive, code, number);
            }
        }
    }

    #[test]
    fn any_answers_of_a_changer(random in prop::collection::vec(any::<u8>(), 0..6000)) {
        if let Ok(mut changer) = Changer::open(hostile(random, 0x08)) {
            drop(changer.inventory());
        }
    }
}
