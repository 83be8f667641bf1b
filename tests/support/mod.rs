//! Drives served as nodes in a folder of their own, and real programs that use them.

pub(crate) mod programs;
#[macro_use]
pub(crate) mod suite;
pub(crate) mod tape;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sealtape::unit::st::{StNode, StOptions};
use sealtape_drivers::fuse::{DriveNodes, MountOptions, Mounted, TapeNode, mount};
use sealtape_drivers::medium::TapeDrive;

/// Makes a drive with a blank cartridge of `capacity` bytes loaded. `scratch` is an empty folder of
/// its own, which lives as long as the drive.
pub(crate) type MakeDrive = dyn Fn(&Path, u64) -> Box<dyn TapeDrive> + Sync;

/// Where `/dev/fuse` cannot be opened there is nothing to test.
pub(crate) fn fuse_is_here() -> bool {
    let here = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    if let Err(error) = &here {
        eprintln!("SKIPPED: /dev/fuse: {error}");
    }
    here.is_ok()
}

/// Some drives, mounted. Dropping it unmounts.
pub(crate) struct Station {
    // Dropped in this order: the mount before the folders it stands on.
    mounted: Mounted,
    nodes: Vec<Arc<StNode>>,
    scratch: tempfile::TempDir,
}

impl Station {
    /// `drives` drives with cartridges of `capacity` bytes.
    pub(crate) fn new(make: &MakeDrive, drives: usize, capacity: u64) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let drives = (0..drives)
            .map(|number| {
                let folder = scratch.path().join(format!("drive{number}"));
                std::fs::create_dir(&folder).unwrap();
                make(&folder, capacity)
            })
            .collect();
        Self::over(scratch, drives, &MountOptions::default())
    }

    /// One drive that every user may use.
    pub(crate) fn for_everybody(make: &MakeDrive, capacity: u64) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let folder = scratch.path().join("drive0");
        std::fs::create_dir(&folder).unwrap();
        let drive = make(&folder, capacity);
        Self::over(scratch, vec![drive], &MountOptions { mode: 0o666, ..MountOptions::default() })
    }

    /// These drives.
    pub(crate) fn of(drives: Vec<Box<dyn TapeDrive>>) -> Self {
        Self::over(tempfile::tempdir().unwrap(), drives, &MountOptions::default())
    }

    /// These drives, mounted so.
    pub(crate) fn with_options(drives: Vec<Box<dyn TapeDrive>>, options: &MountOptions) -> Self {
        Self::over(tempfile::tempdir().unwrap(), drives, options)
    }

    fn over(scratch: tempfile::TempDir, drives: Vec<Box<dyn TapeDrive>>, options: &MountOptions) -> Self {
        let nodes: Vec<Arc<StNode>> = drives
            .into_iter()
            .enumerate()
            .map(|(number, drive)| Arc::new(StNode::new(format!("tape{number}"), drive, StOptions::default())))
            .collect();
        let folder = scratch.path().join("nodes");
        std::fs::create_dir(&folder).unwrap();
        std::fs::create_dir(scratch.path().join("work")).unwrap();
        let drives = (0..).zip(&nodes).map(|(number, node)| DriveNodes {
            number,
            name: format!("tape{number}"),
            node: Arc::clone(node) as Arc<dyn TapeNode>,
        });
        let mounted = mount(&folder, drives.collect(), options).unwrap();
        Self { mounted, nodes, scratch }
    }

    /// `nstN`.
    pub(crate) fn nst(&self, number: usize) -> PathBuf {
        self.mounted.nodes()[number].non_rewinding.clone()
    }

    /// `stN`.
    pub(crate) fn st(&self, number: usize) -> PathBuf {
        self.mounted.nodes()[number].rewinding.clone()
    }

    pub(crate) fn node(&self, number: usize) -> &StNode {
        &self.nodes[number]
    }

    pub(crate) fn mounted(&self) -> &Mounted {
        &self.mounted
    }

    /// A folder for the programs' files.
    pub(crate) fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    pub(crate) fn stop(self) -> std::io::Result<()> {
        self.mounted.stop()
    }
}
