//! The one line that each finished request leaves in the log.

use std::time::Duration;

use crate::outcome::Outcome;
use crate::telemetry::record::{Record, UpstreamError};

/// The target of the request lines.
const TARGET: &str = "nvidia_sidecar::request";

/// Writes the line of a finished request, at the level that its outcome has.
pub fn log_record(record: &Record<'_>) {
    let meaning = record.outcome.meaning();
    log::log!(
        target: TARGET,
        meaning.level,
        request_id = record.request_id,
        agent = &**record.client,
        priority = record.priority.as_str(),
        provider = record.route.provider(),
        model = record.model,
        method = record.method,
        path = record.path,
        status = meaning.status,
        error = meaning.code,
        queue_ms = millis(record.queue),
        upstream_ms = record.upstream.map(millis),
        total_ms = millis(record.total),
        early_200_ms = record.early_200.map(millis),
        attempts = record.attempts,
        upstream_status = upstream_status(record.upstream_error),
        upstream_error = record.upstream_error.and_then(UpstreamError::class),
        cause = record.cause,
        prompt_tokens = record.tokens.map(|tokens| tokens.prompt),
        completion_tokens = record.tokens.map(|tokens| tokens.completion),
        bytes_in = record.bytes_in,
        bytes_out = record.bytes_out,
        retreat_state = record.pace.state.as_str(),
        effective_rpm = record.pace.effective_rpm;
        "{}",
        phrase(record.outcome)
    );
}

/// What happened, in few fixed words that can be searched for.
const fn phrase(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Answered(_) => "answered",
        Outcome::Truncated(_) => "answer broke off",
        Outcome::NoTicket => "no ticket in time",
        Outcome::QueueFull => "queue full",
        Outcome::Displaced => "displaced from the queue",
        Outcome::Removed => "removed by an operator",
        Outcome::UpstreamTimeout => "upstream silent for too long",
        Outcome::UpstreamBroken => "upstream failed",
        Outcome::Invalid(_) => "request refused",
        Outcome::QuotaUnavailable => "the fleet's Redis is away",
        Outcome::ShuttingDown => "shutting down",
        Outcome::Internal => "internal error",
        Outcome::ClientGone => "client hung up",
    }
}

const fn upstream_status(error: Option<UpstreamError>) -> Option<u16> {
    match error {
        Some(UpstreamError::Status(status)) => Some(status),
        _ => None,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Once;

    use super::*;
    use crate::telemetry::log::{LogFormat, format};
    use crate::telemetry::record;

    thread_local! {
        static LINES: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    /// Keeps each thread's lines for itself, so that tests do not hear each other.
    struct Capture;
    impl log::Log for Capture {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, event: &log::Record<'_>) {
            let line = format::line(LogFormat::Json, std::time::SystemTime::UNIX_EPOCH, event);
            LINES.with_borrow_mut(|lines| lines.push(String::from_utf8(line).unwrap()));
        }
        fn flush(&self) {}
    }

    fn line_of(record: &Record<'_>) -> serde_json::Value {
        static CAPTURE: Once = Once::new();
        CAPTURE.call_once(|| {
            log::set_logger(&Capture).unwrap();
            log::set_max_level(log::LevelFilter::Trace);
        });
        log_record(record);
        serde_json::from_str(&LINES.with_borrow_mut(|lines| lines.pop().unwrap())).unwrap()
    }

    #[test]
    fn a_request_leaves_every_field_that_an_operator_asks_for() {
        let line = line_of(&record::tests::answered());
        for (field, value) in [
            ("level", "INFO".into()),
            ("message", "answered".into()),
            ("request_id", "req-1".into()),
            ("agent", "researcher".into()),
            ("priority", "high".into()),
            ("model", "nvidia/deepseek-ai/deepseek-v4-pro".into()),
            ("status", serde_json::json!(200)),
            ("queue_ms", serde_json::json!(250)),
            ("upstream_ms", serde_json::json!(1500)),
            ("attempts", serde_json::json!(1)),
            ("retreat_state", "normal".into()),
            ("effective_rpm", serde_json::json!(40)),
        ] {
            assert_eq!(line[field], value, "{field} in {line}");
        }
    }

    #[test]
    fn what_is_not_known_is_left_out_and_what_failed_is_named() {
        let line = line_of(&Record {
            model: None,
            upstream: None,
            outcome: Outcome::UpstreamBroken,
            upstream_error: Some(UpstreamError::Connect),
            ..record::tests::answered()
        });
        assert!(line.get("model").is_none() && line.get("upstream_ms").is_none(), "{line}");
        assert_eq!(line["upstream_error"], "connect");
        assert_eq!(line["error"], "upstream_error");
        assert_eq!(line["level"], "INFO", "what an operator acts on is said once, and not here");
    }
}
