//! Name, type, labels and meaning of every metric that is counted where it happens.
//!
//! To add one: add its entry here (base units, `_total` for counters, a help text that says what is counted and when),
//! its handle in `metrics.rs`, and its row with a PromQL line in `docs/METRICS.md`; tests compare the three. What is read
//! off the sidecar's state when it is scraped is a row of `ops/gauges.rs` instead.
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

impl Def {
    /// A gauge with these labels.
    #[must_use]
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Def {
        Def { name, kind: Kind::Gauge, labels, help }
    }

    /// A counter with these labels.
    #[must_use]
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Def {
        Def { name, kind: Kind::Counter, labels, help }
    }
}

/// Bounds of the time a request waits for its ticket, up to the longest that a client is likely to accept.
const QUEUE_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Bounds of the time a model takes; no model answers in 10 ms, and some think for minutes.
const UPSTREAM_BUCKETS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Defines the constants, and [`ALL`] with each of them.
macro_rules! metrics {
    ($($id:ident $name:literal $kind:expr, $labels:expr, $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Def = Def { name: $name, kind: $kind, labels: $labels, help: $help };)*
        /// Each of them.
        pub const ALL: &[Def] = &[$($id),*];
    };
}

metrics! {
    REQUESTS "sidecar_requests_total" Kind::Counter, &["priority", "status"],
        "Finished requests by priority and by what the client got.";
    REQUESTS_BY_PROVIDER "sidecar_requests_by_provider_total" Kind::Counter, &["provider", "status"],
        "Finished requests by where they went (nvidia draws on the quota) and by what the client got.";
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
    KEEPALIVE_STREAMS "sidecar_keepalive_streams_total" Kind::Counter, &["kind"],
        "Answers with at least one sign of life, by the kind of the first one.";
    KEEPALIVE_FRAMES "sidecar_keepalive_frames_total" Kind::Counter, &["kind"],
        "Signs of life sent to clients that waited.";
    KEPT_ALIVE "sidecar_kept_alive_requests" Kind::Gauge, &[],
        "Requests under way whose client has got an early 200.";
    EARLY_200 "sidecar_early_200_seconds" Kind::Histogram(UPSTREAM_BUCKETS), &[],
        "Time from an early 200 to the head of the upstream's answer that was passed on.";
    ERRORS_AFTER_200 "sidecar_errors_after_200_total" Kind::Counter, &["code"],
        "Errors reported in a frame because the status was an early 200, by the status that they would have had.";
    CONFIG_RELOADS "sidecar_config_reloads_total" Kind::Counter, &["result"],
        "Times that the configuration was read again.";
    CONFIG_LAST_SUCCESS "sidecar_config_last_reload_success_timestamp_seconds" Kind::Gauge, &[],
        "When the configuration in force was read, Unix time.";
    CONFIG_LAST_SUCCESSFUL "sidecar_config_last_reload_successful" Kind::Gauge, &[],
        "1 when the last attempt to read the configuration took effect, 0 when it changed nothing.";
    BUILD_INFO "sidecar_build_info" Kind::Gauge, &["version"],
        "Always 1; the label says which version runs.";
}
