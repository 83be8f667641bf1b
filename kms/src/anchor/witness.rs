//! The client of a witness (c2sp.org/tlog-witness).
//!
//! Nothing that a witness answers is believed but its cosignature, which is verified over exactly the checkpoint that was sent. Its
//! refusals (409, 422) cannot be verified as such: they stop releases, since that is the safe side, and the checkpoint that it publishes
//! is fetched as proof. Redirects are not followed, bodies are bounded, and an exchange has one deadline over all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::{Anchor, Fault, Receipt, Submission, Tree, WitnessUrl};
use crate::custody::tree::{Hash, verify_consistency};
use crate::custody::{Checkpoint, WitnessKey, base64};
use crate::hex::Hex;

/// Longest answer: several cosignature lines, post-quantum ones among them; or a checkpoint with them.
const MAX_ANSWER: u64 = 64 * 1024;
/// Longest file of certificates.
const MAX_PEM: u64 = 1024 * 1024;
/// How often one submission is tried with another old size. Two clients of one log could chase each other.
const TRIES: u32 = 4;
/// Most of a witness's own words in a message.
const MAX_WORDS: usize = 120;

pub(super) struct Witness {
    url: WitnessUrl,
    key: WitnessKey,
    timeout: Duration,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

impl Answer {
    /// The witness's words, fit for a message.
    fn words(&self) -> String {
        let words: String =
            self.body.trim().chars().take(MAX_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if words.is_empty() { "no reason given".into() } else { format!("{words:?}") }
    }

    fn size(&self) -> Option<u64> {
        let text = self.body.strip_suffix('\n')?;
        let size: u64 = text.parse().ok()?;
        let media = self.content_type.split(';').next().unwrap_or_default().trim();
        (media == "text/x.tlog.size" && size.to_string() == text).then_some(size)
    }
}

/// The system's certificates and those in `extra`.
fn roots(extra: Option<&std::path::Path>) -> Result<RootCerts, Fault> {
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    let system = rustls_native_certs::load_native_certs();
    for e in &system.errors {
        tracing::warn!("a certificate of the system cannot be read: {e}");
    }
    certificates.extend(system.certs.iter().map(|c| Certificate::from_der(c.as_ref()).to_owned()));
    if let Some(path) = extra {
        let failed = |e: String| Fault::faulty(format!("{}: {e}", path.display()));
        let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
        let mut pem = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_PEM), &mut pem)
            .map_err(|e| failed(e.to_string()))?;
        let before = certificates.len();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|e| failed(e.to_string()))? {
                certificates.push(certificate);
            }
        }
        if certificates.len() == before {
            return Err(failed("it holds no certificate".into()));
        }
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

impl Witness {
    pub(super) fn new(
        url: WitnessUrl,
        key: WitnessKey,
        timeout: Duration,
        ca: Option<&std::path::Path>,
    ) -> Result<Self, Fault> {
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots(ca)?)
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // What the environment says must not decide who sees the log's size.
            .proxy(None)
            .user_agent(concat!("sealtape-keyd/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(16 * 1024)
            .max_idle_age(Duration::from_secs(10))
            .build()
            .new_agent();
        Ok(Self { url, key, timeout, agent })
    }

    fn name(&self) -> &str {
        self.key.name()
    }

    fn failed(&self, e: &ureq::Error) -> Fault {
        let what = match e {
            ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => {
                return Fault::faulty(format!("the witness {} answers too much: {e}", self.name()));
            }
            ureq::Error::Timeout(_) => format!("did not answer within {:?}", self.timeout),
            other => format!("cannot be reached: {other}"),
        };
        Fault::away(format!("the witness {} at {} {what}", self.name(), self.url))
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, Fault> {
        let mut answer = answer.map_err(|e| self.failed(&e))?;
        let content_type =
            answer.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let bytes = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_vec().map_err(|e| self.failed(&e))?;
        let status = answer.status().as_u16();
        let body = String::from_utf8(bytes).map_err(|_| {
            Fault::faulty(format!("the witness {} answers what is no text (status {status})", self.name()))
        })?;
        Ok(Answer { status, content_type, body })
    }

    fn post(&self, body: &str, left: Duration) -> Result<Answer, Fault> {
        let request = self.agent.post(self.url.join("add-checkpoint")).config().timeout_global(Some(left)).build();
        self.read(request.content_type("text/plain; charset=utf-8").send(body))
    }

    /// The checkpoint that the witness publishes of this log, if it bears the signatures of both; with its note.
    fn published(&self, submission: &Submission, left: Duration) -> Option<Checkpoint> {
        let hash = Hex(<[u8; 32]>::from(Sha256::digest(&submission.checkpoint.origin)));
        let request = self.agent.get(self.url.join(&format!("{hash}/checkpoint"))).config().timeout_global(Some(left));
        let answer = self.read(request.build().call()).ok()?;
        let (checkpoint, _) = submission.key.open(&answer.body).ok()?;
        let cosigned = self.key.cosigned(&answer.body).ok()?;
        (answer.status == 200 && cosigned.checkpoint == checkpoint && checkpoint.origin == submission.checkpoint.origin)
            .then_some(checkpoint)
    }

    /// The alarm, with what proves it.
    fn contradiction(&self, said: String, submission: &Submission, tree: &dyn Tree, left: Duration) -> Fault {
        let ours = &submission.checkpoint;
        let proof = match self.published(submission, left.max(Duration::from_secs(1))) {
            None => "it shows no checkpoint that would prove it".to_owned(),
            Some(c) if c.size > ours.size => format!(
                "proven by its checkpoint over {} entries with root {}, which bears this log's signature",
                c.size,
                Hex(c.root)
            ),
            Some(c) => match tree.root_at(c.size) {
                Ok(root) if root == c.root => {
                    format!("the checkpoint that it publishes, over {} entries, does agree", c.size)
                }
                Ok(root) => format!(
                    "proven by its checkpoint over {} entries, which bears this log's signature: root there {}, here {}",
                    c.size,
                    Hex(c.root),
                    Hex(root)
                ),
                Err(e) => format!("its checkpoint could not be compared: {e}"),
            },
        };
        Fault::contradicts(format!("the witness {} {said} ({proof})", self.name()))
    }

    fn cosigned(&self, submission: &Submission, answer: &Answer) -> Result<Receipt, Fault> {
        let wrong =
            |what: String| Fault::faulty(format!("the witness {} answers what is no cosignature: {what}", self.name()));
        // Lines of other keys are ignored, as tlog-witness demands; the note with them has to be well-formed all the same.
        let own = submission.key.only_own(&submission.note).map_err(|e| wrong(e.to_string()))?;
        let cosigned = self.key.cosigned(&format!("{own}{}", answer.body)).map_err(|e| wrong(e.to_string()))?;
        if cosigned.checkpoint != submission.checkpoint {
            return Err(wrong("it is over another checkpoint".into()));
        }
        Ok(Receipt { time: Some(cosigned.time), cosignature: Some(cosigned.line) })
    }

    /// The request; the proof in it is verified first, so that a witness that refuses it has another tree.
    fn request(&self, submission: &Submission, old: u64, tree: &dyn Tree) -> Result<(String, Hash), Fault> {
        let new = &submission.checkpoint;
        let proof = tree.consistency(old, new.size)?;
        let root = tree.root_at(old)?;
        if !verify_consistency(old, &root, new.size, &new.root, &proof) {
            return Err(Fault::contradicts(format!(
                "the custody log in the catalogue does not extend its own first {old} entries to the signed {}: its nodes were changed",
                new.size
            )));
        }
        let mut body = format!("old {old}\n");
        for hash in &proof {
            body.push_str(&base64::encode(hash));
            body.push('\n');
        }
        body.push('\n');
        body.push_str(&submission.key.only_own(&submission.note).map_err(|e| Fault::faulty(e.to_string()))?);
        Ok((body, root))
    }
}

impl Anchor for Witness {
    fn submit(&mut self, submission: &Submission, known: u64, tree: &dyn Tree) -> Result<Receipt, Fault> {
        let until = Instant::now() + self.timeout;
        let ours = &submission.checkpoint;
        let mut old = known.min(ours.size);
        for _ in 0..TRIES {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::away(format!(
                    "the witness {} did not answer within {:?}",
                    self.name(),
                    self.timeout
                )));
            }
            let (body, root) = self.request(submission, old, tree)?;
            let answer = self.post(&body, left)?;
            let left = until.saturating_duration_since(Instant::now());
            match answer.status {
                200 => return self.cosigned(submission, &answer),
                409 => {
                    let Some(theirs) = answer.size() else {
                        let what =
                            format!("the witness {} answers 409 without a size: {}", self.name(), answer.words());
                        return Err(Fault::faulty(what));
                    };
                    if theirs > ours.size {
                        let said = format!(
                            "cosigned {theirs} entries of the custody log, which has {}: the catalogue was rolled back, or another \
                             history exists",
                            ours.size
                        );
                        return Err(self.contradiction(said, submission, tree, left));
                    }
                    if theirs == old {
                        let what = format!(
                            "the witness {} refuses the old size {old} and says that it is {theirs}",
                            self.name()
                        );
                        return Err(Fault::faulty(what));
                    }
                    if theirs < known {
                        let what = format!(
                            "the witness {} says that it cosigned {theirs} entries, though its cosignature over {known} is kept here: it \
                             has lost its state, or is another one with the same key",
                            self.name()
                        );
                        return Err(Fault::lost(what));
                    }
                    old = theirs;
                }
                422 => {
                    let said = format!(
                        "cosigned another history: the first {old} entries that it knows are not those of the custody log (root here {})",
                        Hex(root)
                    );
                    return Err(self.contradiction(said, submission, tree, left));
                }
                404 => {
                    return Err(Fault::faulty(format!(
                        "the witness {} does not know this log (404): give its operator the log's key {}",
                        self.name(),
                        submission.key
                    )));
                }
                403 => {
                    return Err(Fault::faulty(format!(
                        "the witness {} does not accept this log's signature (403): it knows another key of {}; {}",
                        self.name(),
                        ours.origin,
                        answer.words()
                    )));
                }
                300..=399 => {
                    let what = format!(
                        "the witness {} redirects ({}), which is not followed: correct its URL",
                        self.name(),
                        answer.status
                    );
                    return Err(Fault::faulty(what));
                }
                429 | 500..=599 => {
                    let what =
                        format!("the witness {} is out of order ({}): {}", self.name(), answer.status, answer.words());
                    return Err(Fault::away(what));
                }
                other => {
                    let what = format!("the witness {} refuses the request ({other}): {}", self.name(), answer.words());
                    return Err(Fault::faulty(what));
                }
            }
        }
        Err(Fault::away(format!("the witness {} named another size {TRIES} times in a row", self.name())))
    }
}
