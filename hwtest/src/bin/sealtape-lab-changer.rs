//! `sealtape-lab-changer`: plays the changer of a tape library in the guest lab, as far as asking it goes: who it is, which elements it has
//! and what is in them. What is in them stands in a file, and is read anew at each question; nothing can be moved. It has no place in an
//! installation.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use sealtape_drivers::scsi::{
    AdditionalSense, Command, Completion, DataIn, Designator, Element, ElementPage, ElementStatus, ElementType, Form,
    LogicalUnit, Peripheral, Sense, SenseKey, StandardInquiry, VERSION_SPC_4, VolumeTag, Vpd, version, vpd_page,
};
use sealtape_drivers::tcmu::{Lun, Server, UnitConfig};

/// Play the changer of a tape library in the guest lab
#[derive(Parser)]
struct Arguments {
    /// What the library holds: lines `transport|slot|mail|drive ADDRESS [BARCODE|- [SERIAL]]`; - is empty, ? a cartridge without
    /// a barcode, and SERIAL the serial number of a drive
    #[arg(long)]
    inventory: PathBuf,
    /// Name of the unit
    #[arg(long, default_value = "changer")]
    name: String,
    /// Number of its HBA
    #[arg(long, default_value_t = 5775)]
    hba: u32,
    /// Serial number of the library
    #[arg(long, default_value = "LIB0000001")]
    serial: String,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab changer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    // Blocked before any thread is started, so that all of them leave the signals to the wait below.
    let stop = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    stop.thread_block()?;
    let changer = LabChanger { inventory: arguments.inventory.clone(), serial: arguments.serial.clone() };
    holdings(&changer.inventory)?;
    let config = UnitConfig { hba: arguments.hba, ..UnitConfig::new(&arguments.name, &arguments.serial) };
    let server = Server::start(&config, Box::new(changer))?;
    let lun = Lun::link(&server)?;
    println!("ready {}", lun.address());
    std::io::stdout().flush()?;
    stop.wait()?;
    lun.unlink()?;
    server.stop()?;
    Ok(())
}

struct LabChanger {
    inventory: PathBuf,
    serial: String,
}

const TYPES: [(&str, ElementType); 4] = [
    ("transport", ElementType::MEDIUM_TRANSPORT),
    ("slot", ElementType::STORAGE),
    ("mail", ElementType::IMPORT_EXPORT),
    ("drive", ElementType::DATA_TRANSFER),
];

/// The elements of the file, ascending within each type.
fn holdings(file: &Path) -> Result<Vec<(ElementType, Element)>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let mut elements = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, address, rest @ ..] = words.as_slice() else { bail!("{}: {line:?}", file.display()) };
        let kind = TYPES.iter().find(|(name, _)| name == kind).map(|(_, kind)| *kind);
        let kind = kind.with_context(|| format!("{}: {line:?}", file.display()))?;
        let (barcode, serial) = (rest.first().copied().unwrap_or("-"), rest.get(1).copied());
        let tag = |text: &str| VolumeTag { identification: text.to_owned(), sequence: 0 };
        elements.push((
            kind,
            Element {
                address: address.parse()?,
                full: barcode != "-",
                accessible: true,
                import_enabled: kind == ElementType::IMPORT_EXPORT,
                export_enabled: kind == ElementType::IMPORT_EXPORT,
                primary_tag: (barcode != "-" && barcode != "?").then(|| tag(barcode)),
                device: serial
                    .map(|serial| Designator::t10_vendor_id("SEALTAPE", &format!("{:16}{serial}", "LAB DRIVE"))),
                ..Element::default()
            },
        ));
    }
    elements.sort_by_key(|(kind, element)| (*kind, element.address));
    Ok(elements)
}

type Answer = Result<(), Sense>;

const INVALID_FIELD: Sense = Sense::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_FIELD_IN_CDB);

impl LabChanger {
    fn holdings(&self) -> Result<Vec<(ElementType, Element)>, Sense> {
        holdings(&self.inventory).map_err(|error| {
            tracing::error!("{error:#}");
            Sense::new(SenseKey::NOT_READY, AdditionalSense::MANUAL_INTERVENTION_REQUIRED)
        })
    }

    fn serve(&self, command: &Command, data: &mut DataIn<'_>) -> Answer {
        match *command {
            Command::TestUnitReady | Command::InitializeElementStatus => Ok(()),
            Command::Inquiry { vital_product_data: false, allocation, .. } => {
                data.put(&standard_inquiry().to_bytes(), usize::from(allocation));
                Ok(())
            }
            Command::Inquiry { page, allocation, .. } => {
                let page = match page {
                    vpd_page::SUPPORTED => Vpd::Supported(vec![
                        vpd_page::SUPPORTED,
                        vpd_page::UNIT_SERIAL_NUMBER,
                        vpd_page::DEVICE_IDENTIFICATION,
                    ]),
                    vpd_page::UNIT_SERIAL_NUMBER => Vpd::UnitSerialNumber(self.serial.clone()),
                    vpd_page::DEVICE_IDENTIFICATION => Vpd::DeviceIdentification(vec![Designator::t10_vendor_id(
                        "SEALTAPE",
                        &format!("{:16}{}", "LAB LIBRARY", self.serial),
                    )]),
                    _ => return Err(INVALID_FIELD),
                };
                data.put(&page.to_bytes(Peripheral::CHANGER), usize::from(allocation));
                Ok(())
            }
            Command::ModeSense { form, page, allocation, .. } => {
                let page = match page {
                    0x1d | 0x3f => self.assignment()?,
                    _ => return Err(INVALID_FIELD),
                };
                let bytes = match form {
                    Form::Six => [&[3 + page.len() as u8, 0, 0, 0][..], &page].concat(),
                    _ => [&[0, 6 + page.len() as u8, 0, 0, 0, 0, 0, 0][..], &page].concat(),
                };
                data.put(&bytes, usize::from(allocation));
                Ok(())
            }
            Command::ReadElementStatus { volume_tags, kind, first, count, device_identifiers, allocation, .. } => {
                let status = self.status(volume_tags, kind, first, count, device_identifiers)?;
                data.put(&status.to_bytes(), allocation as usize);
                Ok(())
            }
            _ => Err(Sense::new(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_COMMAND_OPERATION_CODE)),
        }
    }

    /// Element address assignment page (SMC-3 7.3.4).
    fn assignment(&self) -> Result<Vec<u8>, Sense> {
        let holdings = self.holdings()?;
        let mut page = vec![0x1d, 18];
        for (_, kind) in TYPES {
            let mut of_kind = holdings.iter().filter(|(known, _)| *known == kind).map(|(_, element)| element.address);
            let first = of_kind.next().unwrap_or(0);
            let count = if first == 0 { 0 } else { of_kind.next_back().unwrap_or(first) - first + 1 };
            page.extend(first.to_be_bytes());
            page.extend(count.to_be_bytes());
        }
        page.extend([0, 0]);
        Ok(page)
    }

    fn status(&self, tags: bool, kind: u8, first: u16, count: u16, devices: bool) -> Result<ElementStatus, Sense> {
        let mut chosen: Vec<(ElementType, Element)> = self.holdings()?;
        chosen.retain(|(known, element)| (kind == 0 || known.0 == kind) && element.address >= first);
        chosen.sort_by_key(|(_, element)| element.address);
        chosen.truncate(usize::from(count));
        let mut status = ElementStatus {
            first: chosen.first().map_or(0, |(_, element)| element.address),
            available: chosen.len() as u16,
            pages: Vec::new(),
        };
        for (kind, mut element) in chosen {
            element.device = element.device.filter(|_| devices);
            match status.pages.last_mut().filter(|page| page.kind == kind) {
                Some(page) => page.elements.push(element),
                None => status.pages.push(ElementPage {
                    kind,
                    primary_tags: tags,
                    alternate_tags: false,
                    elements: vec![element],
                }),
            }
        }
        Ok(status)
    }
}

fn standard_inquiry() -> StandardInquiry {
    StandardInquiry {
        peripheral: Peripheral::CHANGER,
        removable: true,
        version: VERSION_SPC_4,
        target_port_groups: 0,
        protect: false,
        multiple_ports: false,
        command_queuing: true,
        vendor: "SEALTAPE".into(),
        product: "LAB LIBRARY".into(),
        revision: "0001".into(),
        vendor_specific: [0; 20],
        version_descriptors: vec![version::SAM_5, version::SPC_4, version::SMC_3],
    }
}

impl LogicalUnit for LabChanger {
    fn execute(&mut self, cdb: &[u8], _data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        let answer = match Command::parse(cdb) {
            Ok(command) => self.serve(&command, data_in),
            Err(error) => Err(error.sense()),
        };
        answer.map_or_else(Completion::check, |()| Completion::GOOD)
    }

    fn reset(&mut self) {}
}
