//! Loading as its users see it: files and variables in, a configuration or one line per fault out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limiter::QueueFullPolicy;
use super::resolve::{Resolved, resolve};
use super::*;

mod documents;
mod keys;
mod properties;
mod secrets;

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
    let agent = |name: &str, label: &str, secs| Agent::new(name, label, Duration::from_secs(secs));
    let unsaid = Agent { figures: Figures::default(), ..agent("p", "p", 600) };
    assert_eq!(config.agents, [unsaid, agent("q", "Q, the second", 900)]);
}

#[test]
fn an_agent_says_what_differs_from_its_class() {
    let config = config(
        "classes: [{name: night, heartbeat_seconds: 1800, stagnation_warning: 600, max_rounds: 7}]\n\
         agents:\n  - {name: a, class: night}\n  - {name: b, class: business, max_rounds: 5}\n  - {name: c}\n  \
         - {name: d, class: development, stagnation_warning: 60}\n",
    );
    let expected = |agent: usize| {
        let of = config.agents[agent].expected();
        let times = [of.heartbeat, of.stagnation_warning, of.stagnation_critical].map(|time| time.as_secs());
        (times, of.max_rounds)
    };
    assert_eq!(expected(0), ([1800, 600, 1200], Some(7)));
    assert_eq!(expected(1), ([900, 5400, 10_800], Some(5)));
    assert_eq!(expected(2), ([600, 3600, 7200], None));
    assert_eq!(expected(3), ([900, 60, 120], Some(100)), "the critical figure follows the warning's");
    assert!(faults("agents: [{name: a, class: dayy}]")[0].contains("dayy"));
    assert!(
        faults("agents: [{name: a, stagnation_warning: 9, stagnation_critical: 3}]")[0].contains("critical")
    );
    assert!(faults("classes: [{name: a}, {name: a}]")[0].contains("twice"));
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
fn a_variable_writes_a_list_of_maps_as_yaml_does_in_one_line() {
    let variable = |text| load_text("", &[("SIDECAR_AGENTS", text)]);
    let (config, _) = variable("[{name: a, heartbeat_seconds: 5}, {name: b}]").expect("valid");
    assert_eq!(config.agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(config.agents[0].expected().heartbeat, Duration::from_secs(5));
    for text in ["[{name: a}, {name: a}]", "[{name: a}", "{name: a}", "a, b"] {
        assert_eq!(variable(text).expect_err(text).len(), 1, "{text}");
    }
}

fn fault_of_variable_or_text(variable: &str) -> String {
    load_text("", &[(variable, "\u{1}/")]).err().unwrap_or_default().join("\n")
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
    let found =
        patched(r#"{"rate_rpm": -1, "admin_token": "x", "queue_max_size": "9"}"#).expect_err("faulty");
    assert_eq!(found.notices().len(), 3, "{found}");
    assert!(found.to_string().contains("rate_rpm is `-1`, out of range"), "{found}");
}
