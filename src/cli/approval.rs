//! `approval …`: what waits for custodians, and their signatures.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Subcommand;
use sealtape_kms::client::{CALL_TIMEOUT, ControlClient};
use sealtape_kms::hex::Hex;
use sealtape_kms::protocol::{
    APPROVAL_NAMESPACE, ApprovalRequest, DualReply, DualRequest, MAX_REQUEST_TEXT, Operation, RequestState, RequestView,
};
use serde_json::json;
use uuid::Uuid;

use super::failure::{Exit, Failure};
use super::output::Output;
use super::table::{fields, table};
use crate::service::home::Home;

/// Longest signature file that is read.
const LONGEST_SIGNATURE: u64 = 8192;

/// Approve what cannot be undone: two persons sign each request with keys of their own.
#[derive(Debug, Subcommand)]
pub(super) enum Approval {
    /// Show requests that wait for approvals
    List {
        /// Those that are done with, too (the newest hundred)
        #[arg(long)]
        all: bool,
    },
    /// Show a request, and in words what one signs
    Show {
        /// The request
        request: Uuid,
        /// Write exactly the bytes to sign into this new file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Say in words what a file written by `approval show` asks for. Needs no service: for another machine
    Explain {
        /// The file
        file: PathBuf,
    },
    /// Sign a request with ssh-keygen and hand the signature in
    Sign {
        /// The request
        request: Uuid,
        /// Your private key, or the public one of a key that your agent or token holds
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// Hand in a signature that was made elsewhere: ssh-keygen -Y sign -n sealtape-approval@sealtape -f KEY FILE
    Add {
        /// The signature (FILE.sig)
        signature: PathBuf,
        /// The request [default: the one that the signature fits]
        #[arg(long, value_name = "ID")]
        request: Option<Uuid>,
    },
    /// Carry an approved change of persons or roles out
    Execute {
        /// The request
        request: Uuid,
    },
    /// Take a request back
    Withdraw {
        /// The request
        request: Uuid,
        /// Why; kept in the custody log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

impl Approval {
    pub(super) fn run(self, home: impl FnOnce() -> Result<Home, Failure>, output: &Output) -> Result<(), Failure> {
        let keyd = || Ok::<_, Failure>(ControlClient::new(home()?.keyd_socket(), CALL_TIMEOUT));
        match self {
            Self::List { all } => match keyd()?.dual(DualRequest::Requests { all })? {
                DualReply::Requests(requests) => output.value(&requests, |requests| list(requests)),
                _ => Err(unexpected()),
            },
            Self::Show { request, file } => {
                let (view, text) = fetch(&keyd()?, request)?;
                if let Some(file) = &file {
                    write(file, &text)?;
                }
                let explained = explain(&text)?;
                output.value(&view, |view| format!("{}{}", explained, standing(view)))?;
                if let Some(file) = &file {
                    let file = file.display();
                    output.note(&format!(
                        "to approve: ssh-keygen -Y sign -n {APPROVAL_NAMESPACE} -f KEY {file}\n      then: sealtape approval add {file}.sig"
                    ));
                }
                Ok(())
            }
            Self::Explain { file } => {
                let text = read(&file, MAX_REQUEST_TEXT as u64, "reading the request")?;
                let explained = explain(&text)?;
                let digest: Hex<32> = ApprovalRequest::digest(&text);
                output.value(&json!({"request": parse(&text)?, "digest": digest}), |_| {
                    format!("{explained}digest:     {digest}\n")
                })
            }
            Self::Sign { request, key } => {
                let keyd = keyd()?;
                let (_, text) = fetch(&keyd, request)?;
                output.note(&format!("you approve:\n{}", explain(&text)?));
                let signature = sign(&text, &key)?;
                add(&keyd, Some(request), signature, output)
            }
            Self::Add { signature, request } => {
                let signature = read(&signature, LONGEST_SIGNATURE, "reading the signature")?;
                add(&keyd()?, request, signature, output)
            }
            Self::Execute { request } => match keyd()?.dual(DualRequest::Execute { request })? {
                DualReply::Changed { entry } => changed(entry, output),
                _ => Err(unexpected()),
            },
            Self::Withdraw { request, reason } => match keyd()?.dual(DualRequest::Withdraw { request, reason })? {
                DualReply::Request(view) => output.value(&*view, standing),
                _ => Err(unexpected()),
            },
        }
    }
}

/// Asks for a change of persons or roles, and says what became of it.
pub(super) fn change(
    keyd: &ControlClient,
    operation: Operation,
    reason: Option<String>,
    output: &Output,
) -> Result<(), Failure> {
    match keyd.dual(DualRequest::Change { operation, reason })? {
        DualReply::Changed { entry } => changed(entry, output),
        DualReply::Request(view) => {
            output.value(&*view, standing)?;
            output.note(&format!("two persons have to approve it: sealtape approval sign {} --key FILE", view.request));
            Ok(())
        }
        _ => Err(unexpected()),
    }
}

pub(super) fn unexpected() -> Failure {
    Failure::new(Exit::Failed, "the key authority answered with something else", "use programs of one version")
}

fn changed(entry: u64, output: &Output) -> Result<(), Failure> {
    output.value(&json!({"entry": entry}), |_| fields(&[("done, entry", entry.to_string())]))
}

fn fetch(keyd: &ControlClient, request: Uuid) -> Result<(RequestView, String), Failure> {
    match keyd.dual(DualRequest::Show { request })? {
        DualReply::Shown { view, text } => Ok((*view, text)),
        _ => Err(unexpected()),
    }
}

fn add(keyd: &ControlClient, request: Option<Uuid>, signature: String, output: &Output) -> Result<(), Failure> {
    match keyd.dual(DualRequest::Approve { request, signature })? {
        DualReply::Request(view) => output.value(&*view, standing),
        _ => Err(unexpected()),
    }
}

fn parse(text: &str) -> Result<ApprovalRequest, Failure> {
    ApprovalRequest::parse(text).map_err(|e| {
        let mend = "do not sign it; write it anew: sealtape approval show ID --file FILE";
        Failure::new(Exit::Integrity, format!("this is no request as the key authority writes it: {e}"), mend)
    })
}

fn explain(text: &str) -> Result<String, Failure> {
    Ok(parse(text)?.explain())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file("writing the request", file, &e);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}

fn read(file: &Path, longest: u64, what: &str) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::file(what, file, &e);
    let open = File::open(file).map_err(failed)?;
    let mut bytes = Vec::new();
    open.take(longest + 1).read_to_end(&mut bytes).map_err(failed)?;
    let wrong = |what: &str| {
        let what = format!("{} {what}", file.display());
        Failure::new(Exit::Usage, what, "name the file that `approval show` or ssh-keygen wrote")
    };
    if bytes.len() as u64 > longest {
        return Err(wrong("is too long"));
    }
    String::from_utf8(bytes).map_err(|_| wrong("is no text"))
}

/// A folder of this process alone, gone with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("sealtape-approval-{}", Uuid::new_v4()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| Failure::file("making the folder", &path, &e))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), error = %e, "the signed request could not be removed");
        }
    }
}

/// Lets ssh-keygen sign: it asks for the passphrase, or the agent or token for whatever it wants.
fn sign(text: &str, key: &Path) -> Result<String, Failure> {
    let scratch = Scratch::new()?;
    let file = scratch.0.join("request");
    write(&file, text)?;
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", APPROVAL_NAMESPACE, "-f"]).args([key, &file]).stdout(Stdio::null());
    let status = command.status().map_err(|e| {
        let mend = "install it (apt install openssh-client), or sign elsewhere: sealtape approval show ID --file FILE";
        Failure::new(Exit::Failed, format!("ssh-keygen cannot be run: {e}"), mend)
    })?;
    if !status.success() {
        let what = format!("ssh-keygen did not sign with {} ({status})", key.display());
        return Err(Failure::new(Exit::Failed, what, "its message stands above"));
    }
    read(&scratch.0.join("request.sig"), LONGEST_SIGNATURE, "reading the signature")
}

fn state(state: RequestState) -> &'static str {
    match state {
        RequestState::Pending => "pending",
        RequestState::Approved => "approved",
        RequestState::Executed => "carried out",
        RequestState::Withdrawn => "taken back",
        RequestState::Expired => "expired",
    }
}

fn list(requests: &[RequestView]) -> String {
    let row = |r: &RequestView| {
        let counting = r.approvals.iter().filter(|a| a.fault.is_none()).count();
        let approvals = format!("{counting}/{}", r.needed);
        [r.request.to_string(), state(r.state).to_owned(), approvals, r.expires.clone(), r.words.clone()]
    };
    table(["REQUEST", "STATE", "APPROVALS", "EXPIRES", "TO"], &requests.iter().map(row).collect::<Vec<_>>())
}

fn standing(view: &RequestView) -> String {
    let mut rows = vec![
        ("request", view.request.to_string()),
        ("to", view.words.clone()),
        ("state", state(view.state).to_owned()),
        ("needs", format!("{} persons with the role {}", view.needed, view.role)),
        ("expires", view.expires.clone()),
    ];
    for approval in &view.approvals {
        let fault = approval.fault.as_ref().map(|f| format!(", DOES NOT COUNT: {f}")).unwrap_or_default();
        rows.push(("approved by", format!("{} with {}{fault}", approval.person, approval.key)));
    }
    rows.push(("digest", view.digest.to_string()));
    fields(&rows)
}
