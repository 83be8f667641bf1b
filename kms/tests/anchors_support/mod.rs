//! Installations with anchors, and witnesses that behave as told.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "every test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sealtape_kms::anchor::{AnchorConfig, AnchorKind, AnchoringPolicy};
use sealtape_kms::authority::{Authority, AuthorityOptions};
use sealtape_kms::custody::{Leaf, VerifierKey};
use sealtape_kms::protocol::{AnchorView, AnchoringView, Refusal};
use sealtape_lab_witness::{Serving, Witness};

use crate::support::install::{Install, options};

pub const NAME: &str = "witness.example/w1";

/// A witness that follows the installation's log.
pub struct Lab {
    pub dir: tempfile::TempDir,
    pub witness: Arc<Witness>,
    pub serving: Serving,
}

impl Lab {
    pub fn new(install: &Install) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let witness = witness(dir.path(), install);
        let serving = Serving::start(Arc::clone(&witness), "127.0.0.1:0".parse().unwrap()).unwrap();
        Self { dir, witness, serving }
    }

    pub fn anchor(&self) -> AnchorConfig {
        at(&self.witness, &self.serving.url())
    }
}

pub fn witness(dir: &Path, install: &Install) -> Arc<Witness> {
    let witness = Witness::open(dir, NAME).unwrap();
    witness.follow(install.report.log_key.parse::<VerifierKey>().unwrap()).unwrap();
    Arc::new(witness)
}

pub fn at(witness: &Witness, url: &str) -> AnchorConfig {
    AnchorConfig {
        name: "w1".into(),
        kind: AnchorKind::Witness {
            url: url.parse().unwrap(),
            key: witness.key().clone(),
            timeout: Duration::from_secs(2),
            ca: None,
        },
    }
}

pub fn file(path: impl Into<PathBuf>) -> AnchorConfig {
    AnchorConfig { name: "file".into(), kind: AnchorKind::File { path: path.into() } }
}

/// Keys wait for the anchors.
pub fn strict(anchors: Vec<AnchorConfig>) -> AnchoringPolicy {
    AnchoringPolicy { anchors, before_release: true, deadline: Duration::from_secs(5), ..AnchoringPolicy::default() }
}

/// Keys do not wait.
pub fn loose(anchors: Vec<AnchorConfig>) -> AnchoringPolicy {
    AnchoringPolicy { before_release: false, ..strict(anchors) }
}

pub fn open(install: &Install, anchoring: AnchoringPolicy) -> Arc<Authority> {
    Arc::new(try_open(install, anchoring).unwrap())
}

pub fn try_open(install: &Install, anchoring: AnchoringPolicy) -> Result<Authority, Refusal> {
    Authority::open(&install.home, AuthorityOptions { anchoring, ..options() })
}

pub fn only(authority: &Authority) -> AnchorView {
    let view: AnchoringView = authority.anchoring().unwrap();
    assert_eq!(view.anchors.len(), 1);
    view.anchors.into_iter().next().unwrap()
}

pub fn export(authority: &Authority) -> String {
    let mut out = Vec::new();
    authority.audit_export(crate::support::install::ME, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

pub fn leaves(authority: &Authority) -> Vec<Leaf> {
    let lines = authority.audit_show(Some(0), 1000).unwrap();
    lines.iter().map(|l| Leaf::parse(l).unwrap()).collect()
}

/// The catalogue's files, to go back to. No key authority may have it open.
pub struct Copy(Vec<(PathBuf, Option<Vec<u8>>)>);

impl Copy {
    pub fn of(home: &Path) -> Self {
        let files = ["catalogue.db", "catalogue.db-wal", "catalogue.db-shm"];
        Self(files.iter().map(|f| (home.join(f), std::fs::read(home.join(f)).ok())).collect())
    }

    /// Puts the files into a folder, in place of what is there.
    pub fn restore(&self, home: &Path) {
        for (path, content) in &self.0 {
            let path = home.join(path.file_name().unwrap());
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => drop(std::fs::remove_file(&path)),
            }
        }
    }
}

/// A whole installation copied, token and all: what an attacker with root and the PIN works with.
pub fn duplicate(install: &Install) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("home");
    let copied = std::process::Command::new("cp").arg("-a").arg(install.home.dir()).arg(&to).status().unwrap();
    assert!(copied.success());
    dir
}

/// What a scripted server answers to a request body: the whole HTTP response, or nothing and the connection stays open.
type Script = dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync;

/// A server that is no witness.
pub struct Scripted {
    pub url: String,
    pub requests: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    held: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub fn new(script: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::over(None, script)
    }

    /// Speaks TLS if it has what that takes.
    pub fn over(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        listener.set_nonblocking(true).unwrap();
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let held = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let thread = {
            let (stop, requests, held) = (Arc::clone(&stop), Arc::clone(&requests), Arc::clone(&held));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            stream.set_nonblocking(false).unwrap();
                            let (script, requests, held) =
                                (Arc::clone(&script), Arc::clone(&requests), Arc::clone(&held));
                            let tls = tls.clone();
                            std::thread::spawn(move || {
                                let silent = match tls {
                                    None => converse(&mut stream, &*script, &requests),
                                    Some(tls) => {
                                        let mut connection = rustls::ServerConnection::new(tls).unwrap();
                                        let mut over = rustls::Stream::new(&mut connection, &mut stream);
                                        let silent = converse(&mut over, &*script, &requests);
                                        connection.send_close_notify();
                                        // A client that does not like the certificate is gone.
                                        drop(connection.complete_io(&mut stream));
                                        silent
                                    }
                                };
                                if silent {
                                    held.lock().unwrap().push(stream);
                                }
                            });
                        }
                        Err(_) => std::thread::sleep(Duration::from_millis(2)),
                    }
                }
            })
        };
        Self { url, requests, stop, held, thread: Some(thread) }
    }

    /// A real witness behind it, each answer later by `delay`.
    pub fn slow(witness: Arc<Witness>, delay: Duration) -> Self {
        Self::new(move |path, body| {
            std::thread::sleep(delay);
            assert_eq!(path, "/add-checkpoint");
            let answer = witness.add_checkpoint(body, 1_800_000_000);
            Some(response(answer.status, answer.content_type, &answer.body))
        })
    }

    pub fn count(&self) -> usize {
        self.requests.load(Ordering::Acquire)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.held.lock().unwrap().clear();
        self.thread.take().unwrap().join().unwrap();
    }
}

pub fn response(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// One request, one answer; gives whether there was none, and the connection shall stay open.
fn converse(stream: &mut (impl Read + Write), script: &Script, requests: &AtomicUsize) -> bool {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let (head, length) = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (head, end + 4 + length.unwrap_or(0usize));
        }
        match stream.read(&mut part) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
            _ => return false,
        }
    };
    while bytes.len() < length {
        match stream.read(&mut part) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&part[..n]),
            _ => return false,
        }
    }
    requests.fetch_add(1, Ordering::AcqRel);
    let body = String::from_utf8(bytes[length - (length - head.len() - 4)..].to_vec()).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    match script(&path, &body) {
        // A client that had enough closes early.
        Some(answer) => drop(stream.write_all(&answer).and_then(|()| stream.flush())),
        None => return true,
    }
    false
}
