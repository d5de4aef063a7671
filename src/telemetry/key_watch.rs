//! Whether the upstream refuses the sidecar's own key: from its first 401 or 403 until a request succeeds again.

use crate::clock::Moment;
use crate::outcome::StatusLabel;
use crate::telemetry::record::{Record, Route, UpstreamError};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the answers to limited requests say of the key. Touches atomics only: every worker writes it.
#[derive(Debug)]
pub struct KeyWatch {
    /// Whether requests carry the sidecar's own key; a client's own is the client's affair.
    has_own: AtomicBool,
    /// Nanoseconds of the first refusal, and the status; [`FINE`] while there is none.
    refused_at: AtomicU64,
    status: AtomicU64,
}

/// No moment of a process.
const FINE: u64 = u64::MAX;

/// Since when the key is refused, and with which status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRefused {
    /// Since when.
    pub since: Moment,
    /// 401 or 403.
    pub status: u16,
}

/// What a request changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// The upstream refuses the key from now on, with this status.
    Refused(u16),
    /// It takes the key again.
    Accepted,
}

impl KeyWatch {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(has_own: bool) -> KeyWatch {
        KeyWatch {
            has_own: AtomicBool::new(has_own),
            refused_at: AtomicU64::new(FINE),
            status: AtomicU64::new(0),
        }
    }

    /// Begins anew: another key may be in force.
    pub fn reset(&self, has_own: bool) {
        self.has_own.store(has_own, Ordering::Relaxed);
        self.refused_at.store(FINE, Ordering::Relaxed);
    }

    /// Takes note of a finished request; says when that changed something.
    pub fn saw(&self, record: &Record<'_>, now: Moment) -> Option<KeyChange> {
        if record.route != Route::Limited || !self.has_own.load(Ordering::Relaxed) {
            return None;
        }
        match record.upstream_error {
            Some(UpstreamError::Status(status @ (401 | 403))) => {
                self.status.store(status.into(), Ordering::Relaxed);
                let first = self.refused_at.compare_exchange(
                    FINE,
                    now.as_nanos(),
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                first.is_ok().then_some(KeyChange::Refused(status))
            }
            None if record.attempts > 0 && record.outcome.meaning().label == StatusLabel::Success => {
                // Read first: while all is well no worker writes here.
                let was_refused = self.refused_at.load(Ordering::Relaxed) != FINE
                    && self.refused_at.swap(FINE, Ordering::Relaxed) != FINE;
                was_refused.then_some(KeyChange::Accepted)
            }
            _ => None,
        }
    }

    /// Since when the key is refused, if it is.
    #[must_use]
    pub fn refused(&self) -> Option<KeyRefused> {
        let since = Some(self.refused_at.load(Ordering::Relaxed)).filter(|&at| at != FINE)?;
        let status = u16::try_from(self.status.load(Ordering::Relaxed)).unwrap_or_default();
        Some(KeyRefused { since: Moment::from_nanos(since), status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::telemetry::record::tests::answered;
    use std::time::Duration;

    fn refused(status: u16) -> Record<'static> {
        Record {
            outcome: Outcome::Answered(status),
            upstream_error: Some(UpstreamError::Status(status)),
            ..answered()
        }
    }

    #[test]
    fn a_refusal_is_said_once_and_is_over_with_the_first_success() {
        let (watch, later) = (KeyWatch::new(true), Moment::ZERO + Duration::from_secs(9));
        assert_eq!(watch.saw(&answered(), Moment::ZERO), None);
        assert_eq!(watch.saw(&refused(401), Moment::ZERO), Some(KeyChange::Refused(401)));
        assert_eq!(watch.saw(&refused(403), later), None);
        assert_eq!(watch.refused(), Some(KeyRefused { since: Moment::ZERO, status: 403 }));
        assert_eq!(watch.saw(&refused(500), later), None, "a failure says nothing of the key");
        assert!(watch.refused().is_some());
        assert_eq!(watch.saw(&answered(), later), Some(KeyChange::Accepted));
        assert_eq!((watch.saw(&answered(), later), watch.refused()), (None, None));
    }

    #[test]
    fn a_clients_own_key_and_pass_through_are_no_concern_of_it() {
        assert_eq!(KeyWatch::new(false).saw(&refused(401), Moment::ZERO), None);
        let pass_through = Record { route: Route::PassThrough, ..refused(401) };
        assert_eq!(KeyWatch::new(true).saw(&pass_through, Moment::ZERO), None);
    }

    #[test]
    fn another_key_begins_anew() {
        let watch = KeyWatch::new(true);
        watch.saw(&refused(401), Moment::ZERO);
        watch.reset(true);
        assert_eq!(watch.refused(), None);
    }
}
