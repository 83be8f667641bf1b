//! How the anchors stand, for operators and monitoring.

use std::time::{Duration, Instant};

use super::super::Authority;
use crate::protocol::{AnchorView, AnchoringView, Refusal};
use crate::time;

/// Since when there are entries that are not anchored.
pub(super) struct Unanchored {
    /// Time of the first of them, as the log has it.
    pub(super) time: String,
    /// When this process saw it first: a clock that is set back does not move it.
    seen: Instant,
}

impl Unanchored {
    pub(super) fn longer_than(&self, limit: Duration) -> bool {
        self.time < time::ago(limit) || self.seen.elapsed() > limit
    }
}

/// A time for people.
pub(super) fn duration(of: Duration) -> String {
    let seconds = of.as_secs();
    match seconds {
        0 => format!("{} ms", of.as_millis()),
        s if s % 86_400 == 0 => format!("{} d", s / 86_400),
        s if s % 3600 == 0 => format!("{} h", s / 3600),
        s if s % 60 == 0 => format!("{} min", s / 60),
        s => format!("{s} s"),
    }
}

impl Authority {
    /// Since when entries stand that the anchors do not hold; none if they hold all.
    pub(super) fn unanchored(&self) -> Result<Option<Unanchored>, Refusal> {
        let board = &self.anchors.board;
        let size = board.quorum_size(&board.state(), false);
        let Some(time) = self.first_unanchored(size)? else {
            board.state().behind = None;
            return Ok(None);
        };
        let mut state = board.state();
        let seen = match state.behind {
            Some((of, seen)) if of == size => seen,
            _ => {
                let now = Instant::now();
                state.behind = Some((size, now));
                now
            }
        };
        Ok(Some(Unanchored { time, seen }))
    }

    /// Tells the journal what an operator should look at before releases stop.
    pub fn warn_of_anchors(&self) {
        match self.anchoring() {
            Ok(view) => {
                for warning in view.warnings.iter().chain(&view.refused) {
                    tracing::warn!("{warning}");
                }
            }
            Err(e) => tracing::error!("the anchors cannot be looked at: {e}"),
        }
    }

    /// How the anchors stand and what follows from it.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub fn anchoring(&self) -> Result<AnchoringView, Refusal> {
        let board = &self.anchors.board;
        let policy = &board.policy;
        let log_size = self.lock().log().edge.size();
        let unanchored = if self.anchors.none() { None } else { self.unanchored()? };
        let mut warnings = Vec::new();
        if let (Some(limit), Some(since)) = (policy.longest_without, &unanchored)
            && since.longer_than(limit / 2)
        {
            warnings.push(format!(
                "the custody log has not been anchored since {}; keys are refused once that is {} ago",
                since.time,
                duration(limit)
            ));
        }
        let refused = self.anchors_allow().err().map(|refusal| refusal.what);
        let state = board.state();
        let anchors = policy.anchors.iter().zip(&state.anchors).map(|(config, anchor)| AnchorView {
            name: config.name.clone(),
            kind: config.kind.name().into(),
            subject: config.kind.subject(),
            counts: policy.counts(&config.kind),
            size: anchor.size,
            compared: anchor.compared,
            anchored: anchor.anchored.clone(),
            trouble: anchor.trouble.as_ref().map(|t| t.kind),
            fault: anchor.trouble.as_ref().map(|t| t.what.clone()),
            since: anchor.trouble.as_ref().map(|t| t.since.clone()),
        });
        let anchors: Vec<AnchorView> = anchors.collect();
        warnings.extend(anchors.iter().filter_map(|a| Some(format!("anchor {}: {}", a.name, a.fault.as_ref()?))));
        Ok(AnchoringView {
            anchors,
            log_size,
            anchored_size: board.quorum_size(&state, false),
            quorum: policy.quorum,
            before_release: policy.before_release,
            longest_without_seconds: policy.longest_without.map(|d| d.as_secs()),
            unanchored_since: unanchored.map(|u| u.time),
            warnings,
            refused,
        })
    }
}
