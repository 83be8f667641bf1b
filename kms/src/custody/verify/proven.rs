//! Exports of a tenant and of a selection: every leaf with its proof to one checkpoint.

use std::io::BufRead;

use serde_json::Value;
use uuid::Uuid;

use super::super::export::{ExportLine, ProvenAs};
use super::super::leaf::{Leaf, canonical};
use super::super::note::{Checkpoint, NoteSignatures};
use super::super::op;
use super::super::tree::{Hash, RightEdge, leaf_hash, root_from_path};
use super::super::witness::WitnessKey;
use super::lines::Lines;
use super::{Anchored, Completeness, Head, Times, VerifiedExport, VerifyError};
use crate::hex::Hex;

/// The entry with the root of the tenant's tree.
struct TenantRoot {
    tenant: Uuid,
    seq: u64,
    size: u64,
    root: Hash,
    time: String,
}

struct State<'a> {
    head: Head,
    checkpoint: Checkpoint,
    note: String,
    signatures: NoteSignatures,
    anchored: Anchored<'a>,
    /// Which of the keys the changes read so far lead to.
    key: usize,
    last_key_leaf: Option<u64>,
    root: Option<TenantRoot>,
    tree: RightEdge,
    entries: u64,
    last: Option<u64>,
    times: Times,
}

pub(super) fn verify<R: BufRead>(
    lines: &mut Lines<'_, R>,
    head: Head,
    witnesses: &[WitnessKey],
    mut see: impl FnMut(&Leaf, &str, Option<&RightEdge>),
) -> Result<VerifiedExport, VerifyError> {
    let text = lines.next()?.ok_or(VerifyError::Cut { line: lines.number() })?;
    let mut state = State::begin(head, witnesses, &text).map_err(|what| VerifyError::at(lines.number(), what))?;
    loop {
        let text = lines.next()?.ok_or(VerifyError::Cut { line: lines.number() })?;
        match state.line(&text).map_err(|what| VerifyError::at(lines.number(), what))? {
            Line::Leaf(leaf, text) => see(&leaf, &text, None),
            Line::Other => {}
            Line::End => break,
        }
    }
    if lines.next()?.is_some() {
        return Err(VerifyError::at(lines.number(), "something follows the end"));
    }
    Ok(state.finish())
}

enum Line {
    Leaf(Box<Leaf>, String),
    Other,
    End,
}

/// A line's value, if the line is in canonical form.
fn parse(text: &str) -> Result<ExportLine, String> {
    let value: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    if canonical(&value).as_deref() != Some(text) {
        return Err("not in canonical form".into());
    }
    ExportLine::of(value)
}

impl<'a> State<'a> {
    fn begin(head: Head, witnesses: &'a [WitnessKey], text: &str) -> Result<Self, String> {
        let ExportLine::Checkpoint(note) = parse(text)? else { return Err("no checkpoint follows the header".into()) };
        let key = head.keys.last().ok_or("the header names no key")?;
        let (checkpoint, signatures) = key.open(&note).map_err(|e| e.to_string())?;
        if checkpoint.origin != head.header.origin || checkpoint.size != head.header.size {
            return Err("the checkpoint is of another log, or not over as many leaves as the header says".into());
        }
        let mut anchored = Anchored::new(witnesses);
        anchored.look(&note, &checkpoint)?;
        Ok(Self {
            head,
            anchored,
            checkpoint,
            note,
            signatures,
            key: 0,
            last_key_leaf: None,
            root: None,
            tree: RightEdge::default(),
            entries: 0,
            last: None,
            times: Times::default(),
        })
    }

    /// The leaf, if its proof leads to the checkpoint's root.
    fn proven(&self, leaf: &Value, proof: &[Hash]) -> Result<(Leaf, String), String> {
        let text = canonical(leaf).ok_or("not in canonical form")?;
        let leaf = Leaf::parse(&text)?;
        let hash = leaf_hash(text.as_bytes());
        if root_from_path(leaf.seq, self.checkpoint.size, hash, proof) != Some(self.checkpoint.root) {
            return Err("the proof does not lead from the leaf to the checkpoint's root".into());
        }
        Ok((leaf, text))
    }

    fn line(&mut self, text: &str) -> Result<Line, String> {
        match parse(text)? {
            ExportLine::Proven { what, leaf, proof } => {
                let (leaf, text) = self.proven(&leaf, &proof)?;
                match what {
                    ProvenAs::KeyLeaf => self.key_leaf(&leaf)?,
                    ProvenAs::RootLeaf => self.root_leaf(&leaf)?,
                    ProvenAs::Leaf => {
                        self.leaf(&leaf, &text)?;
                        return Ok(Line::Leaf(Box::new(leaf), text));
                    }
                }
                Ok(Line::Other)
            }
            ExportLine::End(leaves) => self.end(leaves).map(|()| Line::End),
            ExportLine::Checkpoint(_) | ExportLine::Other => Err("no line of this kind belongs here".into()),
        }
    }

    fn key_leaf(&mut self, leaf: &Leaf) -> Result<(), String> {
        if self.entries > 0 || self.root.is_some() {
            return Err("changes of the key come before everything else".into());
        }
        let change = leaf.key_change().ok_or("no change of the signing key")?;
        if self.last_key_leaf.is_some_and(|last| leaf.seq <= last) {
            return Err("the changes of the key are out of order".into());
        }
        let new = self.head.keys.get(self.key).ok_or("a key too many").map_err(str::to_owned)?;
        let new = change.follow(new)?;
        self.key += 1;
        if self.head.keys.get(self.key) != Some(&new) {
            return Err("its new key is not the next one of the header".into());
        }
        self.last_key_leaf = Some(leaf.seq);
        Ok(())
    }

    fn keys_known(&self) -> Result<(), String> {
        if self.key + 1 == self.head.keys.len() {
            Ok(())
        } else {
            Err("the header names more keys than there are changes of the key".into())
        }
    }

    fn root_leaf(&mut self, leaf: &Leaf) -> Result<(), String> {
        self.keys_known()?;
        let tenant = self.head.header.tenant.ok_or("only an export of a tenant holds a tenant's root")?;
        match (leaf.tenant_size, leaf.tenant_root) {
            (Some(size), Some(root))
                if leaf.op == op::TENANT_ROOT && leaf.tenant == Some(tenant) && self.root.is_none() =>
            {
                self.root = Some(TenantRoot { tenant, seq: leaf.seq, size, root: root.0, time: leaf.time.clone() });
                Ok(())
            }
            _ => Err("it is not the root of this tenant's tree, or a second one".into()),
        }
    }

    fn leaf(&mut self, leaf: &Leaf, text: &str) -> Result<(), String> {
        self.keys_known()?;
        if self.last.is_some_and(|last| leaf.seq <= last) {
            return Err("the leaves are out of order".into());
        }
        self.times.enter(leaf)?;
        if let Some(tenant) = self.head.header.tenant {
            let root = self.root.as_ref().ok_or("the root of the tenant's tree is missing before the leaves")?;
            if leaf.tenant != Some(tenant) || leaf.tenant_seq.is_none() {
                return Err("it is no leaf of this tenant".into());
            }
            if leaf.tenant_seq != Some(self.tree.size()) || leaf.seq >= root.seq {
                return Err(format!("it is not leaf {} of the tenant, which belongs here", self.tree.size()));
            }
            self.tree.append(leaf_hash(text.as_bytes()), |_, _| {});
        }
        self.last = Some(leaf.seq);
        self.entries += 1;
        Ok(())
    }

    fn end(&self, leaves: u64) -> Result<(), String> {
        self.keys_known()?;
        if leaves != self.entries {
            return Err(format!("{} leaves, the last line says {leaves}", self.entries));
        }
        if self.head.header.tenant.is_some() {
            let root = self.root.as_ref().ok_or("the root of the tenant's tree is missing")?;
            if root.size != self.tree.size() || root.root != self.tree.root() {
                return Err(format!(
                    "the tenant's {} leaves here are not the {} under its root",
                    self.tree.size(),
                    root.size
                ));
            }
        }
        Ok(())
    }

    fn finish(self) -> VerifiedExport {
        let completeness = match self.root {
            Some(root) => Completeness::CompleteForTenant { tenant: root.tenant, as_of: root.seq, time: root.time },
            None => Completeness::InclusionOnly,
        };
        VerifiedExport {
            origin: self.head.header.origin,
            size: self.checkpoint.size,
            root: Hex(self.checkpoint.root),
            entries: self.entries,
            completeness,
            checkpoints: 1,
            keys: self.head.header.keys,
            first_time: self.times.first,
            last_time: self.times.last,
            last_checkpoint: self.note,
            anchoring: self.anchored.anchoring(),
            missing_witnesses: self.anchored.missing(),
            unchecked_cosignatures: self.anchored.unchecked(self.signatures.others),
        }
    }
}
