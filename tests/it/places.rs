//! A place that outlives its client's own time-out: who gives up and asks again stands where it stood.

use crate::ask::{Ask, ask, chat};
use crate::queue::Jam;
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::Upstream;
use std::time::Duration;

/// A chat of this client; its text is its name.
fn of(client: &str) -> Ask {
    chat(client).field("X-Agent-Id", client)
}

#[test]
fn a_client_that_hangs_up_and_asks_again_has_the_place_that_it_had() {
    let jam = Jam::new(|_| {});
    let mut impatient = jam.sidecar.queue(of("impatient"), 1);
    let mut waiting = vec![jam.sidecar.queue(of("b"), 2), jam.sidecar.queue(of("c"), 3)];
    for _ in 0..5 {
        drop(impatient);
        jam.sidecar.wait_for_queue(2);
        // Fields do not count: an SDK says which retry it is.
        impatient = jam.sidecar.queue(of("impatient").field("X-Stainless-Retry-Count", "1"), 3);
    }
    waiting.push(impatient);
    assert_eq!(jam.order(waiting), ["impatient", "b", "c"]);
}

#[test]
fn another_request_of_the_same_client_is_new() {
    let jam = Jam::new(|_| {});
    drop(jam.sidecar.queue(of("a"), 1));
    jam.sidecar.wait_for_queue(0);
    let waiting = vec![
        jam.sidecar.queue(of("b"), 1),
        jam.sidecar.queue(chat("changed").field("X-Agent-Id", "a"), 2),
        // The same bytes from another client are another request too.
        jam.sidecar.queue(chat("a").field("X-Agent-Id", "c"), 3),
    ];
    assert_eq!(jam.order(waiting), ["b", "changed", "a"]);
}

#[test]
fn nothing_is_remembered_where_that_is_turned_off() {
    let jam = Jam::new(|c| c.limiter.queue.remember_place = Duration::ZERO);
    drop(jam.sidecar.queue(of("a"), 1));
    jam.sidecar.wait_for_queue(0);
    let waiting = vec![jam.sidecar.queue(of("b"), 1), jam.sidecar.queue(of("a"), 2)];
    assert_eq!(jam.order(waiting), ["b", "a"]);
}

#[test]
fn what_an_operator_removed_is_not_remembered() {
    let jam = Jam::new(|_| {});
    let mut removed = jam.sidecar.queue(of("a"), 1);
    let listed = jam.sidecar.ask(ask("GET", "/api/queue")).json();
    let id = listed["waiting"][0]["id"].as_str().unwrap().to_owned();
    let remove = ask("DELETE", &format!("/api/queue/{id}")).host("127.0.0.1");
    assert_eq!(jam.sidecar.ask(remove).status(), 200);
    removed.answer().assert_error(403, "RemovedByOperator");
    let waiting = vec![jam.sidecar.queue(of("b"), 1), jam.sidecar.queue(of("a"), 2)];
    assert_eq!(jam.order(waiting), ["b", "a"]);
}

#[test]
fn a_request_that_was_refused_for_its_patience_comes_again_to_its_place() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| scarce(c, 2));
    for _ in 0..2 {
        assert_eq!(sidecar.ask(chat("spends")).status(), 200);
    }
    let hasty = || of("hasty").field("X-Stainless-Read-Timeout", "5");
    sidecar.ask(hasty()).assert_error(429, "RateLimitedError");
    let _other = sidecar.queue(of("other"), 1);
    let _again = sidecar.queue(of("hasty"), 2);
    let listed = sidecar.ask(ask("GET", "/api/queue")).json();
    assert_eq!(listed["waiting"][0]["agent"], "hasty", "{listed}");
}
