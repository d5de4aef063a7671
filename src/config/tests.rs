//! Loading as its users see it: files and variables in, a configuration or one line per fault out.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::limiter::QueueFullPolicy;
use super::render::render_exposed;
use super::resolve::{Resolved, resolve};
use super::*;

const EXAMPLE: &str = include_str!("../../conf/nvidia-sidecar.yaml");
const VARIABLES: &str = include_str!("../../deploy/nvidia-sidecar.env.example");
const DOCUMENT: &str = include_str!("../../docs/CONFIGURATION.md");

/// What a load says, without touching a file: the configuration and warnings, or the faults, a line each.
fn load_text(file: &str, variables: &[(&str, &str)]) -> Result<(Config, Vec<String>), Vec<String>> {
    let lines = |notices: &[Notice]| notices.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let mut given = file::parse(file, Path::new("test.yaml"), &mut faults);
    let environment: Environment = variables.iter().copied().collect();
    given.overlay(environment.values(&mut faults, &mut warnings));
    let Resolved { config, warnings: more, faults: others } = resolve(given);
    faults.extend(others);
    warnings.extend(more);
    if faults.is_empty() { Ok((config, lines(&warnings))) } else { Err(lines(&faults)) }
}

fn config(file: &str) -> Config {
    load_text(file, &[]).expect(file).0
}

fn faults(file: &str) -> Vec<String> {
    load_text(file, &[]).expect_err(file)
}

fn fault_of_variable(name: &str, value: &str) -> String {
    load_text("", &[(name, value)]).expect_err(value).join("\n")
}

#[test]
fn nothing_given_is_the_defaults_and_a_warning_about_the_key() {
    for file in ["", "\u{feff}", "# only a comment\n", "\n\n", "---\n", "~", "{}", "rate_rpm:\n"] {
        let (config, warnings) = load_text(file, &[]).expect(file);
        assert_eq!(config, Config::default(), "{file:?}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("upstream_api_key is empty"), "{warnings:?}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_an_empty_variable_does_not() {
    let file = "rate_rpm: 30\nlisten_port: 8000\nqueue_max_size: 7\n";
    let (config, _) = load_text(file, &[("SIDECAR_RATE_RPM", " 20 "), ("SIDECAR_PORT", "")]).expect("valid");
    assert_eq!((config.limiter.rate_rpm, config.listen.port, config.limiter.queue.max_size), (20, 8000, 7));
}

#[test]
fn the_file_is_flat_and_the_configuration_a_tree() {
    let config = config(
        "\u{feff}listen_host: localhost\nrequest_timeout: 2.5\nretry_on: [503, connect, 429, 503]\n\
         nvidia_gateways: [' NVIDIA ', Other]\naging_seconds: 0\nlog_level: warning\nlog_format: JSON\n\
         passthrough_url: http://127.0.0.1:11434/v1/\nstate_file: /var/lib/x/state\n\
         client_tokens: {a: secret-one, b: secret-two}\ncors_origins: ['https://Chat.example.org', app://]\n\
         agents:\n  - {name: p}\n  - {name: q, label: 'Q, the second', heartbeat_seconds: 900}\n",
    );
    assert!(config.listen.host.is_loopback());
    assert_eq!(config.upstream.request_timeout, Some(Duration::from_millis(2500)));
    assert_eq!(config.upstream.retry_on, RetryOn { statuses: vec![429, 503], connect: true });
    assert_eq!(config.routing.gateways, ["nvidia", "other"]);
    assert_eq!(config.limiter.queue.aging, Duration::ZERO);
    assert_eq!(config.log, Log { level: ::log::LevelFilter::Warn, format: LogFormat::Json });
    assert_eq!(config.passthrough.url.expect("set").to_string(), "http://127.0.0.1:11434/v1");
    assert_eq!(config.state_file, Some(PathBuf::from("/var/lib/x/state")));
    assert_eq!(config.clients.tokens["b"].expose(), "secret-two");
    assert_eq!(config.clients.cors_origins, ["https://chat.example.org", "app://"]);
    let agent = |name: &str, label: &str, secs| Agent {
        name: name.into(),
        label: label.into(),
        heartbeat: Duration::from_secs(secs),
    };
    assert_eq!(config.agents, [agent("p", "p", 600), agent("q", "Q, the second", 900)]);
}

#[test]
fn variables_write_lists_with_commas_and_tokens_with_equals_signs() {
    let variables = [
        ("SIDECAR_RETRY_ON", "[429, 502]"),
        ("SIDECAR_NVIDIA_GATEWAYS", "nvidia, NV2,"),
        ("SIDECAR_CORS_ORIGINS", "[]"),
        ("SIDECAR_CLIENT_TOKENS", "a=secret==,b=other"),
        ("SIDECAR_STRIP_GATEWAY_PREFIX", "Yes"),
    ];
    let (config, _) = load_text("cors_origins: ['*']", &variables).expect("valid");
    assert_eq!(config.upstream.retry_on, RetryOn { statuses: vec![429, 502], connect: false });
    assert_eq!(config.routing.gateways, ["nvidia", "nv2"]);
    assert!(config.clients.cors_origins.is_empty() && config.routing.strip_prefix);
    assert_eq!(config.clients.tokens["a"].expose(), "secret==");
}

#[test]
fn all_faults_come_at_once_with_place_key_value_and_remedy() {
    let file =
        "# top\nlisten_port: 70000\nrate_rmp: 3\n\nlog_level: loud\nlog_level: INFO\nqueue_timeout: '5'\n";
    let environment = [("SIDECAR_MAX_ATTEMPTS", "many")];
    let found = load_text(file, &environment).expect_err("faulty");
    assert_eq!(
        found,
        [
            "test.yaml:3: unknown key `rate_rmp`; did you mean `rate_rpm`?",
            "test.yaml:6: log_level is set twice; keep one of them",
            "test.yaml:2: listen_port is `70000`, out of range; it has to be a whole number from 0 to 65535",
            "SIDECAR_MAX_ATTEMPTS: max_attempts is `many`; it has to be a whole number from 1 to 100",
            "test.yaml:7: queue_timeout is the text `5`; it has to be seconds from 0.001 to 86400",
            "test.yaml:5: log_level is the text `loud`; it has to be one of ERROR, WARN, WARNING, INFO, DEBUG, TRACE, OFF",
        ]
        .map(String::from)
    );
}

#[test]
fn three_keys_fall_back_when_they_are_out_of_range_and_complain_about_another_type() {
    for (line, rpm, size, timeout) in [
        ("rate_rpm: 0", 40, 500, 0),
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
fn a_proxys_password_is_in_no_notice_and_not_in_what_check_shows() {
    let secret = "Zq8secret7f";
    for text in [
        format!("http://user:{secret}@proxy.lan:port"),
        format!("http://user:{secret}"),
        format!("socks5://user:{secret}@proxy.lan"),
        format!("http://{secret} x@proxy.lan"),
        format!("[{secret}]"),
    ] {
        let found = faults(&format!("outbound_proxy: {text}")).join("\n");
        assert!(!found.contains(secret), "{found}");
    }
    let config = config(&format!("outbound_proxy: http://user:{secret}@proxy.lan:3128"));
    let shown = format!("{config:?}{}{:?}", render_effective(&config), effective_json(&config));
    assert!(!shown.contains(secret) && shown.contains("http://…@proxy.lan:3128"), "{shown}");
    let held = reload(&Config::default(), &config);
    assert!(!format!("{held:?}").contains(secret));
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
fn a_placeholder_is_refused_as_such() {
    for file in
        ["upstream_api_key: nvapi-REPLACE_ME", "admin_token: <your token>", "client_tokens: {a: CHANGE_ME}"]
    {
        let found = faults(file);
        assert!(found.len() == 1 && found[0].contains("placeholder"), "{found:?}");
    }
    assert!(fault_of_variable("SIDECAR_API_KEY", "${NVIDIA_API_KEY}").contains("placeholder"));
}

#[test]
fn no_notice_repeats_a_secret() {
    let secret = "Zq8secret7f";
    let files = [
        format!("upstream_api_key: [{secret}]"),
        format!("upstream_api_key: 'two words {secret}'"),
        format!("upstream_url: https://user:{secret}@host/v1"),
        format!("upstream_url: https://host/v1?key={secret}"),
        format!("passthrough_url: user:{secret}@host"),
        format!("client_tokens: {{a: {secret}, b: {secret}}}"),
        format!("client_tokens: {{a: {secret}, a: other}}"),
        format!("client_tokens: {secret}"),
        format!("nvapi-{secret}: 1"),
        format!("api_key: {secret}"),
        format!("listen_host: nvapi-{secret}"),
        format!("nvapi-{secret}"),
        format!("upstream_api_key=nvapi-{secret}\nrate_rpm: 1"),
        format!("upstream_api_key: *{secret}"),
        format!("agents: [{{name: a, token: {secret}}}]"),
        format!("client_tokens: {{nvapi-{secret}: [*nowhere]}}"),
    ];
    for file in &files {
        let found = faults(file).join("\n");
        assert!(!found.contains(secret), "{file} gives {found}");
    }
    for (name, value) in [("SIDECAR_CLIENT_TOKENS", secret), ("SIDECAR_API_KEY", "Zq8secret7f\u{1}")] {
        assert!(!fault_of_variable(name, value).contains(secret), "{name}");
    }
    let file = format!("upstream_api_key: {secret}\nadmin_token: {secret}\nclient_tokens: {{a: {secret}}}");
    let config = config(&file);
    let shown = format!("{config:?}{}", render_effective(&config));
    assert!(!shown.contains(secret) && shown.contains("Zq8s…"), "{shown}");
    let environment: Environment = [("SIDECAR_API_KEY", secret)].into_iter().collect();
    assert!(!format!("{environment:?}").contains(secret));
}

#[test]
fn broken_files_are_one_line_each() {
    for file in [
        "rate_rpm: [",
        "rate_rpm: 1\n\tx: 2",
        "- a\n- b",
        "just text",
        "rate_rpm: 1\n---\nrate_rpm: 2",
        "rate_rpm: *nowhere",
        "? [a]\n: b",
        "rate_rpm: !tag 5",
        "<<: {rate_rpm: 5}",
        "\0",
    ] {
        let found = faults(file);
        assert_eq!(found.len(), 1, "{file:?}: {found:?}");
        assert!(found[0].starts_with("test.yaml") && found[0].lines().count() == 1, "{file:?}: {found:?}");
    }
}

#[test]
fn a_bomb_of_aliases_or_brackets_is_refused_before_it_fills_the_memory() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    assert_eq!(faults(&bomb).len(), 1);
    assert_eq!(faults(&format!("agents: {}", "[".repeat(20_000))).len(), 1);
    let many: String = (0..20_000).map(|i| format!("k{i}: 1\n")).collect();
    assert_eq!(faults(&many), ["test.yaml: holds 20000 keys; docs/CONFIGURATION.md lists those there are"]);
}

#[test]
fn a_file_that_cannot_be_read_names_itself() {
    let environment = Environment::default();
    for path in ["/nonexistent/sidecar.yaml", "/", "/dev/zero"] {
        let found = load(Some(Path::new(path)), &environment).expect_err(path).to_string();
        assert!(found.starts_with(&format!("{path}: ")) && found.lines().count() == 1, "{found}");
    }
    let environment: Environment = [(CONFIG_VARIABLE, "/nonexistent/other.yaml")].into_iter().collect();
    assert!(
        load(None, &environment).expect_err("missing").to_string().starts_with("/nonexistent/other.yaml: ")
    );
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/nvidia-sidecar.yaml");
    let loaded = load(Some(&example), &environment).expect("the argument wins over the variable");
    assert_eq!((loaded.config, loaded.file), (Config::default(), Some(example)));
}

#[test]
fn the_example_of_agents_has_both_classes() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/agents.example.yaml");
    let loaded = load(Some(&example), &Environment::default()).expect("a configuration of its own");
    let intervals: Vec<u64> = loaded.config.agents.iter().map(|agent| agent.heartbeat.as_secs()).collect();
    assert_eq!(intervals, [600, 600, 600, 900, 900]);
}

#[test]
fn an_unknown_variable_is_a_warning_and_one_that_is_no_text_a_fault() {
    let (_, warnings) =
        load_text("", &[("SIDECAR_RATE_RMP", "5"), ("SIDECAR_PORT_9190_TCP", "x")]).expect("valid");
    let line = "SIDECAR_RATE_RMP: is not a variable that the sidecar knows, and is ignored; did you mean SIDECAR_RATE_RPM?";
    assert!(warnings.contains(&line.to_owned()), "{warnings:?}");
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![b'4', 0xff]);
    let environment: Environment = [(OsString::from("SIDECAR_RATE_RPM"), odd)].into_iter().collect();
    let found = load(None, &environment).expect_err("no text").to_string();
    assert_eq!(found, "SIDECAR_RATE_RPM: rate_rpm is not UTF-8 text; set it to plain text");
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
    let quiet = "listen_host: '::1'\nupstream_url: http://localhost:1\nupstream_api_key: k-0123456789";
    assert!(load_text(quiet, &[]).expect("valid").1.is_empty());
}

#[test]
fn every_key_of_the_table_is_read_from_the_file_and_from_its_variable() {
    for key in KEYS.iter() {
        let found = faults(&format!("{}: {{'?': [{{}}]}}", key.name));
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("test.yaml:1: {} ", key.name)),
            "{found:?}"
        );
        let own = format!("SIDECAR_{}", key.name.to_ascii_uppercase());
        for variable in [&key.variable, &own] {
            let odd = fault_of_variable_or_text(variable);
            assert!(odd.is_empty() || odd.starts_with(&format!("{variable}: {} ", key.name)), "{odd}");
        }
    }
    let variables: BTreeSet<_> = KEYS.iter().map(|key| key.variable.as_str()).collect();
    assert_eq!(variables.len(), KEYS.len(), "no two keys have the same variable");
    assert!(variables.iter().all(|name| name.starts_with("SIDECAR_")));
}

#[test]
fn two_variables_of_one_key_have_to_agree() {
    let both = |own: &str| load_text("", &[("SIDECAR_PORT", "8000"), ("SIDECAR_LISTEN_PORT", own)]);
    assert_eq!(both("8000").expect("the same").0.listen.port, 8000);
    assert_eq!(both("").expect("an empty one is not set").0.listen.port, 8000);
    assert_eq!(
        both("8001").expect_err("another value"),
        [
            "SIDECAR_PORT: listen_port is given another value by SIDECAR_LISTEN_PORT; keep one of the two variables"
        ]
    );
    let keys = [("SIDECAR_API_KEY", "k-0123456789"), ("SIDECAR_UPSTREAM_API_KEY", "k-9876543210")];
    let found = load_text("", &keys).expect_err("two keys").join("\n");
    assert!(!found.contains("0123") && !found.contains("9876"), "{found}");
}

#[test]
fn quotes_and_bearer_in_a_value_are_named() {
    for (name, value) in [
        ("SIDECAR_API_KEY", "\"nvapi-0123456789\""),
        ("SIDECAR_API_KEY", "'nvapi-0123456789'"),
        ("SIDECAR_RATE_RPM", "\"40\""),
        ("SIDECAR_STATE_FILE", "'/var/lib/x'"),
        ("SIDECAR_UPSTREAM", "\"https://host/v1\""),
    ] {
        let found = fault_of_variable(name, value);
        assert!(found.contains("has quotes around its value") && !found.contains("nvapi"), "{found}");
    }
    for file in ["upstream_api_key: Bearer nvapi-0123456789", "client_tokens: {a: bearer secret}"] {
        let found = faults(file);
        assert!(found.len() == 1 && found[0].contains("begins with `Bearer `"), "{found:?}");
    }
}

#[test]
fn a_variable_writes_a_list_of_maps_as_yaml_does_in_one_line() {
    let variable = |text| load_text("", &[("SIDECAR_AGENTS", text)]);
    let (config, _) = variable("[{name: a, heartbeat_seconds: 5}, {name: b}]").expect("valid");
    assert_eq!(config.agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(config.agents[0].heartbeat, Duration::from_secs(5));
    for text in ["[{name: a}, {name: a}]", "[{name: a}", "{name: a}", "a, b"] {
        assert_eq!(variable(text).expect_err(text).len(), 1, "{text}");
    }
}

fn fault_of_variable_or_text(variable: &str) -> String {
    load_text("", &[(variable, "\u{1}/")]).err().unwrap_or_default().join("\n")
}

#[test]
fn the_example_file_holds_every_key_with_a_comment_at_its_default() {
    assert_eq!(config(EXAMPLE), Config::default());
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut places = Vec::new();
    for key in KEYS.iter() {
        let line = match (key.name, key.default.as_str()) {
            (name, "") => format!("# {name}:"),
            // Written down, they would make the key that chooses their default idle.
            (name @ ("queue_full_policy" | "first_byte_timeout" | "stream_idle_timeout"), default) => {
                format!("# {name}: {default}")
            }
            (name, default) => format!("{name}: {default}"),
        };
        let at =
            lines.iter().position(|found| *found == line).unwrap_or_else(|| panic!("`{line}` is missing"));
        let comment: Vec<&str> =
            lines[..at].iter().rev().take_while(|line| line.starts_with('#')).copied().collect();
        let comment =
            comment.iter().rev().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join(" ");
        let restart = if key.reload == Reload::Restart { " (restart)" } else { "" };
        assert_eq!(
            comment,
            format!("{}{restart} [{}]", key.doc.replace('`', ""), key.variable),
            "{}",
            key.name
        );
        places.push(at);
    }
    assert!(places.is_sorted(), "the table and the file have the same order");
}

#[test]
fn the_example_of_an_environment_holds_every_variable_at_its_default() {
    let given: BTreeMap<&str, &str> = VARIABLES
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .filter(|(name, _)| name.starts_with("SIDECAR_"))
        .collect();
    // Lists of maps belong into a file.
    let in_the_file = ["agents", "model_rates"];
    for key in KEYS.iter().filter(|key| !in_the_file.contains(&key.name)) {
        let default = key.default.trim_matches(['[', ']', '{', '}', '"']).replace(", ", ",");
        let default = match key.name {
            "upstream_api_key" => "nvapi-REPLACE_ME",
            // The unit sets it.
            "state_file" => "/var/lib/nvidia-sidecar/state",
            _ => &default,
        };
        assert_eq!(given.get(key.variable.as_str()), Some(&default), "{}", key.variable);
    }
    assert_eq!(given.len(), KEYS.len() - in_the_file.len(), "no other variables");
}

#[test]
fn the_document_holds_the_table() {
    let code = |text: &str| if text.is_empty() { "none".to_owned() } else { format!("`{text}`") };
    let rows: Vec<String> =
        DOCUMENT.lines().filter(|line| line.starts_with("| `")).map(String::from).collect();
    let expected: Vec<String> = KEYS
        .iter()
        .map(|key| {
            let reload = if key.reload == Reload::Live { "live" } else { "restart" };
            let (variable, default) = (code(&key.variable), code(&key.default));
            format!("| `{}` | {variable} | {default} | {reload} | {} |", key.name, key.doc)
        })
        .collect();
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len());
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

#[test]
fn a_patch_changes_all_it_names_or_nothing() {
    let allowed = ["rate_rpm", "queue_max_size", "fallback_enabled_passthrough", "queue_full_policy"];
    let patched = |json: &str| {
        let values: serde_json::Map<_, _> = serde_json::from_str(json).expect("JSON");
        patch(&config("retreat_min_rpm: 3\nqueue_full_policy: drop_lowest"), &values, &allowed)
    };
    let config = patched(r#"{"rate_rpm": 20, "queue_max_size": 9}"#).expect("valid");
    assert_eq!(
        (config.limiter.rate_rpm, config.limiter.queue.max_size, config.limiter.retreat.min_rpm),
        (20, 9, 3)
    );
    assert_eq!(config.limiter.queue.full_policy, QueueFullPolicy::DropLowest);
    let config = patched(r#"{"fallback_enabled_passthrough": false}"#).expect("valid");
    assert_eq!(config.limiter.queue.full_policy, QueueFullPolicy::Reject);
    let found = patched(r#"{"rate_rpm": 0, "admin_token": "x", "queue_max_size": "9"}"#).expect_err("faulty");
    assert_eq!(found.notices().len(), 3, "{found}");
    assert!(found.to_string().contains("rate_rpm is `0`, out of range"), "{found}");
}

/// Text that is near enough to a configuration file to get past the parser now and then.
fn near_files() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = KEYS.iter().map(|key| key.name).chain(["nope", "<<"]).collect();
    let values = prop_oneof![
        "[ -~]{0,12}",
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        (0..2000u32).prop_map(|number| number.to_string()),
        Just("true".to_owned()),
        Just("[429, connect]".to_owned()),
        "[{]a: [a-z0-9=%]{1,9}, b: [A-Z]{9}[}]",
        "https?://[a-z.]{1,9}(:[0-9]{1,4})?/[a-z]{0,3}",
        "(auto|never|learned|reject|debug|json|'::1'|/tmp/é\u{1f600})",
        "[\\[][{]match: '[a-z*/]{1,9}', rate: '[1-9]/[1-9]?[smhd](, [1-9]/[smhd])?'(, in_flight: [1-9])?[}][\\]]",
        "(http://)?([a-z%:]{1,9}@)?[a-z.]{1,9}(:[0-9]{1,4})?/?",
        "[\\[]('[a-z]{1,5}://[a-z]{0,9}', ?){0,3}[\\]]",
        "[\\[][{]name: [a-z]{1,3}, label: '[ -&(-~é]{0,9}', heartbeat_seconds: [1-9]{1,3}[.][0-9][}][\\]]",
    ];
    let line = (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key}: {value}\n"));
    prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn any_bytes_as_a_file_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_text(&String::from_utf8_lossy(&bytes), &[]);
    }

    #[test]
    fn any_text_as_a_variable_makes_no_panic_and_one_line_a_fault(
        index in 0..KEYS.len(),
        text in ".{0,40}",
    ) {
        let variable = KEYS[index].variable.as_str();
        for line in load_text("", &[(variable, &text)]).err().unwrap_or_default() {
            prop_assert_eq!(line.lines().count(), 1, "{:?}", line);
        }
    }

    #[test]
    fn what_is_accepted_renders_and_loads_back(file in near_files()) {
        match load_text(&file, &[]) {
            Ok((config, _)) => {
                let rendered = render_exposed(&config);
                let again = load_text(&rendered, &[]);
                prop_assert_eq!(again.map(|(config, _)| config), Ok(config), "{}", rendered);
            }
            Err(lines) => prop_assert!(lines.iter().all(|line| line.lines().count() == 1), "{:?}", lines),
        }
    }

    #[test]
    fn a_reload_of_anything_keeps_what_needs_a_restart(file in near_files(), port in 1024..9000u16) {
        let Ok((loaded, _)) = load_text(&file, &[]) else { return Ok(()) };
        let running = config(&format!("listen_port: {port}\nstate_file: /a\nlog_format: text\nrate_rpm: 33"));
        let reloaded = reload(&running, &loaded);
        let shown = [&running, &loaded, &reloaded.config].map(render::values);
        for (index, key) in KEYS.iter().enumerate() {
            let [running, loaded, merged] = [0, 1, 2].map(|which: usize| &shown[which][index].1);
            let kept = match key.reload { Reload::Restart => running, Reload::Live => loaded };
            prop_assert_eq!(merged, kept, "{}", key.name);
            let held = reloaded.held.iter().any(|held| held.key == key.name);
            prop_assert_eq!(held, key.reload == Reload::Restart && running != loaded, "{}", key.name);
            let changed = reloaded.changed.contains(&key.name);
            prop_assert_eq!(changed, key.reload == Reload::Live && running != loaded, "{}", key.name);
        }
    }
}
