//! From given values to a valid configuration: every key read once, then what must fit together.

use super::key::Reload;
use super::limiter::{QueueFullPolicy, RateScope};
use super::notice::{Faults, Notice, Source};
use super::raw::{self, Given};
use super::reading::{self, Input};
use super::{BaseUrl, Config, Listen, RedisAway, spelling, table};

/// A configuration, valid when there are no faults.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) config: Config,
    pub(super) warnings: Vec<Notice>,
    pub(super) faults: Vec<Notice>,
}

/// Puts the given values over the defaults.
pub(super) fn resolve(given: Given) -> Resolved {
    let mut input = Input::new(given, false);
    let config = read(None, &mut input);
    advice(&config, &mut input);
    Resolved { config, warnings: input.warnings, faults: input.faults }
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
        let key = table::find(name).filter(|key| key.reload == Reload::Live && allowed.contains(&key.name));
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
    let mut input = Input::new(given, true);
    let config = read(Some(running), &mut input);
    faults.extend(input.faults);
    if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
}

fn read(base: Option<&Config>, input: &mut Input) -> Config {
    let mut config = reading::read(base, input);
    follow(&mut config, input);
    contradictions(&config, input);
    config
}

/// Keys whose default another key chooses.
fn follow(config: &mut Config, input: &mut Input) {
    let queue = &mut config.limiter.queue;
    if input.gives("fallback_enabled_passthrough") && !input.gives("queue_full_policy") {
        queue.full_policy = match queue.fallback_passthrough {
            true => QueueFullPolicy::Passthrough,
            false => QueueFullPolicy::Reject,
        };
    }
    for agent in &mut config.agents {
        if let Err(class) = agent.follow(&config.classes) {
            let problem = format!("has the agent {} of the class {class}, which is not defined", agent.name);
            input.fault(
                "agents",
                problem,
                "define it under classes, or use high-frequency, development or business",
            );
        }
        let expected = agent.expected();
        if expected.stagnation_critical < expected.stagnation_warning {
            let problem =
                format!("has the agent {} whose stagnation is critical before it is a warning", agent.name);
            input.fault("agents", problem, "make stagnation_critical at least stagnation_warning");
        }
    }
    let upstream = &mut config.upstream;
    if let Some(silence) = upstream.request_timeout.filter(|_| input.gives("request_timeout")) {
        for (key, timeout) in [
            ("first_byte_timeout", &mut upstream.first_byte_timeout),
            ("stream_idle_timeout", &mut upstream.stream_idle_timeout),
        ] {
            if !input.gives(key) {
                *timeout = silence;
            }
        }
    }
}

/// Faults of values that are valid each on its own.
fn contradictions(config: &Config, input: &mut Input) {
    let Listen { port, metrics_port, .. } = config.listen;
    if port == metrics_port && port != 0 {
        let (key, other) = match input.gives("metrics_port") {
            true => ("metrics_port", "listen_port"),
            false => ("listen_port", "metrics_port"),
        };
        input.fault(key, format!("is `{port}`, as is {other}"), "give the two listeners different ports");
    }
    fleet_contradictions(config, input);
    let (retreat, recover) = (config.limiter.retreat.threshold, config.limiter.retreat.recover_threshold);
    if recover > retreat {
        let given = input.gives("recover_429_threshold");
        let key = if given { "recover_429_threshold" } else { "retreat_429_threshold" };
        let problem = format!("leaves recovery ({recover}) above retreat ({retreat})");
        input.fault(key, problem, "make recover_429_threshold at most retreat_429_threshold");
    }
    if config.upstream.ca_only && config.upstream.ca_file.is_none() {
        input.fault("upstream_ca_only", "leaves nothing to trust", "set upstream_ca_file, or remove it");
    }
}

/// What belongs together about the fleet.
fn fleet_contradictions(config: &Config, input: &mut Input) {
    let fleet = &config.fleet;
    if fleet.sentinels.is_empty() != fleet.master.is_none() {
        let (key, other) = match fleet.master {
            Some(_) => ("redis_master", "redis_sentinels"),
            None => ("redis_sentinels", "redis_master"),
        };
        input.fault(key, format!("is set without {other}"), "set both or none");
    }
    if fleet.url.is_some() && (config.limiter.rate_scope == RateScope::Model || config.limiter.rate_rpm == 0)
    {
        let problem = "needs a rate of the whole key to share";
        input.fault("redis_url", problem, "set rate_scope to key and a rate_rpm, or remove redis_url");
    }
    if fleet.away == Some(RedisAway::Share) && fleet.max == 0 {
        input.fault("redis_away", "is `share`, and fleet_max does not say among how many", "set fleet_max");
    }
}

/// Warnings about what is allowed and deserves a look.
fn advice(config: &Config, input: &mut Input) {
    let Config { upstream, passthrough, limiter, front, fleet, .. } = config;
    if fleet.url.is_none() && (fleet.max > 0 || fleet.master.is_some() || fleet.password_file.is_some()) {
        let key =
            ["fleet_max", "redis_master", "redis_password_file"].into_iter().find(|key| input.gives(key));
        input.warn(key.unwrap_or("fleet_max"), "has no effect without redis_url", "set both or none");
    }
    if upstream.api_key.is_none() {
        let problem = "is empty, so each client's own Authorization is passed on";
        input.warn("upstream_api_key", problem, "set it to let the clients share one key");
    }
    let plain = |url: &BaseUrl| !url.is_https() && !url.is_loopback();
    if upstream.api_key.is_some() && plain(&upstream.url) {
        input.warn("upstream_url", "sends the key unencrypted", "use https");
    }
    if passthrough.api_key.is_some() && passthrough.url.as_ref().is_some_and(plain) {
        input.warn("passthrough_url", "sends the key unencrypted", "use https");
    }
    if passthrough.api_key.is_some() && passthrough.url.is_none() {
        input.warn("passthrough_api_key", "has no effect without passthrough_url", "set both or none");
    }
    if !config.listen.host.is_loopback() && config.clients.tokens.is_empty() {
        let problem = format!("is `{}`, where anyone who can reach it spends the quota", config.listen.host);
        input.warn("listen_host", problem, "set client_tokens");
    }
    let has_rate = limiter.rate_rpm > 0;
    if has_rate && limiter.retreat.min_rpm > limiter.rate_rpm {
        let problem = format!("is `{}`, above rate_rpm", limiter.retreat.min_rpm);
        input.warn("retreat_min_rpm", problem, "the rate is never lowered; make it smaller than rate_rpm");
    }
    if has_rate && input.gives("urgent_reserve") && limiter.urgent_reserve > limiter.rate_rpm / 2 {
        let problem = format!("is `{}`, above half of rate_rpm", limiter.urgent_reserve);
        input.warn("urgent_reserve", problem, format!("{} applies", limiter.rate_rpm / 2));
    }
    let bounds = [
        ("max_body_memory_bytes", front.max_body_memory_bytes, "are refused"),
        ("queue_max_bytes", limiter.queue.max_bytes, "find the queue full"),
    ];
    for (bound, bytes, what) in bounds {
        if front.max_body_bytes > bytes {
            let problem = format!("is `{}`, above {bound}", front.max_body_bytes);
            let remedy = format!("the largest bodies {what}; lower it or raise the other");
            input.warn("max_body_bytes", problem, remedy);
        }
    }
}
