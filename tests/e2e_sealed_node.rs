//! The node's suite over the sealed unit: what a plain drive passes, the sealed one passes too, label and generation
//! record being hidden. The keys come from a catalogue in memory; with the services the same is in `e2e_programs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/catalogue.rs"]
#[allow(dead_code, unreachable_pub, reason = "each suite uses its part of the support")]
mod catalogue;
#[macro_use]
#[allow(dead_code, reason = "each suite uses its part of the support")]
mod support;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use catalogue::Catalogue;
use sealtape::pipeline::{SealPool, WindowLimits};
use sealtape::seal::{Compression, Suite};
use sealtape::unit::{LabelRequest, Overwrite, SealedTape, UnitOptions, UnsynchronisedMark};
use sealtape_drivers::image::{CreateOptions, ImageDrive, OpenMode, create};
use sealtape_drivers::medium::{DriveIdentity, SharedDrive, TapeDrive};

static POOL: LazyLock<Arc<SealPool>> = LazyLock::new(|| SealPool::start(2).unwrap());

fn sealed_drive(scratch: &Path, capacity: u64) -> Box<dyn TapeDrive> {
    let path = scratch.join("cartridge.image");
    create(&path, &CreateOptions::new(capacity)).unwrap();
    let mut raw = ImageDrive::new(DriveIdentity {
        vendor: "SEALTAPE".into(),
        product: "IMAGE".into(),
        revision: "1".into(),
        serial: "TEST".into(),
    });
    raw.insert(&path, OpenMode::ReadWrite).unwrap();
    let mut sealed = SealedTape::new(
        "drive0",
        Box::new(SharedDrive::new(raw)),
        Box::new(Catalogue::new(Suite::AES_256_GCM_SIV, Compression::ZSTD, 1)),
        Arc::clone(&POOL),
        UnitOptions {
            window: WindowLimits { records: 64, bytes: 16 << 20 },
            check_end_at_load: true,
            max_block: 1 << 20,
        },
        UnsynchronisedMark::at(scratch.join("mark")),
    )
    .unwrap();
    sealed.load_medium().unwrap();
    sealed.label_medium(&LabelRequest { ticket: String::new(), overwrite: Overwrite::Nothing }).unwrap();
    Box::new(sealed)
}

node_suite!(sealed, crate::sealed_drive);
