//! The command line: the start that fails, the check, the health check.

use crate::process::{Place, Process, run};
use crate::upstream::Upstream;
use rustix::process::Signal;
use std::fs;
use std::net::TcpListener;

fn yaml(upstream: &Upstream, more: &str) -> String {
    format!("upstream_url: {}\n{more}\n", upstream.url("/v1"))
}

#[test]
fn a_port_that_is_taken_is_one_clear_line_and_status_1() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let path = place.file("sidecar.yaml");
    fs::write(&path, yaml(&upstream, &format!("listen_port: {port}\nmetrics_port: 0"))).unwrap();
    let output = run(&["--config", path.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(told.contains(&port.to_string()) && told.contains("listen_port"), "{told}");
}

#[test]
fn check_prints_every_key_and_masks_secrets() {
    let place = Place::new();
    let path =
        place.configure("upstream_api_key: nvapi-very-secret\nadmin_token: another-secret\nrate_rpm: 17");
    let tokens = [("SIDECAR_CLIENT_TOKENS", "planner=third-secret")];
    let output = run(&["--check", "--config", path.to_str().unwrap()], &tokens);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("rate_rpm: 17") && told.contains("nvap"), "{told}");
    for key in nvidia_sidecar::config::KEYS.iter() {
        assert!(told.contains(key.name), "{}", key.name);
    }
    for secret in ["secret", "nvapi-"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[test]
fn check_is_as_strict_as_the_start_and_leaves_files_as_they_are() {
    let place = Place::new();
    let foreign = place.file("foreign");
    fs::write(&foreign, "precious\n").unwrap();
    let foreign = foreign.to_str().unwrap();
    for (line, parts) in [
        (format!("state_file: {foreign}"), vec!["state_file", foreign, "not a state file"]),
        ("state_file: /nonexistent/state".into(), vec!["state_file", "/nonexistent/state"]),
        (format!("upstream_ca_file: {foreign}"), vec!["upstream_ca_file", foreign]),
        ("upstream_ca_file: /nonexistent/ca.pem".into(), vec!["upstream_ca_file", "/nonexistent/ca.pem"]),
        ("upstream_url: https://h/v1/chat/completions".into(), vec!["upstream_url", "/chat/completions"]),
    ] {
        let path = place.configure(&line);
        for arguments in [&["--check", "--config"][..], &["--config"]] {
            let output = run(&[arguments, &[path.to_str().unwrap()]].concat(), &[]);
            assert_eq!(output.status.code(), Some(2), "{line}");
            let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(parts.iter().all(|part| told.contains(part)), "{line}: {told}");
        }
    }
    // A running sidecar reads these each time that it connects.
    for key in ["redis_password_file", "redis_ca_file"] {
        let path = place.configure(&format!("redis_url: rediss://127.0.0.1:1\n{key}: /nonexistent/{key}"));
        let output = run(&["--check", "--config", path.to_str().unwrap()], &[]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(2) && told.contains(&format!("{key} /nonexistent/{key}")),
            "{told}"
        );
    }
    assert_eq!(fs::read_to_string(foreign).unwrap(), "precious\n");
}

#[test]
fn a_wrong_configuration_is_status_2_and_names_file_key_and_value() {
    let place = Place::new();
    let path = place.configure("request_timeout: soon");
    for arguments in [&["--check", "--config"][..], &["--config"]] {
        let arguments = [arguments, &[path.to_str().unwrap()]].concat();
        let output = run(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        for part in ["sidecar.yaml", "request_timeout", "soon"] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
    let missing = run(&["--config", "/does/not/exist.yaml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    let same = run(&["--check"], &[("SIDECAR_PORT", "9000"), ("SIDECAR_METRICS_PORT", "9000")]);
    assert_eq!(same.status.code(), Some(2));
}

#[test]
fn the_environment_wins_over_the_file() {
    let place = Place::new();
    let path = place.configure("rate_rpm: 17");
    let variables = [("SIDECAR_CONFIG", path.to_str().unwrap()), ("SIDECAR_RATE_RPM", "23")];
    let told = String::from_utf8(run(&["--check"], &variables).stdout).unwrap();
    assert!(told.contains("rate_rpm: 23"), "{told}");
}

#[test]
fn the_healthcheck_knows_a_living_sidecar_from_a_dead_one() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&yaml(&upstream, "")));
    let url = format!("http://{}/health", process.address());
    assert_eq!(run(&["healthcheck", "--url", &url], &[]).status.code(), Some(0));
    process.signal(Signal::TERM);
    assert_eq!(process.end().code(), Some(0));
    let dead = run(&["healthcheck", "--url", &url], &[]);
    assert_eq!(dead.status.code(), Some(1));
    assert_eq!(String::from_utf8(dead.stderr).unwrap().lines().count(), 1);
}
