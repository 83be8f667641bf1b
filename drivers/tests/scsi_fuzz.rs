//! The SCSI wire types, fed with made-up and with damaged bytes. The functions are those of the fuzz targets (`fuzz/scsi.rs`);
//! here they run on every build, for a bounded time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/noise.rs"]
#[allow(unreachable_pub, reason = "used from elsewhere too")]
mod noise;
#[path = "../../fuzz/scsi.rs"]
#[allow(unreachable_pub, reason = "the fuzz targets are a crate of their own, which uses them from outside")]
mod scsi;

use std::time::{Duration, Instant};

use noise::Noise;

fn drive(name: &str, target: fn(&[u8]), seeds: &[Vec<u8>]) {
    let limit = Duration::from_secs(if std::env::var_os("SEALTAPE_LONG").is_some() { 60 } else { 2 });
    let (begun, mut inputs, mut noise) = (Instant::now(), 0_u64, Noise(0x5ea1_7a9e));
    seeds.iter().for_each(|seed| target(seed));
    while begun.elapsed() < limit {
        for _ in 0..100 {
            target(&noise.input(seeds, 300));
            inputs += 1;
        }
    }
    println!("{name}: {inputs} inputs");
    assert!(inputs >= 1000, "{name}: {inputs} inputs in {limit:?}");
}

/// A structure of these bytes, and zeros.
fn seed(head: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes.resize(length.max(head.len()), 0);
    bytes
}

#[test]
fn commands() {
    let operations = (0..=0xff_u8).map(|operation| seed(&[operation], 16));
    let actions =
        [0xa3, 0xa4, 0xab].into_iter().flat_map(|operation| (0..0x20).map(move |a| seed(&[operation, a], 12)));
    drive("scsi_command", scsi::scsi_command, &operations.chain(actions).collect::<Vec<_>>());
}

#[test]
fn sense_data() {
    let seeds = [
        seed(&[0xf0, 0, 0xe3, 1, 2, 3, 4, 10, 0, 0, 0, 0, 0x0c, 0], 18),
        seed(&[0x71, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 4], 18),
        seed(
            &[
                0x72, 5, 0x24, 0, 0, 0, 0, 24, 0, 10, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 6, 0, 0, 0xcf, 0, 4, 0, 4, 2,
                0, 0xe0,
            ],
            32,
        ),
        seed(&[0x73, 3, 0x0c, 0, 0, 0, 0, 255, 9, 200], 263),
    ];
    drive("scsi_sense", scsi::scsi_sense, &seeds);
}

/// Every page code that has a type, as a page of zeros.
fn mode_pages() -> Vec<Vec<u8>> {
    let pages =
        [(0x01, 10), (0x02, 14), (0x0a, 10), (0x0f, 14), (0x10, 14), (0x11, 10), (0x1a, 38), (0x1c, 10), (0x1d, 30)];
    let subpages = [(0x0a, 0x01), (0x0a, 0xf0), (0x10, 0x01), (0x30, 0x20)];
    let pages = pages.map(|(page, length)| seed(&[page, length], usize::from(length) + 2));
    let subpages = subpages.map(|(page, subpage)| seed(&[page | 0x40, subpage, 0, 28], 32));
    pages.into_iter().chain(subpages).collect()
}

#[test]
fn parameter_lists() {
    let mut seeds = vec![
        // LOG SELECT
        vec![0x02, 0, 0, 14, 0, 2, 2, 2, 0xff, 0xff, 0, 5, 2, 4, 1, 2, 3, 4],
        // WRITE ATTRIBUTE
        [&[0, 0, 0, 18, 8, 6, 1, 0, 8][..], b"SEA001L8", &[8, 3, 2, 0, 0]].concat(),
    ];
    for page in mode_pages() {
        seeds.push([&[0, 0, 0x10, 8, 0x5e, 0, 0, 0, 0, 0, 2, 0], &page[..]].concat());
        seeds.push([&[0, 0, 0, 0x10, 0, 0, 0, 0], &page[..]].concat());
    }
    drive("scsi_parameter_list", scsi::scsi_parameter_list, &seeds);
}

#[test]
fn data() {
    let mut seeds = vec![
        seed(&[&[1, 0x80, 6, 2, 91, 0x11, 0x10, 2][..], b"IBM     ULT3580-TD8     N9M1"].concat(), 96),
        vec![1, 0x83, 0, 24, 2, 1, 0, 8, 72, 80, 69, 32, 32, 32, 32, 32, 0x61, 0x93, 0, 8, 0x50, 1, 2, 3, 4, 5, 6, 7],
        seed(&[1, 0x86, 0, 60, 0x0c, 7], 64),
        vec![1, 0xb2, 0, 8, 0x80, 0, 0x10, 0, 0, 0, 0, 1],
        vec![0x41, 1, 0, 0, 0, 0, 1, 2, 0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0],
        seed(&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2], 32),
        seed(&[0x80, 2, 0, 28, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3], 32),
        vec![0, 0, 0, 5, 0, 2, 3, 0x0c, 0x2e],
        vec![0x40, 0xff, 0, 4, 0, 0, 0x17, 0],
        vec![0x31, 0, 0, 16, 0, 1, 2, 4, 0, 1, 2, 3, 0, 3, 2, 4, 1, 2, 3, 4],
        vec![0x17, 0, 0, 20, 2, 4, 3, 16, 7, 0, 0, 0, 0, 1, 2, 3, 7, 0, 0, 1, 0, 0, 0x90, 0x88],
        vec![0x12, 0, 0, 12, 0, 0, 3, 8, 0x80, 0, 0x10, 0, 0, 0, 0, 1],
        vec![0, 0, 0, 13, 0, 0, 0x80, 0, 8, 0, 0, 0, 0, 0, 1, 2, 3],
        // Element status: a drive with a tag and an identifier.
        [
            &[0, 1, 0, 1, 0, 0, 0, 70, 4, 0x80, 0, 62, 0, 0, 0, 62, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0xc0, 4, 2][..],
            b"SEA002L8                        \0\0\0\0",
            &[2, 0, 0, 10],
            b"1013000123",
        ]
        .concat(),
        seed(&[0, 54, 0, 0, 0x5e, 0x5e, 0xa0], 56),
        seed(&[0, 58, 0, 0, 0, 0, 0, 52, 1, 0x5e], 60),
        vec![0, 0, 0, 28, 1, 0, 0, 0, 0, 2, 0, 6, 0, 10, 0, 0, 0, 0, 0, 60, 0, 0, 1, 0, 0xa3, 0, 0, 12, 0, 1, 0, 12],
        vec![0, 0x83, 0, 6, 1, 1, 0, 0, 0, 0, 0, 10, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
        vec![0, 0, 0, 8, 65, 49, 66, 50, 67, 32, 32, 32],
    ];
    for page in mode_pages() {
        seeds.push([&[page.len() as u8 + 3, 0x88, 0x90, 0], &page[..]].concat());
        seeds
            .push([&[0, page.len() as u8 + 14, 0x88, 0x90, 0, 0, 0, 8, 0x5e, 0, 0, 0, 0, 0, 2, 0], &page[..]].concat());
        seeds.push(page);
    }
    drive("scsi_data", scsi::scsi_data, &seeds);
}
