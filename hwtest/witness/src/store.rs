//! What the witness knows of each log, and what it answers.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use ed25519_dalek::{Signer, SigningKey};
use sealtape_kms::custody::tree::Hash;
use sealtape_kms::custody::{Checkpoint, NoteError, VerifierKey, WitnessKey, base64_decode};
use sealtape_kms::hex::Hex;
use sha2::{Digest, Sha256};

use crate::proof;

/// Longest request: 63 proof lines and a checkpoint with many signatures.
pub(crate) const MAX_REQUEST: usize = 64 * 1024;
const MAX_PROOF: usize = 63;

/// An HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into() }
    }
}

/// The latest checkpoint of a log.
struct Known {
    size: u64,
    root: Hash,
    note: String,
}

/// A witness with its folder.
pub struct Witness {
    dir: PathBuf,
    signing: SigningKey,
    key: WitnessKey,
    logs: Mutex<HashMap<String, (VerifierKey, Option<Known>)>>,
}

/// The parts of an `add-checkpoint` request.
struct Request<'a> {
    old: u64,
    proof: Vec<Hash>,
    note: &'a str,
}

fn decimal(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|n| n.to_string() == text)
}

fn parse(body: &str) -> Option<Request<'_>> {
    let (head, note) = body.split_once("\n\n")?;
    let mut lines = head.split('\n');
    let old = decimal(lines.next()?.strip_prefix("old ")?)?;
    let proof = lines.map(|l| base64_decode(l)?.try_into().ok()).collect::<Option<Vec<Hash>>>()?;
    (proof.len() <= MAX_PROOF).then_some(Request { old, proof, note })
}

fn hash_of(origin: &str) -> String {
    Hex(<[u8; 32]>::from(Sha256::digest(origin))).to_string()
}

impl Witness {
    /// Opens the witness `name` in `dir`, or sets it up there with a new key.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(dir: impl Into<PathBuf>, name: &str) -> Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let path = dir.join("witness.key");
        let signing = match File::open(&path) {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                let seed: Hex<32> =
                    text.trim().parse().ok().with_context(|| format!("{} is malformed", path.display()))?;
                SigningKey::from_bytes(&seed.0)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).context("no random bytes")?;
                let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
                writeln!(file, "{}", Hex(seed))?;
                file.sync_all()?;
                File::open(&dir)?.sync_all()?;
                SigningKey::from_bytes(&seed)
            }
            Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
        };
        let key = WitnessKey::new(name, signing.verifying_key().as_bytes())?;
        Ok(Self { dir, signing, key, logs: Mutex::default() })
    }

    /// Its public key.
    #[must_use]
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// Follows the log with this key from now on.
    ///
    /// # Errors
    /// When what was kept of it cannot be read.
    pub fn follow(&self, log: VerifierKey) -> Result<()> {
        let path = self.dir.join(hash_of(log.name()));
        let known = match fs::read_to_string(&path) {
            Ok(note) => {
                let (checkpoint, _) = log.open(&note).with_context(|| format!("{}", path.display()))?;
                let own = self.key.cosigned(&note).with_context(|| format!("{}", path.display()))?;
                if own.checkpoint != checkpoint || checkpoint.origin != log.name() {
                    bail!("{} is of another log", path.display());
                }
                Some(Known { size: checkpoint.size, root: checkpoint.root, note })
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(|| format!("reading {}", path.display())),
        };
        self.logs().insert(log.name().to_owned(), (log, known));
        Ok(())
    }

    fn logs(&self) -> std::sync::MutexGuard<'_, HashMap<String, (VerifierKey, Option<Known>)>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers `add-checkpoint`; `now` is the time in seconds since 1970.
    #[must_use]
    pub fn add_checkpoint(&self, body: &str, now: u64) -> Answer {
        let bad = || Answer::text(400, "not a request of tlog-witness\n");
        let Some(request) = parse(body) else { return bad() };
        let Ok(claimed) = Checkpoint::claimed_by(request.note) else { return bad() };
        // One lock from the check of the old size to the new one on the disk: else two requests could roll back.
        let mut logs = self.logs();
        let Some((log, known)) = logs.get_mut(&claimed.origin) else {
            return Answer::text(404, "this log is not known here\n");
        };
        let checkpoint = match log.open(request.note) {
            Ok((checkpoint, _)) => checkpoint,
            Err(NoteError::Form(_)) => return bad(),
            Err(_) => return Answer::text(403, "no good signature of this log's key\n"),
        };
        if request.old > checkpoint.size {
            return Answer::text(400, "the old size is larger than the checkpoint's\n");
        }
        let size = known.as_ref().map_or(0, |k| k.size);
        if request.old != size {
            return Answer { status: 409, content_type: "text/x.tlog.size", body: format!("{size}\n") };
        }
        let root = known.as_ref().map_or_else(proof::empty_root, |k| k.root);
        let whole = match checkpoint.size {
            0 => checkpoint.root == proof::empty_root() && request.proof.is_empty(),
            new if new == size => checkpoint.root == root && request.proof.is_empty(),
            new => proof::consistent(size, &root, new, &checkpoint.root, &request.proof),
        };
        if !whole {
            return Answer::text(422, "this does not extend what was cosigned before\n");
        }
        let text = checkpoint_text(request.note);
        let signature = self.signing.sign(WitnessKey::message(now, text).as_bytes()).to_bytes();
        let line = self.key.line(now, &signature);
        let kept = log.only_own(request.note).and_then(|own| self.key.add_to(&own, line.trim_end()));
        let Ok(note) = kept else { return bad() };
        if let Err(e) = self.keep(&checkpoint.origin, &note) {
            return Answer::text(500, format!("the checkpoint cannot be kept: {e}\n"));
        }
        *known = Some(Known { size: checkpoint.size, root: checkpoint.root, note });
        Answer::text(200, line)
    }

    /// Answers `HASH/checkpoint` of the monitoring prefix.
    #[must_use]
    pub fn checkpoint(&self, origin_hash: &str) -> Answer {
        let logs = self.logs();
        let of = logs.iter().find(|(origin, _)| hash_of(origin) == origin_hash);
        match of.and_then(|(_, (_, known))| known.as_ref()) {
            Some(known) => Answer::text(200, known.note.clone()),
            None => Answer::text(404, "no checkpoint of such a log\n"),
        }
    }

    /// The size that was cosigned last.
    #[must_use]
    pub fn size(&self, origin: &str) -> u64 {
        self.logs().get(origin).and_then(|(_, known)| known.as_ref()).map_or(0, |k| k.size)
    }

    fn keep(&self, origin: &str, note: &str) -> std::io::Result<()> {
        let path = self.dir.join(hash_of(origin));
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.dir)?.sync_all()
    }
}

/// What is signed of a note that was opened before.
fn checkpoint_text(note: &str) -> &str {
    note.rfind("\n\n").map_or("", |at| &note[..=at])
}

/// Where a witness in `dir` keeps the log `origin`; for tests that look there.
#[must_use]
pub fn file_of(dir: &Path, origin: &str) -> PathBuf {
    dir.join(hash_of(origin))
}
