//! The one table of keys: the variable, the default, what a reload does, and what the key means.
//!
//! Adding a key: a field in `tree.rs`, its default there, a row here, a line in `resolve.rs`, and the rows in
//! `docs/CONFIGURATION.md` and `conf/nvidia-sidecar.yaml`; tests name what was forgotten.

use super::Config;
use super::choices::{ADAPTIVE, FULL_POLICIES, LIMIT_UNMATCHED, LOG_FORMATS, LOG_LEVELS, name};
use super::raw::Raw;
use super::values::{agents, ip, list, optional, retry_on, seconds, secret, size, text, tokens, word};

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// The variable that overrides the file; `None` for what only the file can say.
    pub variable: Option<&'static str>,
    /// The default as the file would write it; empty where there is none.
    pub default: &'static str,
    /// What a reload does with it.
    pub reload: Reload,
    /// What it means, in Markdown.
    pub doc: &'static str,
    pub(super) value: fn(&Config) -> Raw,
}

/// What a reload does with a changed key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It applies at once.
    Live,
    /// It is named in the log, and applies after a restart.
    Restart,
}

impl Key {
    /// Whether two configurations differ in this key.
    #[must_use]
    pub fn differs(&self, a: &Config, b: &Config) -> bool {
        (self.value)(a) != (self.value)(b)
    }
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

type Value = fn(&Config) -> Raw;

const fn live(
    name: &'static str,
    variable: &'static str,
    default: &'static str,
    value: Value,
    doc: &'static str,
) -> Key {
    let variable = if variable.is_empty() { None } else { Some(variable) };
    Key { name, variable, default, reload: Reload::Live, doc, value }
}

const fn restart(
    name: &'static str,
    variable: &'static str,
    default: &'static str,
    value: Value,
    doc: &'static str,
) -> Key {
    Key { reload: Reload::Restart, ..live(name, variable, default, value, doc) }
}

/// All keys, in the order of the example file and of the documentation.
pub static KEYS: &[Key] = &[
    restart(
        "listen_host",
        "SIDECAR_HOST",
        "127.0.0.1",
        |c| ip(c.listen.host),
        "The address of both listeners. Beyond loopback, set `client_tokens` too.",
    ),
    restart(
        "listen_port",
        "SIDECAR_PORT",
        "9190",
        |c| c.listen.port.into(),
        "The port of the proxy and of the operator's pages; 0 lets the system choose.",
    ),
    restart(
        "metrics_port",
        "SIDECAR_METRICS_PORT",
        "9191",
        |c| c.listen.metrics_port.into(),
        "The port that Prometheus scrapes, another than `listen_port`; 0 lets the system choose.",
    ),
    live(
        "upstream_url",
        "SIDECAR_UPSTREAM",
        "https://integrate.api.nvidia.com/v1",
        |c| text(&c.upstream.url),
        "Where limited requests go: an http or https URL without user, query and fragment.",
    ),
    live(
        "upstream_api_key",
        "SIDECAR_API_KEY",
        "",
        |c| secret(c.upstream.api_key.as_ref()),
        "The NVIDIA key. Without one, each client's own `Authorization` is passed on.",
    ),
    live(
        "upstream_ca_file",
        "SIDECAR_UPSTREAM_CA_FILE",
        "",
        |c| optional(c.upstream.ca_file.as_ref().map(|path| path.to_string_lossy().into_owned())),
        "A file of PEM certificates that is trusted for https upstreams in place of the built-in public ones: for a NIM of your own. Read again on reload.",
    ),
    live(
        "rate_rpm",
        "SIDECAR_RATE_RPM",
        "40",
        |c| c.rate.rpm.into(),
        "Limited requests in any 60 s, 1 to 10000000. Out of range falls back to the default.",
    ),
    live(
        "bucket_capacity",
        "SIDECAR_BUCKET_CAPACITY",
        "40",
        |c| c.rate.bucket_capacity.into(),
        "The largest burst, 1 to 10000000 requests.",
    ),
    live(
        "request_timeout",
        "SIDECAR_TIMEOUT",
        "60",
        |c| seconds(c.upstream.timeout),
        "Seconds that the upstream may be silent, before its head and between two pieces of the body. Above 300 is cut to 300; 0 and below falls back to the default.",
    ),
    live(
        "max_in_flight",
        "SIDECAR_MAX_IN_FLIGHT",
        "256",
        |c| size(c.upstream.max_in_flight),
        "Limited requests at the upstream at one time, 1 to 4096; each has a thread.",
    ),
    live(
        "max_attempts",
        "SIDECAR_MAX_ATTEMPTS",
        "5",
        |c| c.upstream.max_attempts.into(),
        "How often one request may be sent, the first time included, 1 to 100.",
    ),
    live(
        "retry_on",
        "SIDECAR_RETRY_ON",
        "[429, connect]",
        retry_on,
        "After which failures a request is sent again: any of 429, 502, 503, 504 and `connect`.",
    ),
    live(
        "retry_after_cap",
        "SIDECAR_RETRY_AFTER_CAP",
        "60",
        |c| seconds(c.upstream.retry_after_cap),
        "The longest, in seconds, that an upstream's `Retry-After` holds a model, 0 to 3600.",
    ),
    live(
        "nvidia_gateways",
        "SIDECAR_NVIDIA_GATEWAYS",
        "[nvidia, nvidia-gateway, nvidiavx, nvidiavx18088980513]",
        |c| list(&c.routing.gateways),
        "The prefixes of `model`, before its first `/`, that make a request limited; in any case.",
    ),
    live(
        "strip_gateway_prefix",
        "SIDECAR_STRIP_GATEWAY_PREFIX",
        "false",
        |c| Raw::Bool(c.routing.strip_prefix),
        "Whether that prefix is taken off the model before the request is sent.",
    ),
    live(
        "limit_unmatched",
        "SIDECAR_LIMIT_UNMATCHED",
        "auto",
        |c| word(name(LIMIT_UNMATCHED, c.routing.limit_unmatched)),
        "Whether an inference request without a known prefix is limited: `always`, `never`, or `auto`, which is when it would go to a host under nvidia.com.",
    ),
    live(
        "passthrough_url",
        "SIDECAR_PASSTHROUGH_URL",
        "",
        |c| optional(c.passthrough.url.as_ref().map(ToString::to_string)),
        "Where requests go that are not limited. Without one, to `upstream_url`.",
    ),
    live(
        "passthrough_api_key",
        "SIDECAR_PASSTHROUGH_API_KEY",
        "",
        |c| secret(c.passthrough.api_key.as_ref()),
        "The key for `passthrough_url`. Without one, the client's own `Authorization` is passed on there.",
    ),
    live(
        "passthrough_max_in_flight",
        "SIDECAR_PASSTHROUGH_MAX_IN_FLIGHT",
        "256",
        |c| size(c.passthrough.max_in_flight),
        "Pass-through requests at one time, 1 to 4096; each has a thread.",
    ),
    live(
        "queue_max_size",
        "SIDECAR_QUEUE_MAX",
        "500",
        |c| size(c.queue.max_size),
        "Waiting requests, 1 to 1000000. Out of range falls back to the default.",
    ),
    live(
        "queue_max_bytes",
        "SIDECAR_QUEUE_MAX_BYTES",
        "67108864",
        |c| size(c.queue.max_bytes),
        "Bytes of waiting requests, 1024 to 1099511627776.",
    ),
    live(
        "fallback_enabled_passthrough",
        "SIDECAR_FALLBACK_PASSTHROUGH",
        "true",
        |c| Raw::Bool(c.queue.fallback_passthrough),
        "Chooses the default of `queue_full_policy`: true is `passthrough`, false is `reject`.",
    ),
    live(
        "queue_full_policy",
        "SIDECAR_QUEUE_POLICY",
        "passthrough",
        |c| word(name(FULL_POLICIES, c.queue.full_policy)),
        "What a request meets when the queue is full: `passthrough` lets it wait outside the queue, `reject` answers 503, `drop_lowest` removes the newest request of the lowest priority. The default follows `fallback_enabled_passthrough`.",
    ),
    live(
        "queue_timeout",
        "SIDECAR_QUEUE_TIMEOUT",
        "600",
        |c| seconds(c.queue.timeout),
        "Seconds that a request waits for a ticket before it gets 429, up to 86400.",
    ),
    live(
        "low_priority_timeout",
        "SIDECAR_LOW_TIMEOUT",
        "2",
        |c| seconds(c.queue.low_timeout),
        "Seconds that a LOW request waits once it is next in line, 0 to 86400.",
    ),
    live(
        "aging_seconds",
        "SIDECAR_AGING",
        "30",
        |c| seconds(c.queue.aging.unwrap_or_default()),
        "Seconds after which a waiting request rises one priority, up to 86400; 0 is off.",
    ),
    live(
        "adaptive",
        "SIDECAR_ADAPTIVE",
        "learned",
        |c| word(name(ADAPTIVE, c.retreat.adaptive)),
        "The rule that steers the rate: `specified` by the figures below, `learned` remembers where refusals began.",
    ),
    live(
        "retreat_window_seconds",
        "SIDECAR_RETREAT_WINDOW_SECONDS",
        "60",
        |c| seconds(c.retreat.window),
        "The span, in seconds, over which the share of 429s is taken to lower the rate, 1 to 3600.",
    ),
    live(
        "retreat_429_threshold",
        "SIDECAR_RETREAT_429_THRESHOLD",
        "0.05",
        |c| Raw::Fraction(c.retreat.threshold_429),
        "The share of 429s from which the rate is lowered, 0.0001 to 1.",
    ),
    live(
        "retreat_factor",
        "SIDECAR_RETREAT_FACTOR",
        "0.75",
        |c| Raw::Fraction(c.retreat.factor),
        "What the rate is multiplied with when it is lowered, 0.01 to 0.99.",
    ),
    live(
        "retreat_min_rpm",
        "SIDECAR_RETREAT_MIN_RPM",
        "5",
        |c| c.retreat.min_rpm.into(),
        "The rate below which it is never lowered, 1 to 10000000; `rate_rpm` where that is lower.",
    ),
    live(
        "recover_window_seconds",
        "SIDECAR_RECOVER_WINDOW_SECONDS",
        "120",
        |c| seconds(c.retreat.recover_window),
        "The span, in seconds, over which the share is taken to raise the rate again, 1 to 3600.",
    ),
    live(
        "recover_429_threshold",
        "SIDECAR_RECOVER_429_THRESHOLD",
        "0.02",
        |c| Raw::Fraction(c.retreat.recover_threshold),
        "The share of 429s below which the rate is raised, 0.0001 to 1, at most `retreat_429_threshold`.",
    ),
    live(
        "recover_increment_rpm",
        "SIDECAR_RECOVER_INCREMENT_RPM",
        "2",
        |c| c.retreat.recover_increment_rpm.into(),
        "The step by which the rate is raised, 1 to 10000000.",
    ),
    live(
        "max_connections",
        "SIDECAR_MAX_CONNECTIONS",
        "10000",
        |c| size(c.front.max_connections),
        "Open connections of clients, 1 to 1000000.",
    ),
    live(
        "max_body_bytes",
        "SIDECAR_MAX_BODY_BYTES",
        "33554432",
        |c| size(c.front.max_body_bytes),
        "Bytes of one request's body, 1 to 1073741824; above is 413.",
    ),
    live(
        "max_body_memory_bytes",
        "SIDECAR_MAX_BODY_MEMORY_BYTES",
        "268435456",
        |c| size(c.front.max_body_memory_bytes),
        "Bytes of all connections' request bodies together, being read or waiting, 1024 to 1099511627776.",
    ),
    live(
        "client_timeout",
        "SIDECAR_CLIENT_TIMEOUT",
        "15",
        |c| seconds(c.front.client_timeout),
        "Seconds that a client may take for its head, its body or its reading, up to 3600.",
    ),
    live(
        "client_tokens",
        "SIDECAR_CLIENT_TOKENS",
        "{}",
        tokens,
        "Names and bearer tokens of clients. When there are any, every proxied request needs one of them.",
    ),
    live(
        "cors_origins",
        "SIDECAR_CORS_ORIGINS",
        "[]",
        |c| list(&c.clients.cors_origins),
        "Browser origins that may call. None allows the local ones (localhost, 127.0.0.1, [::1], app://, file://, tauri://, vscode-webview://), `*` allows all.",
    ),
    live(
        "agents",
        "",
        "[]",
        agents,
        "Agents with metrics of their own: a list of `name`, `label` (default: the name) and `heartbeat_seconds` (default: 600). In the file only.",
    ),
    live(
        "admin_token",
        "SIDECAR_ADMIN_TOKEN",
        "",
        |c| secret(c.admin_token.as_ref()),
        "The bearer token of the admin pages. Without one, they are open to local peers only.",
    ),
    live(
        "drain_timeout",
        "SIDECAR_DRAIN_TIMEOUT",
        "30",
        |c| seconds(c.drain_timeout),
        "Seconds in which a stopping sidecar finishes what it has, 0 to 3600.",
    ),
    restart(
        "state_file",
        "SIDECAR_STATE_FILE",
        "",
        |c| optional(c.state_file.as_ref().map(|path| path.to_string_lossy().into_owned())),
        "The file in which the last minute's requests outlive a restart. Without one, they do not.",
    ),
    live(
        "log_level",
        "SIDECAR_LOG_LEVEL",
        "INFO",
        |c| word(name(LOG_LEVELS, c.log.level)),
        "`ERROR`, `WARN`, `INFO`, `DEBUG`, `TRACE` or `OFF`, in any case.",
    ),
    restart(
        "log_format",
        "SIDECAR_LOG_FORMAT",
        "auto",
        |c| word(name(LOG_FORMATS, c.log.format)),
        "`text`, `json`, or `auto`, which is text on a terminal and else JSON.",
    ),
];
