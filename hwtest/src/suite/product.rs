//! The product over the drive: the kernel's target has to be there, so this runs in the guest, and on hosts that have it.

use std::process::Command;

use anyhow::{Context, Result};
use sealtape_drivers::medium::{ReadOutcome, TapeDrive};

use super::bench::Bench;
use super::report::{Notes, Verdict};

/// Functions of the guest lab; on a host only `load` is another.
const FUNCTIONS: &str = concat!(include_str!("../../guest/lab.sh"), include_str!("../../guest/chain.sh"));
const SCRIPT: &str = include_str!("../../guest/product.sh");
/// What stands in clear text in the file that is written.
const CLEAR: &[u8] = b"this stands in clear text in the file\n";

pub(super) fn tar_through_the_product(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let Some(programs) = bench.options.product.clone() else {
        return Ok(Verdict::NotRun("the folder of the product's programs was not named (--product)".to_owned()));
    };
    let held = bench.scratch()?;
    let (serial, barcode) = (held.drive.identity().serial, held.status.barcode.unwrap_or_default());
    // What stood there before is not to be taken for what the product wrote.
    held.drive.locate(sealtape_drivers::medium::Position { partition: 0, object: 0 })?;
    held.drive.write_filemarks(1, false)?;
    bench.let_go()?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("clear"), CLEAR.repeat(20_000))?;
    let output = Command::new("bash")
        .args(["-c", &format!("{FUNCTIONS}\n{SCRIPT}")])
        .current_dir(folder.path())
        .env("BIN", &programs)
        .env("DRIVE_SERIAL", serial)
        .env("BARCODE", barcode)
        .output()
        .context("bash")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(77) {
        return Ok(Verdict::NotRun(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    notes.expect(output.status.success(), || {
        format!("{}: {} {}", output.status, said.trim(), String::from_utf8_lossy(&output.stderr).trim())
    });
    for line in said.lines() {
        notes.fact(line);
    }
    look_at_the_medium(bench, notes)?;
    Ok(Verdict::Passed)
}

/// A label in clear text first, and nothing of the file anywhere.
fn look_at_the_medium(bench: &mut Bench, notes: &mut Notes) -> Result<()> {
    let drive = bench.scratch()?.drive;
    let mut buffer = vec![0; drive.block_limits()?.maximum as usize];
    let (mut blocks, mut filemarks, mut bytes) = (0_u64, 0_u64, 0);
    loop {
        match drive.read(&mut buffer)? {
            ReadOutcome::Filemark => filemarks += 1,
            ReadOutcome::EndOfData | ReadOutcome::EndOfPartition => break,
            ReadOutcome::Block { length } => {
                let block = buffer.get(..length).unwrap_or(&buffer);
                let holds = |text: &[u8]| block.windows(text.len()).any(|window| window == text);
                let first = blocks == 0;
                notes.expect(!first || holds(b"SEALTAPE VOLUME 1"), || {
                    "no label at the beginning of the medium".to_owned()
                });
                notes.expect(!holds(&CLEAR[..20]), || format!("clear text on the medium, in block {blocks}"));
                (blocks, bytes) = (blocks + 1, bytes + length);
            }
        }
    }
    notes.expect(blocks > 0, || "nothing stands on the medium".to_owned());
    notes.fact(format!(
        "on the medium: {blocks} blocks, {filemarks} filemarks, {bytes} bytes, no clear text but the label"
    ));
    Ok(())
}
