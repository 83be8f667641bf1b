//! Anchors: nothing leaves against their word, and by policy nothing before it.

mod alarms;
mod board;
mod leaving;
mod view;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::OptionalExtension;
use sha2::{Digest, Sha256};

use uuid::Uuid;

use self::alarms::{Alarm, Alarms};
use self::board::Board;
use super::recovery::other_request;
use super::{Authority, check_name};
use crate::anchor::{AnchorKind, AnchoringPolicy, Submission};
use crate::catalogue::{Actor, Catalogue, Entry, from_db, set_meta};
use crate::custody::{Checkpoint, Outcome, canonical, op};
use crate::fault::{bad_request, damaged, internal};
use crate::hex::Hex;
use crate::home::Home;
use crate::protocol::{AnchorReply, AnchorRequest, CheckpointView, Operation, Refusal, RefusalCode, RequestView};

/// How long opening waits for the comparison with the anchors beyond the longest of their own limits.
const START_SLACK: Duration = Duration::from_secs(1);
/// How long an anchor without a limit of its own (a file) is waited for.
const FILE_LIMIT: Duration = Duration::from_secs(5);
/// How long stopping waits for the anchors.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long dropping waits for the threads: those that wait for an answer are left to end by themselves.
const JOIN_LIMIT: Duration = Duration::from_millis(200);

/// The anchors of an authority; dropping it ends their threads.
#[derive(Debug)]
pub(super) struct Anchors {
    board: Arc<Board>,
    /// Held by who signs a checkpoint for all that wait, with the last failure.
    signing: Mutex<Option<(Instant, Refusal)>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Anchors {
    pub(super) fn new(
        policy: AnchoringPolicy,
        catalogue: &Arc<Mutex<Catalogue>>,
        home: &Home,
    ) -> Result<Self, Refusal> {
        policy.check().map_err(|what| bad_request(what, "correct the anchors in the configuration"))?;
        let board = Arc::new(Board::new(policy, catalogue, Alarms::read(home.alarms()))?);
        Ok(Self { board, signing: Mutex::default(), threads: Mutex::default() })
    }

    fn none(&self) -> bool {
        self.board.policy.anchors.is_empty()
    }

    fn spawn(&self) -> Result<(), Refusal> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, anchor) in self.board.policy.anchors.iter().enumerate() {
            let board = Arc::clone(&self.board);
            let thread = std::thread::Builder::new().name(format!("anchor {}", anchor.name));
            let thread = thread.spawn(move || board.work(index));
            threads.push(thread.map_err(|e| internal(format!("no thread for anchor {}: {e}", anchor.name)))?);
        }
        Ok(())
    }
}

impl Drop for Anchors {
    fn drop(&mut self) {
        self.board.stop();
        let until = Instant::now() + JOIN_LIMIT;
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("a thread of an anchor panicked");
            }
        }
    }
}

impl Authority {
    /// Enters a changed policy, and compares the log with every anchor that can be reached. Whatever is found, this succeeds: then
    /// nothing is released, and the log can be read.
    pub(super) fn start_anchors(&self) -> Result<(), Refusal> {
        self.enter_anchor_policy()?;
        self.enter_alarms()?;
        if self.anchors.none() {
            return Ok(());
        }
        self.anchors.spawn()?;
        if let Err(e) = self.checkpoint() {
            // Without the token the newest checkpoint that was kept shows a rollback just as well.
            tracing::warn!("the log as it is now cannot be signed for its anchors: {e}");
            self.publish_kept()?;
        }
        if self.anchors.board.published() == 0 {
            return Ok(());
        }
        let limit = |kind: &AnchorKind| match kind {
            AnchorKind::Witness { timeout, .. } => *timeout,
            AnchorKind::File { .. } | AnchorKind::Syslog { .. } => FILE_LIMIT,
        };
        let longest = self.anchors.board.policy.anchors.iter().map(|a| limit(&a.kind)).max().unwrap_or_default();
        let board = &self.anchors.board;
        if !board.wait_for_all(longest + START_SLACK) {
            tracing::warn!("not all anchors answered: {}", board.missing(u64::MAX));
        }
        if let Some(refusal) = board.alarm(&board.state()) {
            tracing::error!("{refusal}");
        }
        Ok(())
    }

    fn enter_anchor_policy(&self) -> Result<(), Refusal> {
        let value = self.anchors.board.policy.value();
        let text = canonical(&value).ok_or_else(|| internal("the anchors' policy has no canonical form"))?;
        let digest = <[u8; 32]>::from(Sha256::digest(&text));
        let mut catalogue = self.lock();
        let known: Option<String> = catalogue
            .sql()
            .query_row("SELECT value FROM meta WHERE key = 'anchor_policy'", [], |r| r.get(0))
            .optional()?;
        let digest_text = Hex(digest).to_string();
        if known.as_ref() == Some(&digest_text) || (known.is_none() && self.anchors.none()) {
            return Ok(());
        }
        catalogue.change(|c| {
            set_meta(&c.sql, "anchor_policy", &digest_text)?;
            c.record(Entry::done(Actor::Service, op::ANCHOR_POLICY).digest(digest).reason(text))?;
            Ok(())
        })
    }

    /// Alarms from before the start stand in the log of the catalogue as it is now too, which may be another one.
    fn enter_alarms(&self) -> Result<(), Refusal> {
        let alarms = self.anchors.board.state().alarms.list().to_vec();
        for Alarm { anchor, what, since, .. } in alarms {
            let reason = format!("anchor {anchor}: since {since}, and at this start still: {what}");
            tracing::error!("{reason}");
            let entry = Entry::new(Actor::Service, op::ANCHOR_ALARM, Outcome::Failed).reason(reason);
            self.lock().change(|c| c.record(entry))?;
        }
        Ok(())
    }

    /// Whether there are anchors, or alarms of such as were.
    pub(super) fn anchored_at_all(&self) -> bool {
        let board = &self.anchors.board;
        !self.anchors.none() || board.alarm(&board.state()).is_some()
    }

    /// Hands a checkpoint that was just signed, or kept before, to the anchors.
    pub(super) fn publish(&self, checkpoint: &Checkpoint, note: &str) {
        if !self.anchors.none() {
            let key = self.lock().log().signer.at(checkpoint.size).clone();
            let submission = Submission { checkpoint: checkpoint.clone(), note: note.to_owned(), key };
            self.anchors.board.publish(submission);
        }
    }

    fn publish_kept(&self) -> Result<(), Refusal> {
        let query = "SELECT size, note FROM custody_checkpoints ORDER BY size DESC LIMIT 1";
        let newest: Option<(i64, String)> =
            self.lock().sql().query_row(query, [], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
        if let Some((size, note)) = newest {
            let key = self.lock().log().signer.at(from_db(size)?).clone();
            let (checkpoint, _) = key.open(&note).map_err(|e| damaged(format!("the newest checkpoint: {e}")))?;
            self.publish(&checkpoint, &note);
        }
        Ok(())
    }

    /// Whether the anchors let anything be released now: refuses while one knows another history, and when the log has gone without
    /// them for longer than policy allows. Asked before the token is.
    pub(super) fn anchors_allow(&self) -> Result<(), Refusal> {
        let alarm = self.anchors.board.alarm(&self.anchors.board.state());
        if let Some(refusal) = alarm {
            return Err(refusal);
        }
        let Some(limit) = self.anchors.board.policy.longest_without else { return Ok(()) };
        match self.unanchored()? {
            Some(since) if since.longer_than(limit) => {
                let size = self.lock().log().edge.size();
                let what = format!(
                    "no key is released: the custody log has not been anchored since {}, the longest time allowed is {}: {}",
                    since.time,
                    view::duration(limit),
                    self.anchors.board.missing(size)
                );
                Err(Refusal::new(RefusalCode::NotAnchored, what, "bring an anchor back; see: sealtape audit anchors"))
            }
            _ => Ok(()),
        }
    }

    /// Signs the log as it is at the end, and gives the anchors a moment for it.
    pub(super) fn anchor_at_stop(&self) -> Result<(), Refusal> {
        let size = self.checkpoint()?.size;
        let board = &self.anchors.board;
        match board.wait(board.policy.deadline.min(STOP_LIMIT), |_, state| state.anchors.iter().all(|a| a.size >= size))
        {
            Ok(true) => {}
            Ok(false) => tracing::warn!("the last entries are not anchored: {}", board.missing(size)),
            Err(refusal) => tracing::error!("{refusal}"),
        }
        Ok(())
    }

    /// Signs the log as it is now and waits, for at most the policy's deadline, until every anchor has it.
    pub(super) fn anchor_now(&self) -> Result<(), Refusal> {
        let size = self.checkpoint()?.size;
        let board = &self.anchors.board;
        board
            .wait(board.policy.deadline, |_, state| state.anchors.iter().all(|a| a.compared && a.size >= size))
            .map(drop)
    }

    /// A checkpoint for an export, with the cosignatures that arrive within the deadline. No fault of an anchor hinders an export.
    pub(super) fn with_cosignatures(&self, checkpoint: CheckpointView) -> Result<CheckpointView, Refusal> {
        if self.anchors.none() {
            return Ok(checkpoint);
        }
        let board = &self.anchors.board;
        let answered = board.wait(board.policy.deadline, |_, state| {
            state.anchors.iter().all(|a| a.size >= checkpoint.size || a.trouble.is_some())
        });
        match answered {
            Ok(true) => {}
            Ok(false) => tracing::warn!("an export is not anchored to its end: {}", board.missing(checkpoint.size)),
            Err(refusal) => tracing::error!("{refusal}"),
        }
        let note = self.kept_checkpoint(checkpoint.size)?.unwrap_or(checkpoint.note);
        Ok(CheckpointView { note, ..checkpoint })
    }

    /// Serves a request about anchors.
    ///
    /// # Errors
    /// When there are none, or the token or the log fail.
    pub fn serve_anchor(&self, actor: Actor, request: AnchorRequest) -> Result<AnchorReply, Refusal> {
        match request {
            AnchorRequest::Status => {}
            AnchorRequest::Now => {
                if self.anchors.none() {
                    return Err(bad_request("no anchor is configured", "see docs/custody/anchors.md"));
                }
                // An alarm is part of the answer.
                if let Err(e) = self.anchor_now()
                    && e.code != RefusalCode::Damaged
                {
                    return Err(e);
                }
            }
            AnchorRequest::Accept { name, reason } => self.accept_anchor(actor, &name, &reason)?,
            AnchorRequest::Lift { name, request, reason } => {
                if let Some(asked) = self.lift_alarm(actor, &name, request, &reason)? {
                    return Ok(AnchorReply::Asked(Box::new(asked)));
                }
            }
        }
        Ok(AnchorReply::Status(self.anchoring()?))
    }

    fn accept_anchor(&self, actor: Actor, name: &str, reason: &str) -> Result<(), Refusal> {
        use crate::protocol::AnchorTrouble;
        check_name("reason", reason, 500)?;
        let board = &self.anchors.board;
        let found = board.policy.anchors.iter().enumerate().find(|(_, a)| a.name == name);
        let Some((index, config)) = found else {
            return Err(bad_request(format!("there is no anchor {name:?}"), "see: sealtape audit anchors"));
        };
        let trouble =
            board.state().anchors.get(index).and_then(|a| a.trouble.as_ref().map(|t| (t.kind, t.what.clone())));
        let Some((AnchorTrouble::Lost | AnchorTrouble::Away, what)) = trouble else {
            let what = format!("anchor {name} has lost nothing");
            return Err(bad_request(what, "only an anchor that has lost what it held, or is gone, begins anew"));
        };
        self.lock().change(|c| {
            c.sql.execute(
                "DELETE FROM custody_anchors WHERE name = ?1 AND subject = ?2",
                [&config.name, &config.kind.subject()],
            )?;
            c.record(Entry::done(actor, op::ANCHOR_ACCEPT).reason(format!("anchor {name}: {reason} ({what})")))?;
            Ok(())
        })?;
        board.forget(index);
        self.anchor_now()
    }

    /// Lifts an alarm by the approval of two custodians; without a request asks them. As long as nobody is registered, root and the key
    /// authority's own user do it alone: they could register whom they like.
    fn lift_alarm(
        &self,
        actor: Actor,
        name: &str,
        request: Option<Uuid>,
        reason: &str,
    ) -> Result<Option<RequestView>, Refusal> {
        self.refusals_logged(
            actor,
            op::ANCHOR_LIFT,
            |e| e,
            || {
                check_name("reason", reason, 500)?;
                let board = &self.anchors.board;
                let alarm = board.state().alarms.list().iter().find(|alarm| alarm.anchor == name).cloned();
                let Some(alarm) = alarm else {
                    let what = format!("no alarm of an anchor {name:?} stands");
                    return Err(bad_request(what, "see: sealtape audit anchors"));
                };
                let operation = Operation::AnchorLift {
                    anchor: alarm.anchor.clone(),
                    subject: alarm.subject.clone(),
                    alarm: alarm.digest()?,
                };
                let words = format!("anchor {name}: {reason} ({}, since {})", alarm.what, alarm.since);
                let entry = Entry::done(actor, op::ANCHOR_LIFT).reason(words);
                let alone = || Ok::<_, Refusal>(self.rights().persons()?.is_empty() && self.is_own(actor));
                match request {
                    Some(request) => self.execute(actor, request, |c, approved| {
                        if approved.operation != operation {
                            return Err(other_request(request, &approved.operation));
                        }
                        c.record(approved.describe(entry)).map(drop)
                    })?,
                    None if alone()? => self.lock().change(|c| c.record(entry.role("bootstrap")).map(drop))?,
                    None => return Ok(Some(self.submit(actor, operation, Some(reason))?)),
                }
                board.lift(&alarm);
                board.wait_for_all(board.policy.deadline);
                Ok(None)
            },
        )
    }

    /// Time of entry `size`, the first one that is not anchored; none if there is no such entry.
    pub(super) fn first_unanchored(&self, size: u64) -> Result<Option<String>, Refusal> {
        let catalogue = self.lock();
        if size >= catalogue.log().edge.size() {
            return Ok(None);
        }
        let leaf = catalogue.log().proven_leaf(catalogue.sql(), size)?;
        Ok(Some(leaf.time))
    }
}
