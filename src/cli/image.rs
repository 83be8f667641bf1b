//! `image …`: cartridges of the file-backed drive.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use sealtape_drivers::image::dump::{Dump, DumpedObject, DumpedType};
use sealtape_drivers::image::{CreateOptions, ImageError, ImageHeader, create, set_write_protect};
use serde::Serialize;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::progress::Bar;
use super::table::{bytes, fields};
use crate::control::{Progress, ProgressUnit};
use crate::service::size::ByteSize;

/// Make and look into image files: the cartridges of file-backed drives.
#[derive(Debug, Subcommand)]
pub(super) enum Image {
    /// Make a blank cartridge in a new file
    Create(Create),
    /// Show what stands in a cartridge's file, and check its checksums; needs no key and no service
    Dump {
        /// The image file
        file: PathBuf,
        /// List every object: block or filemark, length, place in the file
        #[arg(long)]
        objects: bool,
    },
    /// Set the write-protect switch of a cartridge that is in no drive
    Protect {
        /// The image file
        file: PathBuf,
        /// Whether writing is forbidden
        switch: Switch,
    },
}

/// A write-protect switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Switch {
    /// Writing is forbidden
    On,
    /// Writing is possible
    Off,
}

/// Make a blank cartridge in a new file.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The image file; must not exist
    file: PathBuf,
    /// Capacity, for example 10G, 512MiB, 2500GB (the file grows as it is written)
    #[arg(long, value_name = "SIZE")]
    capacity: ByteSize,
    /// Take this much of the capacity for a second partition
    #[arg(long, value_name = "SIZE")]
    second_partition: Option<ByteSize>,
    /// Warn the host when less than this is left [default: 1/64 of the capacity, at most 1GiB]
    #[arg(long, value_name = "SIZE")]
    early_warning: Option<ByteSize>,
    /// Barcode, 1 to 32 printable ASCII characters
    #[arg(long)]
    barcode: Option<String>,
    /// Serial number, 1 to 32 printable ASCII characters [default: made up]
    #[arg(long)]
    serial: Option<String>,
    /// Write once: what is written cannot be written over
    #[arg(long)]
    worm: bool,
}

/// What stands in an image file.
#[derive(Debug, Serialize)]
struct Dumped {
    file: PathBuf,
    #[serde(flatten)]
    header: Header,
    write_protected: bool,
    partitions: Vec<Partition>,
    /// Why the chain of objects breaks, where it does.
    damage: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Header {
    uuid: Uuid,
    serial: String,
    barcode: Option<String>,
    worm: bool,
    capacity_bytes: u64,
    early_warning_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Partition {
    partition: u8,
    capacity_bytes: u64,
    blocks: u64,
    filemarks: u64,
    block_bytes: u64,
    synchronised_objects: u64,
    checksum_errors: u64,
}

#[derive(Debug, Serialize)]
struct Object {
    partition: u8,
    object: u64,
    is: &'static str,
    length: u32,
    offset: u64,
    synchronised: bool,
    checksum: &'static str,
}

impl From<&ImageHeader> for Header {
    fn from(header: &ImageHeader) -> Self {
        Self {
            uuid: header.uuid,
            serial: header.serial.clone(),
            barcode: header.barcode.clone(),
            worm: header.worm,
            capacity_bytes: header.capacity,
            early_warning_bytes: header.early_warning,
        }
    }
}

impl From<&DumpedObject> for Object {
    fn from(object: &DumpedObject) -> Self {
        Self {
            partition: object.partition,
            object: object.object,
            is: match object.object_type {
                DumpedType::Block => "block",
                DumpedType::Filemark => "filemark",
            },
            length: object.length,
            offset: object.offset,
            synchronised: object.synchronised,
            checksum: if object.crc_ok { "right" } else { "wrong" },
        }
    }
}

impl Image {
    pub(super) fn run(self, output: &Output) -> Result<(), Failure> {
        match self {
            Self::Create(options) => options.run(output),
            Self::Dump { file, objects } => dump(&file, objects, output),
            Self::Protect { file, switch } => {
                set_write_protect(&file, switch == Switch::On)?;
                output.note(&format!("{}: write protection is {}", file.display(), switch.word()));
                Ok(())
            }
        }
    }
}

impl Switch {
    fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl Create {
    fn run(self, output: &Output) -> Result<(), Failure> {
        let mut options = CreateOptions::new(self.capacity.0);
        options.second_partition = self.second_partition.map(|size| size.0);
        if let Some(size) = self.early_warning {
            options.early_warning = size.0;
        }
        options.barcode = self.barcode;
        options.serial = self.serial;
        options.worm = self.worm;
        let header = create(&self.file, &options)?;
        output.value(&Header::from(&header), |header| {
            fields(&[
                ("image", self.file.display().to_string()),
                ("serial", header.serial.clone()),
                ("barcode", header.barcode.clone().unwrap_or_default()),
                ("capacity", bytes(header.capacity_bytes)),
            ])
        })
    }
}

fn dump(file: &Path, list_objects: bool, output: &Output) -> Result<(), Failure> {
    let dump = Dump::open(file)?;
    let mut partitions: Vec<Partition> = dump
        .partitions()
        .map(|partition| Partition {
            partition: partition.number,
            capacity_bytes: partition.capacity,
            blocks: 0,
            filemarks: 0,
            block_bytes: 0,
            synchronised_objects: partition.synchronised_objects,
            checksum_errors: 0,
        })
        .collect();
    let mut damage = Vec::new();
    let mut bar = Bar::new(output, "reading");
    for (count, object) in (1..).zip(dump.objects()) {
        let object = match object {
            Ok(object) => object,
            Err(error @ ImageError::Damaged { .. }) => {
                damage.push(error.to_string());
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        if let Some(partition) = partitions.get_mut(usize::from(object.partition)) {
            match object.object_type {
                DumpedType::Block => partition.blocks += 1,
                DumpedType::Filemark => partition.filemarks += 1,
            }
            partition.block_bytes += u64::from(object.length);
            partition.checksum_errors += u64::from(!object.crc_ok);
        }
        match list_objects {
            true => output.value(&Object::from(&object), line)?,
            false => {
                bar.show(&Progress { stage: "reading".into(), done: count, total: None, unit: ProgressUnit::Records });
            }
        }
    }
    drop(bar);
    let dumped = Dumped {
        file: file.to_path_buf(),
        header: dump.header().into(),
        write_protected: dump.write_protected(),
        partitions,
        damage,
    };
    output.value(&dumped, summary)?;
    let wrong: u64 = dumped.partitions.iter().map(|partition| partition.checksum_errors).sum();
    if wrong == 0 && dumped.damage.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Integrity,
        format!("{} is damaged: {wrong} wrong checksums, {} broken chains", file.display(), dumped.damage.len()),
        "keep the file as it is, and restore what is readable, or from a copy",
    ))
}

fn line(object: &Object) -> String {
    let Object { partition, object: number, is, length, offset, synchronised, checksum } = object;
    let synchronised = if *synchronised { "" } else { "  not synchronised" };
    let checksum = if *checksum == "right" { "" } else { "  WRONG CHECKSUM" };
    format!("{partition}:{number:<8} {is:<8} {length:>9} bytes  at {offset}{synchronised}{checksum}")
}

fn summary(dumped: &Dumped) -> String {
    let header = &dumped.header;
    let mut rows = vec![
        ("image", dumped.file.display().to_string()),
        ("serial", header.serial.clone()),
        ("barcode", header.barcode.clone().unwrap_or_default()),
        ("kind", if header.worm { "write once" } else { "rewritable" }.to_owned()),
        ("write protection", if dumped.write_protected { "on" } else { "off" }.to_owned()),
        ("capacity", bytes(header.capacity_bytes)),
    ];
    for on in &dumped.partitions {
        let size = bytes(on.block_bytes);
        let synchronised = on.synchronised_objects;
        rows.push((
            "partition",
            format!(
                "{}: {} blocks ({size}), {} filemarks, {synchronised} objects synchronised, {} of capacity",
                on.partition,
                on.blocks,
                on.filemarks,
                bytes(on.capacity_bytes)
            ),
        ));
        if on.checksum_errors > 0 {
            rows.push(("DAMAGE", format!("partition {}: {} wrong checksums", on.partition, on.checksum_errors)));
        }
    }
    rows.extend(dumped.damage.iter().map(|what| ("DAMAGE", what.clone())));
    fields(&rows)
}
