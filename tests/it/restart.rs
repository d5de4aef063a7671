//! What outlives the process: the window, in the state file.

use crate::ask::chat;
use crate::client::Client;
use crate::process::{Place, Process, yaml};
use crate::upstream::Upstream;
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn a_full_window_outlives_a_kill() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let state = place.file("window.state");
    let more = format!("rate_rpm: 5\nbucket_capacity: 5\nurgent_reserve: 0\nstate_file: {}", state.display());
    let path = place.configure(&yaml(&upstream, &more));
    let mut process = Process::start(&path);
    let waiting: Vec<Client> = (0..8).map(|_| process.begin(chat("before"))).collect();
    upstream.wait_for(5);
    process.wait_for_queue(3);
    process.signal(Signal::KILL);
    process.end();
    drop(waiting);
    for _ in 0..2 {
        let mut process = Process::start(&path);
        for _ in 0..3 {
            let answer = process.ask(chat("after").field("X-Sidecar-Max-Wait", "1"));
            answer.assert_error(429, "RateLimitedError");
            assert!(answer.head.number("retry-after") > 1);
        }
        process.signal(Signal::KILL);
        process.end();
    }
    assert_eq!(upstream.most_within(Duration::from_secs(60)), 5);
}

#[test]
fn however_often_it_is_killed_in_a_burst_the_upstream_never_counts_too_many() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let more = format!(
        "rate_rpm: 6\nbucket_capacity: 6\nurgent_reserve: 0\nstate_file: {}",
        place.file("window.state").display()
    );
    let path = place.configure(&yaml(&upstream, &more));
    for round in 1..=4 {
        let mut process = Process::start(&path);
        let clients: Vec<Client> = (0..3).map(|_| process.begin(chat("burst"))).collect();
        // Some of them are on their way, some may not be.
        upstream.wait_for(round.min(2));
        process.signal(Signal::KILL);
        process.end();
        drop(clients);
    }
    assert!(upstream.most_within(Duration::from_secs(60)) <= 6, "{}", upstream.received().len());
}
