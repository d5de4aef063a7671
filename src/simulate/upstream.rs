//! Model upstreams: how a limit that nobody publishes may be enforced.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::limiter::rate::{Rpm, whole};

const MINUTE: Duration = Duration::from_secs(60);

/// How requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Never more than the limit in any 60 s.
    RollingWindow,
    /// Never more than the limit in a minute of the clock.
    FixedWindow,
    /// A bucket that holds the limit and gains the limit a minute.
    TokenBucket,
}

/// A span of time, in seconds from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// From when.
    pub from: f64,
    /// Until when.
    pub until: f64,
}

impl Span {
    /// Whether this moment lies in it.
    #[must_use]
    pub fn has(self, now: Moment) -> bool {
        (self.from..self.until).contains(&now.as_secs_f64())
    }
}

/// What an upstream is like.
#[derive(Clone, Debug)]
pub struct UpstreamSpec {
    /// How it counts.
    pub rule: Rule,
    /// Requests a minute.
    pub limit: f64,
    /// While this lasts, the limit is this many requests a minute.
    pub drop: Option<(Span, f64)>,
    /// While this lasts, another consumer of the same key sends this many requests a minute.
    pub other: Option<(Span, f64)>,
    /// How many of those come at once.
    pub other_burst: u32,
    /// While this lasts, it answers 500.
    pub errors: Option<Span>,
    /// This model refuses forever.
    pub bad_model: Option<&'static str>,
    /// The `Retry-After` of its refusals.
    pub retry_after: Option<Duration>,
    /// The longest that a request, or a refusal, travels; each one's time is drawn evenly from zero to this.
    pub jitter: Duration,
    /// How long an answer takes, drawn evenly between these seconds.
    pub answer_secs: (f64, f64),
}

impl UpstreamSpec {
    /// A well-behaved one.
    #[must_use]
    pub fn new(rule: Rule, limit: f64) -> UpstreamSpec {
        UpstreamSpec {
            rule,
            limit,
            drop: None,
            other: None,
            other_burst: 1,
            errors: None,
            bad_model: None,
            retry_after: None,
            jitter: Duration::from_millis(200),
            answer_secs: (1.0, 6.0),
        }
    }
}

/// What it says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It takes it.
    Accepted,
    /// 429.
    Refused,
    /// 500.
    Failed,
}

/// A model upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    spec: UpstreamSpec,
    accepted: VecDeque<Moment>,
    /// Tokens, in the mode that has them, at a moment.
    tokens: (f64, Moment),
}

impl Upstream {
    /// An upstream that has seen no request.
    #[must_use]
    pub fn new(spec: UpstreamSpec) -> Upstream {
        Upstream { tokens: (spec.limit, Moment::ZERO), accepted: VecDeque::new(), spec }
    }

    /// A request for this model arrives.
    pub fn arrive(&mut self, model: &str, now: Moment) -> Said {
        if self.spec.bad_model == Some(model) || self.accepts_at(now) > now {
            return Said::Refused;
        }
        self.accept(now);
        if self.spec.errors.is_some_and(|span| span.has(now)) { Said::Failed } else { Said::Accepted }
    }

    /// How many requests somebody who knows the limit would get through in this time.
    #[must_use]
    pub fn oracle(spec: &UpstreamSpec, duration: Duration) -> u64 {
        let mut upstream = Upstream::new(UpstreamSpec { other: None, ..spec.clone() });
        let (mut count, mut now) = (0, Moment::ZERO);
        loop {
            now = upstream.accepts_at(now);
            if now >= Moment::ZERO + duration {
                return count;
            }
            upstream.accept(now);
            count += u64::from(!spec.errors.is_some_and(|span| span.has(now)));
        }
    }

    /// Requests a minute at this moment.
    fn limit_at(&self, now: Moment) -> f64 {
        self.spec.drop.filter(|(span, _)| span.has(now)).map_or(self.spec.limit, |(_, limit)| limit)
    }

    /// The first moment from `now` on at which it would accept a request.
    fn accepts_at(&mut self, now: Moment) -> Moment {
        let at = self.accepts_at_this_limit(now);
        // The limit may change before.
        let edges = self.spec.drop.map(|(span, _)| [span.from, span.until].map(Moment::from_secs_f64));
        match edges.into_iter().flatten().find(|&edge| now < edge && edge < at) {
            Some(edge) => self.accepts_at(edge),
            None => at,
        }
    }

    fn accepts_at_this_limit(&mut self, now: Moment) -> Moment {
        let limit = self.limit_at(now);
        match self.spec.rule {
            Rule::RollingWindow => {
                let limit = whole(limit) as usize;
                match self.accepted.len().checked_sub(limit).and_then(|nth| self.accepted.get(nth)) {
                    Some(&oldest) => (oldest + MINUTE).max(now),
                    None => now,
                }
            }
            Rule::FixedWindow => {
                let minute = now.as_nanos() / 60_000_000_000;
                let start = Moment::from_nanos(minute * 60_000_000_000);
                let used = self.accepted.iter().rev().take_while(|&&at| at >= start).count();
                if used < whole(limit) as usize { now } else { start + MINUTE }
            }
            Rule::TokenBucket => {
                self.refill(now);
                let missing = 1.0 - 1e-9 - self.tokens.0;
                if missing <= 0.0 {
                    now
                } else {
                    now + Rpm::new(limit).time_for(missing) + Duration::from_nanos(10)
                }
            }
        }
    }

    fn accept(&mut self, now: Moment) {
        if self.spec.rule == Rule::TokenBucket {
            self.refill(now);
            self.tokens.0 -= 1.0;
        }
        let at = self.accepted.partition_point(|&before| before <= now);
        self.accepted.insert(at, now);
        while self.accepted.front().is_some_and(|&oldest| oldest + MINUTE + MINUTE < now) {
            self.accepted.pop_front();
        }
    }

    fn refill(&mut self, now: Moment) {
        let gained = now.since(self.tokens.1).as_secs_f64() * Rpm::new(self.limit_at(now)).per_second();
        self.tokens = ((self.tokens.0 + gained).min(self.spec.limit), now.max(self.tokens.1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(rule: Rule) -> u64 {
        Upstream::oracle(&UpstreamSpec::new(rule, 40.0), Duration::from_secs(3600))
    }

    #[test]
    fn the_oracle_knows_what_each_rule_grants_in_an_hour() {
        assert_eq!(hour(Rule::RollingWindow), 2400);
        assert_eq!(hour(Rule::FixedWindow), 2400);
        assert!((2438..=2440).contains(&hour(Rule::TokenBucket)));
    }

    #[test]
    fn a_drop_costs_the_oracle_what_it_takes_away() {
        let drop = Some((Span { from: 600.0, until: 1200.0 }, 20.0));
        let spec = UpstreamSpec { drop, ..UpstreamSpec::new(Rule::RollingWindow, 40.0) };
        let granted = Upstream::oracle(&spec, Duration::from_secs(3600));
        assert!((2180..=2220).contains(&granted), "{granted}");
    }
}
