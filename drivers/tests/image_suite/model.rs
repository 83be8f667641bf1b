//! Any sequence of commands does the same to the file-backed drive and to the reference tape.

use proptest::prelude::*;
use sealtape_drivers::image::dump::{Dump, DumpedType};
use sealtape_drivers::image::trace::TraceStorage;
use sealtape_drivers::image::{CreateOptions, FileStorage, ImageDrive, OpenMode, Storage, create, create_on};
use sealtape_drivers::medium::model::{ModelOptions, ModelTape, Object};
use sealtape_drivers::medium::{PowerCut, TapeDrive};
use tempfile::TempDir;

use crate::commands::{Command, Outcome, any_command, identity, outcome, run};

const CAPACITY: u64 = 70_000;

#[derive(Clone, Debug)]
struct Cartridge {
    second_partition: Option<u64>,
    early_warning: u64,
    worm: bool,
    write_protected: bool,
}

fn cartridge() -> impl Strategy<Value = Cartridge> {
    let second = prop_oneof![Just(None), (4096u64..60_000).prop_map(Some)];
    (second, 0u64..4096, prop::bool::weighted(0.1), prop::bool::weighted(0.03)).prop_map(
        |(second_partition, early_warning, worm, write_protected)| Cartridge {
            second_partition,
            early_warning,
            worm,
            write_protected,
        },
    )
}

impl Cartridge {
    fn create_options(&self) -> CreateOptions {
        CreateOptions {
            second_partition: self.second_partition,
            early_warning: self.early_warning,
            worm: self.worm,
            write_protected: self.write_protected,
            serial: Some("MODEL".into()),
            barcode: Some("TAPE01L9".into()),
            ..CreateOptions::new(CAPACITY)
        }
    }

    fn model(&self) -> ModelTape {
        ModelTape::new(ModelOptions {
            second_partition: self.second_partition,
            early_warning: self.early_warning,
            worm: self.worm,
            write_protected: self.write_protected,
            barcode: Some("TAPE01L9".into()),
            ..ModelOptions::new(CAPACITY)
        })
    }
}

/// Where the image is.
enum Place {
    Memory(TraceStorage),
    File(TempDir),
}

impl Place {
    fn memory(options: &CreateOptions) -> Self {
        let storage = TraceStorage::default();
        create_on(&storage, "memory", options).expect("created");
        Self::Memory(storage)
    }

    fn file(options: &CreateOptions) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        create(&folder.path().join("tape.img"), options).expect("created");
        Self::File(folder)
    }

    fn storage(&self) -> Box<dyn Storage> {
        match self {
            Self::Memory(storage) => Box::new(storage.clone()),
            Self::File(folder) => {
                Box::new(FileStorage::open(&folder.path().join("tape.img"), OpenMode::ReadWrite).expect("opened"))
            }
        }
    }

    fn load(&self) -> ImageDrive {
        let mut drive = ImageDrive::new(identity());
        drive.insert_storage(self.storage(), "tape.img").expect("inserted");
        drive.load().expect("loaded");
        drive.test_unit_ready().expect_err("a unit attention");
        drive
    }
}

fn compare(cartridge: &Cartridge, commands: &[Command], place: &Place) {
    let mut model = cartridge.model();
    let mut drive = Some(place.load());
    let mut prevented = false;
    let mut early_warning = 0;
    for (number, command) in (0..).zip(commands) {
        let image = drive.as_mut().expect("there is a drive");
        match command {
            Command::PowerCut => assert_eq!(
                outcome(image.power_cut().map(Outcome::Lost)),
                outcome(model.power_cut().map(Outcome::Lost)),
                "command {number}"
            ),
            Command::Kill => {
                // The file's lock goes with the process, and so does what the drive was told.
                drop(drive.take());
                let mut fresh = place.load();
                fresh.prevent_removal(prevented).expect("PREVENT");
                fresh.set_programmable_early_warning(early_warning).expect("early warning");
                drive = Some(fresh);
                model.load().expect("loaded");
                let _consumed = model.test_unit_ready();
            }
            command => {
                let (image, model) = (run(image, command, number), run(&mut model, command, number));
                assert_eq!(image, model, "command {number}, {command:?}");
                match (command, &image) {
                    (Command::Prevent(prevent), _) => prevented = *prevent,
                    (Command::EarlyWarning { bytes }, Outcome::Done) => early_warning = *bytes,
                    _ => {}
                }
            }
        }
        let image = drive.as_mut().expect("there is a drive");
        assert_eq!(image.read_position().ok(), model.read_position().ok(), "after command {number}, {command:?}");
        assert_eq!(image.medium_status().ok(), model.medium_status().ok(), "after command {number}, {command:?}");
    }
    drop(drive);
    compare_contents(place, &model);
}

/// What `dump` finds in the file is what the model holds.
fn compare_contents(place: &Place, model: &ModelTape) {
    let dump = Dump::open_storage(place.storage(), "tape.img").expect("opened");
    let objects: Vec<_> = dump.objects().collect::<Result<_, _>>().expect("nothing is damaged");
    let mut left = objects.iter();
    for partition in dump.partitions() {
        for (number, expected) in (0..).zip(model.objects(partition.number)) {
            let found = left.next().expect("the object is there");
            let (object_type, length) = match expected {
                Object::Block(block) => (DumpedType::Block, block.len()),
                Object::Filemark => (DumpedType::Filemark, 0),
            };
            assert_eq!((found.partition, found.object), (partition.number, number));
            assert_eq!((found.object_type, found.length as usize, found.crc_ok), (object_type, length, true));
        }
    }
    assert_eq!(left.next(), None, "an object too many");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn in_memory_drive_and_model_agree(cartridge in cartridge(), commands in prop::collection::vec(any_command(), 1..80)) {
        compare(&cartridge, &commands, &Place::memory(&cartridge.create_options()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn on_a_file_drive_and_model_agree(cartridge in cartridge(), commands in prop::collection::vec(any_command(), 1..60)) {
        compare(&cartridge, &commands, &Place::file(&cartridge.create_options()));
    }
}
