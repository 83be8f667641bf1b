//! A host that sends anything: every operation code with random fields and wrong lengths, to a sealed volume. The unit answers each
//! with valid status and sense, it never panics, and whatever is asked for, neither clear text reaches the medium nor sealed text the host.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/catalogue.rs"]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod catalogue;

use catalogue::Catalogue;
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, Suite};
use sealtape::unit::scsi::{ScsiOptions, ScsiUnit};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::medium::SharedDrive;
use sealtape_drivers::medium::model::{ModelOptions, ModelTape, Object};
use sealtape_drivers::scsi::{Command, DataIn, LogicalUnit, Sense, SenseKey, Status};

const CLEAR: &[u8] = b"this is what the host wrote in clear; ";
const LONGEST: usize = 2048;

/// xorshift64*: the same commands in every run, and no more than that.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }

    /// A block that is anything, or one that is nearly a command.
    fn cdb(&mut self) -> Vec<u8> {
        let mut cdb: Vec<u8> = (0..16).map(|_| self.next() as u8).collect();
        if !self.one_in(4) {
            // Small numbers are what gets past the checks.
            for byte in &mut cdb[1..] {
                *byte = match self.below(4) {
                    0 => *byte,
                    1 => *byte & 0x0f,
                    _ => 0,
                };
            }
        }
        if !self.one_in(3) {
            const SERVED: &[u8] = &[
                0x00, 0x01, 0x03, 0x04, 0x05, 0x08, 0x08, 0x08, 0x0a, 0x0a, 0x0a, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13,
                0x15, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x2b, 0x34, 0x44, 0x4c, 0x4d, 0x55, 0x5a, 0x82, 0x8c, 0x8d,
                0x91, 0x92, 0x93, 0xa0, 0xa2, 0xa3, 0xa4, 0xab, 0xb5,
            ];
            cdb[0] = SERVED[self.below(SERVED.len())];
            if self.one_in(2) {
                let length = sealtape_drivers::scsi::cdb_length(cdb[0]).unwrap();
                cdb[length - 1] = 0;
            }
        }
        if self.one_in(50) {
            cdb.truncate(self.below(16));
        }
        cdb
    }
}

fn check(sense: Sense, cdb: &[u8]) {
    for form in [sense.to_fixed().to_vec(), sense.to_descriptor()] {
        let parsed = Sense::parse(&form).unwrap_or_else(|| panic!("{cdb:02x?}: no sense: {form:02x?}"));
        assert_eq!(
            (parsed.key, parsed.additional, parsed.flags),
            (sense.key, sense.additional, sense.flags),
            "{cdb:02x?}"
        );
    }
    if sense.key == SenseKey::ILLEGAL_REQUEST {
        assert!(!sense.flags.filemark && !sense.flags.incorrect_length, "{cdb:02x?}: {sense}");
    }
}

fn contains(data: &[u8], what: &[u8]) -> bool {
    let first = what[0];
    let places = data.iter().enumerate().filter(|(_, byte)| **byte == first);
    places.into_iter().any(|(at, _)| data[at..].starts_with(what))
}

fn check_medium(raw: &SharedDrive<ModelTape>) {
    let tape = raw.lock();
    for partition in 0..2 {
        for (number, object) in tape.objects(partition).iter().enumerate() {
            let Object::Block(block) = object else { continue };
            let sealed: &[&[u8]] = if number == 0 { &[b"SEALTAPE VOLUME 1\n"] } else { &[b"SLTR", b"SLTG"] };
            assert!(sealed.iter().any(|magic| block.starts_with(magic)), "object {number} of partition {partition}");
            assert!(!contains(block, &CLEAR[..16]), "clear text in object {number} of partition {partition}");
        }
    }
}

#[test]
fn a_host_may_send_anything() {
    let commands = if std::env::var_os("SEALTAPE_LONG").is_some() { 3_000_000 } else { 50_000 };
    let shared_memory = std::path::Path::new("/dev/shm");
    let folder =
        if shared_memory.is_dir() { tempfile::tempdir_in(shared_memory) } else { tempfile::tempdir() }.unwrap();
    let catalogue = Catalogue::new(Suite::AES_256_GCM_SIV, Compression::NONE, 2);
    let options = ModelOptions { second_partition: Some(1 << 20), maximum_block: 4096, ..ModelOptions::new(4 << 20) };
    let raw = SharedDrive::new(ModelTape::new(options));
    let mut sealed = SealedTape::new(
        "drive0",
        Box::new(raw.clone()),
        Box::new(catalogue.clone()),
        SealPool::start(1).unwrap(),
        UnitOptions { window: WindowLimits { records: 4, bytes: 64 << 10 }, check_end_at_load: true, max_block: 4096 },
        UnsynchronisedMark::at(folder.path().join("mark")),
    )
    .unwrap();
    sealed.load_medium().unwrap();
    sealed.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    let sealed = SharedDrive::new(sealed);
    let mut unit = ScsiUnit::new(Box::new(sealed.clone()), ScsiOptions::as_drive("fuzz"));

    let mut random = Random(0x5ea1_7a9e);
    let mut buffer = vec![0; LONGEST];
    let (mut good, mut refused, mut met) = (0, 0, 0);
    for number in 0..commands {
        let cdb = random.cdb();
        let data: Vec<u8> = match random.below(3) {
            0 => (0..random.below(LONGEST)).map(|_| random.next() as u8).collect(),
            1 => CLEAR.iter().copied().cycle().take(random.below(LONGEST)).collect(),
            _ => vec![0; random.below(64)],
        };
        let room = random.below(LONGEST);
        buffer.fill(0);
        let mut data_in = DataIn::new(&mut buffer[..room]);
        let completion = unit.execute(&cdb, &data, &mut data_in);
        let filled = data_in.filled();
        assert!(filled <= room);
        assert!(!contains(&buffer[..filled], b"SLTR"), "{cdb:02x?} gave sealed text");
        match (completion.status, completion.sense) {
            (Status::GOOD, None) => good += 1,
            (Status::CHECK_CONDITION, Some(sense)) => {
                check(sense, &cdb);
                if sense.key == SenseKey::ILLEGAL_REQUEST { refused += 1 } else { met += 1 }
            }
            other => panic!("{cdb:02x?}: {other:?}"),
        }
        if number % 500 == 0 {
            // What was unloaded is loaded again, and the tape does not stay full.
            let load =
                Command::LoadUnload { immediate: false, hold: false, end_of_tape: false, retension: false, load: true };
            for command in [load, Command::TestUnitReady, Command::TestUnitReady, Command::Rewind { immediate: false }]
            {
                unit.execute(command.encode().as_bytes(), &[], &mut DataIn::new(&mut []));
            }
        }
        if number % 10_000 == 0 {
            check_medium(&raw);
        }
    }
    println!("{commands} commands: {good} good, {refused} refused, {met} with other sense");
    assert!(good > commands / 10 && refused > commands / 10 && met > commands / 100, "{good} {refused} {met}");
    sealed.lock().load_medium().unwrap();
    assert!(sealed.lock().status().label.is_some(), "the volume has lost its name");
    check_medium(&raw);
}
