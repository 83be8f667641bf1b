//! `restore`: files back from a cartridge in a drive, its image, or a sealed stream, without services.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write, stdout};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use clap::Args;
use sealtape_drivers::image::{ImageDrive, OpenMode};
use sealtape_drivers::medium::{DriveError, DriveErrorKind, DriveIdentity, TapeDrive};
use sealtape_drivers::sg::{ScsiTapeDrive, SgDevice, Sharing};
use sealtape_kms::exchange::Package;
use sealtape_kms::hex::HexBytes;
use sealtape_kms::offline::{OfflineError, recovery_keys, unwrap_any, unwrap_recovery};
use sealtape_kms::pkcs11::{Limits, PinLatch, PinSource, TokenConfig, TokenError, Uri, WorkerCommand, read_pin_file};
use sealtape_kms::protocol::{GenerationRef, Stanza};
use sealtape_kms::secret::{DATA_KEY_LEN, DataKey};
use serde::Serialize;
use uuid::Uuid;

use super::exchange::{read_package, site_key};
use super::failure::{Exit, Failure};
use super::output::Output;
use super::progress::Bar;
use super::shares::{ShareOptions, identity};
use super::table::{bytes, fields};
use crate::control::{Progress, ProgressUnit};
use crate::filter;
use crate::restore::{Folder, RestoreError, Restored, Selection, Sink, restore};
use crate::seal::{GenerationKeys, GenerationRecord, Opens, VolumeLabel};
use crate::service::config::{Config, TokenUri};
use crate::service::daemon::no_core_dumps;
use crate::service::home::Home;
use crate::service::pin;

/// Get files back from a cartridge, its image or a sealed stream, without services or catalogue.
#[derive(Debug, Args)]
#[command(after_help = "The data key comes from --key-file; else from the shares of the recovery key (--share, \
--type-shares); else from a partner's --package; else from the token named by --module and --token; else from the token of the home \
folder. Tape file N goes to file-N in the folder. Without the catalogue nothing tells whether something was \
cut off at the end of a tape: the report says so.")]
pub(super) struct Restore {
    /// The real drive with the cartridge in it (/dev/sgN, or /dev/nstN), a cartridge's image, or a file that holds a sealed stream
    source: PathBuf,
    /// Folder for the files; must be new or empty
    #[arg(long, value_name = "DIR", required_unless_present = "stdout", conflicts_with = "stdout")]
    out: Option<PathBuf>,
    /// Write everything to standard output, one tape file behind the other
    #[arg(long)]
    stdout: bool,
    /// The partition, from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    partition: u8,
    /// This tape file only, from 0
    #[arg(long, value_name = "NUMBER")]
    file: Option<u64>,
    /// Go on behind records that are refused or cannot be read; they are reported, and missing in the files
    #[arg(long)]
    salvage: bool,
    #[command(flatten)]
    keys: KeyOptions,
}

/// Where the data key comes from.
#[derive(Debug, Args)]
struct KeyOptions {
    /// File that holds the data key itself: 64 hexadecimal digits, readable by you only
    #[arg(long, value_name = "FILE", conflicts_with_all = ["module", "token", "pin_file", "files", "type_shares"])]
    key_file: Option<PathBuf>,
    /// The PKCS#11 module of the token
    #[arg(long, value_name = "FILE", requires = "token")]
    module: Option<PathBuf>,
    /// The token, as an RFC 7512 URI
    #[arg(long, value_name = "URI", requires = "module", value_parser = token_uri)]
    token: Option<TokenUri>,
    /// File that holds the PIN, readable by you only [default: asked for on the terminal]
    #[arg(long, value_name = "FILE", requires = "token")]
    pin_file: Option<PathBuf>,
    #[command(flatten)]
    shares: ShareOptions,
    /// A partner's package that holds the key
    #[arg(long, value_name = "FILE", requires = "identity", conflicts_with_all = ["key_file", "module", "files", "type_shares"])]
    package: Option<PathBuf>,
    /// File with the age identity that the package is for
    #[arg(long, value_name = "FILE", requires = "package")]
    identity: Option<PathBuf>,
    /// Public key of the site that made the package, or a file that holds it [default: the package is taken as it is; the record's own
    /// commitment shows whether its key is right]
    #[arg(long, value_name = "KEY|FILE", requires = "package")]
    site_key: Option<String>,
}

fn token_uri(text: &str) -> Result<TokenUri, String> {
    TokenUri::try_from(text.to_owned())
}

/// What was restored.
#[derive(Debug, Serialize)]
struct Report {
    source: PathBuf,
    volume: Uuid,
    partition: u8,
    generation: u32,
    records: u64,
    filemarks: u64,
    bytes: u64,
    /// Whether the end is known to be the one that was written.
    end_proven: bool,
    end: String,
    refused_total: u64,
    refused: Vec<Refused>,
}

#[derive(Debug, Serialize)]
struct Refused {
    object: u64,
    message: String,
}

impl Restore {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        no_core_dumps()?;
        let stream = is_stream(&self.source)?;
        if stream && (self.partition != 0 || self.file.is_some() || self.salvage) {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "{} holds a sealed stream: it has no partitions or tape files, and nothing behind a fault can be verified",
                    self.source.display()
                ),
                "leave --partition, --file and --salvage out",
            ));
        }
        let keys = || self.keys.resolve(home);
        let mut bar = Bar::new(output, "restoring");
        let mut show =
            |done| bar.show(&Progress { stage: "restoring".into(), done, total: None, unit: ProgressUnit::Bytes });
        let report = match &self.out {
            None => self.restore(stream, keys, &mut stdout().lock(), &mut show),
            Some(folder) => {
                let mut sink = Folder::new(folder).map_err(|e| folder_refused(folder, &e))?;
                self.restore(stream, keys, &mut sink, &mut show)
                    .map_err(|failure| Self::partly(failure, folder, sink.files()))
            }
        };
        drop(bar);
        let report = report?;
        match self.stdout {
            true => output.note(&human(&report)),
            false => output.value(&report, human)?,
        }
        match report.refused_total {
            0 => Ok(()),
            count => Err(Failure::new(
                Exit::Integrity,
                format!(
                    "volume {} in {}: {count} records were refused, and are missing",
                    report.volume,
                    report.source.display()
                ),
                "take these records from another copy; each is listed above",
            )),
        }
    }

    fn restore<'a>(
        &self,
        stream: bool,
        keys: impl FnOnce() -> Result<KeyWay<'a>, Failure>,
        sink: &mut dyn Sink,
        show: &mut dyn FnMut(u64),
    ) -> Result<Report, Failure> {
        let keys = |_: &VolumeLabel, record: &GenerationRecord| keys()?.key(record);
        let source = self.source.clone();
        if stream {
            let file = File::open(&self.source).map_err(|e| Failure::file("opening", &self.source, &e))?;
            let opened = filter::open(&mut BufReader::with_capacity(1 << 20, file), &mut Whole(sink), keys, show);
            sink.finish().map_err(|e| Failure::from(RestoreError::Output(e)))?;
            let opened = opened?;
            return Ok(Report {
                source,
                volume: opened.volume,
                partition: 0,
                generation: 1,
                records: opened.records,
                filemarks: 0,
                bytes: opened.plain_bytes,
                end_proven: true,
                end: "the stream's end is authentic".to_owned(),
                refused_total: 0,
                refused: Vec::new(),
            });
        }
        let mut drive = drive(&self.source)?;
        let name = self.source.display().to_string();
        let selection = Selection { partition: self.partition, file: self.file, salvage: self.salvage };
        let restored = restore(drive.as_mut(), &name, selection, keys, sink, show)?;
        Ok(Report {
            source,
            volume: restored.volume,
            partition: self.partition,
            generation: restored.generation,
            records: restored.records,
            filemarks: restored.filemarks,
            bytes: restored.bytes,
            end_proven: false,
            end: match self.file {
                Some(_) => "the tape file ends at a filemark, or at the end of data; end not proven".to_owned(),
                None => Restored::END_NOT_PROVEN.to_owned(),
            },
            refused_total: restored.refused_total,
            refused: restored.refused.into_iter().map(|(object, message)| Refused { object, message }).collect(),
        })
    }

    /// A failure, and what stands in the folder.
    fn partly(failure: Failure, folder: &Path, files: u64) -> Failure {
        if files == 0 {
            return failure;
        }
        let mend = format!(
            "{}; what verified before stands in {} ({files} files, the last one incomplete)",
            failure.mend,
            folder.display()
        );
        Failure { mend, ..failure }
    }
}

/// A stream is one file.
struct Whole<'a>(&'a mut dyn Sink);

impl Write for Whole<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(0, bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A stream begins with its label, an image with its own header.
fn is_stream(source: &Path) -> Result<bool, Failure> {
    if is_device(source)? {
        return Ok(false);
    }
    let mut beginning = Vec::new();
    File::open(source)
        .and_then(|file| file.take(16).read_to_end(&mut beginning))
        .map_err(|e| Failure::file("opening", source, &e))?;
    Ok(beginning == b"SEALTAPE VOLUME ")
}

fn is_device(source: &Path) -> Result<bool, Failure> {
    let metadata = std::fs::metadata(source).map_err(|e| Failure::file("opening", source, &e))?;
    Ok(metadata.file_type().is_char_device())
}

fn drive(source: &Path) -> Result<Box<dyn TapeDrive>, Failure> {
    Ok(match is_device(source)? {
        true => Box::new(real_drive(source)?),
        false => Box::new(image(source)?),
    })
}

/// The drive that the cartridge is in. It is ours alone meanwhile, as far as others use SCSI generic nodes, and it is only read.
fn real_drive(source: &Path) -> Result<ScsiTapeDrive<SgDevice>, Failure> {
    let not_opened = |e: std::io::Error| match e.kind() {
        ErrorKind::ResourceBusy => {
            Failure::new(Exit::Busy, e.to_string(), "stop the service that has the drive: systemctl stop sealtaped")
        }
        ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotPermitted, e.to_string(), "run this as root, or as a user who may use the drive")
        }
        _ => Failure::new(Exit::Drive, e.to_string(), "see what there is: lsscsi -g; and name the drive's node"),
    };
    let failed = |e: DriveError| {
        let (exit, mend) = match e.kind {
            DriveErrorKind::NotReady => (Exit::Medium, "put the cartridge into the drive, and run the command again"),
            DriveErrorKind::ReservationConflict => (Exit::Busy, "another host has the drive reserved: stop it there"),
            _ => (Exit::Drive, "check the drive, or restore in another one"),
        };
        Failure::new(exit, format!("{}: {}", source.display(), e.message), mend)
    };
    let device = SgDevice::open(source, Sharing::Exclusive).map_err(not_opened)?;
    let mut drive = ScsiTapeDrive::open(device).map_err(failed)?;
    drive.load().map_err(failed)?;
    match drive.test_unit_ready() {
        // That there is a cartridge now is known.
        Err(e) if e.kind != DriveErrorKind::UnitAttention => Err(failed(e)),
        _ => Ok(drive),
    }
}

fn image(source: &Path) -> Result<ImageDrive, Failure> {
    let identity = DriveIdentity {
        vendor: "SEALTAPE".into(),
        product: "RESTORE".into(),
        revision: "1".into(),
        serial: "RESTORE".into(),
    };
    let mut drive = ImageDrive::new(identity);
    let failed = |e: DriveError| match e.kind {
        DriveErrorKind::NotReady => Failure::new(Exit::Busy, e.message, "unload it there, or restore from a copy"),
        _ => Failure::new(
            Exit::Medium,
            e.message,
            "name a drive's node, the image file of a cartridge, or a file that holds a sealed stream",
        ),
    };
    drive.insert(source, OpenMode::ReadOnly).map_err(failed)?;
    drive.load().map_err(failed)?;
    Ok(drive)
}

/// The way to the data key.
enum KeyWay<'a> {
    File(PathBuf),
    Shares(&'a ShareOptions),
    Package { package: Box<Package>, identity: PathBuf },
    Token(Box<TokenConfig>),
}

impl KeyOptions {
    fn resolve(&self, home: impl FnOnce() -> Result<Home, Failure>) -> Result<KeyWay<'_>, Failure> {
        if let Some(file) = &self.key_file {
            return Ok(KeyWay::File(file.clone()));
        }
        if self.shares.given() {
            return Ok(KeyWay::Shares(&self.shares));
        }
        if let (Some(file), Some(identity)) = (&self.package, &self.identity) {
            let package = Box::new(read_package(file)?);
            if let Some(key) = &self.site_key {
                package.verify(&site_key(key)?)?;
            }
            package.check_time(&sealtape_kms::exchange::now())?;
            return Ok(KeyWay::Package { package, identity: identity.clone() });
        }
        let (Some(module), Some(uri)) = (&self.module, &self.token) else { return Self::of_home(&home()?) };
        let pin = match &self.pin_file {
            Some(file) => PinSource::File(file.clone()),
            None => pin::prompt(),
        };
        Ok(KeyWay::Token(Box::new(TokenConfig {
            worker: WorkerCommand::this_executable(),
            module: module.clone(),
            parameters: None,
            uri: parse_uri(uri)?,
            pin,
            latch: PinLatch::new(latch_file()?),
            environment: Vec::new(),
            limits: Limits::default(),
        })))
    }

    fn of_home(home: &Home) -> Result<KeyWay<'static>, Failure> {
        let config = Config::load(home)?;
        let uri = parse_uri(&config.keyd.token)?;
        let keyd = sealtape_kms::home::Home::new(config.keyd_state());
        let worker = WorkerCommand::this_executable();
        let token = match keyd.dir().join("tokens").is_dir() {
            true => keyd.embedded_token(&config.keyd.module, uri, worker)?,
            false => TokenConfig {
                worker,
                module: config.keyd.module.clone(),
                parameters: None,
                uri,
                pin: pin::source(home, &config.keyd.pin),
                latch: keyd.latch(),
                environment: Vec::new(),
                limits: Limits::default(),
            },
        };
        Ok(KeyWay::Token(Box::new(token)))
    }
}

impl KeyWay<'_> {
    fn key(self, record: &GenerationRecord) -> Result<GenerationKeys<Opens>, Failure> {
        let scope = record.scope;
        let at = GenerationRef {
            volume: scope.volume,
            partition: scope.partition,
            generation: scope.generation,
            key_id: record.key_id,
        };
        let stanzas: Vec<Stanza> =
            record.stanzas.iter().map(|s| Stanza { kind: s.kind, body: HexBytes(s.body.clone()) }).collect();
        let of_volume = |e: OfflineError| Failure::from(e).of(&format!("volume {}", scope.volume));
        let data_key = match self {
            Self::File(file) => key_from_file(&file)?,
            Self::Shares(shares) => {
                let keys = recovery_keys(&stanzas).map_err(of_volume)?;
                let wanted = keys.first().copied().filter(|_| keys.len() == 1);
                if keys.is_empty() {
                    return Err(of_volume(OfflineError::NoRecoveryStanza));
                }
                unwrap_recovery(&shares.recover(wanted)?.identity, &stanzas, at).map_err(of_volume)?
            }
            Self::Package { package, identity: file } => {
                let keys = package.open(&identity(&file)?)?;
                keys.into_iter().find(|(place, _)| *place == at).map(|(_, key)| key).ok_or_else(|| {
                    let what = format!(
                        "the package {} has no key for generation {} of partition {} of volume {}",
                        package.body.package, at.generation, at.partition, at.volume
                    );
                    Failure::new(Exit::Refused, what, "ask the partner for a package with this volume as it is now")
                })?
            }
            Self::Token(config) => unwrap_any(*config, &stanzas, at).map_err(of_volume)?,
        };
        Ok(GenerationKeys::opening(data_key, scope))
    }
}

/// 64 hexadecimal digits, from a file with the permissions of a PIN file.
fn key_from_file(file: &Path) -> Result<DataKey, Failure> {
    let text = read_pin_file(file)?;
    let wrong = || {
        Failure::new(
            Exit::Usage,
            format!("{} does not hold a data key", file.display()),
            "write 64 hexadecimal digits into it, and nothing else",
        )
    };
    let digits = text.expose();
    if digits.len() != 2 * DATA_KEY_LEN {
        return Err(wrong());
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    DataKey::fill_with(|key| {
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else {
                return Err(std::io::ErrorKind::InvalidData.into());
            };
            *byte = high << 4 | low;
        }
        Ok(())
    })
    .map_err(|_: std::io::Error| wrong())
}

fn parse_uri(uri: &TokenUri) -> Result<Uri, Failure> {
    Ok(uri.as_str().parse::<Uri>()?)
}

/// A rejected PIN is remembered for this user, so that a script cannot lock the token by trying again.
pub(super) fn latch_file() -> Result<PathBuf, Failure> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    let folder = state.ok_or_else(|| {
        let what = "there is no folder to remember a rejected PIN in: $XDG_STATE_HOME and $HOME are unset";
        Failure::new(Exit::Configuration, what, "set $HOME to a folder of your own")
    })?;
    let folder = folder.join("sealtape-restore");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|e| Failure::file("making the folder", &folder, &e))?;
    Ok(folder.join("pin.latched"))
}

fn folder_refused(folder: &Path, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::DirectoryNotEmpty => Failure::new(
            Exit::Usage,
            format!("the folder {} is not empty", folder.display()),
            "name a new or an empty folder: nothing is written over",
        ),
        _ => Failure::file("making the folder", folder, error),
    }
}

fn human(report: &Report) -> String {
    let mut rows = vec![
        ("volume", report.volume.to_string()),
        ("partition", format!("{}, generation {}", report.partition, report.generation)),
        ("restored", format!("{} records, {}, {} filemarks", report.records, bytes(report.bytes), report.filemarks)),
        ("end", report.end.clone()),
    ];
    for refused in &report.refused {
        rows.push(("REFUSED", format!("object {}: {}", refused.object, refused.message)));
    }
    let unlisted = report.refused_total.saturating_sub(report.refused.len() as u64);
    if unlisted > 0 {
        rows.push(("REFUSED", format!("{unlisted} more")));
    }
    fields(&rows)
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        let message = error.to_string();
        match error {
            RestoreError::NotSealed { .. } => Self::new(
                Exit::Medium,
                message,
                "check that this is the cartridge; of an image tells: sealtape image dump FILE",
            ),
            RestoreError::Refused { .. } => {
                Self::new(Exit::Integrity, message, "with --salvage reading goes on behind it; see also other copies")
            }
            RestoreError::Drive { .. } => Self::new(
                Exit::Drive,
                message,
                "with --salvage reading goes on behind it; check the drive, or the file: sealtape image dump FILE",
            ),
            RestoreError::NoSuchFile { .. } => Self::new(Exit::Unknown, message, "files are numbered from 0"),
            RestoreError::Output(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Self::stdout(&e),
            RestoreError::Output(_) => Self::new(Exit::Drive, message, "make room, and restore into a new folder"),
        }
    }
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        match error {
            OfflineError::Token(token) => token.into(),
            recovery @ OfflineError::Recovery(_) => {
                Self::new(Exit::Integrity, recovery.to_string(), "bring shares of the recovery key that it is for")
            }
            malformed @ OfflineError::Malformed(_) => {
                Self::new(Exit::Integrity, malformed.to_string(), "the generation record is damaged; use another copy")
            }
            other => Self::new(Exit::Refused, other.to_string(), "use the services of the installation that wrote it"),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let exit = match error {
            TokenError::Uri { .. } => Exit::Usage,
            TokenError::Module { .. } | TokenError::PinSource { .. } => Exit::Configuration,
            _ => Exit::Refused,
        };
        super::failure::split(exit, &error.to_string())
    }
}
