//! Who the drive is, what it tells about itself, and having it alone.

use std::fs;

use anyhow::{Context, Result};
use sealtape_drivers::medium::{Description, TapeDrive};
use sealtape_drivers::sg::{Ownership, RecordFile, SgDevice, Sharing, StDriver};

use super::bench::Bench;
use super::report::{Notes, Verdict};

/// Pages that an LTO drive has: supported pages, errors, sequential access, temperature, capacity, data compression, TapeAlert.
const LOG_PAGES: &[u8] = &[0x00, 0x02, 0x03, 0x0c, 0x0d, 0x11, 0x17, 0x1b, 0x2e, 0x30, 0x31, 0x32];
const MODE_PAGES: &[(u8, u8)] =
    &[(0x01, 0), (0x02, 0), (0x0a, 0), (0x0a, 1), (0x0f, 0), (0x10, 0), (0x10, 1), (0x11, 0), (0x1c, 0), (0x1d, 0)];
const VITAL_PRODUCT_DATA: &[u8] = &[0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb3];

pub(super) fn identity(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let drive = bench.scratch()?.drive;
    let who = drive.identity();
    for (name, text) in [("vendor", &who.vendor), ("product", &who.product), ("serial number", &who.serial)] {
        notes.expect(!text.is_empty(), || format!("the drive tells no {name}"));
    }
    let limits = drive.block_limits()?;
    notes.fact(format!(
        "blocks of {} to {} bytes, as drive, kernel and host adapter carry them",
        limits.minimum, limits.maximum
    ));
    notes.expect(limits.maximum >= 65_536, || format!("{} bytes a block are too few", limits.maximum));
    let mut told =
        |what: Description, name: String, header: fn(&[u8]) -> Option<u8>, code: u8| -> Result<Option<String>> {
            let page = drive.describe(what).with_context(|| name.clone())?;
            if let Some(page) = &page {
                notes.expect(header(page) == Some(code), || format!("{name}: {page:02X?}"));
            }
            Ok(page.map(|page| format!("{name} ({} bytes)", page.len())))
        };
    let mut pages = Vec::new();
    for page in LOG_PAGES {
        let what = Description::LogPage { page: *page, subpage: 0 };
        pages.push(told(what, format!("log {page:02X}h"), |page| Some(page.first()? & 0x3f), *page)?);
    }
    for (page, subpage) in MODE_PAGES {
        let what = Description::ModePage { page: *page, subpage: *subpage };
        pages.push(told(what, format!("mode {page:02X}h/{subpage:02X}h"), mode_page_code, *page)?);
    }
    for page in VITAL_PRODUCT_DATA {
        let what = Description::VitalProductData { page: *page };
        pages.push(told(what, format!("VPD {page:02X}h"), |page| page.get(1).copied(), *page)?);
    }
    let density = drive.describe(Description::DensitySupport { medium: true })?;
    pages.push(density.map(|density| format!("density support ({} bytes)", density.len())));
    let pages: Vec<String> = pages.into_iter().flatten().collect();
    notes.fact(format!("told: {}", pages.join(", ")));
    Ok(Verdict::Passed)
}

/// MODE SENSE(10): header of 8 bytes, block descriptors, page.
fn mode_page_code(bytes: &[u8]) -> Option<u8> {
    let descriptors = bytes.get(6..8)?.first_chunk().map(|field| usize::from(u16::from_be_bytes(*field)))?;
    Some(bytes.get(8 + descriptors)? & 0x3f)
}

pub(super) fn ownership(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    bench.let_go()?;
    let device = SgDevice::open(&bench.options.drive, Sharing::Exclusive)?;
    let folder = format!("/sys/bus/scsi/devices/{}/scsi_tape", device.address());
    let bound = || fs::read_dir(&folder).is_ok_and(|mut nodes| nodes.next().is_some());
    let before = bound();
    let record = tempfile::tempdir()?;
    let record = RecordFile::new(record.path().join("hwtest.owner"));
    let owner = Ownership::take(device.try_clone()?, device.address(), StDriver::default(), record)?;
    for missing in owner.missing() {
        notes.fact(missing.clone());
    }
    match owner.key() {
        Some(_) => notes.fact("a persistent reservation was taken"),
        None => notes.fact("no persistent reservation"),
    }
    if before {
        notes.expect(!bound() || !owner.missing().is_empty(), || "st is still bound to the drive".to_owned());
    }
    owner.release()?;
    notes.expect(bound() == before, || "st did not come back to the drive".to_owned());
    Ok(Verdict::Passed)
}
