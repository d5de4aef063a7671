//! From given values to a valid configuration: every key read once, then what must fit together.

use std::time::Duration;

use super::choices::{ADAPTIVE, FULL_POLICIES, LIMIT_UNMATCHED, LOG_FORMATS, LOG_LEVELS};
use super::keys::{self, Reload};
use super::lists::{MAX_LIST, agents, gateway, origin, retry_on, tokens};
use super::notice::{Faults, Notice, Source};
use super::raw::{self, Given};
use super::reader::Reader;
use super::spelling;
use super::{
    BaseUrl, Clients, Config, Front, FullPolicy, Listen, Log, Passthrough, Queue, Rate, Retreat, Routing,
    Upstream,
};

/// The largest rate and burst in requests a minute; above it, a sidecar is not what limits.
const MAX_RPM: u32 = 10_000_000;
/// Threads of one worker pool.
const MAX_WORKERS: usize = 4096;
/// Bytes of memory that a bound may name: a terabyte.
const MAX_BYTES: usize = 1 << 40;
/// A day in seconds, more than any wait makes sense for.
const DAY: f64 = 86_400.0;
const HOUR: f64 = 3_600.0;
/// The shortest time-out in seconds; below it nothing would ever be in time.
const SHORTEST: f64 = 0.001;
/// The smallest share and the largest factor keep a rule from being always or never true.
const SMALLEST_SHARE: f64 = 0.0001;

/// A configuration, valid when there are no faults.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) warnings: Vec<Notice>,
    pub(super) faults: Vec<Notice>,
}

/// Puts the given values over `base`.
pub(super) fn resolve(base: &Config, given: Given) -> Resolved {
    let mut reader = Reader::new(given, false);
    let config = read(base, &mut reader);
    contradictions(&config, &mut reader);
    advice(&config, &mut reader);
    Resolved { config, warnings: reader.warnings, faults: reader.faults }
}

/// Puts values that an operator sends while the sidecar runs over its configuration, all or none.
///
/// # Errors
///
/// All faults at once: keys outside `allowed`, wrong types, values out of range (nothing falls back here),
/// contradictions.
pub fn patch(
    running: &Config,
    values: &serde_json::Map<String, serde_json::Value>,
    allowed: &[&str],
) -> Result<Config, Faults> {
    let mut given = Given::default();
    let mut faults = Vec::new();
    for (name, value) in values {
        let key = keys::find(name).filter(|key| key.reload == Reload::Live && allowed.contains(&key.name));
        match (key, raw::read(value)) {
            (Some(key), Ok(value)) => drop(given.0.insert(key.name, (value, Source::Request))),
            (Some(key), Err(_)) => {
                faults.push(Notice::new(Source::Request, "is too large", "send less").about(key.name));
            }
            (None, _) => faults.push(Notice::new(
                Source::Request,
                format!("{} cannot be changed here", spelling::shown_name(name)),
                format!("send some of {}", allowed.join(", ")),
            )),
        }
    }
    let mut reader = Reader::new(given, true);
    let config = read(running, &mut reader);
    contradictions(&config, &mut reader);
    faults.extend(reader.faults);
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}

/// Reads every key.
fn read(base: &Config, r: &mut Reader) -> Config {
    let defaults = Config::default();
    Config {
        listen: Listen {
            host: r.address("listen_host", base.listen.host),
            port: r.whole("listen_port", base.listen.port, 0..=u16::MAX),
            metrics_port: r.whole("metrics_port", base.listen.metrics_port, 0..=u16::MAX),
        },
        upstream: Upstream {
            url: r.url("upstream_url", base.upstream.url.clone()),
            api_key: r.secret("upstream_api_key", base.upstream.api_key.clone()),
            ca_file: r.path("upstream_ca_file", base.upstream.ca_file.clone()),
            timeout: r.seconds_or_cut(
                "request_timeout",
                base.upstream.timeout,
                defaults.upstream.timeout,
                SHORTEST..=300.0,
            ),
            max_in_flight: r.whole("max_in_flight", base.upstream.max_in_flight, 1..=MAX_WORKERS),
            max_attempts: r.whole("max_attempts", base.upstream.max_attempts, 1..=100),
            retry_on: retry_on(r, &base.upstream.retry_on),
            retry_after_cap: r.seconds("retry_after_cap", base.upstream.retry_after_cap, 0.0..=HOUR),
        },
        passthrough: Passthrough {
            url: r.optional_url("passthrough_url", base.passthrough.url.clone()),
            api_key: r.secret("passthrough_api_key", base.passthrough.api_key.clone()),
            max_in_flight: r.whole(
                "passthrough_max_in_flight",
                base.passthrough.max_in_flight,
                1..=MAX_WORKERS,
            ),
        },
        routing: Routing {
            gateways: r.list("nvidia_gateways", base.routing.gateways.clone(), MAX_LIST, gateway),
            strip_prefix: r.flag("strip_gateway_prefix", base.routing.strip_prefix),
            limit_unmatched: r.choice("limit_unmatched", base.routing.limit_unmatched, LIMIT_UNMATCHED),
        },
        rate: Rate {
            rpm: r.whole_or_fall_back("rate_rpm", base.rate.rpm, defaults.rate.rpm, 1..=MAX_RPM),
            bucket_capacity: r.whole("bucket_capacity", base.rate.bucket_capacity, 1..=MAX_RPM),
        },
        queue: queue(r, &base.queue, defaults.queue.max_size),
        retreat: retreat(r, &base.retreat),
        front: Front {
            max_connections: r.whole("max_connections", base.front.max_connections, 1..=1_000_000),
            max_body_bytes: r.whole("max_body_bytes", base.front.max_body_bytes, 1..=1 << 30),
            max_body_memory_bytes: r.whole(
                "max_body_memory_bytes",
                base.front.max_body_memory_bytes,
                1024..=MAX_BYTES,
            ),
            client_timeout: r.seconds("client_timeout", base.front.client_timeout, SHORTEST..=HOUR),
        },
        clients: Clients {
            tokens: r.read("client_tokens", base.clients.tokens.clone(), tokens),
            cors_origins: r.list("cors_origins", base.clients.cors_origins.clone(), MAX_LIST, origin),
        },
        agents: agents(r, &base.agents),
        admin_token: r.secret("admin_token", base.admin_token.clone()),
        drain_timeout: r.seconds("drain_timeout", base.drain_timeout, 0.0..=HOUR),
        state_file: r.path("state_file", base.state_file.clone()),
        log: Log {
            level: r.choice("log_level", base.log.level, LOG_LEVELS),
            format: r.choice("log_format", base.log.format, LOG_FORMATS),
        },
    }
}

fn queue(r: &mut Reader, base: &Queue, default_size: usize) -> Queue {
    let fallback_given = r.gives("fallback_enabled_passthrough");
    let fallback_passthrough = r.flag("fallback_enabled_passthrough", base.fallback_passthrough);
    let default_policy = match (fallback_given, fallback_passthrough) {
        (false, _) => base.full_policy,
        (true, true) => FullPolicy::Passthrough,
        (true, false) => FullPolicy::Reject,
    };
    let aging = r.seconds("aging_seconds", base.aging.unwrap_or_default(), 0.0..=DAY);
    Queue {
        max_size: r.whole_or_fall_back("queue_max_size", base.max_size, default_size, 1..=1_000_000),
        max_bytes: r.whole("queue_max_bytes", base.max_bytes, 1024..=MAX_BYTES),
        full_policy: r.choice("queue_full_policy", default_policy, FULL_POLICIES),
        fallback_passthrough,
        timeout: r.seconds("queue_timeout", base.timeout, SHORTEST..=DAY),
        low_timeout: r.seconds("low_priority_timeout", base.low_timeout, 0.0..=DAY),
        aging: (aging > Duration::ZERO).then_some(aging),
    }
}

fn retreat(r: &mut Reader, base: &Retreat) -> Retreat {
    let share = SMALLEST_SHARE..=1.0;
    Retreat {
        adaptive: r.choice("adaptive", base.adaptive, ADAPTIVE),
        window: r.seconds("retreat_window_seconds", base.window, 1.0..=HOUR),
        threshold_429: r.fraction("retreat_429_threshold", base.threshold_429, share.clone()),
        factor: r.fraction("retreat_factor", base.factor, 0.01..=0.99),
        min_rpm: r.whole("retreat_min_rpm", base.min_rpm, 1..=MAX_RPM),
        recover_window: r.seconds("recover_window_seconds", base.recover_window, 1.0..=HOUR),
        recover_threshold: r.fraction("recover_429_threshold", base.recover_threshold, share),
        recover_increment_rpm: r.whole("recover_increment_rpm", base.recover_increment_rpm, 1..=MAX_RPM),
    }
}

/// Faults of values that are valid each on its own.
fn contradictions(config: &Config, r: &mut Reader) {
    let Listen { port, metrics_port, .. } = config.listen;
    if port == metrics_port && port != 0 {
        let key = if r.gives("metrics_port") { "metrics_port" } else { "listen_port" };
        let other = if key == "metrics_port" { "listen_port" } else { "metrics_port" };
        let fault =
            r.notice(key, format!("is `{port}`, as is {other}"), "give the two listeners different ports");
        r.faults.push(fault);
    }
    let Retreat { threshold_429, recover_threshold, .. } = config.retreat;
    if recover_threshold > threshold_429 {
        let given = r.gives("recover_429_threshold");
        let key = if given { "recover_429_threshold" } else { "retreat_429_threshold" };
        let problem = format!("leaves recovery ({recover_threshold}) above retreat ({threshold_429})");
        let fault = r.notice(key, problem, "make recover_429_threshold at most retreat_429_threshold");
        r.faults.push(fault);
    }
}

/// Warnings about what is allowed and deserves a look.
fn advice(config: &Config, r: &mut Reader) {
    let mut warn = |key: &str, problem: String, remedy: &str| {
        let warning = r.notice(key, problem, remedy);
        r.warnings.push(warning);
    };
    let Config { upstream, passthrough, queue, front, .. } = config;
    if upstream.api_key.is_none() {
        let problem = "is empty, so each client's own Authorization is passed on".into();
        warn("upstream_api_key", problem, "set it to let the clients share one key");
    }
    let plain = |url: &BaseUrl| !url.is_https() && !url.is_loopback();
    if upstream.api_key.is_some() && plain(&upstream.url) {
        warn("upstream_url", "sends the key unencrypted".into(), "use https");
    }
    if passthrough.api_key.is_some() && passthrough.url.as_ref().is_some_and(plain) {
        warn("passthrough_url", "sends the key unencrypted".into(), "use https");
    }
    if passthrough.api_key.is_some() && passthrough.url.is_none() {
        warn("passthrough_api_key", "has no effect without passthrough_url".into(), "set both or none");
    }
    if !config.listen.host.is_loopback() && config.clients.tokens.is_empty() {
        let problem = format!("is `{}`, where everyone who reaches it spends the quota", config.listen.host);
        warn("listen_host", problem, "set client_tokens");
    }
    if config.retreat.min_rpm > config.rate.rpm {
        let problem = format!("is `{}`, above rate_rpm", config.retreat.min_rpm);
        warn("retreat_min_rpm", problem, "the rate is never lowered; make it smaller than rate_rpm");
    }
    if front.max_body_bytes > front.max_body_memory_bytes {
        let problem = format!("is `{}`, above max_body_memory_bytes", front.max_body_bytes);
        warn("max_body_bytes", problem, "the largest bodies are refused; lower it or raise the other");
    }
    if front.max_body_bytes > queue.max_bytes {
        let problem = format!("is `{}`, above queue_max_bytes", front.max_body_bytes);
        warn(
            "max_body_bytes",
            problem,
            "the largest bodies find the queue full; lower it or raise the other",
        );
    }
}
