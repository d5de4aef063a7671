//! Every way in which a proxied request can end, and the one table that says what each means to the client,
//! to the metrics, to the log and to the limiter.
//!
//! A new way to end is a new variant of [`Outcome`]; the compiler shows the rest.

use log::Level;

/// How one proxied request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream's answer, with this status, reached the client whole.
    Answered(u16),
    /// The upstream's answer, with this status, broke off after its head had reached the client.
    Truncated(u16),
    /// No ticket within the time that the request may wait, or an estimate that there will be none.
    NoTicket,
    /// The queue was full and the policy refuses.
    QueueFull,
    /// The request was queued and had to make room for a more urgent one.
    Displaced,
    /// An operator removed the request from the queue.
    Removed,
    /// The upstream was silent for longer than `first_byte_timeout` or `stream_idle_timeout`.
    UpstreamTimeout,
    /// The upstream refused the connection, could not be found, failed in TLS or sent a broken answer.
    UpstreamBroken,
    /// The client's request breaks HTTP's rules or the sidecar's bounds, with the status that says how.
    Invalid(u16),
    /// The Redis that a fleet shares its quota in does not answer.
    QuotaUnavailable,
    /// The sidecar is shutting down.
    ShuttingDown,
    /// A bug in the sidecar itself.
    Internal,
    /// The client hung up before its answer was complete.
    ClientGone,
}

/// What the metric `sidecar_requests_total` calls the end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusLabel {
    /// The upstream answered below 400.
    Success,
    /// The client got a 429.
    RateLimited,
    /// The client got an error, the upstream's or the sidecar's.
    Error,
    /// The sidecar refused the request to protect itself.
    Rejected,
    /// The client hung up.
    Cancelled,
}

impl StatusLabel {
    /// All labels, so that every series exists from the start.
    pub const ALL: [StatusLabel; 5] = [
        StatusLabel::Success,
        StatusLabel::RateLimited,
        StatusLabel::Error,
        StatusLabel::Rejected,
        StatusLabel::Cancelled,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            StatusLabel::Success => "success",
            StatusLabel::RateLimited => "ratelimited",
            StatusLabel::Error => "error",
            StatusLabel::Rejected => "rejected",
            StatusLabel::Cancelled => "cancelled",
        }
    }
}

/// One row of the table: what an outcome means to each who hears of it.
#[derive(Clone, Copy, Debug)]
pub struct Meaning {
    /// The HTTP status that the client sees; 0 when it is gone.
    pub status: u16,
    /// `error.type` of the sidecar's own answer; `None` where the answer is the upstream's or there is none.
    pub error_type: Option<&'static str>,
    /// `error.code` of the sidecar's own answer.
    pub code: Option<&'static str>,
    /// The metric label.
    pub label: StatusLabel,
    /// The level of the request's log line: what an operator should act on is said once, where it begins (a refused key, an
    /// unreachable upstream, a full queue), and not with each request that it hits.
    pub level: Level,
    /// Whether the sidecar's own answer tells the client when to try again.
    pub retry_after: bool,
}

impl Outcome {
    /// The row of the table for this outcome.
    #[must_use]
    pub const fn meaning(self) -> Meaning {
        use StatusLabel::{Cancelled, Error, RateLimited, Rejected, Success};
        match self {
            Outcome::Answered(status) => match status {
                429 => relayed(status, RateLimited, Level::Info),
                500.. => relayed(status, Error, Level::Info),
                400.. => relayed(status, Error, Level::Info),
                _ => relayed(status, Success, Level::Info),
            },
            Outcome::Truncated(status) => relayed(status, Error, Level::Info),
            Outcome::NoTicket => {
                own(429, "RateLimitedError", "rate_limit_exceeded", RateLimited, Level::Info, true)
            }
            Outcome::QueueFull => own(503, "QueueFullError", "queue_full", Rejected, Level::Info, true),
            Outcome::Displaced => own(503, "QueueFullError", "displaced", Rejected, Level::Info, true),
            Outcome::Removed => {
                own(403, "RemovedByOperator", "removed_by_operator", Rejected, Level::Info, false)
            }
            Outcome::UpstreamTimeout => {
                own(504, "UpstreamTimeout", "upstream_timeout", Error, Level::Info, false)
            }
            Outcome::UpstreamBroken => own(502, "UpstreamError", "upstream_error", Error, Level::Info, false),
            Outcome::Invalid(status) => {
                own(status, "InvalidRequest", invalid_code(status), Error, Level::Info, false)
            }
            Outcome::QuotaUnavailable => {
                own(503, "QuotaUnavailable", "quota_unavailable", Rejected, Level::Warn, true)
            }
            Outcome::ShuttingDown => own(503, "ShuttingDown", "shutting_down", Rejected, Level::Info, true),
            Outcome::Internal => own(500, "InternalError", "internal_error", Error, Level::Error, false),
            Outcome::ClientGone => Meaning {
                status: 0,
                error_type: None,
                code: None,
                label: Cancelled,
                level: Level::Info,
                retry_after: false,
            },
        }
    }
}

const fn relayed(status: u16, label: StatusLabel, level: Level) -> Meaning {
    Meaning { status, error_type: None, code: None, label, level, retry_after: false }
}

const fn own(
    status: u16,
    error_type: &'static str,
    code: &'static str,
    label: StatusLabel,
    level: Level,
    retry_after: bool,
) -> Meaning {
    Meaning { status, error_type: Some(error_type), code: Some(code), label, level, retry_after }
}

const fn invalid_code(status: u16) -> &'static str {
    match status {
        401 => "invalid_api_key",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        408 => "request_timeout",
        413 => "body_too_large",
        417 => "expectation_failed",
        426 => "upgrade_required",
        431 => "head_too_large",
        500 => "internal_error",
        501 => "not_implemented",
        503 => "unavailable",
        505 => "http_version_not_supported",
        508 => "loop_detected",
        _ => "malformed_request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sidecars_own_answers_have_a_type_a_code_and_an_error_status() {
        for outcome in [
            Outcome::NoTicket,
            Outcome::QueueFull,
            Outcome::Displaced,
            Outcome::Removed,
            Outcome::UpstreamTimeout,
            Outcome::UpstreamBroken,
            Outcome::Invalid(413),
            Outcome::ShuttingDown,
            Outcome::Internal,
        ] {
            let meaning = outcome.meaning();
            assert!(
                meaning.status >= 400 && meaning.error_type.is_some() && meaning.code.is_some(),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn only_answers_that_time_can_mend_say_when_to_try_again() {
        assert!(Outcome::NoTicket.meaning().retry_after);
        assert!(Outcome::QueueFull.meaning().retry_after);
        assert!(!Outcome::Invalid(400).meaning().retry_after);
        assert!(!Outcome::UpstreamBroken.meaning().retry_after);
    }

    #[test]
    fn an_upstreams_answer_keeps_its_status_and_is_labelled_by_it() {
        assert_eq!(Outcome::Answered(200).meaning().label, StatusLabel::Success);
        assert_eq!(Outcome::Answered(429).meaning().label, StatusLabel::RateLimited);
        assert_eq!(Outcome::Answered(404).meaning().label, StatusLabel::Error);
        assert_eq!(Outcome::Answered(503).meaning().status, 503);
    }
}
