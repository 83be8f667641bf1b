//! `sealtape.toml` in the home folder.
//!
//! The file is read once, at start, into types that cannot hold a wrong value: what parses is valid.
//! An unknown key or a bad value is refused with file, line, key and the nearest known name. The file may be
//! read and written by its owner only (root or the service's own user), because it decides who gets keys.
//! It holds no secret: the PIN stands elsewhere, see [`PinSource`].

mod anchors;
mod error;
mod names;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sealtape_kms::anchor::AnchoringPolicy;
use sealtape_kms::protocol::{BarcodePattern, KeyLife, PoolPolicy};
use serde::Deserialize;
use toml::Spanned;

use super::home::Home;
use super::size::ByteSize;
pub use anchors::{Anchor, AnchoringConfig};
pub use error::ConfigError;
pub use names::{DriveName, Group, NodeMode, PoolName, TokenUri, User};

/// Longest configuration file.
const LONGEST_FILE: u64 = 1024 * 1024;
/// Longest host block of format version 1.
const LONGEST_BLOCK: ByteSize = ByteSize::mebibytes(16);

/// The configuration of one installation.
#[derive(Clone, Debug)]
pub struct Config {
    /// The home folder that relative paths start from.
    pub home: Home,
    /// The file it was read from.
    pub file: PathBuf,
    /// The key authority.
    pub keyd: KeydConfig,
    /// The data path.
    pub data_path: DataPathConfig,
    /// The drives, in the order of their nodes: the first is `st0` and `nst0`.
    pub drives: Vec<DriveConfig>,
    /// Pools and their policy.
    pub pools: BTreeMap<PoolName, PoolConfig>,
    /// Anchors of the custody log.
    pub anchoring: AnchoringPolicy,
}

/// `[keyd]`: the key authority.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeydConfig {
    /// The PKCS#11 module (a shared library).
    pub module: PathBuf,
    /// The token, as an RFC 7512 URI.
    pub token: TokenUri,
    /// Where the PIN comes from.
    pub pin: PinSource,
    /// Folder of catalogue and custody log.
    #[serde(default = "default_keyd_state")]
    pub state: PathBuf,
    /// Users whose processes may ask for the keys of loaded volumes (the data path). Default: the key authority's own user only.
    #[serde(default)]
    pub data_path_users: Vec<User>,
    /// Members of this group may label, load and watch. Default: only the services' own users and root.
    #[serde(default)]
    pub operator_group: Option<Group>,
    /// Members of this group may seal and open streams (pipes, Amanda). Default: only the services' own users and root.
    #[serde(default)]
    pub stream_group: Option<Group>,
    /// Folder, on another medium than the home folder, in which a destruction of keys puts its backup of the catalogue. Default: no
    /// backup is made.
    #[serde(default)]
    pub backup_folder: Option<Spanned<PathBuf>>,
    /// What depends on the anchors of the custody log.
    #[serde(default)]
    pub anchoring: AnchoringConfig,
    /// The anchors.
    #[serde(default, rename = "anchor")]
    pub anchors: Vec<Spanned<Anchor>>,
}

/// Where the token's PIN comes from. Never from the command line, the environment, or this file.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "PinText")]
pub enum PinSource {
    /// `{ file = "PATH" }`: a file that only its owner may read.
    File(PathBuf),
    /// `{ credential = "NAME" }`: a systemd credential (`LoadCredential=`, `LoadCredentialEncrypted=`).
    Credential(String),
    /// `"prompt"`: asked for on the terminal at start.
    Prompt,
}

/// The source as it is written. Somebody may write the PIN itself here: no error repeats the text.
#[derive(Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "pin is { file = \"PATH\" }, { credential = \"NAME\" } or \"prompt\", never the PIN itself"
)]
enum PinText {
    Word(String),
    File { file: PathBuf },
    Credential { credential: String },
}

impl TryFrom<PinText> for PinSource {
    type Error = &'static str;

    fn try_from(text: PinText) -> Result<Self, &'static str> {
        match text {
            PinText::Word(word) if word == "prompt" => Ok(Self::Prompt),
            PinText::Word(_) => {
                Err("pin is { file = \"PATH\" }, { credential = \"NAME\" } or \"prompt\", never the PIN itself")
            }
            PinText::File { file } => Ok(Self::File(file)),
            PinText::Credential { credential } => match credential.is_empty() || credential.contains('/') {
                true => Err("the name of a systemd credential is not empty and has no '/' in it"),
                false => Ok(Self::Credential(credential)),
            },
        }
    }
}

/// `[data_path]`: drives, nodes and the window.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataPathConfig {
    /// Folder in which the nodes `stN` and `nstN` appear.
    pub nodes: PathBuf,
    /// Folder of what the data path remembers of its units.
    pub state: PathBuf,
    /// Owner of the nodes. Default: the data path's own user.
    pub node_owner: Option<User>,
    /// Group of the nodes. Default: the data path's own group.
    pub node_group: Option<Group>,
    /// Permissions of the nodes.
    pub node_mode: NodeMode,
    /// Most bytes that may be acknowledged and not yet be with the drive.
    pub window_bytes: ByteSize,
    /// Most records that may be acknowledged and not yet be with the drive.
    pub window_records: u32,
    /// Threads that seal, per drive.
    pub seal_threads: u16,
    /// Whether loading goes to the end of data and compares it with the catalogue.
    pub check_end_at_load: bool,
}

impl Default for DataPathConfig {
    fn default() -> Self {
        Self {
            nodes: "nodes".into(),
            state: "data".into(),
            node_owner: None,
            node_group: None,
            node_mode: NodeMode::OWNER_AND_GROUP,
            window_bytes: ByteSize::mebibytes(64),
            window_records: 1024,
            seal_threads: 2,
            check_end_at_load: true,
        }
    }
}

/// `[[drive]]`: one drive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriveConfig {
    /// Its name in commands and messages.
    pub name: DriveName,
    /// How it is reached.
    pub back_end: BackEnd,
    /// Longest host block that the node offers.
    #[serde(default = "default_max_block")]
    pub max_block: ByteSize,
    /// With `back_end = "scsi"`: the drive's device, `/dev/sgN`, `/dev/nstN` or a link to one of them. Numbers change with the order in which drives are found: prefer `serial`.
    #[serde(default)]
    pub device: Option<PathBuf>,
    /// With `back_end = "scsi"`: the drive's serial number.
    #[serde(default)]
    pub serial: Option<String>,
    /// How hosts reach it.
    #[serde(default)]
    pub front_end: FrontEnd,
    /// With `front_end = "tcmu"`: whether the virtual drive appears in this kernel (`/dev/nstN`). One that is exported to another host
    /// only, over iSCSI or Fibre Channel, does not, and carries blocks above 1 MiB.
    #[serde(default = "yes")]
    pub local: bool,
    /// With `front_end = "tcmu"`: the serial number that the virtual drive says. Default: the drive's own, so that a changer's device identifiers match it.
    #[serde(default)]
    pub virtual_serial: Option<String>,
    /// A file of faults that the file-backed drive injects. For tests of a site's own procedures only: it breaks backups.
    #[serde(default)]
    pub fault_plan: Option<PathBuf>,
}

/// How a drive is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackEnd {
    /// A file-backed drive: cartridges are image files.
    Image,
    /// A real drive, through SG_IO.
    Scsi,
}

impl BackEnd {
    /// Its name in configuration and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Scsi => "scsi",
        }
    }
}

/// How hosts reach a drive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrontEnd {
    /// Nodes in a folder that behave as `/dev/stN` and `/dev/nstN` (FUSE). Works everywhere.
    #[default]
    Nodes,
    /// A virtual SCSI drive of this kernel (`target_core_user` and `tcm_loop`): `/dev/nstN` and `/dev/sgN` of its own.
    Tcmu,
}

/// `[pool.NAME]`: policy for the volumes of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Cipher suite of new generations.
    pub suite: SuiteName,
    /// Compression before sealing.
    pub compression: CompressionName,
    /// Whether a wrapped copy of the data key stands on the medium: restoring needs token and medium only,
    /// and destroying a key has to reach the medium too.
    pub key_on_medium: bool,
    /// Whether the data key, wrapped to the recovery key, stands on the medium too: restoring then needs the medium and enough
    /// shares. Nothing stands there before a recovery key is installed.
    pub recovery_on_medium: bool,
    /// Whether the operator's label stands on the medium, in the clear.
    pub label_on_medium: bool,
    /// Whether the barcode stands on the medium, in the clear.
    pub barcode_on_medium: bool,
    /// What reading a medium in the clear does.
    pub clear_reads: ClearReads,
    /// Whether blank cartridges whose barcode is one of `barcodes` are labelled when they are loaded.
    pub auto_label: bool,
    /// The barcodes of this pool's cartridges, as `"PREFIX*"`.
    pub barcodes: Option<BarcodePattern>,
}

impl PoolConfig {
    /// As the key authority knows it.
    pub fn policy(&self, name: &str) -> PoolPolicy {
        PoolPolicy {
            name: name.to_owned(),
            suite: self.suite.number(),
            compression: self.compression.number(),
            key_on_medium: self.key_on_medium,
            recovery_on_medium: self.recovery_on_medium,
            label_on_medium: self.label_on_medium,
            barcode_on_medium: self.barcode_on_medium,
            auto_label: self.barcodes.clone().filter(|_| self.auto_label),
            life: KeyLife::default(),
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            suite: SuiteName::Aes256GcmSiv,
            compression: CompressionName::Zstd,
            key_on_medium: true,
            recovery_on_medium: true,
            label_on_medium: false,
            barcode_on_medium: false,
            clear_reads: ClearReads::Refuse,
            auto_label: false,
            barcodes: None,
        }
    }
}

/// The names of the cipher suites in configuration and output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteName {
    /// AES-256-GCM-SIV, RFC 8452.
    #[serde(rename = "aes-256-gcm-siv")]
    Aes256GcmSiv,
    /// AES-256-GCM, IEEE 1619.1.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
    /// XChaCha20-Poly1305.
    #[serde(rename = "xchacha20-poly1305")]
    XChaCha20Poly1305,
}

impl SuiteName {
    /// The suite's number in format version 1.
    pub const fn number(self) -> u8 {
        match self {
            Self::Aes256GcmSiv => 1,
            Self::Aes256Gcm => 2,
            Self::XChaCha20Poly1305 => 3,
        }
    }
}

/// The names of the compressions in configuration and output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CompressionName {
    /// Every record as it is.
    None,
    /// zstd, level 1.
    Zstd,
    /// lz4 block format.
    Lz4,
}

impl CompressionName {
    /// The compression's number in format version 1.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Zstd => 1,
            Self::Lz4 => 2,
        }
    }
}

/// What reading a medium in the clear does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClearReads {
    /// Refused.
    Refuse,
}

fn yes() -> bool {
    true
}

fn default_keyd_state() -> PathBuf {
    "keyd".into()
}

fn default_max_block() -> ByteSize {
    ByteSize::mebibytes(1)
}

/// The file as it is written. Spans serve the checks that look at more than one value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    keyd: KeydConfig,
    #[serde(default = "no_data_path")]
    data_path: Spanned<DataPathConfig>,
    #[serde(default, rename = "drive")]
    drives: Vec<Spanned<DriveConfig>>,
    #[serde(default, rename = "pool")]
    pools: BTreeMap<PoolName, Spanned<PoolConfig>>,
}

fn no_data_path() -> Spanned<DataPathConfig> {
    Spanned::new(0..0, DataPathConfig::default())
}

impl Config {
    /// Reads the configuration: `sealtape.toml` among the service's systemd credentials where there is
    /// one (so that two services with users of their own can read a file of root's), else in the home folder.
    pub fn load(home: &Home) -> Result<Self, ConfigError> {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|folder| Path::new(&folder).join("sealtape.toml"))
            .filter(|file| file.exists());
        let (file, text) = match credential {
            // The service manager guards this folder, and shows its access list as group permissions.
            Some(file) => {
                let text = read(&file, File::open(&file))?;
                (file, text)
            }
            None => {
                let file = home.config_file();
                check_folder(home.path())?;
                let text = read_private(&file)?;
                (file, text)
            }
        };
        Self::parse(home.clone(), file, &text)
    }

    /// Parses the text of a configuration file.
    pub fn parse(home: Home, file: PathBuf, text: &str) -> Result<Self, ConfigError> {
        let written: ConfigFile = toml::from_str(text).map_err(|e| ConfigError::from_toml(&file, text, &e))?;
        let refuse = |span: Range<usize>, what: String| ConfigError::value(&file, text, span, what);

        let span = written.data_path.span();
        let data_path = written.data_path.into_inner();
        check_window(&data_path).map_err(|what| refuse(span, what))?;

        let mut drives: Vec<DriveConfig> = Vec::new();
        for drive in written.drives {
            let span = drive.span();
            let drive = drive.into_inner();
            if drives.iter().any(|known| known.name == drive.name) {
                return Err(refuse(span, format!("two drives have the name \"{}\"; name must be unique", drive.name)));
            }
            if drive.max_block > LONGEST_BLOCK || drive.max_block.0 < 512 {
                let what = format!(
                    "max_block of drive \"{}\" is {}; it must be 512 to {LONGEST_BLOCK}",
                    drive.name, drive.max_block
                );
                return Err(refuse(span, what));
            }
            check_device(&drive).map_err(|what| refuse(span.clone(), what))?;
            if drive.max_block > data_path.window_bytes {
                let what = format!(
                    "max_block of drive \"{}\" is {}, more than window_bytes ({}): such a block could never be accepted",
                    drive.name, drive.max_block, data_path.window_bytes
                );
                return Err(refuse(span, what));
            }
            drives.push(drive);
        }
        let mut pools = BTreeMap::new();
        for (name, pool) in written.pools {
            if pool.as_ref().auto_label && pool.as_ref().barcodes.is_none() {
                let what = format!("auto_label of pool \"{name}\" needs barcodes, as in barcodes = \"BK*\"");
                return Err(refuse(pool.span(), what));
            }
            pools.insert(name, pool.into_inner());
        }
        let keyd = written.keyd;
        if let Some(folder) = &keyd.backup_folder {
            check_backup_folder(&home, folder.as_ref()).map_err(|what| refuse(folder.span(), what))?;
        }
        let span = keyd.anchors.last().map_or(0..0, Spanned::span);
        let anchors = keyd.anchors.iter().map(|anchor| anchor.as_ref().clone());
        let anchoring = keyd.anchoring.policy(anchors).map_err(|what| refuse(span, what))?;
        Ok(Self { home, file, keyd, data_path, drives, pools, anchoring })
    }

    /// The folder of the nodes.
    pub fn nodes(&self) -> PathBuf {
        self.home.resolve(&self.data_path.nodes)
    }

    /// The data path's own state folder.
    pub fn data_path_state(&self) -> PathBuf {
        self.home.resolve(&self.data_path.state)
    }

    /// The key authority's state folder.
    pub fn keyd_state(&self) -> PathBuf {
        self.home.resolve(&self.keyd.state)
    }
}

fn check_device(drive: &DriveConfig) -> Result<(), String> {
    let name = &drive.name;
    match (drive.back_end, &drive.device, &drive.serial) {
        (BackEnd::Image, None, None) => {}
        (BackEnd::Image, ..) => {
            return Err(format!("drive \"{name}\" is file-backed: device and serial belong to back_end = \"scsi\""));
        }
        (BackEnd::Scsi, None, None) => {
            return Err(format!(
                "drive \"{name}\": back_end = \"scsi\" needs serial (of the drive) or device (\"/dev/sgN\")"
            ));
        }
        (BackEnd::Scsi, Some(_), Some(_)) => {
            return Err(format!("drive \"{name}\": serial and device name the same thing; write one of them"));
        }
        (BackEnd::Scsi, ..) if drive.fault_plan.is_some() => {
            return Err(format!("drive \"{name}\": fault_plan is for file-backed drives"));
        }
        (BackEnd::Scsi, ..) => {}
    }
    let serials = [&drive.serial, &drive.virtual_serial];
    for serial in serials.into_iter().flatten() {
        if serial.is_empty() || serial.len() > 32 || !serial.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "drive \"{name}\": \"{serial}\" is no serial number: write 1 to 32 printable ASCII characters"
            ));
        }
    }
    if (drive.virtual_serial.is_some() || !drive.local) && drive.front_end != FrontEnd::Tcmu {
        return Err(format!("drive \"{name}\": virtual_serial and local belong to front_end = \"tcmu\""));
    }
    Ok(())
}

/// A backup beside what it is a backup of is lost with it.
fn check_backup_folder(home: &Home, folder: &Path) -> Result<(), String> {
    let shown = folder.display();
    if !folder.is_absolute() || folder.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("backup_folder is \"{shown}\": write a path that starts with '/' and has no '..' in it"));
    }
    if folder.starts_with(home.path()) {
        let what = "lies in the home folder: backups belong on another medium, which is not lost with it";
        return Err(format!("backup_folder \"{shown}\" {what}"));
    }
    if shown.to_string().chars().count() > 200 {
        return Err("backup_folder is longer than 200 characters".into());
    }
    Ok(())
}

fn check_window(data_path: &DataPathConfig) -> Result<(), String> {
    let in_range = |key: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(format!("{key} is {value}; it must be {least} to {most}")),
    };
    in_range("window_bytes", data_path.window_bytes.0, 1 << 20, 16 << 30)?;
    in_range("window_records", data_path.window_records.into(), 1, 1 << 20)?;
    in_range("seal_threads", data_path.seal_threads.into(), 1, 256)
}

/// Whoever may write in the folder may put another file in the place of this one.
fn check_folder(folder: &Path) -> Result<(), ConfigError> {
    let status = std::fs::metadata(folder).map_err(|source| ConfigError::unreadable(folder, source))?;
    if status.mode() & 0o022 != 0 {
        return Err(ConfigError::OpenToOthers {
            path: folder.to_path_buf(),
            mode: status.mode() & 0o7777,
            mend: "go-w",
        });
    }
    Ok(())
}

fn read_private(file: &Path) -> Result<String, ConfigError> {
    // Looked at through the open file, so that what is checked is what is read; a FIFO must not hang us.
    let open = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(file);
    if let Ok(open) = &open {
        let status = open.metadata().map_err(|source| ConfigError::unreadable(file, source))?;
        if !status.is_file() {
            return Err(ConfigError::NotAFile { path: file.to_path_buf() });
        }
        if status.mode() & 0o077 != 0 {
            return Err(ConfigError::OpenToOthers {
                path: file.to_path_buf(),
                mode: status.mode() & 0o7777,
                mend: "600",
            });
        }
        let user = geteuid().as_raw();
        if status.uid() != user && status.uid() != 0 {
            return Err(ConfigError::ForeignOwner { path: file.to_path_buf(), owner: status.uid(), user });
        }
    }
    read(file, open)
}

fn read(file: &Path, open: std::io::Result<File>) -> Result<String, ConfigError> {
    let mut text = String::new();
    open.and_then(|open| open.take(LONGEST_FILE + 1).read_to_string(&mut text))
        .map_err(|source| ConfigError::unreadable(file, source))?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(ConfigError::TooLong { path: file.to_path_buf(), limit: LONGEST_FILE });
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
