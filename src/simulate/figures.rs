//! The figures of a run: goodput, refusals, waits, fairness, and how they went over time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::limiter::rate::whole;

/// Where it is not said otherwise, waits and estimates are measured from here on: the first minutes are a burst's.
pub const WARM_UP: Duration = Duration::from_secs(120);

/// How many points the course of a run has.
pub const POINTS: usize = 240;

/// What a run gave.
#[derive(Clone, Debug)]
pub struct Figures {
    /// How long it was, in virtual time.
    pub duration: Duration,
    /// Requests that agents made.
    pub asked: u64,
    /// Requests that the upstream took.
    pub served: u64,
    /// What somebody who knows the limit would have got.
    pub oracle: u64,
    /// Requests that arrived at the upstream.
    pub upstream: u64,
    /// 429s at the upstream.
    pub upstream_429: u64,
    /// 429s and 503s at the clients.
    pub client_refusals: u64,
    /// Answers of the upstream with 500, which reached the clients.
    pub client_500: u64,
    /// 429s at the upstream for a model that refuses forever, in the last ten minutes, a minute.
    pub bad_model_429_per_minute: f64,
    /// Clients' 429s for other models than that one.
    pub good_model_refusals: u64,
    /// The largest number of requests that arrived at the upstream in any 60 s.
    pub peak_60s: usize,
    /// When the upstream last took a request.
    pub last_served: Moment,
    /// The longest wait for a ticket, by priority.
    pub worst: [Duration; 4],
    /// Refusals that reached the agents of each kind.
    pub refusals_by_kind: Vec<u64>,
    /// Waits for a ticket, by priority, of requests after the scenario's warm-up.
    pub waits: [Waits; 4],
    /// The same by the kind of their agents.
    pub waits_by_kind: Vec<Waits>,
    /// Jain's index over the agents of a kind, the lowest of all kinds with two or more.
    pub jain: f64,
    /// The waits that were estimated on arrival, all together, over those that came; only waits of ten seconds and more.
    pub estimate_bias: f64,
    /// The share of these estimates that was within 20 % of what came.
    pub estimates_good: f64,
    /// The course of the run.
    pub course: Vec<Point>,
}

/// One stretch of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Tickets granted.
    pub tickets: u32,
    /// 429s at the upstream.
    pub refused: u32,
    /// The effective rate at its end, requests a minute.
    pub effective_rpm: f64,
    /// Jobs that waited at its end.
    pub waiting: usize,
}

impl Figures {
    /// What the goodput is compared with: the oracle's, or what agents asked for when they left the quota unused.
    #[must_use]
    pub fn attainable(&self) -> u64 {
        let saturated = self.course.iter().filter(|point| point.waiting > 0).count() * 2 > self.course.len();
        if saturated { self.oracle.max(1) } else { self.oracle.min(self.asked).max(1) }
    }

    /// Goodput as a share of what was attainable.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        ratio(self.served, self.attainable())
    }

    /// 429s at the upstream as a share of the requests there.
    #[must_use]
    pub fn upstream_429_share(&self) -> f64 {
        ratio(self.upstream_429, self.upstream.max(1))
    }
}

/// `part / whole` of counts.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Jain's fairness index: 1 when all have the same, 1/n when one has all.
#[must_use]
pub fn jain(shares: &[u64]) -> f64 {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| (share as f64).powi(2)).sum();
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

/// Waits as counts in steps of two percent, so that a long run needs no more memory than a short one.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    counts: Vec<u64>,
    total: u64,
}

impl Waits {
    const STEP: f64 = 1.02;

    /// Adds a wait.
    pub fn add(&mut self, wait: Duration) {
        let step = whole(libm::log((wait.as_secs_f64() * 1000.0).max(1.0)) / libm::log(Waits::STEP)) as usize;
        if self.counts.len() <= step {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.total += 1;
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The wait in seconds that this share of them did not exceed; `None` without waits.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let mut rest = (self.total as f64 * share).ceil().max(1.0);
        for (step, &count) in self.counts.iter().enumerate() {
            rest -= count as f64;
            if rest <= 0.0 {
                let step = f64::from(u32::try_from(step).unwrap_or(u32::MAX));
                return Some(if step == 0.0 { 0.0 } else { libm::pow(Waits::STEP, step + 0.5) / 1000.0 });
            }
        }
        None
    }
}

/// The largest number of events in any 60 s.
#[derive(Clone, Debug, Default)]
pub struct Peak {
    recent: VecDeque<Moment>,
    /// The largest number so far.
    pub most: usize,
}

impl Peak {
    /// An event, not earlier than the one before.
    pub fn add(&mut self, now: Moment) {
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|&oldest| oldest + Duration::from_secs(60) <= now) {
            self.recent.pop_front();
        }
        self.most = self.most.max(self.recent.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_to_two_percent() {
        let mut waits = Waits::default();
        for millis in 1..=1000 {
            waits.add(Duration::from_millis(millis));
        }
        let half = waits.quantile(0.5).unwrap();
        assert!((half / 0.5 - 1.0).abs() < 0.02, "{half}");
        assert_eq!(Waits::default().quantile(0.5), None);
    }

    #[test]
    fn jain_is_one_for_equals_and_falls_with_inequality() {
        assert!((jain(&[5, 5, 5]) - 1.0).abs() < 1e-9);
        assert!((jain(&[9, 0, 0]) - 1.0 / 3.0).abs() < 1e-9);
    }
}
