//! Every metric's name, type, labels and meaning, in one place.
//!
//! To add one: add its entry here (base units, `_total` for counters, a help text that says what is counted and when),
//! its handle in `metrics.rs`, and its row with a PromQL line in `docs/METRICS.md`; tests compare the three.
//! A label takes its values from a closed set or from the configuration, never from what a client or an upstream
//! sends: agents that are not configured share the value [`OTHER`], and models are no label at all.

/// The label value that stands for everything outside a label's known values.
pub const OTHER: &str = "other";

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises, until a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations in these buckets (upper bounds, seconds).
    Histogram(&'static [f64]),
}

impl Kind {
    /// The type's name in the text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        }
    }
}

/// One metric's definition.
#[derive(Clone, Copy, Debug)]
pub struct Def {
    /// The metric's name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, for the `# HELP` line.
    pub help: &'static str,
}

/// Bounds of the time a request waits for its ticket, up to the longest that a client is likely to accept.
const QUEUE_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Bounds of the time a model takes; no model answers in 10 ms, and some think for minutes.
const UPSTREAM_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

const AGENT: &[&str] = &["agent_name", "agent_label"];

/// Defines the constants, and [`ALL`] with each of them.
macro_rules! metrics {
    ($($id:ident $name:literal $kind:expr, $labels:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Def = Def { name: $name, kind: $kind, labels: $labels, help: $help };)*
        /// Every metric.
        pub const ALL: &[Def] = &[$($id),*];
    };
}

metrics! {
    REQUESTS "sidecar_requests_total" Kind::Counter, &["priority", "status"],
        "Finished requests by priority and by what the client got.";
    REQUESTS_BY_PROVIDER "sidecar_requests_by_provider_total" Kind::Counter, &["provider", "status"],
        "Finished requests by where they went (nvidia draws on the quota) and by what the client got.";
    TOKENS_AVAILABLE "sidecar_tokens_available" Kind::Gauge, &[],
        "Tokens in the bucket.";
    TOKENS_RATE "sidecar_tokens_rate" Kind::Gauge, &[],
        "Tokens that flow into the bucket per second.";
    WINDOW_USED "sidecar_window_used" Kind::Gauge, &[],
        "Requests sent upstream within the last 60 seconds, as the rolling window counts them.";
    QUEUE_DEPTH "sidecar_queue_depth" Kind::Gauge, &["priority"],
        "Requests that wait for a ticket.";
    QUEUE_MAX_SIZE "sidecar_queue_max_size" Kind::Gauge, &[],
        "Bound on the requests that wait for a ticket.";
    QUEUE_BYTES "sidecar_queue_bytes" Kind::Gauge, &[],
        "Bytes of the requests that wait for a ticket.";
    QUEUE_MAX_BYTES "sidecar_queue_max_bytes" Kind::Gauge, &[],
        "Bound on the bytes of the requests that wait for a ticket.";
    QUEUE_DROPPED "sidecar_queue_dropped_total" Kind::Counter, &["reason"],
        "Requests that left the queue, or did not enter it, without being sent upstream.";
    QUEUE_LATENCY "sidecar_queue_latency_seconds" Kind::Histogram(QUEUE_BUCKETS), &["priority"],
        "Time that requests sent upstream had waited for tickets, and nothing else.";
    UPSTREAM_LATENCY "sidecar_upstream_latency_seconds" Kind::Histogram(UPSTREAM_BUCKETS), &["provider"],
        "Time from sending a request upstream to the head of the answer that was passed on.";
    UPSTREAM_ERRORS "sidecar_upstream_errors_total" Kind::Counter, &["status_code", "provider"],
        "Failed attempts at the upstream, retried ones included, by status or by kind where there was none.";
    UPSTREAM_RETRIES "sidecar_upstream_retries_total" Kind::Counter, &["reason"],
        "Attempts that failed and were made again without the client noticing.";
    FALLBACK_PASSTHROUGH "sidecar_fallback_passthrough_total" Kind::Counter, &[],
        "Requests that found the queue full and waited behind it, as queue_full_policy passthrough has it.";
    KEEPALIVE_STREAMS "sidecar_keepalive_streams_total" Kind::Counter, &["kind"],
        "Answers with at least one sign of life, by the kind of the first one.";
    KEEPALIVE_FRAMES "sidecar_keepalive_frames_total" Kind::Counter, &["kind"],
        "Signs of life sent to clients that waited.";
    KEPT_ALIVE "sidecar_kept_alive_requests" Kind::Gauge, &[],
        "Requests under way whose client has got an early 200.";
    EARLY_200 "sidecar_early_200_seconds" Kind::Histogram(UPSTREAM_BUCKETS), &[],
        "Time from an early 200 to the head of the upstream's answer that was passed on.";
    ERRORS_AFTER_200 "sidecar_errors_after_200_total" Kind::Counter, &["code"],
        "Errors told by a frame because the status was an early 200, by the status that they would have had.";
    IN_FLIGHT "sidecar_in_flight_requests" Kind::Gauge, &["provider"],
        "Requests that are at the upstream now.";
    CONNECTIONS "sidecar_connections" Kind::Gauge, &[],
        "Open client connections.";
    CONNECTIONS_MAX "sidecar_connections_max" Kind::Gauge, &[],
        "Bound on open client connections.";
    HEALTH "sidecar_health_status" Kind::Gauge, &[],
        "1 while the upstream can be reached, 0 while it cannot.";
    UPTIME "sidecar_uptime_seconds" Kind::Gauge, &[],
        "Time since the start.";
    RETREAT_STATE "sidecar_retreat_state" Kind::Gauge, &[],
        "0 normal, 1 retreat, 2 recover.";
    RETREATS "sidecar_retreats_total" Kind::Counter, &[],
        "Times that the rate was lowered because the upstream refused.";
    RETREAT_FLOORS "sidecar_retreat_floor_total" Kind::Counter, &[],
        "Times that the rate was lowered to its floor because the upstream refused more than a fifth.";
    BASE_RATE "sidecar_base_rate_rpm" Kind::Gauge, &[],
        "Configured rate, requests per minute.";
    FLOOR_RATE "sidecar_floor_rate_rpm" Kind::Gauge, &[],
        "Rate below which the retreat never goes, requests per minute.";
    EFFECTIVE_RATE "sidecar_effective_rate_rpm" Kind::Gauge, &[],
        "Rate in force, requests per minute.";
    UPSTREAM_429_RATE "sidecar_upstream_429_rate" Kind::Gauge, &[],
        "Share of the upstream's answers within the last 60 seconds that were refusals of the key, 0 to 1.";
    MODELS_HELD "sidecar_models_held" Kind::Gauge, &[],
        "Models whose requests wait because the upstream refused that model.";
    CONFIG_RELOADS "sidecar_config_reloads_total" Kind::Counter, &["result"],
        "Times that the configuration was read again.";
    CONFIG_LAST_SUCCESS "sidecar_config_last_reload_success_timestamp_seconds" Kind::Gauge, &[],
        "When the configuration in force was read, Unix time.";
    CONFIG_LAST_SUCCESSFUL "sidecar_config_last_reload_successful" Kind::Gauge, &[],
        "1 when the last attempt to read the configuration took effect, 0 when it changed nothing.";
    BUILD_INFO "sidecar_build_info" Kind::Gauge, &["version"],
        "Always 1; the label says which version runs.";
    AGENT_HEARTBEAT "agent_heartbeat_status" Kind::Gauge, AGENT,
        "1 when the agent was heard of within 1.5 times its interval, 0 when not.";
    AGENT_STAGNATION "agent_task_stagnation_seconds" Kind::Gauge, AGENT,
        "Time since the agent's work last moved on, as far as is known.";
    AGENT_429_RATE "agent_429_error_rate" Kind::Gauge, AGENT,
        "Share of the agent's requests within its last interval (60 seconds at least) that ended with 429, 0 to 1.";
    AGENT_RESPONSE_TIME "agent_response_time_seconds" Kind::Gauge, AGENT,
        "Time that the agent's successful requests take from in to out, smoothed over about the last ten.";
    AGENT_PENDING "agent_workboard_pending" Kind::Gauge, AGENT,
        "Tasks that wait on the agent's board, as its last heartbeat says.";
    PROCESS_RESIDENT_MEMORY "process_resident_memory_bytes" Kind::Gauge, &[],
        "Resident memory size in bytes.";
    PROCESS_CPU "process_cpu_seconds_total" Kind::Counter, &[],
        "Total user and system CPU time spent in seconds.";
    PROCESS_OPEN_FDS "process_open_fds" Kind::Gauge, &[],
        "Number of open file descriptors.";
    PROCESS_MAX_FDS "process_max_fds" Kind::Gauge, &[],
        "Maximum number of open file descriptors.";
    PROCESS_START_TIME "process_start_time_seconds" Kind::Gauge, &[],
        "Start time of the process since Unix epoch in seconds.";
    PROCESS_THREADS "process_threads" Kind::Gauge, &[],
        "Number of threads.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_rule() {
        let names: HashSet<_> = ALL.iter().map(|def| def.name).collect();
        assert_eq!(names.len(), ALL.len());
        for def in ALL {
            assert_eq!(def.kind == Kind::Counter, def.name.ends_with("_total"), "{}", def.name);
            assert!(def.help.ends_with('.'), "{}", def.name);
        }
    }

    /// The rows of the documentation: a metric's name, and the cells after it.
    fn documented() -> Vec<(String, Vec<String>)> {
        let cells = |row: &str| -> Vec<String> {
            // A bar within a cell is written with a backslash.
            row.replace("\\|", "\0").split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
        };
        let rows = include_str!("../../docs/METRICS.md").lines().filter(|line| line.starts_with("| `"));
        rows.map(cells).map(|cells| (cells[1].trim_matches('`').to_owned(), cells[2..].to_vec())).collect()
    }

    #[test]
    fn the_documentation_has_each_metric_with_its_type_its_labels_and_a_query() {
        let rows = documented();
        for def in ALL {
            let row = rows.iter().find(|(name, _)| *name == def.name);
            let (_, cells) = row.unwrap_or_else(|| panic!("{} is not in docs/METRICS.md", def.name));
            assert_eq!(cells[0], def.kind.as_str(), "{}", def.name);
            assert_eq!(cells[1], def.labels.join(", "), "{}", def.name);
            let query = cells[3].split('`').nth_back(1);
            assert!(query.is_some_and(|query| query.contains(def.name)), "{} has no query", def.name);
        }
        for (name, _) in rows {
            assert!(ALL.iter().any(|def| def.name == name), "{name} is documented and not there");
        }
    }
}
