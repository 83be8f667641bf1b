//! The virtual drive, command by command, over the reference tape: sense, residues and lengths as SSC-4 has them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sealtape::unit::scsi::{ScsiOptions, ScsiUnit};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape};
use sealtape_drivers::scsi::{
    AdditionalSense, Command, Completion, DataIn, Destination, Form, LogicalUnit, PageControl, PositionData, Sense,
    SenseKey, Status,
};

const MEBIBYTE: u64 = 1 << 20;

struct Host {
    unit: ScsiUnit,
}

impl Host {
    fn new(options: ModelOptions) -> Self {
        let mut host = Self { unit: ScsiUnit::new(Box::new(ModelTape::new(options)), ScsiOptions::as_drive("test")) };
        let told = host.ask(Command::TestUnitReady, 0).0.sense.unwrap();
        assert_eq!((told.key, told.additional), (SenseKey::UNIT_ATTENTION, AdditionalSense::POWER_ON_RESET));
        host.good(Command::TestUnitReady, 0);
        host
    }

    fn tape() -> Self {
        Self::new(ModelOptions::new(64 * MEBIBYTE))
    }

    fn ask(&mut self, command: Command, room: usize) -> (Completion, Vec<u8>) {
        self.send(command, &[], room)
    }

    fn send(&mut self, command: Command, data: &[u8], room: usize) -> (Completion, Vec<u8>) {
        let mut buffer = vec![0xee; room];
        let mut data_in = DataIn::new(&mut buffer);
        let completion = self.unit.execute(command.encode().as_bytes(), data, &mut data_in);
        let filled = data_in.filled();
        assert!(
            buffer[filled..].iter().all(|byte| *byte == 0xee) || completion.sense.is_some(),
            "{command:?} wrote beyond what it told"
        );
        buffer.truncate(filled);
        (completion, buffer)
    }

    fn good(&mut self, command: Command, room: usize) -> Vec<u8> {
        let (completion, data) = self.ask(command, room);
        assert_eq!(completion, Completion::GOOD, "{command:?}");
        data
    }

    fn sense(&mut self, command: Command, room: usize) -> (Sense, Vec<u8>) {
        let (completion, data) = self.ask(command, room);
        assert_eq!(completion.status, Status::CHECK_CONDITION, "{command:?}");
        (completion.sense.unwrap(), data)
    }

    fn write(&mut self, block: &[u8]) {
        let command = Command::Write6 { fixed: false, length: u32::try_from(block.len()).unwrap() };
        assert_eq!(self.send(command, block, 0).0, Completion::GOOD);
    }

    fn filemarks(&mut self, count: u32) {
        self.good(Command::WriteFilemarks6 { immediate: false, count }, 0);
    }

    fn rewind(&mut self) {
        self.good(Command::Rewind { immediate: false }, 0);
    }

    fn block_length(&mut self, length: u32) {
        let [_, a, b, c] = length.to_be_bytes();
        let list = [0, 0, 0x10, 8, 0, 0, 0, 0, 0, a, b, c];
        let command = Command::ModeSelect { form: Form::Six, page_format: true, save: false, length: 12 };
        assert_eq!(self.send(command, &list, 0).0, Completion::GOOD);
    }

    fn object(&mut self) -> u64 {
        let data = self.good(Command::ReadPosition { action: 6, allocation: 0 }, 32);
        PositionData::parse_long(&data).unwrap().location.unwrap().first
    }
}

fn read(fixed: bool, suppress: bool, length: u32) -> Command {
    Command::Read6 { fixed, suppress_incorrect_length: suppress, length }
}

/// What a READ came to: bytes delivered, ILI, INFORMATION; `None` for the last two with GOOD.
fn met(host: &mut Host, command: Command, room: usize) -> (usize, Option<(bool, i64)>) {
    let (completion, data) = host.ask(command, room);
    (data.len(), completion.sense.map(|sense| (sense.flags.incorrect_length, sense.information.unwrap())))
}

#[test]
fn the_table_of_lengths() {
    // Rows: FIXED, SILI, block length of the mode parameters, requested; then what a block of 1000 bytes gives.
    let rows = [
        (false, false, 0, 1000, (1000, None)),
        (false, false, 0, 1200, (1000, Some((true, 200)))),
        (false, false, 0, 300, (300, Some((true, -700)))),
        (false, true, 0, 1000, (1000, None)),
        (false, true, 0, 1200, (1000, None)),
        (false, true, 0, 300, (300, None)),
        (false, true, 512, 1200, (1000, None)),
        (false, true, 512, 300, (300, Some((true, -700)))),
        (true, false, 1000, 1, (1000, None)),
        (true, false, 1000, 2, (2000, None)),
        (true, false, 512, 3, (0, Some((true, 3)))),
        (true, false, 1200, 1, (0, Some((true, 1)))),
    ];
    for (fixed, suppress, block_length, requested, expected) in rows {
        let mut host = Host::tape();
        host.write(&[7; 1000]);
        host.write(&[8; 1000]);
        host.rewind();
        host.block_length(block_length);
        let room = if fixed { requested * block_length.max(1) } else { requested };
        let found = met(&mut host, read(fixed, suppress, requested), room as usize);
        assert_eq!(found, expected, "FIXED {fixed} SILI {suppress} block length {block_length} requested {requested}");
        let behind = if fixed && expected.0 == 2000 { 2 } else { 1 };
        assert_eq!(host.object(), behind, "the position is behind the block");
    }
}

#[test]
fn fixed_and_sili_together_are_refused_and_nothing_moves() {
    let mut host = Host::tape();
    host.write(&[1; 10]);
    host.rewind();
    host.block_length(10);
    let (sense, _) = host.sense(read(true, true, 1), 10);
    assert_eq!((sense.key, sense.additional), (SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_FIELD_IN_CDB));
    assert_eq!(sense.field.unwrap().byte, 1);
    host.block_length(0);
    let (sense, _) = host.sense(read(true, false, 1), 10);
    assert_eq!(sense.additional, AdditionalSense::INVALID_FIELD_IN_CDB);
    assert_eq!(host.object(), 0);
}

#[test]
fn filemarks_and_the_end_of_data_are_told_with_residues() {
    let mut host = Host::tape();
    host.write(&[1; 100]);
    host.filemarks(1);
    host.rewind();
    host.good(read(false, false, 100), 100);
    let (sense, data) = host.sense(read(false, false, 100), 100);
    assert!(sense.flags.filemark && data.is_empty());
    assert_eq!(
        (sense.key, sense.additional, sense.information),
        (SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED, Some(100))
    );
    let (sense, _) = host.sense(read(false, false, 100), 100);
    assert_eq!(
        (sense.key, sense.additional, sense.information),
        (SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED, Some(100))
    );
    host.rewind();
    host.block_length(100);
    let (sense, data) = host.sense(read(true, false, 5), 500);
    assert!(sense.flags.filemark);
    assert_eq!((sense.information, data.len()), (Some(4), 100), "what was read before the filemark is delivered");
}

#[test]
fn spaces_stop_with_their_residue() {
    let mut host = Host::tape();
    for _ in 0..3 {
        host.write(&[1; 10]);
        host.write(&[2; 10]);
        host.filemarks(1);
    }
    host.rewind();
    let mut space = |code, count| {
        let (completion, _) = host.ask(Command::Space6 { code, count }, 0);
        let sense = completion.sense;
        (sense.map(|sense| (sense.key, sense.additional, sense.information.unwrap())), host.object())
    };
    assert_eq!(space(0, 2), (None, 2));
    assert_eq!(space(0, 2), (Some((SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED, 2)), 3));
    assert_eq!(space(1, 2), (None, 9));
    assert_eq!(space(1, 4), (Some((SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED, 4)), 9));
    assert_eq!(space(0, -1), (Some((SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED, 1)), 8));
    assert_eq!(space(1, -5), (Some((SenseKey::NO_SENSE, AdditionalSense::BEGINNING_OF_PARTITION_DETECTED, 3)), 0));
    assert_eq!(space(3, 0), (None, 9));
    assert_eq!(host.sense(Command::Space6 { code: 2, count: 1 }, 0).0.key, SenseKey::ILLEGAL_REQUEST);
}

#[test]
fn locate_finds_objects_files_and_the_end() {
    let mut host = Host::tape();
    for _ in 0..3 {
        host.write(&[1; 10]);
        host.filemarks(1);
    }
    let locate = |destination| Command::Locate16 { immediate: false, partition: None, destination };
    host.good(locate(Destination::Object(3)), 0);
    assert_eq!(host.object(), 3);
    host.good(locate(Destination::File(2)), 0);
    assert_eq!(host.object(), 4);
    host.good(locate(Destination::EndOfData), 0);
    assert_eq!(host.object(), 6);
    let (sense, _) = host.sense(locate(Destination::Object(99)), 0);
    assert_eq!((sense.key, sense.additional), (SenseKey::BLANK_CHECK, AdditionalSense::END_OF_DATA_DETECTED));
    let other = Command::Locate16 { immediate: false, partition: Some(3), destination: Destination::Object(0) };
    assert_eq!(host.sense(other, 0).0.key, SenseKey::ILLEGAL_REQUEST);
    let short = host.good(Command::ReadPosition { action: 0, allocation: 0 }, 20);
    assert_eq!(PositionData::parse_short(&short).unwrap().location.unwrap().first, 6);
}

#[test]
fn early_warning_is_eom_with_the_record_accepted_and_the_end_is_volume_overflow() {
    let mut host = Host::new(ModelOptions { early_warning: 64 * 1024, ..ModelOptions::new(MEBIBYTE) });
    let block = vec![3; 32 * 1024];
    let command = Command::Write6 { fixed: false, length: 32 * 1024 };
    let (mut accepted, mut warned) = (0, 0);
    let overflow = loop {
        match host.send(command, &block, 0).0.sense {
            None => accepted += 1,
            Some(sense) if sense.key == SenseKey::NO_SENSE => {
                assert!(sense.flags.end_of_medium);
                assert_eq!(
                    (sense.additional, sense.information),
                    (AdditionalSense::END_OF_PARTITION_MEDIUM_DETECTED, Some(0))
                );
                (accepted, warned) = (accepted + 1, warned + 1);
            }
            Some(sense) => break sense,
        }
    };
    assert_eq!((overflow.key, overflow.information), (SenseKey::VOLUME_OVERFLOW, Some(32 * 1024)));
    assert!(overflow.flags.end_of_medium && warned > 0, "{overflow} {warned}");
    assert_eq!(host.object(), accepted);
}

#[test]
fn unbuffered_writes_are_on_the_medium_when_they_are_good() {
    let mut host = Host::tape();
    let list = [0, 0, 0x00, 0];
    let command = Command::ModeSelect { form: Form::Six, page_format: true, save: false, length: 4 };
    assert_eq!(host.send(command, &list, 0).0, Completion::GOOD);
    host.write(&[1; 10]);
    let data = host.good(Command::ReadPosition { action: 0, allocation: 0 }, 20);
    assert_eq!(PositionData::parse_short(&data).unwrap().objects_in_buffer, Some(0));
    let sense = Command::ModeSense {
        form: Form::Six,
        no_block_descriptors: false,
        control: PageControl::Current,
        page: 0x3f,
        subpage: 0,
        allocation: 255,
    };
    assert_eq!(host.good(sense, 255)[2] & 0x70, 0);
}

#[test]
fn a_block_longer_than_was_sent_is_not_written() {
    let mut host = Host::tape();
    let (completion, _) = host.send(Command::Write6 { fixed: false, length: 100 }, &[1; 99], 0);
    assert_eq!(completion.sense.unwrap().key, SenseKey::ABORTED_COMMAND);
    assert_eq!(host.object(), 0);
    host.block_length(10);
    let (completion, _) = host.send(Command::Write6 { fixed: true, length: 0xff_ffff }, &[1; 20], 0);
    assert_eq!(completion.sense.unwrap().key, SenseKey::ABORTED_COMMAND);
    assert_eq!(host.object(), 0);
}

#[test]
fn removal_is_refused_while_it_is_prevented() {
    let mut host = Host::tape();
    let unload =
        Command::LoadUnload { immediate: false, hold: false, end_of_tape: false, retension: false, load: false };
    host.good(Command::PreventAllowMediumRemoval { prevent: 1 }, 0);
    assert_eq!(host.sense(unload, 0).0.additional, AdditionalSense::MEDIUM_REMOVAL_PREVENTED);
    host.good(Command::PreventAllowMediumRemoval { prevent: 0 }, 0);
    host.good(unload, 0);
    assert_eq!(host.sense(Command::TestUnitReady, 0).0.key, SenseKey::NOT_READY);
    assert_eq!(host.sense(read(false, false, 10), 10).0.key, SenseKey::NOT_READY);
    let load = Command::LoadUnload { immediate: false, hold: false, end_of_tape: false, retension: false, load: true };
    host.good(load, 0);
    assert_eq!(host.sense(Command::TestUnitReady, 0).0.key, SenseKey::UNIT_ATTENTION);
    host.good(Command::TestUnitReady, 0);
}

#[test]
fn drive_encryption_is_refused() {
    let mut host = Host::tape();
    let out = Command::SecurityProtocolOut { protocol: 0x20, specific: 0x10, length: 8 };
    let (completion, _) = host.send(out, &[0; 8], 0);
    assert_eq!(completion.sense.unwrap().key, SenseKey::ILLEGAL_REQUEST);
}

#[test]
fn a_reset_is_told_once_and_ends_prevention() {
    let mut host = Host::tape();
    host.good(Command::PreventAllowMediumRemoval { prevent: 1 }, 0);
    host.block_length(512);
    host.unit.reset();
    host.good(Command::Inquiry { vital_product_data: false, page: 0, allocation: 96 }, 96);
    let (sense, _) = host.sense(Command::Rewind { immediate: false }, 0);
    assert_eq!((sense.key, sense.additional), (SenseKey::UNIT_ATTENTION, AdditionalSense::BUS_DEVICE_RESET));
    host.rewind();
    let sense = Command::ModeSense {
        form: Form::Six,
        no_block_descriptors: false,
        control: PageControl::Current,
        page: 0,
        subpage: 0,
        allocation: 255,
    };
    assert_eq!(&host.good(sense, 255)[9..12], &[0, 0, 0], "the block length is the default again");
    host.good(
        Command::LoadUnload { immediate: false, hold: false, end_of_tape: false, retension: false, load: false },
        0,
    );
}

#[test]
fn the_programmable_early_warning_is_told_once_where_the_host_asked_for_it() {
    let mut host = Host::new(ModelOptions { early_warning: 1 << 20, ..ModelOptions::new(8 * MEBIBYTE) });
    // Device configuration extension: 3 MB before early warning.
    let mut list = vec![0, 0, 0x10, 0, 0x50, 0x01, 0x00, 0x1c];
    list.extend([0, 0, 0, 3]);
    list.extend([0; 24]);
    let command = Command::ModeSelect { form: Form::Six, page_format: true, save: false, length: 36 };
    assert_eq!(host.send(command, &list, 0).0, Completion::GOOD);
    let block = vec![3; 64 * 1024];
    let command = Command::Write6 { fixed: false, length: 64 * 1024 };
    let (mut bytes, mut told) = (0_u64, Vec::new());
    for _ in 0..100 {
        bytes += 64 * 1024;
        if let Some(sense) = host.send(command, &block, 0).0.sense {
            assert_eq!(sense.additional, AdditionalSense::PROGRAMMABLE_EARLY_WARNING);
            told.push(bytes);
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
    assert!((4 * MEBIBYTE..5 * MEBIBYTE).contains(&told[0]), "{told:?}");
}

#[test]
fn after_a_take_over_nothing_is_written_until_the_host_has_said_where() {
    let options = ScsiOptions { reset_loses_place: true, ..ScsiOptions::as_drive("test") };
    let load = Command::LoadUnload { immediate: false, hold: false, end_of_tape: false, retension: false, load: true };
    let ways = [
        Command::Rewind { immediate: false },
        Command::Locate16 { immediate: false, partition: None, destination: Destination::EndOfData },
        Command::Locate10 { immediate: false, block_address_type: false, partition: None, object: 0 },
        Command::Space6 { code: 3, count: 0 },
        load,
    ];
    for way in ways {
        let unit = ScsiUnit::new(Box::new(ModelTape::new(ModelOptions::new(64 * MEBIBYTE))), options.clone());
        let mut host = Host { unit };
        // As the server does with a unit that nobody has used yet in this process.
        host.unit.reset();
        for _ in 0..6 {
            let command = Command::Write6 { fixed: false, length: 4 };
            assert_eq!(host.send(command, b"lost", 0).0.status, Status::CHECK_CONDITION);
        }
        assert_eq!(
            host.sense(Command::WriteFilemarks6 { immediate: false, count: 1 }, 0).0.key,
            SenseKey::HARDWARE_ERROR
        );
        assert_eq!(host.sense(Command::Erase6 { immediate: false, long: false }, 0).0.key, SenseKey::HARDWARE_ERROR);
        // Only synchronises.
        host.good(Command::WriteFilemarks6 { immediate: false, count: 0 }, 0);
        assert_eq!(host.object(), 0);
        host.good(way, 0);
        host.write(b"here");
    }
}
