//! The configuration as the program uses it: a tree of values that are valid, and the block with every default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::{BaseUrl, Secret};
pub use crate::limiter::settings::{Adaptive, QueueFullPolicy as FullPolicy};

/// The whole configuration. Its `Debug` masks secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where the sidecar listens.
    pub listen: Listen,
    /// The NVIDIA side of limited requests.
    pub upstream: Upstream,
    /// Where requests go that do not draw on the quota.
    pub passthrough: Passthrough,
    /// Which requests are limited.
    pub routing: Routing,
    /// The quota as it is configured; the retreat lowers it for a time.
    pub rate: Rate,
    /// The waiting requests' bounds and clocks.
    pub queue: Queue,
    /// How the rate follows the upstream's refusals.
    pub retreat: Retreat,
    /// Bounds on clients' connections and requests.
    pub front: Front,
    /// Who may use the sidecar.
    pub clients: Clients,
    /// The agents with metrics of their own, by distinct name.
    pub agents: Vec<Agent>,
    /// What the admin pages ask for; without it they are open to local peers only.
    pub admin_token: Option<Secret>,
    /// How long a stopping sidecar may finish what it has.
    pub drain_timeout: Duration,
    /// Where the window and the retreat outlive a restart.
    pub state_file: Option<PathBuf>,
    /// What is logged, and how it looks.
    pub log: Log,
}

/// Addresses of the two listeners. Port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// `listen_host`, of both listeners.
    pub host: IpAddr,
    /// `listen_port`: proxy and operator's pages.
    pub port: u16,
    /// `metrics_port`: Prometheus' scrapes.
    pub metrics_port: u16,
}

impl Listen {
    /// The main listener's address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The metrics listener's address.
    #[must_use]
    pub const fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.metrics_port)
    }

    /// The URL at which a process on this host finds `/health`.
    #[must_use]
    pub fn health_url(&self) -> String {
        let host = match self.host {
            IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            host => host,
        };
        format!("http://{}/health", SocketAddr::new(host, self.port))
    }
}

/// The upstream of limited requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// `upstream_url`.
    pub url: BaseUrl,
    /// `upstream_api_key`; without one the client's own `Authorization` is passed on.
    pub api_key: Option<Secret>,
    /// `upstream_ca_file`: PEM certificates that sign the upstreams' own, in place of the built-in ones.
    pub ca_file: Option<PathBuf>,
    /// `request_timeout`: the longest silence, before the head and between two pieces of the body.
    pub timeout: Duration,
    /// `max_in_flight`: workers for limited requests.
    pub max_in_flight: usize,
    /// `max_attempts`: how often one request may be sent, the first time included.
    pub max_attempts: u32,
    /// `retry_on`.
    pub retry_on: RetryOn,
    /// `retry_after_cap`: the longest that an upstream's `Retry-After` holds a model.
    pub retry_after_cap: Duration,
}

/// After which failures a request is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// Upstream statuses, ascending: some of [`RetryOn::STATUSES`].
    pub statuses: Vec<u16>,
    /// Whether a connection that could not be made is tried again.
    pub connect: bool,
}

impl RetryOn {
    /// The statuses that may be retried: the upstream did not do the work.
    pub const STATUSES: [u16; 4] = [429, 502, 503, 504];

    /// Whether an answer with this status is tried again.
    #[must_use]
    pub fn status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }
}

/// The upstream of requests that are not limited.
#[derive(Clone, Debug, PartialEq)]
pub struct Passthrough {
    /// `passthrough_url`; `None` is the same upstream as limited requests.
    pub url: Option<BaseUrl>,
    /// `passthrough_api_key`, sent to `url` only. The NVIDIA key never goes to a `url` that is set here.
    pub api_key: Option<Secret>,
    /// `passthrough_max_in_flight`: workers for pass-through requests.
    pub max_in_flight: usize,
}

/// What makes a request limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    /// `nvidia_gateways`, lower-case: the model prefixes that mean NVIDIA.
    pub gateways: Vec<String>,
    /// `strip_gateway_prefix`: whether the prefix is taken off before the request is sent.
    pub strip_prefix: bool,
    /// `limit_unmatched`.
    pub limit_unmatched: LimitUnmatched,
}

/// Whether an inference request without a known prefix is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnmatched {
    /// When it would go to a host under `nvidia.com`.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The configured quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// `rate_rpm`: requests in any 60 s.
    pub rpm: u32,
    /// `bucket_capacity`: the largest burst.
    pub bucket_capacity: u32,
}

/// The queue's bounds and clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// `queue_max_size`: jobs.
    pub max_size: usize,
    /// `queue_max_bytes`: heads and bodies of the jobs together.
    pub max_bytes: usize,
    /// `queue_full_policy`.
    pub full_policy: FullPolicy,
    /// `fallback_enabled_passthrough`: only chooses the policy when none is given; kept to be shown.
    pub fallback_passthrough: bool,
    /// `queue_timeout`: the longest wait for a ticket.
    pub timeout: Duration,
    /// `low_priority_timeout`: how long a LOW job that is next in line waits for a ticket.
    pub low_timeout: Duration,
    /// `aging_seconds`: after this wait a job rises one priority; `None` is never.
    pub aging: Option<Duration>,
}

/// When the rate goes down and how it comes back. Shares are between 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retreat {
    /// `adaptive`.
    pub adaptive: Adaptive,
    /// `retreat_window_seconds`: the span over which the 429 share is taken to retreat.
    pub window: Duration,
    /// `retreat_429_threshold`: the share from which the rate goes down.
    pub threshold_429: f64,
    /// `retreat_factor`: what the rate is multiplied with, below 1.
    pub factor: f64,
    /// `retreat_min_rpm`: the floor; see [`Config::floor_rpm`].
    pub min_rpm: u32,
    /// `recover_window_seconds`: the span over which the share is taken to recover.
    pub recover_window: Duration,
    /// `recover_429_threshold`: the share below which the rate comes back; at most `threshold_429`.
    pub recover_threshold: f64,
    /// `recover_increment_rpm`: the step up.
    pub recover_increment_rpm: u32,
}

/// Bounds on what clients may open and send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// `max_connections`.
    pub max_connections: usize,
    /// `max_body_bytes` of one request.
    pub max_body_bytes: usize,
    /// `max_body_memory_bytes`: bodies of all connections together, being read or waiting.
    pub max_body_memory_bytes: usize,
    /// `client_timeout`: a client's slow head, body or reading.
    pub client_timeout: Duration,
}

/// Who may use the sidecar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Clients {
    /// `client_tokens`: name → bearer token, all distinct; empty lets everyone in.
    pub tokens: BTreeMap<String, Secret>,
    /// `cors_origins`, lower-case: browser origins that may call; empty means the local ones, `*` all.
    pub cors_origins: Vec<String>,
}

/// An agent with metrics of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What the agent sends as `X-Agent-Id`.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// `heartbeat_seconds`: the interval at which it is expected to be heard of.
    pub heartbeat: Duration,
}

/// What is logged, and how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// `log_level`.
    pub level: LevelFilter,
    /// `log_format`.
    pub format: LogFormat,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The rate below which no retreat goes: `retreat_min_rpm`, or the configured rate where that is lower.
    #[must_use]
    pub fn floor_rpm(&self) -> u32 {
        self.retreat.min_rpm.min(self.rate.rpm)
    }
}

/// Every default. The table in [`KEYS`](super::KEYS) quotes them and a test compares the two.
impl Default for Config {
    fn default() -> Config {
        Config {
            listen: Listen { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: 9190, metrics_port: 9191 },
            upstream: Upstream {
                url: BaseUrl::nvidia(),
                api_key: None,
                ca_file: None,
                timeout: Duration::from_secs(60),
                max_in_flight: 256,
                max_attempts: 5,
                retry_on: RetryOn { statuses: vec![429], connect: true },
                retry_after_cap: Duration::from_secs(60),
            },
            passthrough: Passthrough { url: None, api_key: None, max_in_flight: 256 },
            routing: Routing {
                gateways: ["nvidia", "nvidia-gateway", "nvidiavx", "nvidiavx18088980513"]
                    .map(String::from)
                    .to_vec(),
                strip_prefix: false,
                limit_unmatched: LimitUnmatched::Auto,
            },
            rate: Rate { rpm: 40, bucket_capacity: 40 },
            queue: Queue {
                max_size: 500,
                max_bytes: 64 << 20,
                full_policy: FullPolicy::Passthrough,
                fallback_passthrough: true,
                // What the OpenAI SDKs wait before they give up.
                timeout: Duration::from_secs(600),
                low_timeout: Duration::from_secs(2),
                aging: Some(Duration::from_secs(30)),
            },
            retreat: Retreat {
                adaptive: Adaptive::Learned,
                window: Duration::from_secs(60),
                threshold_429: 0.05,
                factor: 0.75,
                min_rpm: 5,
                recover_window: Duration::from_secs(120),
                recover_threshold: 0.02,
                recover_increment_rpm: 2,
            },
            front: Front {
                max_connections: 10_000,
                max_body_bytes: 32 << 20,
                max_body_memory_bytes: 256 << 20,
                client_timeout: Duration::from_secs(15),
            },
            clients: Clients::default(),
            agents: Vec::new(),
            admin_token: None,
            drain_timeout: Duration::from_secs(30),
            state_file: None,
            log: Log { level: LevelFilter::Info, format: LogFormat::Auto },
        }
    }
}
