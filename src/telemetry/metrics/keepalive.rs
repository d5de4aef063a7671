//! What is counted of signs of life: answers that have any, the signs themselves, and how early 200s went on.

use std::time::Duration;

use prometheus::{Error, Gauge, Histogram, IntCounter};

use super::build::Builder;
use crate::telemetry::metric_names as names;

/// What a sign of life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignKind {
    /// A chunk without content.
    Chunk,
    /// A ping event.
    Ping,
    /// A comment, which the parser of an event stream skips.
    Comment,
    /// A line end before a JSON text.
    Newline,
}

impl SignKind {
    const ALL: [SignKind; 4] = [SignKind::Chunk, SignKind::Ping, SignKind::Comment, SignKind::Newline];

    const fn as_str(self) -> &'static str {
        match self {
            SignKind::Chunk => "chunk",
            SignKind::Ping => "ping",
            SignKind::Comment => "comment",
            SignKind::Newline => "newline",
        }
    }
}

/// The statuses that an error after a 200 is counted by; all others are `other`.
const STATUSES: [(u16, &str); 10] = [
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
    (504, "504"),
];

/// The handles.
pub(super) struct Keepalive {
    streams: [IntCounter; 4],
    signs: [IntCounter; 4],
    waiting: Gauge,
    until_upstream: Histogram,
    errors: [IntCounter; 10],
    other_errors: IntCounter,
}

impl Keepalive {
    pub(super) fn new(build: &Builder) -> Result<Keepalive, Error> {
        let streams = build.counters(&names::KEEPALIVE_STREAMS)?;
        let signs = build.counters(&names::KEEPALIVE_FRAMES)?;
        let errors = build.counters(&names::ERRORS_AFTER_200)?;
        Ok(Keepalive {
            streams: SignKind::ALL.map(|kind| streams.with_label_values(&[kind.as_str()])),
            signs: SignKind::ALL.map(|kind| signs.with_label_values(&[kind.as_str()])),
            waiting: build.gauge(&names::KEPT_ALIVE)?,
            until_upstream: build.histograms(&names::EARLY_200)?.with_label_values::<&str>(&[]),
            errors: STATUSES.map(|(_, name)| errors.with_label_values(&[name])),
            other_errors: errors.with_label_values(&[names::OTHER]),
        })
    }

    pub(super) fn signed(&self, kind: SignKind, is_first: bool, is_early: bool) {
        self.signs[kind as usize].inc();
        if is_first {
            self.streams[kind as usize].inc();
        }
        if is_early {
            self.waiting.inc();
        }
    }

    /// Requests whose client has got an early 200 and not the end of its answer.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts whole requests")]
    pub(super) fn now(&self) -> u64 {
        self.waiting.get().max(0.0) as u64
    }

    pub(super) fn answered(&self, after_early_200: Duration) {
        self.until_upstream.observe(after_early_200.as_secs_f64());
    }

    /// A request with an early 200 has ended; `status` is what its client would have got.
    pub(super) fn ended(&self, status: u16) {
        self.waiting.dec();
        if status >= 400 {
            let known = STATUSES.iter().position(|(other, _)| *other == status);
            known.map_or(&self.other_errors, |i| &self.errors[i]).inc();
        }
    }
}
