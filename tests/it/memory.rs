//! What the process keeps after its busy times.

use crate::ask::{chat, models};
use crate::patience::until;
use crate::process::{Place, Process};
use crate::upstream::Upstream;
use std::fs;

/// What it may keep: a sidecar of a debug build has about 13 MiB when it has just started.
const AT_REST_KIB: u64 = 48 * 1024;

fn resident_kib(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap()
}

fn sidecar(place: &Place, upstream: &Upstream) -> Process {
    let text = format!("upstream_url: {}\nrate_rpm: 1000\nbucket_capacity: 1000", upstream.url("/v1"));
    Process::start(&place.configure(&text))
}

fn assert_memory_comes_back(process: &Process, peak_kib: u64) {
    assert!(peak_kib > 2 * AT_REST_KIB, "the burst took {peak_kib} KiB only");
    until("the memory has come back", || (resident_kib(process) < AT_REST_KIB).then_some(()));
}

#[test]
fn the_memory_of_large_bodies_comes_back() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let process = sidecar(&place, &upstream);
    let text = "x".repeat(20 << 20);
    let mut peak = 0;
    for _ in 0..3 {
        let held: Vec<_> = (0..6).map(|_| upstream.hold()).collect();
        let mut clients: Vec<_> = (0..6).map(|_| process.begin(chat(&text))).collect();
        held.iter().for_each(|answer| drop(answer.request()));
        peak = peak.max(resident_kib(&process));
        held.into_iter().for_each(|answer| answer.answer(200));
        assert!(clients.iter_mut().all(|client| client.answer().status() == 200));
    }
    assert_memory_comes_back(&process, peak);
}

#[test]
fn the_memory_of_heads_that_never_ended_comes_back() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let process = sidecar(&place, &upstream);
    let half = format!("GET /v1/models HTTP/1.1\r\nHost: h\r\nX-Long: {}", "x".repeat(40_000));
    let mut clients: Vec<_> = (0..3000).map(|_| process.connect()).collect();
    for client in &mut clients {
        client.send(&half);
    }
    let peak = until("the heads are held", || {
        let now = resident_kib(&process);
        (now > 2 * AT_REST_KIB).then_some(now)
    });
    drop(clients);
    assert_eq!(process.ask(models()).status(), 200);
    assert_memory_comes_back(&process, peak);
}
