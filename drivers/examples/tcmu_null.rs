//! Null tapes behind `target_core_user`, to try the front end with: whatever is written is counted and forgotten, whatever is
//! read has blocks of one length and a filemark after every so many.
//!
//! `tcmu_null serve [--block BYTES] [--file BLOCKS] [--transfer BYTES] [--panic-on OPCODE] NAME...` serves until SIGTERM (removes
//! everything) or SIGHUP (leaves the units for the next start). `tcmu_null clean` removes what a killed one left.
#![allow(clippy::unwrap_used, reason = "a tool for tests ends by panicking")]

use nix::sys::signal::{SigSet, Signal};
use sealtape_drivers::scsi::{AdditionalSense, Command, Completion, DataIn, LogicalUnit, Sense, SenseKey};
use sealtape_drivers::tcmu::{DEFAULT_HBA, Lun, Server, UnitConfig, remove_leftovers};

/// A tape that keeps nothing.
struct NullTape {
    name: String,
    serial: String,
    block: usize,
    file: u64,
    panic_on: Option<u8>,
    trace: bool,
    attention: bool,
    object: u64,
    read: u64,
    written: u64,
}

impl NullTape {
    fn check(key: SenseKey, additional: AdditionalSense) -> Completion {
        Completion::check(Sense::new(key, additional))
    }

    fn read(&mut self, length: usize, fixed: bool, suppress: bool, data: &mut DataIn<'_>) -> Completion {
        self.object += 1;
        if self.object.is_multiple_of(self.file + 1) {
            let mut sense = Sense::new(SenseKey::NO_SENSE, AdditionalSense::FILEMARK_DETECTED);
            sense.flags.filemark = true;
            sense.information = Some(length as i64);
            return Completion::check(sense);
        }
        let wanted = if fixed { length * 512 } else { length };
        let block = if fixed { wanted } else { self.block };
        let moved = wanted.min(block).min(data.room());
        data.buffer()[..moved].fill(self.object as u8);
        data.set_filled(moved);
        self.read += moved as u64;
        if wanted == block || (suppress && wanted > block) {
            return Completion::GOOD;
        }
        let mut sense = Sense::new(SenseKey::NO_SENSE, AdditionalSense::NONE);
        sense.flags.incorrect_length = true;
        sense.information = Some(wanted as i64 - block as i64);
        Completion::check(sense)
    }

    fn inquiry(&self, page: Option<u8>, allocation: u16, data: &mut DataIn<'_>) -> Completion {
        let mut bytes = match page {
            None => {
                let mut bytes = vec![0x01, 0x80, 0x06, 0x02, 31, 0, 0, 0];
                bytes.extend_from_slice(b"SEALTAPENULL TAPE       0001");
                bytes
            }
            Some(0x00) => vec![0x01, 0x00, 0, 2, 0x00, 0x80],
            Some(0x80) => {
                let mut bytes = vec![0x01, 0x80, 0, self.serial.len() as u8];
                bytes.extend_from_slice(self.serial.as_bytes());
                bytes
            }
            Some(_) => return Self::check(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_FIELD_IN_CDB),
        };
        bytes.truncate(usize::from(allocation));
        data.put(&bytes, usize::from(allocation));
        Completion::GOOD
    }
}

impl LogicalUnit for NullTape {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        if self.trace {
            eprintln!("{}: cdb {cdb:02x?} out {} room {}", self.name, data_out.len(), data_in.room());
        }
        assert!(self.panic_on != cdb.first().copied(), "told to panic");
        let command = match Command::parse(cdb) {
            Ok(command) => command,
            Err(error) => return Completion::check(error.sense()),
        };
        let exempt = matches!(command, Command::Inquiry { .. } | Command::RequestSense { .. });
        if self.attention && !exempt {
            self.attention = false;
            return Self::check(SenseKey::UNIT_ATTENTION, AdditionalSense::POWER_ON_RESET);
        }
        match command {
            Command::Inquiry { vital_product_data, page, allocation } => {
                self.inquiry(vital_product_data.then_some(page), allocation, data_in)
            }
            Command::TestUnitReady | Command::WriteFilemarks6 { .. } | Command::ModeSelect { .. } => Completion::GOOD,
            Command::PreventAllowMediumRemoval { .. } | Command::LoadUnload { .. } => Completion::GOOD,
            Command::Rewind { .. } => {
                self.object = 0;
                Completion::GOOD
            }
            Command::ReadBlockLimits { .. } => {
                data_in.put(&[0, 0x10, 0, 0, 0, 1], 6);
                Completion::GOOD
            }
            Command::ModeSense { allocation, .. } => {
                data_in.put(&[11, 0, 0x10, 8, 0x58, 0, 0, 0, 0, 0, 0, 0], usize::from(allocation));
                Completion::GOOD
            }
            Command::RequestSense { allocation, .. } => {
                data_in.put(&[0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], usize::from(allocation));
                Completion::GOOD
            }
            Command::Write6 { .. } => {
                self.written += data_out.len() as u64;
                self.object += 1;
                Completion::GOOD
            }
            Command::Read6 { fixed, suppress_incorrect_length, length } => {
                self.read(length as usize, fixed, suppress_incorrect_length, data_in)
            }
            _ => Self::check(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_COMMAND_OPERATION_CODE),
        }
    }

    fn reset(&mut self) {
        eprintln!("{}: reset", self.name);
        self.attention = true;
    }
}

impl Drop for NullTape {
    fn drop(&mut self) {
        eprintln!("{}: gone after {} bytes written, {} read", self.name, self.written, self.read);
    }
}

fn main() {
    tracing_subscriber_to_stderr();
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => serve(arguments),
        Some("clean") => {
            let found = remove_leftovers(DEFAULT_HBA, |_| false).unwrap();
            println!("removed {:?}, served {:?}", found.removed, found.served);
            for failure in &found.failures {
                println!("failed: {failure}");
            }
            std::process::exit(i32::from(!found.failures.is_empty()));
        }
        _ => panic!("serve NAME... or clean"),
    }
}

fn serve(mut arguments: impl Iterator<Item = String>) {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGHUP);
    signals.thread_block().unwrap();
    let (mut block, mut file, mut transfer, mut panic_on, mut names) = (65536, 1000, 1 << 20, None, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--block" => block = value().parse().unwrap(),
            "--file" => file = value().parse().unwrap(),
            "--transfer" => transfer = value().parse().unwrap(),
            "--panic-on" => panic_on = Some(u8::from_str_radix(&value(), 16).unwrap()),
            _ => names.push(argument),
        }
    }
    let trace = std::env::var_os("TRACE").is_some();
    let mut units = Vec::new();
    for name in names {
        let serial = format!("NULL-{name}");
        let mut config = UnitConfig::new(&name, &serial);
        config.max_transfer = transfer;
        let tape =
            NullTape { name, serial, block, file, panic_on, trace, attention: false, object: 0, read: 0, written: 0 };
        let server = Server::start(&config, Box::new(tape)).unwrap_or_else(|error| panic!("{error}"));
        let lun = Lun::link(&server).unwrap_or_else(|error| panic!("{error}"));
        let resumed = if server.resumed() { "resumed" } else { "new" };
        println!("{} {} {resumed} {:?}", server.name(), lun.address(), lun.host_devices().unwrap());
        units.push((server, lun));
    }
    let signal = signals.wait().unwrap();
    for (server, lun) in units {
        if signal == Signal::SIGHUP {
            server.suspend().unwrap();
            continue;
        }
        if let Err(failures) = lun.unlink() {
            println!("unlinking: {failures}");
        }
        if let Err(failures) = server.stop() {
            println!("stopping: {failures}");
        }
    }
}

/// The crate has no subscriber of its own; the log goes where a service's would.
fn tracing_subscriber_to_stderr() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::DEBUG).init();
}
