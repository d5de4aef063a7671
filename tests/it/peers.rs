//! Upstreams that misbehave below HTTP: bytes that nobody asked for, ends without an end, answers before the request,
//! heads without one.

use crate::ask::{ask, chat, models};
use crate::patience::{PATIENCE, until};
use crate::process::{Place, Process};
use crate::sidecar::{Sidecar, base};
use crate::upstream::Upstream;
use crate::wire::{self, LAST_CHUNK, SSE_HEAD};
use crossbeam_channel::unbounded;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// An upstream that does with each connection what the test says; ends when it is dropped.
struct Raw {
    url: String,
    connections: Arc<AtomicUsize>,
    listener: Arc<TcpListener>,
    acceptor: Option<JoinHandle<()>>,
}

impl Raw {
    fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Raw {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let (connections, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
        let (accepting, counted) = (listener.clone(), connections.clone());
        let accept = move || {
            while let Ok((socket, _)) = accepting.accept() {
                counted.fetch_add(1, Ordering::SeqCst);
                socket.set_nodelay(true).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                let serve = serve.clone();
                let _served = Builder::new().spawn(move || serve(socket)).unwrap();
            }
        };
        Raw { url, connections, listener, acceptor: Some(Builder::new().spawn(accept).unwrap()) }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn sidecar(&self) -> Sidecar {
        let unused = Upstream::start();
        Sidecar::with(&unused, |c| {
            c.upstream.url = base(&self.url);
            c.upstream.max_attempts = 2;
        })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = socket2::SockRef::from(&*self.listener).shutdown(std::net::Shutdown::Both);
        self.acceptor.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

/// Reads up to the blank line, and the content where it has a length.
fn read_request(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 65536];
    loop {
        if let Some(end) = wire::head_end(&bytes) {
            let length = wire::field_of(&bytes[..end], "content-length").map_or(0, |v| v.parse().unwrap());
            if bytes.len() >= end + length {
                return Some(bytes);
            }
        }
        match socket.read(&mut piece) {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return None,
        }
    }
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_clients() {
    const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";
    // In the same segment, at once in another one, and some moments later: on a fresh connection and on a used one.
    for pause in [None, Some(0), Some(1), Some(4)] {
        let (poisoned, poisonings) = unbounded();
        let upstream = Raw::new(move |mut socket| {
            while let Some(request) = read_request(&mut socket) {
                let answer = if request.starts_with(b"HEAD") {
                    "HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"
                } else {
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                };
                let is_poisonous = request.starts_with(b"HEAD") || request.starts_with(b"GET /v1/bad");
                match pause {
                    None if is_poisonous => drop(socket.write_all(format!("{answer}{POISON}").as_bytes())),
                    _ => drop(socket.write_all(answer.as_bytes())),
                }
                if let Some(millis) = pause.filter(|_| is_poisonous) {
                    std::thread::park_timeout(Duration::from_millis(millis));
                    let _ = socket.write_all(POISON.as_bytes());
                }
                if is_poisonous {
                    let _ = poisoned.send(());
                }
            }
        });
        let sidecar = upstream.sidecar();
        for round in 0..20 {
            let mut client = sidecar.begin(ask(if round % 2 == 0 { "HEAD" } else { "GET" }, "/v1/bad"));
            if round % 2 == 0 {
                client.answer_to_head()
            } else {
                client.answer()
            };
            // The poison is there before the next request asks for a connection.
            poisonings.recv_timeout(PATIENCE).unwrap();
            assert_eq!(sidecar.ask(ask("GET", "/v1/good")).text(), "ok", "{pause:?}");
        }
    }
}

#[test]
fn an_answer_without_a_length_that_ends_in_a_reset_is_seen_to_be_broken() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: half an ans";
    upstream.answer_and_close(begun.as_bytes());
    assert_eq!(sidecar.ask(chat("a")).text(), "data: half an ans", "a clean end is an end");
    upstream.answer_and_reset(begun.as_bytes());
    let broken = sidecar.begin(chat("a")).try_answer().unwrap_err();
    assert!(broken.body.is_empty() || broken.body == b"data: half an ans", "{broken:?}");
}

#[test]
fn what_our_own_end_cuts_off_does_not_pass_for_a_whole_answer() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let held = upstream.hold();
    let mut client = sidecar.begin(chat("a"));
    held.request();
    held.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: half");
    let head = client.head();
    assert_eq!(client.chunk().unwrap().as_deref(), Some(&b"data: half"[..]));
    let _ = sidecar.stop();
    assert!(client.content(&head).is_err(), "the answer that was cut has an end");
}

#[test]
fn an_answer_that_comes_before_the_request_is_out_is_read_and_judged() {
    for (status, ends) in [(429, "close"), (413, "close"), (413, "drain"), (401, "stop"), (413, "stop")] {
        let upstream = Raw::new(move |mut socket| {
            let _ = socket.read(&mut [0; 4096]);
            let answer =
                wire::json(status, &[("Retry-After", "0"), ("Connection", "close")], "{\"early\":1}");
            let _ = socket.write_all(&answer);
            match ends {
                // With input unread the kernel resets the connection.
                "close" => {}
                "drain" => while socket.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {},
                // The request's rest is neither read nor refused: only the answer says that it is not wanted.
                _ => until("the sidecar gives up", || is_closed(&socket).then_some(())),
            }
        });
        for size in [100_000, 3_000_000, 12_000_000] {
            let sidecar = upstream.sidecar();
            let content = format!(r#"{{"model":"nvidia/m","x":"{}"}}"#, "x".repeat(size));
            let answer = sidecar.ask(ask("POST", "/v1/chat/completions").body(content));
            assert_eq!((answer.status(), answer.text().as_str()), (status, "{\"early\":1}"), "{ends} {size}");
            if status == 429 {
                assert_eq!(
                    answer.head.number("x-sidecar-attempts"),
                    2,
                    "a refusal is learnt from and waited out"
                );
            }
        }
    }
}

/// Whether the other side has closed.
fn is_closed(socket: &TcpStream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
}

#[test]
fn a_head_of_any_size_that_the_front_takes_reaches_the_upstream_whole() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    for size in [15_000, 16_300, 17_000, 33_000, 60_000] {
        let value = "v".repeat(size);
        assert_eq!(sidecar.ask(chat("a").field("Cookie", &value)).status(), 200);
        assert_eq!(upstream.received().last().unwrap().field("cookie"), Some(value), "{size}");
        let target = format!("/v1/models?q={}", "q".repeat(size));
        assert_eq!(sidecar.ask(ask("GET", &target)).status(), 200);
        assert_eq!(upstream.received().last().unwrap().line(), format!("GET {target} HTTP/1.1"));
    }
    let many = (0..100).fold(chat("a"), |ask, i| ask.field(&format!("X-{i}"), &"y".repeat(600)));
    assert_eq!(sidecar.ask(many).status(), 200);
    assert_eq!(upstream.received().last().unwrap().fields("x-99"), ["y".repeat(600)]);
    assert_eq!(upstream.partial(), Vec::<Vec<u8>>::new());
}

#[test]
fn head_and_content_of_a_small_request_leave_in_one_piece() {
    let upstream = Raw::new(|mut socket| {
        let mut piece = [0; 65536];
        while let Ok(n) = socket.read(&mut piece)
            && n > 0
        {
            let whole = piece[..n].ends_with(b"}]}") || piece[..n].starts_with(b"GET");
            let _ = socket.write_all(&wire::json(if whole { 200 } else { 500 }, &[], "{}"));
        }
    });
    let sidecar = upstream.sidecar();
    for _ in 0..5 {
        assert_eq!(sidecar.ask(chat("a")).status(), 200);
        assert_eq!(sidecar.ask(models()).status(), 200);
    }
}

#[test]
fn interim_answers_without_an_end_and_heads_that_drip_are_given_up() {
    let endless = Raw::new(|mut socket| {
        let _ = read_request(&mut socket);
        while socket.write_all(&b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(50)).is_ok() {}
    });
    let sidecar = endless.sidecar();
    sidecar.ask(chat("a")).assert_error(502, "UpstreamError");
    let dripping = Raw::new(|mut socket| {
        let _ = read_request(&mut socket);
        for byte in b"HTTP/1.1 200 OK\r\nx-slow: ".iter().chain(std::iter::repeat(&b'x')) {
            if socket.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    });
    let unused = Upstream::start();
    let sidecar = Sidecar::with(&unused, |c| {
        c.upstream.url = base(&dripping.url);
        c.upstream.first_byte_timeout = Duration::from_secs(1);
    });
    sidecar.ask(chat("a")).assert_error(504, "UpstreamTimeout");
}

#[test]
fn an_interim_answer_is_passed_over() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    upstream.answer_with(&[early.as_bytes(), &wire::json(200, &[], "{}")].concat());
    assert_eq!(sidecar.ask(chat("a")).text(), "{}");
}

#[test]
fn a_process_that_was_stopped_for_longer_than_a_time_out_first_reads_what_is_there() {
    let upstream = Upstream::start();
    let place = Place::new();
    let url = upstream.url("/v1");
    let process = Process::start(&place.configure(&format!("upstream_url: {url}\nrequest_timeout: 1")));
    let held = upstream.hold();
    let mut client = process.connect();
    client.send(Vec::from(chat("a")));
    held.request();
    held.send(SSE_HEAD);
    held.chunk("data: 0\n\n");
    let head = client.head();
    client.chunk().unwrap();
    let id = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
    kill_process(id, Signal::STOP).unwrap();
    held.chunk("data: [DONE]\n\n");
    held.send(LAST_CHUNK);
    std::thread::park_timeout(Duration::from_secs(2));
    kill_process(id, Signal::CONT).unwrap();
    assert_eq!(client.content(&head).expect("the rest was there"), b"data: [DONE]\n\n");
}

#[test]
fn a_connection_is_used_again_while_nothing_is_wrong_with_it() {
    let upstream = Raw::new(|mut socket| {
        while read_request(&mut socket).is_some() {
            let _ = socket.write_all(&wire::json(200, &[], "{}"));
        }
    });
    let sidecar = upstream.sidecar();
    for _ in 0..20 {
        assert_eq!(sidecar.ask(chat("a")).status(), 200);
    }
    assert_eq!(upstream.connections(), 1);
}
