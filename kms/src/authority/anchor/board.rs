//! What is known of each anchor, and the threads that keep them up to date.
//!
//! One thread per anchor, so that a slow one holds up nobody but itself. A thread takes the newest signed checkpoint that its anchor does
//! not have, gives it to the client, and enters the outcome here; releases wait here. Order of locks: the catalogue before this state.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params};

use super::alarms::{Alarm, Alarms};
use crate::anchor::{AnchorConfig, AnchorKind, AnchoringPolicy, Fault, Receipt, Submission, Tree};
use crate::catalogue::{Actor, Catalogue, Entry, consistency, from_db, root_at, to_db};
use crate::custody::tree::Hash;
use crate::custody::{Outcome, op};
use crate::fault::{damaged, internal};
use crate::protocol::{AnchorTrouble, Refusal};
use crate::time;

/// Pauses between attempts after failures: the first one, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The shortest pause while a release waits.
const WAITED_PAUSE: Duration = Duration::from_millis(200);
/// How often an anchor's going away and coming back is entered into the log at the most.
const AWAY_ENTRIES: Duration = Duration::from_secs(600);

/// What is wrong with an anchor, and since when.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) kind: AnchorTrouble,
    pub(super) what: String,
    pub(super) since: String,
    /// Whether it stands in the custody log.
    entered: bool,
}

#[derive(Debug)]
pub(super) struct AnchorState {
    /// What it took last, in this process or an earlier one.
    pub(super) size: u64,
    pub(super) anchored: Option<String>,
    /// Whether it was compared with the log in this process.
    pub(super) compared: bool,
    pub(super) trouble: Option<Trouble>,
    /// Whether an attempt has ended.
    tried: bool,
    failures: u32,
    last_try: Option<Instant>,
    not_before: Instant,
    /// Somebody waits: the long pauses after failures are left out.
    waited_for: bool,
    /// When its being away was last entered.
    entered: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    stop: bool,
    latest: Option<Arc<Submission>>,
    pub(super) anchors: Vec<AnchorState>,
    /// Alarms that stand, over restarts.
    pub(super) alarms: Alarms,
    /// The size anchored when it was first seen that the log is ahead of it, and when.
    pub(super) behind: Option<(u64, Instant)>,
}

pub(super) struct Board {
    pub(super) policy: AnchoringPolicy,
    catalogue: Weak<Mutex<Catalogue>>,
    state: Mutex<State>,
    changed: Condvar,
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Tree for Board {
    fn root_at(&self, size: u64) -> Result<Hash, Refusal> {
        self.with_catalogue(|catalogue| root_at(catalogue.sql(), size))
    }

    fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, Refusal> {
        self.with_catalogue(|catalogue| consistency(catalogue.sql(), old, new))
    }
}

impl Board {
    pub(super) fn new(
        policy: AnchoringPolicy,
        catalogue: &Arc<Mutex<Catalogue>>,
        alarms: Alarms,
    ) -> Result<Self, Refusal> {
        let now = Instant::now();
        let guard = catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        let state_of = |anchor: &AnchorConfig| -> Result<AnchorState, Refusal> {
            let query = "SELECT size, anchored FROM custody_anchors WHERE name = ?1 AND subject = ?2";
            let row: Option<(i64, String)> = guard
                .sql()
                .query_row(query, [&anchor.name, &anchor.kind.subject()], |r| Ok((r.get(0)?, r.get(1)?)))
                .optional()?;
            let (size, anchored) = match row {
                Some((size, anchored)) => (from_db(size)?, Some(anchored)),
                None => (0, None),
            };
            Ok(AnchorState {
                size,
                anchored,
                compared: false,
                trouble: alarms.of(&anchor.name, &anchor.kind.subject()).map(remembered),
                tried: false,
                failures: 0,
                last_try: None,
                not_before: now,
                waited_for: false,
                entered: None,
            })
        };
        let anchors = policy.anchors.iter().map(state_of).collect::<Result<_, _>>()?;
        drop(guard);
        let state = Mutex::new(State { anchors, alarms, ..State::default() });
        Ok(Self { policy, catalogue: Arc::downgrade(catalogue), state, changed: Condvar::new() })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` with the catalogue, unless the authority is gone: then this process may not write to it any more.
    fn with_catalogue<T>(&self, work: impl FnOnce(&mut Catalogue) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let gone = || internal("the key authority is stopping");
        let catalogue = self.catalogue.upgrade().ok_or_else(gone)?;
        let mut catalogue = catalogue.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().stop {
            return Err(gone());
        }
        work(&mut catalogue)
    }

    /// Ends the threads. One that waits for an answer ends when that has come or is overdue, and writes nothing.
    pub(super) fn stop(&self) {
        match self.catalogue.upgrade() {
            Some(catalogue) => {
                let _held = catalogue.lock().unwrap_or_else(PoisonError::into_inner);
                self.state().stop = true;
            }
            None => self.state().stop = true,
        }
        self.changed.notify_all();
    }

    /// Hands a signed checkpoint to the threads.
    pub(super) fn publish(&self, submission: Submission) {
        let mut state = self.state();
        let size = submission.checkpoint.size;
        if state.latest.as_ref().is_none_or(|latest| latest.checkpoint.size < size) {
            state.latest = Some(Arc::new(submission));
            self.changed.notify_all();
        }
    }

    /// Size of the newest signed checkpoint.
    pub(super) fn published(&self) -> u64 {
        self.state().latest.as_ref().map_or(0, |latest| latest.checkpoint.size)
    }

    /// The size that as many anchors as policy wants hold; `compared`: those alone that this process has compared with the log.
    pub(super) fn quorum_size(&self, state: &State, compared: bool) -> u64 {
        let counting =
            self.policy.anchors.iter().zip(&state.anchors).filter(|(config, _)| self.policy.counts(&config.kind));
        let lost = |anchor: &AnchorState| {
            anchor.trouble.as_ref().is_some_and(|t| matches!(t.kind, AnchorTrouble::Lost | AnchorTrouble::Contradicts))
        };
        let mut sizes: Vec<u64> = counting
            .map(|(_, anchor)| if lost(anchor) || (compared && !anchor.compared) { 0 } else { anchor.size })
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        self.policy.quorum.checked_sub(1).and_then(|nth| sizes.get(nth).copied()).unwrap_or(0)
    }

    /// Why nothing may be released: an anchor knows another history, or knew one and has not agreed since, though it is no
    /// longer configured.
    pub(super) fn alarm(&self, state: &State) -> Option<Refusal> {
        let mut configured = self.policy.anchors.iter().zip(&state.anchors);
        let present = configured.find_map(|(config, anchor)| {
            let trouble = anchor.trouble.as_ref().filter(|t| t.kind == AnchorTrouble::Contradicts)?;
            Some(alarm_of(config, trouble).refusal())
        });
        present.or_else(|| state.alarms.list().first().map(Alarm::refusal)).or_else(|| state.alarms.unreadable())
    }

    /// Lifts an alarm: the anchor's word counts anew from here on.
    pub(super) fn lift(&self, alarm: &Alarm) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.alarms.end(&alarm.anchor, &alarm.subject);
        for (config, anchor) in self.policy.anchors.iter().zip(&mut state.anchors) {
            if config.name == alarm.anchor && config.kind.subject() == alarm.subject {
                anchor.trouble = None;
                anchor.compared = false;
                anchor.tried = false;
                anchor.not_before = Instant::now();
            }
        }
        drop(guard);
        self.changed.notify_all();
    }

    /// Waits until every anchor was tried, whatever they say, or the deadline. Gives whether all were.
    pub(super) fn wait_for_all(&self, deadline: Duration) -> bool {
        let until = Instant::now() + deadline;
        let mut state = self.state();
        loop {
            if state.anchors.iter().all(|anchor| anchor.tried) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stop {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `done`, an alarm, or the deadline; asks the anchors not to pause meanwhile. Gives whether `done`.
    pub(super) fn wait(&self, deadline: Duration, done: impl Fn(&Self, &State) -> bool) -> Result<bool, Refusal> {
        let until = Instant::now() + deadline;
        let mut state = self.state();
        loop {
            if let Some(refusal) = self.alarm(&state) {
                return Err(refusal);
            }
            if done(self, &state) {
                return Ok(true);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stop {
                return Ok(false);
            }
            let latest = state.latest.as_ref().map_or(0, |latest| latest.checkpoint.size);
            let mut asked = false;
            for anchor in &mut state.anchors {
                let wanted = !anchor.compared || anchor.size < latest;
                asked |= wanted && !std::mem::replace(&mut anchor.waited_for, wanted);
            }
            if asked {
                self.changed.notify_all();
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Which anchors do not hold `size` entries, and why.
    pub(super) fn missing(&self, size: u64) -> String {
        let state = self.state();
        let pairs = self
            .policy
            .anchors
            .iter()
            .zip(&state.anchors)
            .filter(|(c, a)| self.policy.counts(&c.kind) && a.size < size);
        let words: Vec<String> = pairs
            .map(|(config, anchor)| match &anchor.trouble {
                Some(trouble) => format!("anchor {} since {}: {}", config.name, trouble.since, trouble.what),
                None => format!("anchor {} has not answered yet", config.name),
            })
            .collect();
        words.join("; ")
    }

    /// The next checkpoint for an anchor; none when the thread shall end.
    fn next(&self, index: usize) -> Option<(Arc<Submission>, u64)> {
        let mut state = self.state();
        loop {
            if state.stop {
                return None;
            }
            let anchor = state.anchors.get(index)?;
            let job = state.latest.as_ref().filter(|l| l.checkpoint.size > anchor.size || !anchor.compared);
            let pause = match job {
                None => LONGEST_PAUSE,
                Some(job) => {
                    let at = match anchor.last_try {
                        Some(last) if anchor.waited_for => (last + WAITED_PAUSE).min(anchor.not_before),
                        _ => anchor.not_before,
                    };
                    let pause = at.saturating_duration_since(Instant::now());
                    if pause.is_zero() {
                        return Some((Arc::clone(job), anchor.size));
                    }
                    pause
                }
            };
            state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The work of an anchor's thread.
    pub(super) fn work(&self, index: usize) {
        let Some(config) = self.policy.anchors.get(index) else { return };
        let mut client = None;
        while let Some((job, known)) = self.next(index) {
            let outcome = match client.take().map_or_else(|| config.client(), Ok) {
                Ok(mut ready) => {
                    let outcome = ready.submit(&job, known, self);
                    client = Some(ready);
                    outcome
                }
                Err(fault) => Err(fault),
            };
            let outcome = outcome.and_then(|receipt| match self.keep(config, &job, &receipt) {
                Ok(()) => Ok(receipt),
                Err(e) => Err(Fault::away(format!("what it answered could not be kept: {}", e.what))),
            });
            self.settle(index, config, &job, outcome);
        }
    }

    /// Keeps what an anchor took, and a cosignature with its checkpoint.
    fn keep(&self, config: &AnchorConfig, job: &Submission, receipt: &Receipt) -> Result<(), Refusal> {
        self.with_catalogue(|catalogue| {
            catalogue.progress(|sql| {
                let size = to_db(job.checkpoint.size)?;
                if let (Some(line), AnchorKind::Witness { key, .. }) = (&receipt.cosignature, &config.kind) {
                    let query = "SELECT note FROM custody_checkpoints WHERE size = ?1";
                    let note: Option<String> = sql.query_row(query, [size], |r| r.get(0)).optional()?;
                    let note = note.ok_or_else(|| damaged(format!("the checkpoint over {size} entries is gone")))?;
                    let note = key.add_to(&note, line).map_err(|e| internal(e.to_string()))?;
                    sql.execute("UPDATE custody_checkpoints SET note = ?2 WHERE size = ?1", params![size, note])?;
                }
                sql.execute(
                    "INSERT INTO custody_anchors (name, subject, size, anchored) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT DO UPDATE SET size = excluded.size, anchored = excluded.anchored",
                    params![config.name, config.kind.subject(), size, time::now()],
                )?;
                Ok(())
            })
        })
    }

    /// Enters an outcome here, and what changed by it into the journal and the custody log.
    fn settle(&self, index: usize, config: &AnchorConfig, job: &Submission, outcome: Result<Receipt, Fault>) {
        let now = Instant::now();
        let mut guard = self.state();
        let state = &mut *guard;
        if state.stop {
            return;
        }
        let Some(anchor) = state.anchors.get_mut(index) else { return };
        let before = anchor.trouble.take();
        anchor.tried = true;
        anchor.last_try = Some(now);
        anchor.waited_for = false;
        let entry = match outcome {
            Ok(_) => {
                anchor.size = job.checkpoint.size;
                anchor.anchored = Some(time::now());
                anchor.compared = true;
                anchor.failures = 0;
                anchor.not_before = now;
                before.as_ref().filter(|t| t.entered).map(|t| {
                    tracing::info!(anchor = %config.name, "holds {} entries; it is in order again", job.checkpoint.size);
                    let reason = format!("anchor {}: in order again after: {}", config.name, t.what);
                    Entry::done(Actor::Service, operation(t.kind)).reason(reason)
                })
            }
            Err(fault) => {
                anchor.failures = anchor.failures.saturating_add(1);
                let pause = FIRST_PAUSE.saturating_mul(1 << (anchor.failures - 1).min(6)).min(LONGEST_PAUSE);
                anchor.not_before = now + pause;
                if fault.kind == AnchorTrouble::Contradicts {
                    anchor.compared = false;
                }
                // Going away does not unsay what it said: that only agreeing again does.
                let fault = match &before {
                    Some(said) if weight(said.kind) > weight(fault.kind) => {
                        Fault { kind: said.kind, what: said.what.clone() }
                    }
                    _ => fault,
                };
                let same = before.as_ref().filter(|t| t.kind == fault.kind);
                let since = same.map_or_else(time::now, |t| t.since.clone());
                let recent = anchor.entered.is_some_and(|at| now.duration_since(at) < AWAY_ENTRIES);
                let enter = same.is_none() && !(fault.kind == AnchorTrouble::Away && recent);
                if enter {
                    anchor.entered = Some(now);
                    tracing::error!(anchor = %config.name, "{}", fault.what);
                }
                let entered = enter || same.is_some_and(|t| t.entered);
                let reason = format!("anchor {}: {}", config.name, fault.what);
                let entry =
                    enter.then(|| Entry::new(Actor::Service, operation(fault.kind), Outcome::Failed).reason(reason));
                anchor.trouble = Some(Trouble { kind: fault.kind, what: fault.what, since, entered });
                entry
            }
        };
        match anchor.trouble.as_ref().filter(|t| t.kind == AnchorTrouble::Contradicts) {
            Some(trouble) => state.alarms.raise(alarm_of(config, trouble)),
            None => state.alarms.end(&config.name, &config.kind.subject()),
        }
        drop(guard);
        self.changed.notify_all();
        if let Some(entry) = entry
            && let Err(e) = self.with_catalogue(|catalogue| catalogue.change(|c| c.record(entry)))
        {
            tracing::error!("the state of anchor {} could not be entered into the custody log: {e}", config.name);
        }
    }

    /// An anchor begins from nothing.
    pub(super) fn forget(&self, index: usize) {
        let mut state = self.state();
        if let Some(anchor) = state.anchors.get_mut(index) {
            anchor.size = 0;
            anchor.compared = false;
            anchor.not_before = Instant::now();
        }
        drop(state);
        self.changed.notify_all();
    }
}

fn alarm_of(config: &AnchorConfig, trouble: &Trouble) -> Alarm {
    Alarm {
        anchor: config.name.clone(),
        subject: config.kind.subject(),
        what: trouble.what.clone(),
        since: trouble.since.clone(),
    }
}

/// An alarm from before the start; that it stands is entered there.
fn remembered(alarm: &Alarm) -> Trouble {
    let (what, since) = (alarm.what.clone(), alarm.since.clone());
    Trouble { kind: AnchorTrouble::Contradicts, what, since, entered: true }
}

/// What outlasts what, until the anchor agrees: its having contradicted all, its having lost what it held that it is away.
fn weight(kind: AnchorTrouble) -> u8 {
    match kind {
        AnchorTrouble::Away | AnchorTrouble::Faulty => 0,
        AnchorTrouble::Lost => 1,
        AnchorTrouble::Contradicts => 2,
    }
}

fn operation(kind: AnchorTrouble) -> &'static str {
    match kind {
        AnchorTrouble::Contradicts => op::ANCHOR_ALARM,
        AnchorTrouble::Away | AnchorTrouble::Faulty | AnchorTrouble::Lost => op::ANCHOR_STATE,
    }
}
