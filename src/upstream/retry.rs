//! What an attempt at the upstream came to, and whether there is another one.

use crate::clock::Moment;
use crate::config::RetryOn;
use crate::limiter::admission::Scope;
use crate::telemetry::metrics::RetryReason;
use crate::telemetry::record::UpstreamError;
use crate::upstream::cancel::Traffic;
use crate::upstream::reason::{self, Kind, Reason};
use std::time::Duration;

/// An attempt that brought no head of an answer.
#[derive(Debug)]
pub struct Failed {
    /// What kind of failure it was.
    pub failure: Failure,
    /// The cause in words.
    pub cause: String,
    /// What the transport saw.
    pub traffic: Traffic,
}

impl Failed {
    /// Reads ureq's error in the light of what the transport saw.
    #[must_use]
    pub fn of(error: &ureq::Error, traffic: Traffic, client_gone: bool) -> Failed {
        let failure = Failure::of(error, traffic, client_gone);
        Failed { failure, cause: reason::in_words(error), traffic }
    }

    /// A request that cannot be expressed.
    #[must_use]
    pub fn unsendable() -> Failed {
        let cause = "the request's method, target or fields cannot be forwarded".into();
        Failed { failure: Failure::Unsendable, cause, traffic: Traffic::default() }
    }
}

/// Why an attempt brought no head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client hung up.
    ClientGone,
    /// No connection came about, or none of the request was sent on it.
    Connect,
    /// A connection from the pool turned out to have been closed by the upstream.
    Stale,
    /// The upstream was silent for too long.
    Timeout,
    /// Connecting took too long.
    ConnectTimeout,
    /// It took so long that the request's place in a fleet's window ended; nothing was sent.
    PlaceEnded,
    /// The upstream's certificate is refused; trying again changes nothing.
    Untrusted,
    /// The connection broke, or what came was no HTTP.
    Broken,
    /// The request cannot be expressed: ureq refuses its method, target or fields.
    Unsendable,
}

impl Failure {
    fn of(error: &ureq::Error, traffic: Traffic, client_gone: bool) -> Failure {
        if client_gone {
            return Failure::ClientGone;
        }
        match (error, Reason::in_error(error).map(|reason| reason.kind)) {
            _ if traffic.place_ended => Failure::PlaceEnded,
            (_, Some(Kind::Connect)) => Failure::Connect,
            (_, Some(Kind::ConnectTimeout)) => Failure::ConnectTimeout,
            (_, Some(Kind::Untrusted)) => Failure::Untrusted,
            // The upstream cannot have the request.
            (_, Some(Kind::Unacknowledged)) if !traffic.answered => {
                if traffic.reused {
                    Failure::Stale
                } else {
                    Failure::ConnectTimeout
                }
            }
            (ureq::Error::Timeout(_), _) if traffic.sent_at.is_none() => Failure::ConnectTimeout,
            (ureq::Error::Timeout(_), _) => Failure::Timeout,
            (ureq::Error::Http(_) | ureq::Error::BadUri(_), _) => Failure::Unsendable,
            _ if traffic.sent_at.is_none() => Failure::Connect,
            _ if traffic.reused && !traffic.answered => Failure::Stale,
            _ => Failure::Broken,
        }
    }
}

impl Failure {
    /// What the metrics call it.
    #[must_use]
    pub const fn error(self) -> UpstreamError {
        match self {
            Failure::Connect | Failure::ConnectTimeout | Failure::PlaceEnded | Failure::Untrusted => {
                UpstreamError::Connect
            }
            Failure::Timeout => UpstreamError::Timeout,
            Failure::ClientGone | Failure::Stale | Failure::Broken | Failure::Unsendable => {
                UpstreamError::Broken
            }
        }
    }

    /// What the metrics call an attempt that follows it.
    #[must_use]
    pub const fn reason(self) -> RetryReason {
        match self {
            Failure::Stale => RetryReason::StaleConnection,
            _ => RetryReason::Connect,
        }
    }
}

/// How often an attempt may follow another, and within what time.
#[derive(Clone, Copy, Debug)]
pub struct Allowance<'a> {
    /// After which failures.
    pub retry_on: &'a RetryOn,
    /// How often the request has been sent.
    pub sent: u32,
    /// How often no connection came about.
    pub unconnected: u32,
    /// How often it may be sent; with 1 a failure to connect is final, too.
    pub max_attempts: u32,
    /// The longest that an upstream's `Retry-After` is followed.
    pub retry_after_cap: Duration,
    /// Now.
    pub now: Moment,
    /// Until when the request may wait for another ticket.
    pub deadline: Moment,
}

impl Allowance<'_> {
    /// Whether and when a request is sent again instead of its client getting an answer with this status. How long a
    /// refusal holds its model is the limiter's business.
    #[must_use]
    pub fn after_status(
        &self,
        status: u16,
        is_refusal: bool,
        retry_after: Option<Duration>,
    ) -> Option<Moment> {
        // A worker's refusal that comes as 503 is a 429 by another name.
        let as_429 = is_refusal && self.retry_on.status(429);
        if !(as_429 || self.retry_on.status(status)) || self.sent >= self.max_attempts {
            return None;
        }
        let asked = retry_after.filter(|_| !is_refusal).unwrap_or_default().min(self.retry_after_cap);
        self.in_time(asked.max(backoff(self.sent)))
    }

    /// Whether and when a request is sent again after a failure: not before the moment returned.
    #[must_use]
    pub fn after_failure(&self, failure: Failure) -> Option<Moment> {
        match failure {
            // The upstream closed an idle connection at the very moment; it is not an attempt of its own.
            Failure::Stale | Failure::PlaceEnded => self.in_time(Duration::ZERO),
            // Nothing was sent: over the whole time that the request has, so that a network may come back.
            Failure::Connect | Failure::ConnectTimeout if self.retry_on.connect && self.max_attempts > 1 => {
                self.in_time(backoff(self.unconnected))
            }
            // Ours is as good as the upstream's, which says that it gave up on the same silence.
            Failure::Timeout if self.retry_on.status(504) && self.sent < self.max_attempts => {
                self.in_time(backoff(self.sent))
            }
            _ => None,
        }
    }

    fn in_time(&self, wait: Duration) -> Option<Moment> {
        Some(self.now + wait).filter(|again| *again < self.deadline)
    }
}

/// A tenth of a second, doubled with each failed attempt up to ten seconds.
fn backoff(failed: u32) -> Duration {
    const MOST: Duration = Duration::from_secs(10);
    Duration::from_millis(100 << failed.saturating_sub(1).min(7)).min(MOST)
}

/// How an answer refuses for its rate, as far as the answer itself tells; `None` when it does not.
///
/// NVIDIA's 429 says nothing of whose limit it is. NIM's refusals about one model's workers come as 429 or 503.
#[must_use]
pub fn refusal(status: u16, body: &[u8]) -> Option<Scope> {
    const WORKERS: [&[u8]; 3] =
        [b"ResourceExhausted", b"All workers are busy", b"exceeds maximum queue size"];
    let names = |words: &&[u8]| body.windows(words.len()).any(|w| w.eq_ignore_ascii_case(words));
    match status {
        429 | 503 if WORKERS.iter().any(names) => Some(Scope::Model),
        429 => Some(Scope::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(retry_on: &RetryOn, sent: u32) -> Allowance<'_> {
        Allowance {
            retry_on,
            sent,
            unconnected: 0,
            max_attempts: 5,
            retry_after_cap: Duration::from_secs(60),
            now: Moment::ZERO,
            deadline: Moment::from_secs_f64(600.0),
        }
    }

    fn millis(again: Option<Moment>) -> Option<u128> {
        again.map(|again| again.since(Moment::ZERO).as_millis())
    }

    #[test]
    fn a_429_is_sent_again_until_the_attempts_or_the_time_are_used_up() {
        let on = RetryOn { statuses: vec![429], connect: true };
        assert_eq!(millis(allowance(&on, 4).after_status(429, true, None)), Some(800));
        assert_eq!(allowance(&on, 5).after_status(429, true, None), None);
        let late = Allowance { now: Moment::from_secs_f64(600.0), ..allowance(&on, 1) };
        assert_eq!(late.after_status(429, true, None), None);
        assert_eq!(allowance(&on, 1).after_status(500, false, None), None);
        assert_eq!(millis(allowance(&on, 1).after_status(503, true, None)), Some(100), "a worker's refusal");
        assert_eq!(allowance(&on, 1).after_status(503, false, None), None);
    }

    #[test]
    fn a_server_error_is_sent_again_after_a_backoff_and_after_its_retry_after() {
        let on = RetryOn { statuses: vec![503], connect: true };
        let after = |sent, secs: Option<u64>, cap| {
            let allowance = Allowance { retry_after_cap: Duration::from_secs(cap), ..allowance(&on, sent) };
            millis(allowance.after_status(503, false, secs.map(Duration::from_secs)))
        };
        assert_eq!(after(1, None, 60), Some(100));
        assert_eq!(after(3, Some(0), 60), Some(400), "never at once");
        assert_eq!(after(1, Some(5), 60), Some(5_000));
        assert_eq!(after(1, Some(u64::MAX), 60), Some(60_000));
        assert_eq!(after(2, Some(5), 0), Some(200), "a cap of nothing leaves the backoff");
    }

    #[test]
    fn connecting_is_tried_again_over_all_the_time_that_there_is_a_little_later_each_time() {
        let on = RetryOn { statuses: vec![], connect: true };
        let after = |unconnected| {
            millis(Allowance { unconnected, ..allowance(&on, 0) }.after_failure(Failure::Connect))
        };
        let waits: Vec<_> = (1..=9).map(after).collect();
        let wanted = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000].map(Some);
        assert_eq!(waits, wanted);
        assert_eq!(after(10_000), Some(10_000));
        let short = Allowance { unconnected: 1, deadline: Moment::from_secs_f64(0.1), ..allowance(&on, 0) };
        assert_eq!(short.after_failure(Failure::Connect), None, "there is no time for another one");
        let once = Allowance { max_attempts: 1, ..allowance(&on, 0) };
        assert_eq!(once.after_failure(Failure::Connect), None);
        let off = RetryOn { statuses: vec![], connect: false };
        assert_eq!(allowance(&off, 0).after_failure(Failure::Connect), None);
    }

    #[test]
    fn what_the_upstream_may_have_worked_on_is_not_sent_again() {
        let on = RetryOn { statuses: vec![429], connect: true };
        for failure in [Failure::Broken, Failure::Timeout, Failure::Untrusted, Failure::Unsendable] {
            assert_eq!(allowance(&on, 1).after_failure(failure), None, "{failure:?}");
        }
        let on = RetryOn { statuses: vec![504], connect: true };
        assert_eq!(millis(allowance(&on, 1).after_failure(Failure::Timeout)), Some(100));
    }

    #[test]
    fn the_body_tells_a_models_refusal_from_one_that_could_be_the_keys() {
        assert_eq!(refusal(429, br#"{"status":429,"title":"Too Many Requests"}"#), Some(Scope::Unknown));
        assert_eq!(
            refusal(429, b"ResourceExhausted: Worker local total request limit reached (33/32)"),
            Some(Scope::Model)
        );
        assert_eq!(refusal(503, b"{\"detail\":\"All workers are busy\"}"), Some(Scope::Model));
        assert_eq!(refusal(503, b"maintenance"), None);
        assert_eq!(refusal(503, b"request exceeds maximum queue size"), Some(Scope::Model));
        assert_eq!(refusal(200, b"ResourceExhausted"), None);
    }
}
