//! What an attempt at the upstream came to, and whether there is another one.

use crate::clock::Moment;
use crate::config::RetryOn;
use crate::limiter::admission::Scope;
use crate::telemetry::metrics::RetryReason;
use crate::telemetry::record::UpstreamError;
use crate::upstream::cancel::Traffic;
use crate::upstream::reason::{Kind, Reason};
use std::time::{Duration, SystemTime};

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
    /// Reads ureq's error in the light of what the transport saw.
    #[must_use]
    pub fn of(error: &ureq::Error, traffic: Traffic, client_gone: bool) -> Failure {
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
    /// Attempts made, this one included.
    pub attempts: u32,
    /// Attempts that may be made.
    pub max_attempts: u32,
    /// Now.
    pub now: Moment,
    /// Until when the request may wait for another ticket.
    pub deadline: Moment,
}

impl Allowance<'_> {
    fn is_left(&self) -> bool {
        self.attempts < self.max_attempts && self.now < self.deadline
    }

    /// Whether an answer with this status is kept from the client and the request sent again.
    #[must_use]
    pub fn after_status(&self, status: u16, is_refusal: bool) -> bool {
        // A worker's refusal that comes as 503 is a 429 by another name.
        let as_429 = is_refusal && self.retry_on.status(429);
        (as_429 || self.retry_on.status(status)) && self.is_left()
    }

    /// Whether and when a request is sent again after a failure: not before the moment returned.
    #[must_use]
    pub fn after_failure(&self, failure: Failure) -> Option<Moment> {
        match failure {
            // The upstream closed an idle connection at the very moment; it is no attempt of its own.
            Failure::Stale | Failure::PlaceEnded if self.now < self.deadline => Some(self.now),
            Failure::Connect | Failure::ConnectTimeout if self.retry_on.connect && self.is_left() => {
                Some(self.now + connect_backoff(self.attempts))
            }
            _ => None,
        }
    }
}

/// A tenth of a second, doubled with each failed attempt up to two seconds.
fn connect_backoff(attempts: u32) -> Duration {
    Duration::from_millis(100 << attempts.saturating_sub(1).min(5)).min(Duration::from_secs(2))
}

/// How an answer refuses for its rate, as far as the answer itself tells; `None` when it does not.
///
/// NVIDIA's 429 says nothing of whose limit it is. NIM's refusals about one model's workers come as 429 or 503.
#[must_use]
pub fn refusal(status: u16, body: &[u8]) -> Option<Scope> {
    const WORKERS: [&[u8]; 2] = [b"ResourceExhausted", b"All workers are busy"];
    let names = |words: &&[u8]| body.windows(words.len()).any(|w| w.eq_ignore_ascii_case(words));
    match status {
        429 | 503 if WORKERS.iter().any(names) => Some(Scope::Model),
        429 => Some(Scope::Unknown),
        _ => None,
    }
}

/// A `Retry-After` value: seconds (fractions too, which some servers send) or an HTTP date (RFC 9110 §10.2.3).
#[must_use]
pub fn retry_after(value: &[u8], wall: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if let Ok(secs) = text.parse::<f64>() {
        return (secs.is_finite() && secs >= 0.0).then(|| crate::clock::duration_from_secs_f64(secs));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(retry_on: &RetryOn, attempts: u32) -> Allowance<'_> {
        Allowance {
            retry_on,
            attempts,
            max_attempts: 5,
            now: Moment::ZERO,
            deadline: Moment::from_secs_f64(1.0),
        }
    }

    #[test]
    fn a_429_is_sent_again_until_the_attempts_or_the_time_are_used_up() {
        let on = RetryOn { statuses: vec![429], connect: true };
        assert!(allowance(&on, 4).after_status(429, true));
        assert!(!allowance(&on, 5).after_status(429, true));
        let late = Allowance { now: Moment::from_secs_f64(1.0), ..allowance(&on, 1) };
        assert!(!late.after_status(429, true));
        assert!(!allowance(&on, 1).after_status(500, false));
        assert!(allowance(&on, 1).after_status(503, true), "a worker's refusal");
        assert!(!allowance(&on, 1).after_status(503, false));
    }

    #[test]
    fn a_failed_connection_is_tried_again_a_little_later_each_time() {
        let on = RetryOn { statuses: vec![], connect: true };
        let waits: Vec<_> = (1..=5)
            .map(|n| {
                allowance(&on, n).after_failure(Failure::Connect).map(|m| m.since(Moment::ZERO).as_millis())
            })
            .collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), Some(800), None]);
        let off = RetryOn { statuses: vec![], connect: false };
        assert_eq!(allowance(&off, 1).after_failure(Failure::Connect), None);
        assert_eq!(
            allowance(&on, 1).after_failure(Failure::Broken),
            None,
            "the upstream may have done the work"
        );
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
        assert_eq!(refusal(200, b"ResourceExhausted"), None);
    }

    #[test]
    fn retry_after_is_seconds_fractions_or_a_date() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after(b"3", wall), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(b" 0.25 ", wall), Some(Duration::from_millis(250)));
        assert_eq!(retry_after(b"0", wall), Some(Duration::ZERO));
        assert_eq!(retry_after(b"86400", wall), Some(Duration::from_secs(86400)));
        assert_eq!(retry_after(b"Sun, 06 Nov 1994 08:49:47 GMT", wall), Some(Duration::from_secs(10)));
        assert_eq!(retry_after(b"Sun, 06 Nov 1994 08:49:27 GMT", wall), Some(Duration::ZERO), "in the past");
        for nonsense in [&b"-1"[..], b"NaN", b"soon", b"", b"\xff"] {
            assert_eq!(retry_after(nonsense, wall), None);
        }
    }
}
