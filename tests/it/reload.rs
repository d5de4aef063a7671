//! A reload: what it changes at once, what it keeps for a restart, and what it refuses.

use crate::ask::{ask, chat};
use crate::client::Client;
use crate::patience::until;
use crate::process::{ConfigFile, Place, Process, yaml};
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::Upstream;
use rustix::process::Signal;

#[test]
fn a_reload_puts_live_keys_into_force_and_touches_no_connection_and_no_job() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "max_in_flight: 1\nrate_rpm: 600"));
    let mut process = file.start();
    let slot = upstream.hold();
    let mut first = process.begin(chat("in flight"));
    slot.request();
    let mut second = process.begin(chat("queued"));
    process.wait_for_queue(1);
    let mut kept = process.connect();

    file.write(&yaml(
        &upstream,
        "max_in_flight: 1\nrate_rpm: 30\nqueue_max_size: 7\nlog_format: text\nmax_attempts: 2\nagents: [{name: planner}]",
    ));
    process.signal(Signal::HUP);
    let held = process.await_line("until a restart");
    assert!(held.contains("log_format stays"), "{held}");
    let changed = process.await_line("reload: changed");
    for key in ["rate_rpm", "queue_max_size", "max_attempts", "agents"] {
        assert!(changed.contains(key), "{key} is not in {changed}");
    }
    let now = process.status();
    assert_eq!(now["retreat"]["base_rpm"], 30.0);
    assert_eq!(now["token_bucket"]["rate_per_minute"], 30.0);
    assert_eq!(now["queue"]["max_size"], 7);
    assert_eq!(now["queue"]["current_size"], 1, "the job still waits");
    assert_eq!(now["agents"][0]["name"], "planner");

    slot.answer(200);
    assert_eq!(first.answer().status(), 200);
    assert_eq!(second.answer().status(), 200);
    kept.send(Vec::from(ask("GET", "/health")));
    assert_eq!(kept.answer().status(), 200, "a connection from before the reload serves on");
    assert!((process.metric("sidecar_config_reloads_total{result=\"success\"}") - 1.0).abs() < 0.1);
}

#[test]
fn a_broken_file_changes_nothing_and_is_counted_until_it_is_mended() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "rate_rpm: 33"));
    let mut process = file.start();
    let read_at = process.metric("sidecar_config_last_reload_success_timestamp_seconds");
    file.write(&yaml(&upstream, "rate_rpm: 22\nno_such_key: 1\nqueue_max_bytes: many"));
    process.signal(Signal::HUP);
    let faults = [process.await_line("reload: "), process.await_line("reload: ")];
    assert!(faults.iter().any(|line| line.contains("no_such_key")), "{faults:?}");
    assert!(faults.iter().any(|line| line.contains("queue_max_bytes")), "{faults:?}");
    process.await_line("nothing was changed");
    until("the failure is counted", || {
        (process.metric("sidecar_config_last_reload_successful") < 0.5).then_some(())
    });
    assert_eq!(process.status()["retreat"]["base_rpm"], 33.0);
    assert!((process.metric("sidecar_config_reloads_total{result=\"failure\"}") - 1.0).abs() < 0.1);
    assert!((process.metric("sidecar_config_last_reload_success_timestamp_seconds") - read_at).abs() < 1e-6);

    file.write(&yaml(&upstream, "rate_rpm: 22"));
    process.signal(Signal::HUP);
    process.await_line("reload: changed rate_rpm");
    assert_eq!(process.status()["retreat"]["base_rpm"], 22.0);
    until("the success is seen", || {
        (process.metric("sidecar_config_last_reload_successful") > 0.5).then_some(())
    });
    assert!(process.metric("sidecar_config_last_reload_success_timestamp_seconds") > read_at);
}

#[test]
fn a_key_that_needs_a_restart_is_named_and_keeps_its_value() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let text = yaml(&upstream, "");
    let path = place.configure(&text);
    let mut process = Process::start(&path);
    place.configure(&format!("{text}\nstate_file: {}", place.file("state").display()));
    process.signal(Signal::HUP);
    process.await_line("state_file stays");
    assert_eq!(process.ask(chat("a")).status(), 200);
    assert!(!place.file("state").exists());
}

#[test]
fn a_queue_bound_below_the_present_depth_is_refused_with_both_numbers() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| scarce(c, 1));
    assert_eq!(sidecar.ask(chat("takes the ticket")).status(), 200);
    let _waiting: Vec<Client> = (1..=3).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    let mut config = (*sidecar.app().config()).clone();
    config.limiter.queue.max_size = 2;
    let error = sidecar.app().reload(&config).expect_err("it does not fit").to_string();
    assert!(error.contains('2') && error.contains('3'), "{error}");
    assert_eq!(sidecar.status()["queue"]["max_size"], 500);
}
