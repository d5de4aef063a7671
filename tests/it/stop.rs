//! The end: what is finished, what is refused, what is cut, and which signals do what.

use crate::ask::{ask, chat, models};
use crate::client::Client;
use crate::patience::{PATIENCE, now, until};
use crate::process::{ConfigFile, Place, Process, ended, yaml};
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::{Held, Upstream};
use crate::wire::{LAST_CHUNK, SSE_HEAD};
use nvidia_sidecar::app;
use rustix::process::Signal;
use std::time::Duration;

#[test]
fn sigterm_finishes_the_streams_that_are_under_way_and_exits_0() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&yaml(&upstream, "")));
    let mut idle = process.connect();
    assert_eq!(idle.send(Vec::from(models())).answer().status(), 200);
    let stream = upstream.hold();
    let mut client = process.begin(chat("a"));
    stream.request();
    stream.send(SSE_HEAD);
    client.head();
    process.signal(Signal::TERM);
    process.wait_until_deaf();
    idle.assert_closed();
    for i in 0..3 {
        stream.chunk(&format!("data: {i}\n\n"));
        assert!(client.chunk().unwrap().is_some());
    }
    stream.send(LAST_CHUNK);
    assert_eq!(client.chunk().unwrap(), None);
    client.assert_closed();
    assert_eq!(process.end().code(), Some(0));
    assert!(process.whole_log().contains("stopped"));
}

#[test]
fn a_drain_gives_tickets_while_there_are_any_and_refuses_the_rest_in_time() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, 2);
        c.limiter.max_in_flight = 1;
        c.drain_timeout = Duration::from_secs(3);
    });
    let slot = upstream.hold();
    let mut first = sidecar.begin(chat("under way"));
    slot.request();
    let mut waiting: Vec<Client> = (1..=5).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    let began = now();
    let ended = std::thread::scope(|scope| {
        let stop = scope.spawn(|| sidecar.stop());
        slot.answer(200);
        assert_eq!(first.answer().status(), 200);
        // One ticket is left.
        assert_eq!(waiting.remove(0).answer().status(), 200);
        for client in &mut waiting {
            let answer = client.answer();
            answer.assert_error(503, "ShuttingDown");
            assert!(answer.head.number("retry-after") >= 1);
            client.assert_closed();
        }
        stop.join().unwrap()
    });
    assert!(!matches!(ended, app::End::Failed), "a thread was left behind");
    assert!(now().since(began) < Duration::from_secs(6));
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_drain_under_load_loses_no_request() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = PATIENCE);
    let held: Vec<Held> = (0..20).map(|_| upstream.hold()).collect();
    let clients: Vec<Client> =
        (0..20).map(|i| sidecar.begin(if i % 2 == 0 { chat("limited") } else { models() })).collect();
    upstream.wait_for(20);
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| sidecar.stop());
        for answer in held {
            answer.answer(200);
        }
        for mut client in clients {
            let answer = client.answer();
            assert_eq!(answer.status(), 200);
            client.assert_closed();
        }
        assert!(matches!(stop.join().unwrap(), app::End::Drained));
    });
}

#[test]
fn what_does_not_end_is_cut_at_drain_timeout() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = Duration::from_secs(2));
    let (silent, stream) = (upstream.hold(), upstream.hold());
    let mut waits = sidecar.begin(chat("silent"));
    silent.request();
    let mut streams = sidecar.begin(chat("stream"));
    stream.request();
    stream.send(SSE_HEAD);
    streams.head();
    let began = now();
    let ended = sidecar.stop();
    assert!(now().since(began) < Duration::from_secs(5), "{:?}", now().since(began));
    assert!(matches!(ended, app::End::Cut));
    waits.answer().assert_error(503, "ShuttingDown");
    let (rest, _) = streams.rest();
    assert!(!rest.ends_with(LAST_CHUNK.as_bytes()), "it looks whole");
}

#[test]
fn a_signal_that_follows_the_first_at_once_is_the_same_one_and_users_signals_are_ignored() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&yaml(&upstream, "")));
    process.signal(Signal::USR1);
    process.await_line("SIGUSR1 is ignored");
    let held = upstream.hold();
    let mut client = process.begin(chat("a"));
    held.request();
    process.signal(Signal::TERM);
    process.signal(Signal::INT);
    process.signal(Signal::USR2);
    process.await_line("SIGUSR2 is ignored");
    held.answer(200);
    assert_eq!(client.answer().status(), 200);
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_process_at_once() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process = Process::start(&place.configure(&yaml(&upstream, "drain_timeout: 600")));
    let stream = upstream.hold();
    let mut client = process.begin(chat("a"));
    stream.request();
    stream.send(SSE_HEAD);
    client.head();
    process.signal(Signal::TERM);
    process.wait_until_deaf();
    let ended = until("the process ends", || {
        process.signal(Signal::INT);
        process.has_ended()
    });
    assert_eq!(ended.code(), Some(1));
    assert_ne!(client.chunk(), Ok(None), "it looks whole");
}

#[test]
fn a_request_that_is_half_there_does_not_stretch_the_stop() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let mut process =
        Process::start(&place.configure(&yaml(&upstream, "client_timeout: 300\ndrain_timeout: 300")));
    let mut half_a_head = process.connect();
    half_a_head.send("POST /v1/chat/completions HTTP/1.1\r\nHost:");
    let mut half_a_body = process.connect();
    half_a_body.send("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{");
    // What was sent has been read when a later request is answered on each loop; a stop before that is no less quick.
    assert_eq!(process.ask(models()).status(), 200);
    process.signal(Signal::TERM);
    half_a_body.answer().assert_error(503, "ShuttingDown");
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn a_process_that_was_stopped_and_continued_goes_on_where_it_was() {
    let (upstream, place) = (Upstream::start(), Place::new());
    let process = Process::start(&place.configure(&yaml(&upstream, "")));
    let (thinks, streams) = (upstream.hold(), upstream.hold());
    let mut first = process.begin(chat("first"));
    thinks.request();
    let mut second = process.begin(chat("second"));
    streams.request();
    streams.send(SSE_HEAD);
    second.head();
    // Each of them interrupts the system calls that are under way.
    for _ in 0..3 {
        process.signal(Signal::STOP);
        process.signal(Signal::CONT);
    }
    thinks.answer(200);
    assert_eq!(first.answer().status(), 200);
    streams.chunk("data: 1\n\n");
    assert!(second.chunk().unwrap().is_some());
    streams.send(LAST_CHUNK);
    assert_eq!(second.chunk().unwrap(), None);
}

#[test]
fn a_hanging_upstream_and_open_dashboards_do_not_keep_it_beyond_the_bound() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "max_in_flight: 1\nrate_rpm: 6000\ndrain_timeout: 2"));
    let mut process = file.start();
    let mut viewer = process.begin(ask("GET", "/api/dashboard/stream"));
    assert_eq!(viewer.head().status, 200);
    let _hangs = upstream.hold();
    let mut first = process.begin(chat("in flight"));
    upstream.wait_for(1);
    let mut second = process.begin(chat("queued"));
    process.wait_for_queue(1);
    let began = now();
    process.signal(Signal::TERM);
    process.await_line("stopping");
    let refused = second.answer();
    refused.assert_error(503, "ShuttingDown");
    assert!((1..=60).contains(&refused.head.number("retry-after")));
    assert!(matches!(first.answer().status(), 502..=504));
    let (status, log) = ended(process);
    let took = now().since(began);
    assert_eq!(status.code(), Some(0), "{log:?}");
    assert!(took < Duration::from_millis(3000), "{took:?}");
}

#[test]
fn a_connection_whose_first_request_is_on_its_way_is_answered_while_it_stops() {
    let upstream = Upstream::start();
    let file = ConfigFile::new(&yaml(&upstream, "drain_timeout: 30"));
    let mut process = file.start();
    let [mut new, mut proxied, _silent] = [(); 3].map(|()| process.connect());
    // The scrape's own connection is the fourth.
    until("they are accepted", || (process.metric("sidecar_connections") > 3.5).then_some(()));
    process.signal(Signal::TERM);
    process.await_line("stopping");
    new.send(Vec::from(ask("GET", "/health")));
    proxied.send(Vec::from(chat("too late")));
    assert_eq!(new.answer().status(), 200);
    proxied.answer().assert_error(503, "ShuttingDown");
    assert_eq!(process.end().code(), Some(0), "the silent one does not keep it");
}

#[test]
fn a_viewer_of_the_dashboard_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = PATIENCE);
    let mut viewer = sidecar.begin(ask("GET", "/api/dashboard/stream"));
    assert_eq!(viewer.head().field("content-type").as_deref(), Some("text/event-stream"));
    let began = now();
    assert_eq!(sidecar.stop(), app::End::Drained);
    assert!(now().since(began) < PATIENCE / 2);
    let (stream, _) = viewer.rest();
    assert!(stream.starts_with(b"retry: 3000\n\n"), "{}", String::from_utf8_lossy(&stream));
}

#[test]
fn a_probe_under_way_does_not_hold_up_the_end() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = Duration::from_millis(400));
    let probe = upstream.hold();
    let mut asks = sidecar.begin(ask("GET", "/health/ready"));
    probe.request();
    let began = now();
    assert_ne!(sidecar.stop(), app::End::Failed);
    assert!(now().since(began) < Duration::from_secs(6));
    let _ = asks.try_answer();
}
