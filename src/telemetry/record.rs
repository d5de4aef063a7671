//! What is known of one proxied request when it has ended, handed once to the log, the metrics and the agents' view.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::limiter::snapshot::RetreatState;
use crate::outcome::{Outcome, StatusLabel};
use crate::priority::Priority;
use crate::telemetry::usage::Tokens;

/// Whether a request drew on the NVIDIA quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Went through queue and ticket.
    Limited,
    /// Went straight to the upstream.
    PassThrough,
}

impl Route {
    /// Both routes, so that every series exists from the start.
    pub const ALL: [Route; 2] = [Route::Limited, Route::PassThrough];

    /// The value of the label `provider`.
    #[must_use]
    pub const fn provider(self) -> &'static str {
        match self {
            Route::Limited => "nvidia",
            Route::PassThrough => "passthrough",
        }
    }

    /// Position in [`Route::ALL`], for tables with one cell a route.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The pace of the limiter at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RateState {
    /// The retreat's state.
    pub state: RetreatState,
    /// Tickets a minute that the limiter releases.
    pub effective_rpm: f64,
}

/// How an attempt at the upstream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamError {
    /// It answered with this status, 400 or above.
    Status(u16),
    /// No connection: refused, unknown name, TLS.
    Connect,
    /// It was silent for longer than `first_byte_timeout` or `stream_idle_timeout`.
    Timeout,
    /// Its answer broke off or was no HTTP.
    Broken,
}

impl UpstreamError {
    /// The failure that a status means; `None` below 400.
    #[must_use]
    pub const fn of_status(status: u16) -> Option<UpstreamError> {
        if status >= 400 { Some(UpstreamError::Status(status)) } else { None }
    }

    /// The name of a failure that has no status; `None` for one that has.
    #[must_use]
    pub const fn class(self) -> Option<&'static str> {
        match self {
            UpstreamError::Status(_) => None,
            UpstreamError::Connect => Some("connect"),
            UpstreamError::Timeout => Some("timeout"),
            UpstreamError::Broken => Some("broken"),
        }
    }
}

/// One finished request.
///
/// It borrows, because it is handed over by reference, used at once and dropped. It holds no header, no query and no
/// body, so that code that writes it down cannot write down a secret.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The `X-Request-Id` of the answer.
    pub request_id: &'a str,
    /// The client's name: its `X-Agent-Id`, the name of its token, a hash or an address; never the token itself.
    pub client: &'a Arc<str>,
    /// Whether it drew on the quota.
    pub route: Route,
    /// The priority it came with, not the one that aging gave it.
    pub priority: Priority,
    /// The model it asked for.
    pub model: Option<&'a str>,
    /// The HTTP method.
    pub method: &'a str,
    /// The path, without the query: queries carry keys.
    pub path: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// Time spent waiting for tickets, of all attempts together, and nothing else. Zero for pass-through.
    pub queue: Duration,
    /// From handing the last attempt to the upstream until the head of its answer; `None` when no head came.
    ///
    /// To the head and not to the end, because the rest of an answer is as slow as the client that reads it.
    pub upstream: Option<Duration>,
    /// From the request's last byte in to the answer's last byte out.
    pub total: Duration,
    /// How often it was sent upstream; 0 when it never was.
    pub attempts: u32,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were passed on.
    pub bytes_out: u64,
    /// The pace when the request ended.
    pub pace: RateState,
    /// The tokens that it cost, as far as the answer says.
    pub tokens: Option<Tokens>,
    /// How the last attempt failed, if it did. The ones before it were counted when they were retried.
    pub upstream_error: Option<UpstreamError>,
    /// Why, in the words that its client was told.
    pub cause: Option<&'a str>,
    /// From the request's last byte in to the 200 that its client got while it waited; `None` when it got none.
    pub early_200: Option<Duration>,
}

impl<'a> Record<'a> {
    /// The record of something that never became a request: it broke HTTP's rules or a bound of the front.
    #[must_use]
    pub fn of_no_request(request_id: &'a str, client: &'a Arc<str>, outcome: Outcome) -> Record<'a> {
        Record {
            request_id,
            client,
            route: Route::PassThrough,
            priority: Priority::Normal,
            model: None,
            method: "-",
            path: "-",
            outcome,
            queue: Duration::ZERO,
            upstream: None,
            total: Duration::ZERO,
            attempts: 0,
            bytes_in: 0,
            bytes_out: 0,
            pace: RateState::default(),
            tokens: None,
            upstream_error: None,
            cause: None,
            early_200: None,
        }
    }
}

/// What is kept of a finished request until the agents' view is next looked at.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The client's name.
    pub client: Arc<str>,
    /// Whether it drew on the quota.
    pub route: Route,
    /// What the client got.
    pub label: StatusLabel,
    /// Time spent waiting for tickets.
    pub queue: Duration,
    /// From the request's last byte in to the answer's last byte out.
    pub total: Duration,
    /// The tokens that it cost, as far as the answer says.
    pub tokens: Option<Tokens>,
    /// When it ended.
    pub at: Moment,
}

impl Finished {
    /// What is kept of a request that ended at `at`.
    #[must_use]
    pub fn new(record: &Record<'_>, at: Moment) -> Finished {
        Finished {
            client: record.client.clone(),
            route: record.route,
            label: record.outcome.meaning().label,
            queue: record.queue,
            total: record.total,
            tokens: record.tokens,
            at,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::LazyLock;

    static RESEARCHER: LazyLock<Arc<str>> = LazyLock::new(|| "researcher".into());

    /// A limited request that the upstream answered with 200 after 0.25 s in the queue and 1.5 s of work.
    pub(crate) fn answered() -> Record<'static> {
        Record {
            request_id: "req-1",
            client: &RESEARCHER,
            route: Route::Limited,
            priority: Priority::High,
            model: Some("nvidia/deepseek-ai/deepseek-v4-pro"),
            method: "POST",
            path: "/v1/chat/completions",
            outcome: Outcome::Answered(200),
            queue: Duration::from_millis(250),
            upstream: Some(Duration::from_millis(1500)),
            total: Duration::from_millis(1800),
            attempts: 1,
            bytes_in: 512,
            bytes_out: 2048,
            pace: RateState { state: RetreatState::Normal, effective_rpm: 40.0 },
            tokens: None,
            upstream_error: None,
            cause: None,
            early_200: None,
        }
    }

    #[test]
    fn index_points_into_all() {
        for (i, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route.index(), i);
        }
    }

    #[test]
    fn only_statuses_from_400_on_are_errors() {
        assert_eq!(UpstreamError::of_status(399), None);
        assert_eq!(UpstreamError::of_status(429), Some(UpstreamError::Status(429)));
    }
}
