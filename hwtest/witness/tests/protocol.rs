//! The witness keeps to tlog-witness: each answer, and that no two requests roll it back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use sealtape_kms::custody::tree::{Hash, RightEdge, consistency_path, leaf_hash};
use sealtape_kms::custody::{Checkpoint, VerifierKey};
use sealtape_lab_witness::{Answer, Serving, Witness, file_of};

const ORIGIN: &str = "log.example/a";
const NOW: u64 = 1_800_000_000;

/// A log in memory; `flavour` makes histories differ.
struct Log {
    signing: SigningKey,
    key: VerifierKey,
    nodes: HashMap<(u8, u64), Hash>,
    roots: Vec<Hash>,
}

impl Log {
    fn new(leaves: u64, flavour: &str) -> Self {
        let signing = SigningKey::from_bytes(&[5; 32]);
        let key = VerifierKey::new(ORIGIN, signing.verifying_key().as_bytes()).unwrap();
        let mut edge = RightEdge::default();
        let (mut nodes, mut roots) = (HashMap::new(), vec![edge.root()]);
        for n in 0..leaves {
            edge.append(leaf_hash(format!("{flavour}{n}").as_bytes()), |at, hash| {
                nodes.insert((at.level, at.index), *hash);
            });
            roots.push(edge.root());
        }
        Self { signing, key, nodes, roots }
    }

    fn note(&self, size: u64) -> String {
        let root = self.roots[usize::try_from(size).unwrap()];
        let text = Checkpoint { origin: ORIGIN.into(), size, root }.to_text();
        self.key.note(&text, &self.signing.sign(text.as_bytes()).to_bytes())
    }

    fn proof(&self, old: u64, new: u64) -> String {
        let path = consistency_path(old, new, |n| self.nodes.get(&(n.level, n.index)).copied().ok_or(())).unwrap();
        // A checkpoint's text has its root in base64 in the third line.
        let base64 = |hash: &Hash| {
            let text = Checkpoint { origin: "x".into(), size: 1, root: *hash }.to_text();
            text.lines().nth(2).unwrap().to_owned()
        };
        path.iter().map(|hash| format!("{}\n", base64(hash))).collect()
    }

    fn request(&self, old: u64, new: u64) -> String {
        format!("old {old}\n{}\n{}", self.proof(old, new), self.note(new))
    }
}

fn set_up() -> (tempfile::TempDir, Arc<Witness>, Log) {
    let dir = tempfile::tempdir().unwrap();
    let witness = Witness::open(dir.path(), "w.example/1").unwrap();
    let log = Log::new(40, "a");
    witness.follow(log.key.clone()).unwrap();
    (dir, Arc::new(witness), log)
}

fn status(answer: &Answer) -> u16 {
    answer.status
}

#[test]
fn every_answer_of_the_protocol() {
    let (dir, witness, log) = set_up();
    let post = |body: &str| witness.add_checkpoint(body, NOW);
    // 200, first and further; the same again.
    let first = post(&log.request(0, 7));
    assert_eq!(status(&first), 200);
    let cosigned = witness.key().cosigned(&format!("{}{}", log.note(7), first.body)).unwrap();
    assert_eq!((cosigned.time, cosigned.checkpoint.size), (NOW, 7));
    assert_eq!(status(&post(&log.request(7, 20))), 200);
    assert_eq!(status(&post(&log.request(20, 20))), 200);
    // 409 with the size, its type, and nothing else.
    for old in [0, 7, 19] {
        let conflict = post(&log.request(old, 30));
        assert_eq!((conflict.status, conflict.content_type, conflict.body.as_str()), (409, "text/x.tlog.size", "20\n"));
    }
    // 422: another history, the same size with another root, a proof changed, too long, too short, or none.
    let other = Log::new(40, "b");
    assert_eq!(status(&post(&other.request(20, 30))), 422);
    assert_eq!(status(&post(&other.request(20, 20))), 422);
    let good = log.request(20, 30);
    let lines: Vec<&str> = log.proof(20, 30).lines().map(str::to_owned).map(|l| &*l.leak()).collect();
    assert!(lines.len() > 1);
    assert_eq!(status(&post(&good.replace(lines[0], lines[1]))), 422);
    assert_eq!(status(&post(&good.replace(&format!("{}\n", lines[0]), ""))), 422);
    assert_eq!(status(&post(&good.replace("old 20\n", &format!("old 20\n{}\n", lines[0])))), 422);
    // 400: what is no request.
    let many = format!("{}\n", lines[0]).repeat(64);
    for bad in [
        String::new(),
        "old 20".into(),
        good.replace("old 20", "old 020"),
        good.replace("old 20", "old -1"),
        good.replace("old 20", "Old 20"),
        good.replace("old 20", "old 20 "),
        good.replace(lines[0], "AAAA"),
        good.replace(lines[0], "?"),
        good.replace("old 20\n", &format!("old 20\n{many}")),
        good.replace("\n30\n", "\n030\n"),
        log.request(20, 20).replace("old 20", "old 21"),
    ] {
        assert_eq!(status(&post(&bad)), 400, "{bad}");
    }
    // 404: an unknown log. 403: not the log's signature; another key's is ignored.
    assert_eq!(status(&post(&good.replace(ORIGIN, "log.example/b"))), 404);
    let signature = good.lines().last().unwrap().to_owned();
    assert_eq!(status(&post(&good.replace(&signature[..signature.len() - 4], &signature[..signature.len() - 8]))), 403);
    let stranger = signature.replace(ORIGIN, "log.example/c");
    assert_eq!(status(&post(&good.replace(&signature, &stranger))), 403);
    // Nothing of all that moved it.
    assert_eq!(witness.size(ORIGIN), 20);
    assert_eq!(status(&post(&format!("{good}{stranger}\n"))), 200);
    // What it publishes bears both signatures, and survives.
    drop(witness);
    let again = Witness::open(dir.path(), "w.example/1").unwrap();
    again.follow(log.key.clone()).unwrap();
    assert_eq!(again.size(ORIGIN), 30);
    let note = std::fs::read_to_string(file_of(dir.path(), ORIGIN)).unwrap();
    assert!(log.key.open(&note).is_ok() && again.key().cosigned(&note).is_ok() && !note.contains("log.example/c"));
    // A file that was tampered with is not taken.
    std::fs::write(file_of(dir.path(), ORIGIN), log.note(20)).unwrap();
    assert!(again.follow(log.key.clone()).is_err());
}

#[test]
fn an_empty_log_is_cosigned_only_with_the_empty_root() {
    let (_dir, witness, log) = set_up();
    assert_eq!(witness.add_checkpoint(&log.request(0, 0), NOW).status, 200);
    let text = Checkpoint { origin: ORIGIN.into(), size: 0, root: [1; 32] }.to_text();
    let note = log.key.note(&text, &log.signing.sign(text.as_bytes()).to_bytes());
    assert_eq!(witness.add_checkpoint(&format!("old 0\n\n{note}"), NOW).status, 422);
}

#[test]
fn of_requests_at_once_one_wins() {
    let (_dir, witness, log) = set_up();
    assert_eq!(witness.add_checkpoint(&log.request(0, 5), NOW).status, 200);
    let answers: Vec<u16> = std::thread::scope(|s| {
        let threads: Vec<_> = (6..14)
            .map(|new| {
                let (witness, log) = (&witness, &log);
                s.spawn(move || witness.add_checkpoint(&log.request(5, new), NOW).status)
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(answers.iter().filter(|s| **s == 200).count(), 1, "{answers:?}");
    assert!(answers.iter().all(|s| matches!(s, 200 | 409)));
}

#[test]
fn over_http_on_this_machine_only() {
    let (_dir, witness, log) = set_up();
    assert!(Serving::start(Arc::clone(&witness), "0.0.0.0:0".parse().unwrap()).is_err());
    let serving = Serving::start(Arc::clone(&witness), "127.0.0.1:0".parse().unwrap()).unwrap();
    let exchange = |request: &[u8]| {
        let mut stream = std::net::TcpStream::connect(serving.address()).unwrap();
        // A server that refuses early may close before all is sent.
        let _sent = stream.write_all(request);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_default();
        answer
    };
    let post = |path: &str, body: &str| {
        exchange(
            format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        )
    };
    let answer = post("/add-checkpoint", &log.request(0, 5));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\u{2014} w.example/1 "), "{answer}");
    let answer = post("/add-checkpoint", &log.request(0, 9));
    assert!(answer.starts_with("HTTP/1.1 409") && answer.contains("content-type: text/x.tlog.size\r\n"), "{answer}");
    assert!(post("/add-checkpoint", &"x".repeat(70_000)).starts_with("HTTP/1.1 413"));
    assert!(post("/sign-subtree", "x").starts_with("HTTP/1.1 404"));
    let hash = file_of(std::path::Path::new(""), ORIGIN).display().to_string();
    let get = |path: &str| exchange(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(get(&format!("/{hash}/checkpoint")).contains("\n5\n"));
    assert!(get("/00/checkpoint").starts_with("HTTP/1.1 404"));
    drop(serving);
    assert!(witness.size(ORIGIN) == 5);
}
