//! `sealtape-lab-null`: null tapes of the guest lab, the simplest unit behind the front end `target_core_user`. What is written is
//! counted and forgotten; what is read has blocks of one length, and a filemark after every so many.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser};
use nix::sys::signal::{SigSet, Signal};
use sealtape_drivers::scsi::{AdditionalSense, Command, Completion, DataIn, LogicalUnit, Sense, SenseKey};
use sealtape_drivers::tcmu::{DEFAULT_HBA, Server, UnitConfig, remove_leftovers};

/// Serve null tapes to this kernel
#[derive(Parser)]
enum Arguments {
    /// Serve until SIGTERM (which removes everything) or SIGHUP (which leaves the units for the next start)
    Serve(Serve),
    /// Remove what a killed one left
    Clean,
}

#[derive(Args)]
struct Serve {
    /// Names of the units
    #[arg(required = true)]
    names: Vec<String>,
    /// Length of a block that is read, in bytes
    #[arg(long, default_value_t = 65536)]
    block: usize,
    /// Blocks between filemarks
    #[arg(long, default_value_t = 1000)]
    file: u64,
    /// Longest block, as READ BLOCK LIMITS tells it
    #[arg(long, default_value_t = 1 << 20)]
    limit: u32,
    /// Data area in MiB
    #[arg(long, default_value_t = 16)]
    area: u32,
    /// Panic at this operation code
    #[arg(long)]
    panic_on: Option<u8>,
    /// Tell each command
    #[arg(long)]
    trace: bool,
}

/// A tape that keeps nothing.
struct NullTape {
    name: String,
    serial: String,
    block: usize,
    file: u64,
    limit: u32,
    panic_on: Option<u8>,
    trace: bool,
    attention: bool,
    object: u64,
    read: u64,
    written: u64,
}

impl NullTape {
    fn new(name: &str, options: &Serve) -> Self {
        Self {
            name: name.to_owned(),
            serial: serial(name),
            block: options.block,
            file: options.file,
            limit: options.limit,
            panic_on: options.panic_on,
            trace: options.trace,
            attention: false,
            object: 0,
            read: 0,
            written: 0,
        }
    }

    fn read(&mut self, requested: usize, suppress: bool, data: &mut DataIn<'_>) -> Completion {
        self.object += 1;
        let mut sense = Sense::new(SenseKey::NO_SENSE, AdditionalSense::NONE);
        if self.object.is_multiple_of(self.file + 1) {
            sense.additional = AdditionalSense::FILEMARK_DETECTED;
            sense.flags.filemark = true;
            sense.information = i64::try_from(requested).ok();
            return Completion::check(sense);
        }
        let moved = requested.min(self.block).min(data.room());
        if let Some(block) = data.buffer().get_mut(..moved) {
            block.fill(self.object.to_le_bytes()[0]);
        }
        data.set_filled(moved);
        self.read += moved as u64;
        if requested == self.block || (suppress && requested > self.block) {
            return Completion::GOOD;
        }
        sense.flags.incorrect_length = true;
        sense.information =
            i64::try_from(requested).ok().zip(i64::try_from(self.block).ok()).map(|(want, is)| want - is);
        Completion::check(sense)
    }

    fn inquiry(&self, page: Option<u8>) -> Option<Vec<u8>> {
        match page {
            None => Some([&[0x01, 0x80, 0x06, 0x02, 31, 0, 0, 0], b"SEALTAPENULL TAPE       0001".as_slice()].concat()),
            Some(0x00) => Some(vec![0x01, 0x00, 0, 2, 0x00, 0x80]),
            Some(0x80) => {
                let length = u8::try_from(self.serial.len()).ok()?;
                Some([&[0x01, 0x80, 0, length], self.serial.as_bytes()].concat())
            }
            Some(_) => None,
        }
    }
}

fn serial(name: &str) -> String {
    format!("NULL-{name}")
}

fn refusal(additional: AdditionalSense) -> Completion {
    Completion::check(Sense::new(SenseKey::ILLEGAL_REQUEST, additional))
}

impl LogicalUnit for NullTape {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], data_in: &mut DataIn<'_>) -> Completion {
        if self.trace {
            eprintln!("{}: cdb {cdb:02x?} out {} room {}", self.name, data_out.len(), data_in.room());
        }
        assert!(self.panic_on.is_none() || self.panic_on != cdb.first().copied(), "told to panic");
        let command = match Command::parse(cdb) {
            Ok(command) => command,
            Err(error) => return Completion::check(error.sense()),
        };
        if self.attention && !matches!(command, Command::Inquiry { .. } | Command::RequestSense { .. }) {
            self.attention = false;
            return Completion::check(Sense::new(SenseKey::UNIT_ATTENTION, AdditionalSense::POWER_ON_RESET));
        }
        match command {
            Command::Inquiry { vital_product_data, page, allocation } => {
                let Some(data) = self.inquiry(vital_product_data.then_some(page)) else {
                    return refusal(AdditionalSense::INVALID_FIELD_IN_CDB);
                };
                data_in.put(&data, usize::from(allocation));
            }
            Command::TestUnitReady
            | Command::WriteFilemarks6 { .. }
            | Command::ModeSelect { .. }
            | Command::PreventAllowMediumRemoval { .. }
            | Command::LoadUnload { .. } => {}
            Command::Rewind { .. } => self.object = 0,
            Command::ReadBlockLimits { .. } => {
                let [_, high, middle, low] = self.limit.to_be_bytes();
                data_in.put(&[0, high, middle, low, 0, 1], 6);
            }
            Command::ModeSense { allocation, .. } => {
                data_in.put(&[11, 0, 0x10, 8, 0x58, 0, 0, 0, 0, 0, 0, 0], usize::from(allocation));
            }
            Command::RequestSense { allocation, .. } => {
                data_in.put(&[0x70, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], usize::from(allocation));
            }
            Command::Write6 { .. } => {
                self.written += data_out.len() as u64;
                self.object += 1;
            }
            Command::Read6 { fixed: false, suppress_incorrect_length, length } => {
                return self.read(length as usize, suppress_incorrect_length, data_in);
            }
            _ => return refusal(AdditionalSense::INVALID_COMMAND_OPERATION_CODE),
        }
        Completion::GOOD
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

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    let done = match Arguments::parse() {
        Arguments::Serve(options) => serve(&options),
        Arguments::Clean => clean(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null tape: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn clean() -> Result<()> {
    let found = remove_leftovers(DEFAULT_HBA, |_| false)?;
    println!("removed {:?}, served {:?}", found.removed, found.served);
    for failure in &found.failures {
        eprintln!("{failure}");
    }
    if !found.failures.is_empty() {
        bail!("not everything could be removed");
    }
    Ok(())
}

fn serve(options: &Serve) -> Result<()> {
    // Blocked before any thread is started, so that all of them leave the signals to the wait below.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block()?;
    let mut units = Vec::new();
    for name in &options.names {
        let mut config = UnitConfig::new(name, serial(name));
        config.data_area_mib = options.area;
        let (server, lun) = Server::start_linked(&config, Box::new(NullTape::new(name, options)))?;
        let devices = lun.host_devices()?;
        let (generic, tape) = (devices.generic.unwrap_or_default(), devices.tape.unwrap_or_default());
        let resumed = if server.resumed() && lun.kept() { "resumed" } else { "new" };
        println!("{name} {resumed} {} /dev/{generic} /dev/n{tape}", lun.address());
        units.push((server, lun));
    }
    println!("ready");
    std::io::stdout().flush()?;
    let signal = signals.wait()?;
    for (server, lun) in units {
        if signal == Signal::SIGHUP {
            server.suspend()?;
        } else {
            // Both, whatever becomes of the first.
            let unlinked = lun.unlink();
            server.stop()?;
            unlinked?;
        }
    }
    Ok(())
}
