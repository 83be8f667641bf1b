//! Full exports: every leaf, all trees recomputed.

use std::collections::HashMap;
use std::io::BufRead;

use uuid::Uuid;

use super::super::export::{CheckpointLine, Scope};
use super::super::leaf::{KeyChange, Leaf, Outcome, canonical};
use super::super::note::{NoteSignatures, VerifierKey};
use super::super::op;
use super::super::tree::{RightEdge, leaf_hash};
use super::super::witness::WitnessKey;
use super::lines::Lines;
use super::{Anchored, Completeness, Head, Times, VerifiedExport, VerifyError};
use crate::hex::Hex;

struct State<'a> {
    head: Head,
    edge: RightEdge,
    tenants: HashMap<Uuid, RightEdge>,
    /// Which of the keys signs now.
    key: usize,
    /// The origin that was opened last: a catalogue restored from a backup goes on with its log under another one.
    opened: Option<String>,
    times: Times,
    checkpoints: u64,
    /// Line of the last checkpoint that agreed.
    verified_to: u64,
    /// The last line, if it was a checkpoint: its note, and what else stands under it.
    closed: Option<(String, NoteSignatures)>,
    anchored: Anchored<'a>,
    /// A tenant's root that is wrong. What is wrong may be an earlier leaf: the next checkpoint tells.
    suspect: Option<(u64, String)>,
}

pub(super) fn verify<R: BufRead>(
    lines: &mut Lines<'_, R>,
    head: Head,
    witnesses: &[WitnessKey],
    mut see: impl FnMut(&Leaf, &str, Option<&RightEdge>),
) -> Result<VerifiedExport, VerifyError> {
    debug_assert_eq!(head.header.scope, Scope::Full);
    let mut state = State {
        head,
        edge: RightEdge::default(),
        tenants: HashMap::new(),
        key: 0,
        opened: None,
        times: Times::default(),
        checkpoints: 0,
        verified_to: lines.number(),
        closed: None,
        anchored: Anchored::new(witnesses),
        suspect: None,
    };
    while let Some(text) = lines.next()? {
        let number = lines.number();
        if state.closed.is_some() && state.edge.size() == state.head.header.size {
            return Err(VerifyError::at(number, "something follows the last checkpoint"));
        }
        // Only a leaf begins otherwise: "checkpoint" comes after "actor", and no leaf lacks that.
        if text.starts_with("{\"checkpoint\":") {
            state.checkpoint(number, &text)?;
        } else {
            let leaf = Leaf::parse(&text).map_err(|what| VerifyError::at(number, what))?;
            state.leaf(number, &leaf, &text).map_err(|what| VerifyError::at(number, what))?;
            see(&leaf, &text, Some(&state.edge));
        }
    }
    state.finish(lines.number())
}

impl State<'_> {
    fn signer(&self) -> Result<&VerifierKey, String> {
        self.head.keys.get(self.key).ok_or_else(|| "no key is left that could have signed it".into())
    }

    fn checkpoint(&mut self, number: u64, text: &str) -> Result<(), VerifyError> {
        let at = |what: String| VerifyError::at(number, what);
        let line: CheckpointLine = serde_json::from_str(text).map_err(|e| at(format!("no checkpoint: {e}")))?;
        let again = serde_json::to_value(&line).ok().and_then(|v| canonical(&v));
        if again.as_deref() != Some(text) {
            return Err(at("the checkpoint is not in canonical form".into()));
        }
        let (checkpoint, signatures) =
            self.signer().and_then(|key| key.open(&line.checkpoint).map_err(|e| e.to_string())).map_err(at)?;
        if checkpoint.origin != self.head.header.origin {
            return Err(at(format!("the checkpoint is of another log, {}", checkpoint.origin)));
        }
        if checkpoint.size != self.edge.size() {
            let read = self.edge.size();
            return Err(at(format!("the checkpoint is over {} leaves, {read} stand before it", checkpoint.size)));
        }
        if self.closed.is_some() {
            return Err(at("a second checkpoint over the same leaves".into()));
        }
        if checkpoint.root != self.edge.root() {
            return Err(VerifyError::Root { first: self.verified_to + 1, last: number - 1, checkpoint: number });
        }
        if let Some((line, what)) = self.suspect.take() {
            return Err(VerifyError::at(line, what));
        }
        self.anchored.look(&line.checkpoint, &checkpoint).map_err(|what| VerifyError::at(number, what))?;
        self.checkpoints += 1;
        self.verified_to = number;
        self.closed = Some((line.checkpoint, signatures));
        Ok(())
    }

    fn leaf(&mut self, number: u64, leaf: &Leaf, text: &str) -> Result<(), String> {
        let at = self.edge.size();
        if leaf.seq != at {
            return Err(format!("leaf {} stands where leaf {at} belongs", leaf.seq));
        }
        if leaf.op == op::LOG_OPEN && leaf.outcome == Outcome::Done {
            if self.checkpoints > 0 {
                return Err("a log is opened behind a checkpoint of this one".into());
            }
            self.opened.clone_from(&leaf.reason);
        } else if at == 0 {
            return Err("the first leaf does not open a log".into());
        }
        self.times.enter(leaf)?;
        // A key change from before a restore concerns the keys of the log as it was called then.
        let own = |change: &&KeyChange| change.is_of(&self.head.header.origin);
        if let Some(change) = leaf.key_change().filter(own) {
            let new = change.follow(self.signer()?)?;
            self.key += 1;
            if self.head.keys.get(self.key) != Some(&new) {
                return Err("its new key is not the next one of the header".into());
            }
        }
        let hash = leaf_hash(text.as_bytes());
        if let Some(tenant) = leaf.tenant {
            let tree = self.tenants.entry(tenant).or_default();
            match (leaf.tenant_seq, leaf.tenant_size, leaf.tenant_root) {
                (Some(seq), _, _) if seq == tree.size() => tree.append(hash, |_, _| {}),
                (Some(seq), _, _) => {
                    return Err(format!("leaf {seq} of tenant {tenant} stands where leaf {} belongs", tree.size()));
                }
                (None, size, root) => {
                    let right = size == Some(tree.size()) && root.map(|r| r.0) == Some(tree.root());
                    if !right && self.suspect.is_none() {
                        let what = format!("the root of tenant {tenant} is not that of its leaves");
                        self.suspect = Some((number, what));
                    }
                }
            }
        }
        self.edge.append(hash, |_, _| {});
        self.closed = None;
        Ok(())
    }

    fn finish(self, number: u64) -> Result<VerifiedExport, VerifyError> {
        let Some((last_checkpoint, signatures)) = self.closed else {
            return Err(VerifyError::Cut { line: number });
        };
        let header = self.head.header;
        if self.opened.as_ref() != Some(&header.origin) {
            return Err(VerifyError::at(number, format!("no leaf opens the log {}", header.origin)));
        }
        if self.edge.size() != header.size {
            let what = format!("{} leaves, the first line says {}", self.edge.size(), header.size);
            return Err(VerifyError::at(number, what));
        }
        if self.key + 1 != header.keys.len() {
            return Err(VerifyError::at(number, "the first line names keys that the log does not bring in"));
        }
        Ok(VerifiedExport {
            origin: header.origin,
            size: self.edge.size(),
            root: Hex(self.edge.root()),
            entries: self.edge.size(),
            completeness: Completeness::Complete,
            checkpoints: self.checkpoints,
            keys: header.keys,
            first_time: self.times.first,
            last_time: self.times.last,
            last_checkpoint,
            anchoring: self.anchored.anchoring(),
            missing_witnesses: self.anchored.missing(),
            unchecked_cosignatures: self.anchored.unchecked(signatures.others),
        })
    }
}
