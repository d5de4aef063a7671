//! What an operator relies on when reading the metrics.

use super::*;
use crate::clock::Moment;
use crate::config;
use crate::telemetry::agents::Agents;
use crate::telemetry::record;

fn metrics() -> Metrics {
    Metrics::new("1.2.3", Duration::from_secs(1_700_000_000)).unwrap()
}

fn render(metrics: &Metrics, gauges: &Gauges, agents: &[AgentView]) -> String {
    metrics.render(gauges, agents, &ProcessFigures::default()).unwrap()
}

fn text(metrics: &Metrics) -> String {
    render(metrics, &Gauges::default(), &[])
}

fn agents() -> Agents {
    let spec = |name: &str| config::Agent {
        name: name.into(),
        label: "team".into(),
        heartbeat: Duration::from_secs(600),
    };
    Agents::new(&[spec("researcher"), spec("writer")], Moment::ZERO)
}

#[test]
fn every_defined_metric_is_there_from_the_start() {
    let text = render(&metrics(), &Gauges::default(), &agents().view(Moment::ZERO));
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
fn health_recovers_and_outside_totals_never_fall() {
    let metrics = metrics();
    let sick = Gauges { retreats_total: 3, ..Gauges::default() };
    assert!(render(&metrics, &sick, &[]).contains("sidecar_health_status 0\n"));
    let well = Gauges { healthy: true, retreats_total: 2, ..Gauges::default() };
    let text = render(&metrics, &well, &[]);
    assert!(text.contains("sidecar_health_status 1\n") && text.contains("sidecar_retreats_total 3\n"));
}

#[test]
fn series_stay_bounded_whatever_clients_and_upstreams_send() {
    let metrics = metrics();
    let mut agents = agents();
    for i in 0..3000_u16 {
        let name = format!("agent-{i}");
        let model = format!("nvidia/model-{i}");
        let record = Record {
            client: &name,
            model: Some(&model),
            outcome: Outcome::Answered(i),
            upstream_error: Some(UpstreamError::Status(i)),
            ..record::tests::answered()
        };
        metrics.observe(&record);
        agents.saw(record.client, &record, Moment::ZERO);
    }
    let text = render(&metrics, &Gauges::default(), &agents.view(Moment::ZERO));
    assert!(!text.contains("agent-1") && !text.contains("model-1"));
    assert!(text.contains("agent_429_error_rate{agent_label=\"other\",agent_name=\"other\"}"));
    assert!(text.contains("sidecar_upstream_errors_total{provider=\"nvidia\",status_code=\"other\"} 2800\n"));
    assert!(text.lines().count() < 800, "{} lines", text.lines().count());
}

#[test]
fn an_agent_that_leaves_the_configuration_leaves_the_metrics() {
    let metrics = metrics();
    let mut agents = agents();
    assert!(render(&metrics, &Gauges::default(), &agents.view(Moment::ZERO)).contains("writer"));
    agents.reconfigure(&[], Moment::ZERO);
    assert!(!render(&metrics, &Gauges::default(), &agents.view(Moment::ZERO)).contains("writer"));
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
