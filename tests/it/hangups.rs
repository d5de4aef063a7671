//! Clients that go away: in the queue, before the head, in the middle of a stream.

use crate::ask::{chat, models};
use crate::client::Client;
use crate::patience::{now, until};
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::{Held, Upstream};
use crate::wire::SSE_HEAD;
use nvidia_sidecar::config::limiter::QueueFullPolicy;
use std::time::Duration;

#[test]
fn a_hang_up_in_the_queue_frees_its_place_within_100_ms() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, 1);
        c.limiter.queue.max_size = 1;
        c.limiter.queue.full_policy = QueueFullPolicy::Reject;
    });
    assert_eq!(sidecar.ask(chat("takes the ticket")).status(), 200);
    let enqueued = || sidecar.status()["queue"]["total_enqueued"].as_u64().unwrap();
    // The best of several: the machine may be busy with other tests at any one of them.
    let attempt = || {
        let waiting = sidecar.queue(chat("waits"), 1);
        sidecar.ask(chat("finds it full")).assert_error(503, "QueueFullError");
        let before = enqueued();
        let began = now();
        drop(waiting);
        loop {
            let next = sidecar.begin(chat("finds a place"));
            let after = now().since(began);
            until("it is refused or queued", || (next.has_input() || enqueued() > before).then_some(()));
            if !next.has_input() || after > Duration::from_millis(100) {
                drop(next);
                sidecar.wait_for_queue(0);
                return after <= Duration::from_millis(100);
            }
        }
    };
    assert!((0..5).any(|_| attempt()));
}

#[test]
fn a_hang_up_in_the_queue_spends_no_ticket() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.limiter.max_in_flight = 1);
    let first = upstream.hold();
    let mut busy = sidecar.begin(chat("first"));
    first.request();
    let gone: Vec<Client> = (1..=5).map(|n| sidecar.queue(chat("gone"), n)).collect();
    let mut patient = sidecar.queue(chat("patient"), 6);
    drop(gone);
    sidecar.wait_for_queue(1);
    first.answer(200);
    assert_eq!((busy.answer().status(), patient.answer().status()), (200, 200));
    assert_eq!(upstream.received().len(), 2);
    until("the books are closed", || {
        let status = sidecar.status();
        (status["window"]["used"] == 2 && status["queue"]["current_size"] == 0).then_some(())
    });
}

#[test]
fn a_half_closed_client_counts_as_gone() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| scarce(c, 1));
    assert_eq!(sidecar.ask(chat("takes the ticket")).status(), 200);
    let waiting = sidecar.queue(chat("waits"), 1);
    waiting.half_close();
    sidecar.wait_for_queue(0);
}

#[test]
fn a_hang_up_while_the_upstream_thinks_closes_the_upstream_connection() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for request in [chat("a"), models()] {
        let thinking = upstream.hold();
        let client = sidecar.begin(request);
        thinking.request();
        drop(client);
        thinking.await_hangup();
    }
}

#[test]
fn a_hang_up_in_the_middle_of_a_stream_closes_the_upstream_connection() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let stream = upstream.hold();
    let mut client = sidecar.begin(chat("a"));
    stream.send(SSE_HEAD);
    stream.chunk("data: 1\n\n");
    client.head();
    assert!(client.chunk().unwrap().is_some());
    drop(client);
    // Silent: the hang-up is seen without anything to write.
    stream.await_hangup();
}

#[test]
fn a_hang_up_on_a_pooled_connection_leaves_the_pool_usable() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for _ in 0..5 {
        assert_eq!(sidecar.ask(chat("pooled")).status(), 200);
        let thinking = upstream.hold();
        let client = sidecar.begin(chat("leaves"));
        thinking.request();
        drop(client);
        thinking.await_hangup();
    }
    assert_eq!(sidecar.ask(chat("after all that")).status(), 200);
}

#[test]
fn a_client_that_left_a_full_house_of_slots_gives_them_back() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.limiter.max_in_flight = 3);
    let held: Vec<_> = (0..3).map(|_| upstream.hold()).collect();
    let clients: Vec<Client> = (0..3).map(|_| sidecar.begin(chat("a"))).collect();
    upstream.wait_for(3);
    let mut next = sidecar.queue(chat("next"), 1);
    drop(clients);
    held.iter().for_each(Held::await_hangup);
    assert_eq!(next.answer().status(), 200);
}

#[test]
fn a_refused_request_whose_client_left_is_not_sent_again() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let refused = upstream.hold();
    let client = sidecar.begin(chat("a"));
    refused.request();
    refused.send(crate::wire::json(429, &[("Retry-After", "30")], "{}"));
    sidecar.wait_for_queue(1);
    drop(client);
    sidecar.wait_for_queue(0);
    assert_eq!(upstream.received().len(), 1);
}
