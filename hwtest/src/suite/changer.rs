//! The changer, as our reading of its element status has it and as `mtx` has it.

use anyhow::{Context, Result};
use sealtape_drivers::sg::{Inventory, SlotKind};

use super::bench::{Bench, run_mtx};
use super::report::{Notes, Verdict};

/// One place: full or not, and the barcode in it.
type Place = (bool, Option<String>);

/// What `mtx status` prints, drives and slots, in its order.
fn read_mtx(text: &str) -> (Vec<Place>, Vec<Place>) {
    let (mut drives, mut slots) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        let to = match line {
            _ if line.starts_with("Data Transfer Element") => &mut drives,
            _ if line.starts_with("Storage Element") => &mut slots,
            _ => continue,
        };
        let Some((_, state)) = line.split_once(':') else { continue };
        let tag = state.split_once("VolumeTag").map(|(_, tag)| tag.trim_start_matches([' ', '=']).trim().to_owned());
        to.push((state.trim_start().starts_with("Full"), tag.filter(|tag| !tag.is_empty())));
    }
    (drives, slots)
}

fn read_ours(inventory: &Inventory) -> (Vec<Place>, Vec<Place>) {
    let drives = inventory.drives.iter().map(|drive| (drive.full, drive.barcode.clone())).collect();
    let of = |kind| inventory.slots.iter().filter(move |slot| slot.kind == kind);
    let slots = of(SlotKind::Storage).chain(of(SlotKind::ImportExport));
    (drives, slots.map(|slot| (slot.full, slot.barcode.clone())).collect())
}

pub(super) fn agrees_with_mtx(bench: &mut Bench, notes: &mut Notes) -> Result<Verdict> {
    let Some(node) = bench.options.changer.clone() else {
        return Ok(Verdict::NotRun("no changer was named (--changer)".to_owned()));
    };
    let scratch = bench.options.scratch.clone();
    // Once as it is found, once with the scratch volume in the drive.
    for turn in ["as found", "with the scratch volume in the drive"] {
        if turn != "as found" {
            bench.insert(&scratch)?;
        }
        let inventory = bench.inventory()?.context("the changer")?;
        let printed = run_mtx(&node, &["status"])?;
        let (ours, theirs) = (read_ours(&inventory), read_mtx(&printed));
        notes.expect(ours == theirs, || format!("{turn}: ours {ours:?}, mtx {theirs:?}"));
        notes.fact(format!("{turn}: {} drives and {} slots", ours.0.len(), ours.1.len()));
        let number = bench.number_of_drive(&inventory)?;
        if turn != "as found" {
            let told = inventory.drives.get(number).and_then(|drive| drive.barcode.as_deref());
            notes.expect(told == Some(scratch.as_str()), || {
                format!("{scratch} was loaded, and {told:?} is in the drive")
            });
        }
    }
    Ok(Verdict::Passed)
}

#[cfg(test)]
mod tests {
    use super::read_mtx;

    #[test]
    fn the_output_of_mtx_is_read() {
        let text = "  Storage Changer /dev/sg0:1 Drives, 3 Slots ( 1 Import/Export )\n\
            Data Transfer Element 0:Full (Storage Element 1 Loaded):VolumeTag = SEA001L8                            \n\
            \x20     Storage Element 1:Empty\n\
            \x20     Storage Element 2:Full :VolumeTag=SEA002L8                            \n\
            \x20     Storage Element 3 IMPORT/EXPORT:Full \n";
        let (drives, slots) = read_mtx(text);
        assert_eq!(drives, [(true, Some("SEA001L8".to_owned()))]);
        assert_eq!(slots, [(false, None), (true, Some("SEA002L8".to_owned())), (true, None)]);
    }
}
