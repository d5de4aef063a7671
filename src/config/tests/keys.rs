//! What is special about single keys: what follows what, what contradicts what, what is cut and what deserves a look.

use std::net::IpAddr;
use std::time::Duration;

use super::super::limiter::QueueFullPolicy;
use super::super::*;
use super::{config, fault_of_variable, faults, load_text};

#[test]
fn three_keys_fall_back_when_they_are_out_of_range_and_complain_about_another_type() {
    for (line, rpm, size, timeout) in [
        ("rate_rpm: 10000001", 40, 500, 0),
        ("rate_rpm: -1", 40, 500, 0),
        ("rate_rpm: 1e30", 40, 500, 0),
        ("rate_rpm: 99999999999999999999999999999999999999999", 40, 500, 0),
        ("rate_rpm: 10000000", 10_000_000, 500, 0),
        ("queue_max_size: 0", 40, 500, 0),
        ("queue_max_size: 1000001", 40, 500, 0),
        ("request_timeout: 0", 40, 500, 0),
        ("request_timeout: -3.5", 40, 500, 0),
        ("request_timeout: 301", 40, 500, 300),
        ("request_timeout: 300", 40, 500, 300),
    ] {
        let (config, warnings) =
            load_text(&format!("{line}\nupstream_api_key: k-0123456789"), &[]).expect(line);
        assert_eq!((config.limiter.rate_rpm, config.limiter.queue.max_size), (rpm, size), "{line}");
        let silence = config.upstream.request_timeout.map_or(0, |silence| silence.as_secs());
        assert_eq!(silence, timeout, "{line}");
        let in_range = line.ends_with("10000000") || line.ends_with(" 300");
        let explained = |line: &String| line.contains("applies") || line.contains("counts as not set");
        assert!(warnings.iter().all(explained), "{warnings:?}");
        assert_eq!(warnings.len(), usize::from(!in_range), "{line}: {warnings:?}");
    }
    for line in
        ["rate_rpm: '40'", "rate_rpm: 1.5", "rate_rpm: .nan", "request_timeout: .inf", "queue_max_size: []"]
    {
        assert_eq!(faults(line).len(), 1, "{line}");
    }
    let (config, warnings) = load_text("", &[("SIDECAR_TIMEOUT", "1000")]).expect("cut");
    assert_eq!(config.upstream.first_byte_timeout, Duration::from_secs(300));
    assert!(
        warnings.iter().any(|line| line.starts_with("SIDECAR_TIMEOUT: request_timeout is `1000`")),
        "{warnings:?}"
    );
}

#[test]
fn one_timeout_stands_for_the_two_that_are_not_given() {
    let timeouts = |file: &str| {
        let upstream = config(file).upstream;
        (upstream.first_byte_timeout.as_secs(), upstream.stream_idle_timeout.as_secs())
    };
    assert_eq!(timeouts(""), (330, 180));
    assert_eq!(timeouts("request_timeout: 60"), (60, 60));
    assert_eq!(timeouts("request_timeout: 60\nstream_idle_timeout: 20"), (60, 20));
    assert_eq!(timeouts("request_timeout: 999\nfirst_byte_timeout: 900"), (900, 300));
    assert_eq!(timeouts("request_timeout: 0"), (330, 180), "out of range is not set");
    let (_, warnings) =
        load_text("request_timeout: 999\nupstream_api_key: k-0123456789", &[]).expect("cut, not refused");
    let line = "test.yaml:1: request_timeout is `999`, out of range; 300 applies; first_byte_timeout and stream_idle_timeout may be longer";
    assert_eq!(warnings, [line]);
    for file in ["first_byte_timeout: 0.5", "stream_idle_timeout: 3601"] {
        assert!(faults(file)[0].contains("from 1 to 3600"), "{file}");
    }
    let running = config("request_timeout: 60\nfirst_byte_timeout: 100");
    let values: serde_json::Map<_, _> = serde_json::from_str(r#"{"rate_rpm": 20}"#).expect("JSON");
    let patched = patch(&running, &values, &["rate_rpm"]).expect("valid");
    assert_eq!(patched.upstream, running.upstream, "a patch leaves what it does not name");
}

#[test]
fn signs_of_life_have_a_form_two_clocks_and_one_for_answers_that_are_not_streams() {
    let keepalive = |file: &str| config(file).keepalive;
    let default = keepalive("");
    assert_eq!((default.mode, default.json), (KeepaliveMode::Auto, None));
    assert_eq!((default.after.as_secs(), default.interval.as_secs()), (40, 15));
    assert_eq!(keepalive("keepalive: off").mode, KeepaliveMode::Off);
    for off in ["off", "'off'", "OFF", "false"] {
        assert_eq!(keepalive(&format!("keepalive_json: {off}")).json, None, "{off}");
    }
    assert_eq!(keepalive("keepalive_json: 25").json, Some(Duration::from_secs(25)));
    assert!(faults("keepalive_json: 0")[0].ends_with("it has to be seconds from 1 to 3600, or off"));
    assert!(faults("keepalive: comments")[0].ends_with("it has to be one of auto, comment, off"));
}

#[test]
fn a_models_rate_has_a_pattern_and_windows_or_a_bound_at_one_time() {
    let rates = |text: &str| config(&format!("model_rates: {text}")).limiter.model_rates;
    let found = rates("[{match: 'deepseek-ai/*', rate: '300/1h, 20/1m'}, {match: '*', in_flight: 32}]");
    assert_eq!(found.len(), 2);
    assert!(found[0].pattern.matches("DeepSeek-AI/deepseek-v4") && !found[0].pattern.matches("meta/llama"));
    let windows: Vec<String> = found[0].windows.iter().map(ToString::to_string).collect();
    assert_eq!((windows, found[0].in_flight), (vec!["20/1m".to_owned(), "300/1h".to_owned()], None));
    assert_eq!((found[1].windows.len(), found[1].in_flight), (0, Some(32)));
    for (text, part) in [
        ("[{rate: 20/1m}]", "has an entry without a match"),
        ("[{match: a}]", "has an entry for `a` without a limit"),
        ("[{match: a, rate: ''}]", "has an entry whose rate is empty"),
        ("[{match: a, rate: 20}]", "has an entry whose rate is `20`"),
        ("[{match: a, rate: '20/1m, 30/60s'}]", "has `20/1m` and `30/1m` for one span"),
        ("[{match: a, rate: 1/s, in_flight: 0}]", "has an entry whose in_flight is `0`, out of range"),
        ("[{match: a, in_flight: 1}, {match: A, in_flight: 2}]", "matches `a` twice"),
        ("[{match: a, burst: 1}]", "has an entry with the unknown key `burst`"),
        ("{a: 20/1m}", "is a map"),
    ] {
        let found = faults(&format!("model_rates: {text}"));
        assert!(found.len() == 1 && found[0].contains(part), "{text}: {found:?}");
    }
    let variable = r#"[{"match": "meta/*", "rate": "5/s"}]"#;
    let (config, _) = load_text("", &[("SIDECAR_MODEL_RATES", variable)]).expect("JSON is YAML");
    assert_eq!(config.limiter.model_rates[0].windows[0].requests, 5);
}

#[test]
fn the_queues_policy_follows_the_fallback_unless_it_is_given() {
    let policy = |file: &str| config(file).limiter.queue.full_policy;
    assert_eq!(policy("fallback_enabled_passthrough: false"), QueueFullPolicy::Reject);
    assert_eq!(policy("fallback_enabled_passthrough: true"), QueueFullPolicy::Passthrough);
    assert_eq!(
        policy("fallback_enabled_passthrough: false\nqueue_full_policy: drop_lowest"),
        QueueFullPolicy::DropLowest
    );
    let (config, _) =
        load_text("fallback_enabled_passthrough: true", &[("SIDECAR_FALLBACK_PASSTHROUGH", "0")])
            .expect("valid");
    assert_eq!(config.limiter.queue.full_policy, QueueFullPolicy::Reject);
}

#[test]
fn two_listeners_need_two_ports_unless_the_system_chooses() {
    assert_eq!(
        faults("listen_port: 9191"),
        ["test.yaml:1: listen_port is `9191`, as is metrics_port; give the two listeners different ports"]
    );
    assert!(
        fault_of_variable("SIDECAR_METRICS_PORT", "9190")
            .starts_with("SIDECAR_METRICS_PORT: metrics_port is `9190`")
    );
    assert_eq!(config("listen_port: 0\nmetrics_port: 0").listen.port, 0);
}

#[test]
fn recovery_lies_below_retreat() {
    assert_eq!(faults("recover_429_threshold: 0.06").len(), 1);
    assert_eq!(config("retreat_429_threshold: 0.02").limiter.retreat.threshold, 0.02);
}

#[test]
fn what_deserves_a_look_is_a_warning() {
    for (file, start) in [
        ("listen_host: 0.0.0.0", "test.yaml:1: listen_host is `0.0.0.0`"),
        ("upstream_url: http://example.org", "test.yaml:1: upstream_url sends the key unencrypted"),
        ("passthrough_api_key: p-0123456789", "test.yaml:1: passthrough_api_key has no effect"),
        ("urgent_reserve: 21", "test.yaml:1: urgent_reserve is `21`, above half of rate_rpm; 20 applies"),
        ("retreat_min_rpm: 50", "test.yaml:1: retreat_min_rpm is `50`"),
        ("queue_max_bytes: 2000", "max_body_bytes is `33554432`, above queue_max_bytes"),
        ("max_body_memory_bytes: 2000", "max_body_bytes is `33554432`, above max_body_memory_bytes"),
    ] {
        let (_, warnings) = load_text(&format!("{file}\nupstream_api_key: k-0123456789"), &[]).expect(file);
        assert!(warnings.len() == 1 && warnings[0].starts_with(start), "{file}: {warnings:?}");
    }
    let no_rate = "rate_rpm: 0\nurgent_reserve: 9\nupstream_api_key: k-0123456789";
    let (config, warnings) = load_text(no_rate, &[]).expect("no rate at all");
    assert_eq!((config.limiter.rate_rpm, warnings), (0, vec![]));
    let quiet = "listen_host: '::1'\nupstream_url: http://localhost:1\nupstream_api_key: k-0123456789";
    assert!(load_text(quiet, &[]).expect("valid").1.is_empty());
}

#[test]
fn a_health_check_asks_this_host_wherever_it_listens() {
    let url = |host: &str| {
        let host: IpAddr = host.parse().expect("an address");
        Listen { host: host.into(), port: 9190, metrics_port: 9191 }.health_url()
    };
    assert_eq!(url("0.0.0.0"), "http://127.0.0.1:9190/health");
    assert_eq!(url("::"), "http://[::1]:9190/health");
    assert_eq!(url("192.168.1.5"), "http://192.168.1.5:9190/health");
}
