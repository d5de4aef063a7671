//! A hold, a circuit breaker (closed here is `Open`, half-open `Probing`): what refuses is left alone for a while, and then tried with one request.
//!
//! ```text
//!          refused                    time is up               a probe was sent
//! Open ─────────────▶ Held{until} ─────────────▶ (due) ─────────────▶ Probing
//!  ▲                    ▲  refused: longer                              │  │
//!  │                    └───────────────────────────────────────────────┘  │
//!  └───────────────── success, or no refusal within PRESUMED ──────────────┘
//! ```
//!
//! The n-th refusal in a row holds for `max(Retry-After, backoff(n))`, at most the cap. Without a `Retry-After` the backoff is
//! 2, 4, 8 … s; with one, the upstream's word counts the first time and the backoff lags one step behind, so that
//! a `Retry-After: 0` or `1` that is repeated forever does not become a request a second.
//! A request that was under way before the hold began says nothing new when it is refused, nor when it succeeds.

use std::time::Duration;

use crate::clock::Moment;

/// The hold after the first refusal that came without a `Retry-After`.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(2);
/// No hold is shorter: `Retry-After: 0` is not a licence to spin.
pub const SHORTEST: Duration = Duration::from_millis(100);

/// A cap below this counts as this: it bounds what an upstream asks for, and does not take the backoff away.
const LEAST_CAP: Duration = Duration::from_secs(1);
/// Refusals answer at once, successes when the model has thought: a probe not refused by then was taken.
pub const PRESUMED: Duration = Duration::from_secs(3);

/// The hold of one model, or of the key.
#[derive(Clone, Debug, Default)]
pub struct Hold {
    state: State,
    /// Refusals in a row.
    refusals: u32,
    /// When the present hold began.
    since: Moment,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Held {
        until: Moment,
    },
    Probing {
        ticket: u64,
        presumed: Moment,
    },
}

/// What may be sent under a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// Everything.
    Free,
    /// One request, as a probe.
    Probe,
    /// Nothing before this moment, unless an answer comes.
    Wait(Moment),
}

impl Hold {
    /// What may be sent at `now`.
    #[must_use]
    pub fn passage(&self, now: Moment) -> Passage {
        match self.state {
            State::Open => Passage::Free,
            State::Held { until } if until <= now => Passage::Probe,
            State::Held { until } => Passage::Wait(until),
            State::Probing { presumed, .. } if presumed <= now => Passage::Free,
            State::Probing { presumed, .. } => Passage::Wait(presumed),
        }
    }

    /// Until when nothing may be sent; `None` when it is not held.
    #[must_use]
    pub fn held_until(&self) -> Option<Moment> {
        match self.state {
            State::Open => None,
            State::Held { until } | State::Probing { presumed: until, .. } => Some(until),
        }
    }

    /// Refusals in a row.
    #[must_use]
    pub fn refusals(&self) -> u32 {
        self.refusals
    }

    /// The probe was released with this ticket.
    pub fn probe(&mut self, ticket: u64, now: Moment) {
        if matches!(self.state, State::Held { .. }) {
            self.state = State::Probing { ticket, presumed: now + PRESUMED };
        }
    }

    /// The request of a ticket was sent: if it is the probe, its time runs from here.
    pub fn probe_sent(&mut self, ticket: u64, sent_at: Moment) {
        if let State::Probing { ticket: probe, presumed } = &mut self.state
            && *probe == ticket
        {
            *presumed = sent_at + PRESUMED;
        }
    }

    /// The probe was not sent after all, or its answer teaches nothing: another one may be.
    pub fn probe_lost(&mut self, ticket: u64, now: Moment) {
        if matches!(self.state, State::Probing { ticket: probe, .. } if probe == ticket) {
            self.state = State::Held { until: now };
        }
    }

    /// A refusal of a request sent at `sent_at`. Gives the end of the hold if it is a new or a longer one.
    pub fn refused(
        &mut self,
        sent_at: Moment,
        retry_after: Option<Duration>,
        cap: Duration,
        now: Moment,
    ) -> Option<Moment> {
        let news = self.state == State::Open || sent_at >= self.since;
        if news {
            self.refusals = self.refusals.saturating_add(1);
            self.since = now;
        }
        let hold = match retry_after {
            Some(asked) => asked.max(backoff(self.refusals.saturating_sub(1))),
            None if news => backoff(self.refusals),
            None => Duration::ZERO,
        };
        // However low the cap is, the same request is not sent again in the same breath.
        let until = now + hold.max(SHORTEST).min(cap.max(LEAST_CAP));
        let present = match self.state {
            State::Held { until } => until,
            State::Open | State::Probing { .. } if news => Moment::ZERO,
            // Old news while a probe is out: the probe will tell.
            State::Open | State::Probing { .. } => return None,
        };
        if until > present {
            self.state = State::Held { until };
            return Some(until);
        }
        None
    }

    /// A success of a request sent at `sent_at`, or the presumption of one. Says whether it ended a hold.
    pub fn succeeded(&mut self, sent_at: Moment) -> bool {
        if self.state != State::Open && sent_at < self.since {
            return false;
        }
        let ended = self.state != State::Open;
        *self = Hold::default();
        ended
    }

    /// Ends the hold if its probe may be presumed to have been taken. The refusals in a row are not forgotten: only
    /// an answer does that.
    pub fn presume(&mut self, now: Moment) -> bool {
        let taken = matches!(self.state, State::Probing { presumed, .. } if presumed <= now);
        if taken {
            self.state = State::Open;
        }
        taken
    }
}

/// 0, then 2, 4, 8 … s.
fn backoff(refusals: u32) -> Duration {
    match refusals {
        0 => Duration::ZERO,
        n => FIRST_BACKOFF.saturating_mul(1u32.checked_shl(n - 1).unwrap_or(u32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAP: Duration = Duration::from_secs(60);

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    #[test]
    fn a_refusal_holds_and_one_probe_after_it_opens() {
        let mut hold = Hold::default();
        assert_eq!(hold.refused(at(0.9), None, CAP, at(1.0)), Some(at(3.0)));
        assert_eq!(hold.passage(at(2.0)), Passage::Wait(at(3.0)));
        assert_eq!(hold.passage(at(3.0)), Passage::Probe);
        hold.probe(7, at(3.0));
        assert!(matches!(hold.passage(at(3.5)), Passage::Wait(_)));
        assert!(hold.succeeded(at(3.1)));
        assert_eq!(hold.passage(at(3.6)), Passage::Free);
    }

    #[test]
    fn retry_after_is_believed_once_capped_and_never_a_licence_to_spin() {
        let mut hold = Hold::default();
        assert_eq!(hold.refused(at(0.0), Some(Duration::from_secs(86_400)), CAP, at(0.0)), Some(at(60.0)));
        let mut hold = Hold::default();
        let (mut now, mut probes) = (at(0.0), 0);
        while now < at(600.0) {
            now = hold.refused(now, Some(Duration::ZERO), CAP, now).unwrap();
            hold.probe(probes, now);
            probes += 1;
        }
        assert!(probes <= 5 + 10, "{probes} probes in ten minutes");
    }

    #[test]
    fn requests_under_way_before_the_hold_say_nothing_new() {
        let mut hold = Hold::default();
        hold.refused(at(0.5), None, CAP, at(1.0));
        assert_eq!(hold.refused(at(0.6), None, CAP, at(1.1)), None);
        assert_eq!(hold.refusals(), 1);
        assert!(!hold.succeeded(at(0.7)));
        assert!(matches!(hold.passage(at(1.2)), Passage::Wait(_)));
    }

    #[test]
    fn a_probe_that_is_not_refused_was_taken() {
        let mut hold = Hold::default();
        hold.refused(at(0.0), None, CAP, at(0.0));
        hold.probe(1, at(2.0));
        hold.probe_sent(1, at(2.5));
        assert!(!hold.presume(at(5.4)));
        assert!(hold.presume(at(5.5)));
        assert_eq!(hold.refused(at(6.0), None, CAP, at(6.0)), Some(at(10.0)), "the row of refusals goes on");
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn no_hold_outlasts_the_cap(
            steps in prop::collection::vec((0u64..100, prop::option::of(0u64..100_000), any::<bool>()), 1..100),
        ) {
            let mut hold = Hold::default();
            let mut now = Moment::ZERO;
            for (ticket, (gap, retry_after, refused)) in steps.into_iter().enumerate() {
                now = now + Duration::from_secs(gap);
                if hold.passage(now) == Passage::Probe { hold.probe(ticket as u64, now); }
                if refused { hold.refused(now, retry_after.map(Duration::from_secs), CAP, now); } else { hold.succeeded(now); }
                prop_assert!(hold.held_until().is_none_or(|until| until <= now + CAP));
            }
        }
    }
}
