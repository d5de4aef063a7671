//! What an operator relies on when reading the metrics.

use super::*;
use crate::telemetry::record;

fn metrics() -> Metrics {
    Metrics::new("1.2.3", Duration::from_secs(1_700_000_000)).unwrap()
}

fn text(metrics: &Metrics) -> String {
    metrics.render(Vec::new()).unwrap()
}

#[test]
fn every_metric_that_is_counted_here_is_there_from_the_start() {
    let text = text(&metrics());
    for def in names::ALL {
        let header = format!("# TYPE {} {}\n", def.name, def.kind.as_str());
        assert!(text.contains(&header), "{} is missing", def.name);
    }
    for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
        assert!(
            names::ALL.iter().any(|def| line.split(' ').nth(2) == Some(def.name)),
            "{line} has no definition"
        );
    }
}

#[test]
fn what_others_know_stands_in_its_place_with_its_labels_in_order() {
    let def = |name| names::Def::gauge(name, &["name", "label"], "Of others.");
    let known = vec![
        Family { def: def("zebra"), samples: vec![Sample::labelled(["a\"b", "team"], 2.0)] },
        Family { def: def("aardvark"), samples: vec![Sample::labelled(["x", "y"], 1.5)] },
        Family { def: def("valueless"), samples: Vec::new() },
    ];
    let text = metrics().render(known).unwrap();
    assert!(text.starts_with(
        "# HELP aardvark Of others.\n# TYPE aardvark gauge\naardvark{label=\"y\",name=\"x\"} 1.5\n"
    ));
    assert!(text.ends_with("zebra{label=\"team\",name=\"a\\\"b\"} 2\n"), "{text}");
    assert!(!text.contains("valueless"));
}

#[test]
fn each_thing_that_is_counted_changes_the_stamp() {
    let metrics = metrics();
    let mut seen = metrics.changes();
    let mut changed = |what: &str| {
        assert_ne!(metrics.changes(), seen, "{what}");
        seen = metrics.changes();
    };
    metrics.observe(&record::tests::answered());
    changed("a finished request");
    metrics.retried(Route::Limited, RetryReason::Connect, UpstreamError::Connect);
    changed("a retry");
    metrics.reload_failed();
    changed("a reload that failed");
    metrics.reloaded(Duration::ZERO);
    changed("a reload");
}

#[test]
fn a_request_counts_once_and_its_queue_latency_is_queue_time_only() {
    let metrics = metrics();
    metrics.observe(&record::tests::answered());
    let text = text(&metrics);
    for line in [
        "sidecar_requests_total{priority=\"high\",status=\"success\"} 1",
        "sidecar_queue_latency_seconds_sum{priority=\"high\"} 0.25",
        "sidecar_upstream_latency_seconds_sum{provider=\"nvidia\"} 1.5",
        "sidecar_upstream_latency_seconds_bucket{provider=\"nvidia\",le=\"600\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
    }
}

#[test]
fn each_refused_attempt_counts_once_whether_it_was_retried_or_passed_on() {
    let metrics = metrics();
    let refused = UpstreamError::Status(429);
    metrics.retried(Route::Limited, RetryReason::Refused, refused);
    metrics.retried(Route::Limited, RetryReason::Refused, refused);
    metrics.observe(&Record {
        outcome: Outcome::Answered(429),
        attempts: 3,
        upstream_error: Some(refused),
        ..record::tests::answered()
    });
    let totals = metrics.totals();
    assert_eq!((totals.upstream_errors, totals.ratelimited, totals.total), (3, 1, 1));
    assert!(
        text(&metrics).contains("sidecar_upstream_errors_total{provider=\"nvidia\",status_code=\"429\"} 3\n")
    );
}

#[test]
fn a_request_that_was_never_sent_is_a_drop_and_no_queue_latency() {
    let metrics = metrics();
    let unsent = Record { attempts: 0, upstream: None, ..record::tests::answered() };
    for outcome in [Outcome::QueueFull, Outcome::Displaced, Outcome::NoTicket, Outcome::ClientGone] {
        metrics.observe(&Record { outcome, ..unsent });
    }
    metrics.observe(&Record { outcome: Outcome::ClientGone, ..record::tests::answered() });
    let text = text(&metrics);
    for reason in ["full", "displaced", "no_ticket", "cancelled"] {
        assert!(
            text.contains(&format!("sidecar_queue_dropped_total{{reason=\"{reason}\"}} 1\n")),
            "{reason}\n{text}"
        );
    }
    assert!(text.contains("sidecar_queue_latency_seconds_count{priority=\"high\"} 1\n"));
    assert_eq!(metrics.totals().queue_full_rejects, 2);
}

#[test]
fn series_stay_bounded_whatever_clients_and_upstreams_send() {
    let metrics = metrics();
    for i in 0..3000_u16 {
        let name = format!("agent-{i}").into();
        let model = format!("nvidia/model-{i}");
        let record = Record {
            client: &name,
            model: Some(&model),
            outcome: Outcome::Answered(i),
            upstream_error: Some(UpstreamError::Status(i)),
            ..record::tests::answered()
        };
        metrics.observe(&record);
    }
    let text = text(&metrics);
    assert!(!text.contains("agent-1") && !text.contains("model-1"));
    assert!(text.contains("sidecar_upstream_errors_total{provider=\"nvidia\",status_code=\"other\"} 2800\n"));
    assert!(text.lines().count() < 800, "{} lines", text.lines().count());
}

#[test]
fn reloads_are_counted_by_result_and_the_last_good_one_is_dated() {
    let metrics = metrics();
    metrics.reload_failed();
    assert!(text(&metrics).contains("sidecar_config_last_reload_success_timestamp_seconds 1700000000\n"));
    assert!(text(&metrics).contains("sidecar_config_last_reload_successful 0\n"));
    metrics.reloaded(Duration::from_secs(1_700_000_060));
    let text = text(&metrics);
    assert!(text.contains("sidecar_config_last_reload_success_timestamp_seconds 1700000060\n"));
    assert!(text.contains("sidecar_config_last_reload_successful 1\n"));
    assert!(text.contains("sidecar_config_reloads_total{result=\"failure\"} 1\n"));
    assert!(text.contains("sidecar_config_reloads_total{result=\"success\"} 1\n"));
}
