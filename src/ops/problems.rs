//! What is wrong, in words: found in the state, kept with since when, gone when it is over. Pure.

use crate::clock::Moment;
use crate::limiter::snapshot::{Snapshot, rounded};
use crate::telemetry::key_watch::KeyRefused;
use serde::{Serialize, Serializer};
use std::time::Duration;

/// What is looked at. The names are those of `GET /health/ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The upstream takes the sidecar's own key.
    Key,
    /// The upstream can be reached.
    Upstream,
    /// The queue has room.
    Queue,
    /// Tickets flow.
    Tickets,
    /// No model is held.
    Models,
    /// URGENT finds a place at once.
    Reserve,
}

impl Check {
    /// All of them, the worst first.
    pub const ALL: [Check; 6] =
        [Check::Key, Check::Upstream, Check::Queue, Check::Tickets, Check::Models, Check::Reserve];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Check::Key => "key_accepted",
            Check::Upstream => "upstream_reachable",
            Check::Queue => "queue_healthy",
            Check::Tickets => "token_bucket_healthy",
            Check::Models => "models_free",
            Check::Reserve => "urgent_reserve",
        }
    }

    /// Whether a sidecar that fails it is not ready. The rest is worth knowing and no reason to send requests elsewhere.
    #[must_use]
    pub const fn is_needed(self) -> bool {
        !matches!(self, Check::Models | Check::Reserve)
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The check that fails.
    pub check: Check,
    /// For how long it has.
    pub since_seconds: f64,
    /// What is wrong, in a sentence.
    pub detail: String,
    /// Whether the sidecar is not ready because of it.
    pub not_ready: bool,
}

/// Where problems are found.
pub struct Evidence<'a> {
    /// The limiter as it was last published.
    pub limiter: &'a Snapshot,
    /// Since when the key is refused.
    pub key_refused: Option<KeyRefused>,
    /// Why the upstream cannot be reached.
    pub unreachable: Option<String>,
    /// The rate below which the retreat never goes.
    pub floor_rpm: f64,
    /// `urgent_reserve`.
    pub urgent_reserve: usize,
    /// The present moment.
    pub now: Moment,
}

/// The queue is unhealthy from this share of its bound on, and healthy again below [`QUEUE_CALM`]: one that stands at the
/// edge is one problem and not many.
const QUEUE_FULL: f64 = 0.9;
/// See [`QUEUE_FULL`].
const QUEUE_CALM: f64 = 0.8;

/// A window that is full for less than this is one that is used as it should be.
const RESERVE_SPENT_FOR: Duration = Duration::from_secs(5);

/// Held models that are named.
const NAMED: usize = 3;

/// Since when each check fails.
#[derive(Debug, Default)]
pub struct Problems {
    failing: [Option<Moment>; Check::ALL.len()],
}

/// A check that began to fail, or ceased to.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It fails from now on, for this reason.
    Began(Check, String),
    /// It is over after this time.
    Ended(Check, Duration),
}

impl Problems {
    /// What is wrong now, the worst first, and what changed since the last look.
    pub fn look(&mut self, evidence: &Evidence<'_>) -> (Vec<Problem>, Vec<Change>) {
        let (mut problems, mut changes) = (Vec::new(), Vec::new());
        for (check, failing) in Check::ALL.into_iter().zip(&mut self.failing) {
            match (check.fails(evidence, failing.is_some()), *failing) {
                (Some(detail), since) => {
                    let since = match since {
                        Some(since) => since,
                        None => {
                            changes.push(Change::Began(check, detail.clone()));
                            *failing.insert(check.began(evidence))
                        }
                    };
                    let lasts = evidence.now.since(since);
                    if check == Check::Reserve && lasts < RESERVE_SPENT_FOR {
                        continue;
                    }
                    let since_seconds = rounded(lasts.as_secs_f64());
                    problems.push(Problem { check, since_seconds, detail, not_ready: check.is_needed() });
                }
                (None, Some(since)) => {
                    *failing = None;
                    changes.push(Change::Ended(check, evidence.now.since(since)));
                }
                (None, None) => {}
            }
        }
        (problems, changes)
    }
}

impl Check {
    /// Why it fails, if it does; `already` when it did at the last look.
    fn fails(self, evidence: &Evidence<'_>, already: bool) -> Option<String> {
        let Evidence { limiter, now, .. } = evidence;
        match self {
            Check::Key => evidence.key_refused.map(|refused| {
                format!(
                    "the upstream refuses upstream_api_key with {}; configure another key",
                    refused.status
                )
            }),
            Check::Upstream => evidence.unreachable.clone(),
            Check::Queue => {
                let queue = &limiter.queue;
                (queue.utilization >= if already { QUEUE_CALM } else { QUEUE_FULL }).then(|| {
                    format!(
                        "{} of {} places and {} of {} bytes are taken",
                        queue.current_size, queue.max_size, queue.bytes, queue.max_bytes
                    )
                })
            }
            Check::Tickets => tickets_fail(limiter, evidence.floor_rpm, *now),
            Check::Models => (limiter.models_held > 0).then(|| {
                let names = limiter.held.iter().take(NAMED).map(|held| {
                    let seconds = held.until.since(*now).as_secs_f64();
                    format!("{} ({seconds:.0} s)", held.model.as_deref().unwrap_or("(none)"))
                });
                let names: Vec<String> = names.collect();
                let more = if limiter.models_held > NAMED { " and others" } else { "" };
                format!("the upstream refused {}{more}; their requests wait", names.join(", "))
            }),
            Check::Reserve => {
                let is_spent = evidence.urgent_reserve > 0 && limiter.window.used >= limiter.window.limit;
                is_spent.then(|| {
                    format!(
                        "all {} places of the minute are used, those kept for URGENT among them",
                        limiter.window.limit
                    )
                })
            }
        }
    }

    /// When a check that fails now began to.
    fn began(self, evidence: &Evidence<'_>) -> Moment {
        match (self, evidence.key_refused) {
            (Check::Key, Some(refused)) => refused.since,
            _ => evidence.now,
        }
    }
}

/// An empty bucket is what a busy sidecar has; it is ill when the upstream itself keeps the tickets back.
fn tickets_fail(limiter: &Snapshot, floor_rpm: f64, now: Moment) -> Option<String> {
    if let Some(until) = limiter.key_paused_until.filter(|until| *until > now) {
        let seconds = until.since(now).as_secs_f64();
        return Some(format!("the upstream refuses the key's requests; tickets pause for {seconds:.0} s"));
    }
    let retreat = &limiter.retreat;
    let is_at_floor = retreat.effective_rpm <= floor_rpm && retreat.effective_rpm < retreat.base_rpm;
    is_at_floor.then(|| {
        format!("the rate is at its floor, {:.0} of {:.0} rpm", retreat.effective_rpm, retreat.base_rpm)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limiter::Settings;
    use crate::limiter::gate::Gate;
    use crate::limiter::snapshot::HeldModel;

    fn calm() -> Snapshot {
        Gate::<u64>::new(Settings::default(), Moment::ZERO).snapshot(Moment::ZERO)
    }

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    fn evidence(limiter: &Snapshot, secs: u64) -> Evidence<'_> {
        Evidence {
            limiter,
            key_refused: None,
            unreachable: None,
            floor_rpm: 5.0,
            urgent_reserve: 2,
            now: at(secs),
        }
    }

    fn checks(problems: &mut Problems, evidence: &Evidence<'_>) -> Vec<(Check, f64)> {
        problems.look(evidence).0.iter().map(|problem| (problem.check, problem.since_seconds)).collect()
    }

    #[test]
    fn each_is_told_with_since_when_and_is_gone_when_it_is_over() {
        let calm = calm();
        let mut problems = Problems::default();
        assert_eq!(checks(&mut problems, &evidence(&calm, 1)), []);
        let refused = KeyRefused { since: at(2), status: 401 };
        let ill = Evidence {
            key_refused: Some(refused),
            unreachable: Some("connection refused".into()),
            ..evidence(&calm, 3)
        };
        assert_eq!(checks(&mut problems, &ill), [(Check::Key, 1.0), (Check::Upstream, 0.0)]);
        let ill = Evidence { now: at(9), ..ill };
        assert_eq!(checks(&mut problems, &ill), [(Check::Key, 7.0), (Check::Upstream, 6.0)]);
        let (gone, changes) = problems.look(&evidence(&calm, 10));
        assert_eq!(gone, []);
        assert_eq!(changes[0], Change::Ended(Check::Key, Duration::from_secs(8)));
    }

    #[test]
    fn a_queue_at_the_edge_is_one_problem() {
        let mut problems = Problems::default();
        let filled = |utilization| {
            let mut limiter = calm();
            limiter.queue.utilization = utilization;
            limiter
        };
        let fails =
            |problems: &mut Problems, share| !problems.look(&evidence(&filled(share), 1)).0.is_empty();
        assert!(!fails(&mut problems, 0.89));
        assert!(fails(&mut problems, 0.9));
        assert!(fails(&mut problems, 0.81), "it has not become calm yet");
        assert!(!fails(&mut problems, 0.79));
        assert!(!fails(&mut problems, 0.85));
    }

    #[test]
    fn a_full_minute_is_worth_a_word_when_it_lasts_and_a_held_model_is_named_at_once() {
        let mut limiter = calm();
        limiter.window.used = limiter.window.limit;
        let mut problems = Problems::default();
        assert_eq!(checks(&mut problems, &evidence(&limiter, 1)), []);
        assert_eq!(checks(&mut problems, &evidence(&limiter, 6)), [(Check::Reserve, 5.0)]);
        assert_eq!(checks(&mut problems, &Evidence { urgent_reserve: 0, ..evidence(&limiter, 7) }), []);
        limiter.window.used = 0;
        limiter.models_held = 1;
        limiter.held = vec![HeldModel { model: Some("nvidia/a".into()), until: at(40), waiting: 3 }];
        let (found, _) = problems.look(&evidence(&limiter, 10));
        assert_eq!((found[0].check, found[0].not_ready), (Check::Models, false));
        assert!(found[0].detail.contains("nvidia/a (30 s)"), "{}", found[0].detail);
    }

    #[test]
    fn tickets_fail_at_the_floor_and_while_the_key_pauses_and_not_when_the_bucket_is_empty() {
        let mut limiter = calm();
        limiter.bucket.tokens = 0.0;
        let mut problems = Problems::default();
        assert_eq!(checks(&mut problems, &evidence(&limiter, 1)), []);
        limiter.retreat.effective_rpm = 5.0;
        assert_eq!(checks(&mut problems, &evidence(&limiter, 2)), [(Check::Tickets, 0.0)]);
        limiter.retreat.effective_rpm = 40.0;
        limiter.key_paused_until = Some(at(60));
        let (found, _) = problems.look(&evidence(&limiter, 3));
        assert!(found[0].detail.contains("pause for 57 s"), "{}", found[0].detail);
    }
}
