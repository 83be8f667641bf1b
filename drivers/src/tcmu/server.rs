//! A unit being served: its device in the kernel and its thread.

use std::io::{PipeWriter, pipe};
use std::thread::{self, JoinHandle};

use super::device::{self, Device, Found};
use super::serve::{GuardedUnit, Worker, reason};
use super::{Failures, Lun, TcmuError, UnitConfig, configfs, lun};
use crate::scsi::LogicalUnit;

/// A unit that the kernel can be given links to ([`Lun`], or LIO's own fabrics).
///
/// Dropped without [`stop`](Self::stop) or [`suspend`](Self::suspend), the thread ends when it has answered what is in the
/// ring, and the device stays, as after a kill.
#[derive(Debug)]
#[must_use = "a unit is served until this is dropped"]
pub struct Server {
    hba: u32,
    name: String,
    resumed: bool,
    /// Closed, it stops the thread.
    stop: PipeWriter,
    thread: JoinHandle<Result<(), TcmuError>>,
}

impl Server {
    /// Serves `unit` under the name of `config`; nothing leads to it yet. A device that a dead service left under that name is taken over: what was in
    /// flight has failed, links and the host's device nodes are kept, and the unit is reset before its first command.
    ///
    /// # Errors
    /// When modules are missing, the unit is served by another process, or the kernel refuses. What was made is removed.
    pub fn start(config: &UnitConfig, unit: Box<dyn LogicalUnit>) -> Result<Self, TcmuError> {
        let (device, found) = Device::open(config)?;
        let path = device.path.clone();
        let started = Self::run(config, device, found, unit);
        // The thread waits already. A device that was just made is not blocked, and nobody minds.
        let served = started.and_then(|server| match configfs::write(&path.join("action/block_dev"), "0") {
            Ok(()) => Ok(server),
            Err(error) => {
                if let Err(error) = server.suspend() {
                    tracing::warn!(unit = config.name, %error, "a virtual drive that could not be served");
                }
                Err(error)
            }
        });
        if served.is_err() && found == Found::Made {
            for error in device::remove(config.hba, &config.name) {
                tracing::warn!(unit = config.name, %error, "a virtual drive that could not be served leaves something");
            }
        }
        served
    }

    /// Serves `unit` and [links](Lun::link) it to this kernel.
    ///
    /// # Errors
    /// As [`start`](Self::start) and [`Lun::link`]. Then nothing is served; a device that a dead service left is kept.
    pub fn start_linked(config: &UnitConfig, unit: Box<dyn LogicalUnit>) -> Result<(Self, Lun), TcmuError> {
        let server = Self::start(config, unit)?;
        match Lun::link(&server) {
            Ok(lun) => Ok((server, lun)),
            Err(error) => {
                let resumed = server.resumed;
                let ended =
                    if resumed { server.suspend().map_err(|error| Failures(vec![error])) } else { server.stop() };
                if let Err(failures) = ended {
                    tracing::warn!(unit = config.name, %failures, "a virtual drive that could not be linked leaves something");
                }
                Err(error)
            }
        }
    }

    fn run(config: &UnitConfig, device: Device, found: Found, unit: Box<dyn LogicalUnit>) -> Result<Self, TcmuError> {
        let name = config.name.clone();
        let ring = device.ring()?;
        let (stopped, stop) = pipe().map_err(|error| TcmuError::file("given a way to stop", &device.path, error))?;
        let mut unit = GuardedUnit::new(name.clone(), unit);
        let resumed = found == Found::Resumed;
        if resumed {
            unit.reset();
        }
        let path = device.path.clone();
        let worker = Worker::new(device, ring, unit, config.max_transfer, stopped);
        let thread = thread::Builder::new().name(format!("tcmu {name}")).spawn(move || worker.run());
        let thread = thread.map_err(|error| TcmuError::file("given a thread", path, error))?;
        tracing::info!(unit = name, resumed, "virtual drive served");
        Ok(Self { hba: config.hba, name, resumed, stop, thread })
    }

    /// Whether the device of a dead service was taken over.
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// Whether the thread is alive. It ends by itself only when the kernel takes the device away, or when the ring stays
    /// broken; [`stop`](Self::stop) tells why.
    pub fn is_serving(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Name of the unit.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn hba(&self) -> u32 {
        self.hba
    }

    /// Stops serving and removes the device. Links are removed before ([`Lun::unlink`]): while one is left,
    /// the device stays, and its initiators are told BUSY.
    ///
    /// # Errors
    /// Every step that failed; the later ones were taken nevertheless.
    pub fn stop(self) -> Result<(), Failures> {
        let (hba, name) = (self.hba, self.name.clone());
        let mut failures: Vec<TcmuError> = self.suspend().err().into_iter().collect();
        match lun::links_to(&configfs::device(hba, &name)) {
            Ok(links) => failures.extend(links.into_iter().map(|link| TcmuError::Linked { unit: name.clone(), link })),
            Err(error) => failures.push(error),
        }
        failures.extend(device::remove(hba, &name));
        Failures::check(failures)
    }

    /// Stops serving and leaves the device and its links: initiators are told BUSY until it is served again, by
    /// [`start`](Self::start) in this process or another.
    ///
    /// # Errors
    /// When the thread had ended before, by an error or a panic, or the kernel does not let the device be blocked.
    pub fn suspend(self) -> Result<(), TcmuError> {
        let Self { hba, stop, thread, name: unit, .. } = self;
        // First, so that the ring gets empty even while a host goes on sending.
        let blocked = configfs::write(&configfs::device(hba, &unit).join("action/block_dev"), "1");
        drop(stop);
        match thread.join() {
            Ok(Ok(())) => blocked,
            Ok(Err(error)) => Err(TcmuError::Thread { unit, how: format!("had given up: {error}") }),
            Err(panic) => Err(TcmuError::Thread { unit, how: format!("panicked: {}", reason(panic.as_ref())) }),
        }
    }
}
