//! A small blocking server on the same framing, for the demo's look-alike upstream and the alert bridge.
//!
//! It has a thread for each connection, so it is for few and well-known clients; the proxy's own front is an event loop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::framing::{Bounds, Progress, RequestReader, Step};
use super::malformed::Malformed;
pub use super::reply::Reply;
use super::request::Request;
use super::timed::Timed;
use super::write::{Asked, CONTINUE, local_answer};
use crate::clock::{Clock, Moment};

const STACK_BYTES: usize = 256 * 1024;
/// How long to wait after a failed accept: out of file descriptors, it would fail again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long input is read away after a refusal: closing a socket with unread input would reset it and lose the answer.
const LINGER: Duration = Duration::from_secs(1);

/// What the server's clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, each with its thread. A further one takes the place of the one that has kept its request
    /// back the longest; it is answered 503 only where all the others are being answered.
    pub max_connections: usize,
    /// The largest body in bytes.
    pub max_body_bytes: usize,
    /// The longest wait for the first byte of a request.
    pub idle: Duration,
    /// The longest time from a request's first byte to its last, however they are spread, and the longest time that a
    /// client may take to read an answer, or a piece of one that streams.
    pub transfer: Duration,
}

/// A running server. Dropped, it closes its connections and joins its threads.
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves on `listener` with threads called `name`, until stopped.
    ///
    /// A handler that returns an error closes the connection; a stream that it had begun is then visibly cut short.
    pub fn start<H>(
        name: &'static str,
        listener: TcpListener,
        limits: Limits,
        clock: Clock,
        handler: H,
    ) -> io::Result<Server>
    where
        H: Fn(Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
    {
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared { name, limits, clock, handler });
        let (accepting, stop) = (listener.try_clone()?, Arc::clone(&stopping));
        let acceptor = spawn(name, move || accept(&accepting, &stop, &shared))?;
        Ok(Server { address, listener, stopping, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and waits for the threads; a handler at work is waited for.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // Wakes the acceptor, since a listener that is shut down accepts nothing more.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.thread().unpark();
            let _ = acceptor.join();
        }
    }
}

struct Shared<H> {
    name: &'static str,
    limits: Limits,
    clock: Clock,
    handler: H,
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(work)
}

struct Connection {
    stream: TcpStream,
    thread: JoinHandle<()>,
    waiting: Arc<Waiting>,
}

/// Since when a connection has been waited on for its request: nanoseconds since the clock's start.
struct Waiting(AtomicU64);

impl Waiting {
    fn since(&self, moment: Moment) {
        self.0.store(moment.as_nanos(), Ordering::Relaxed);
    }

    /// Its request is being answered, or it has been closed.
    fn over(&self) {
        self.since(Moment::NEVER);
    }
}

fn accept<H>(listener: &TcpListener, stopping: &AtomicBool, shared: &Arc<Shared<H>>)
where
    H: Fn(Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
{
    let mut connections: Vec<Connection> = Vec::new();
    while !stopping.load(Ordering::Acquire) {
        let accepted = listener.accept().and_then(|(stream, _)| {
            connections.retain(|connection| !connection.thread.is_finished());
            if make_room(&connections, shared.limits.max_connections) {
                connections.push(shared.open(stream)?);
            } else {
                let _ = (&stream).write_all(&shared.refusal(503, "too many connections"));
            }
            Ok(())
        });
        if accepted.is_err() {
            thread::park_timeout(ACCEPT_RETRY);
        }
    }
    for connection in &connections {
        let _ = connection.stream.shutdown(Shutdown::Both);
    }
    for connection in connections {
        let _ = connection.thread.join();
    }
}

/// Whether one more connection may be opened. The threads of those that were closed for it may still be ending, which is
/// why there may be twice as many for a moment.
fn make_room(connections: &[Connection], max: usize) -> bool {
    if connections.len() < max {
        return true;
    }
    let waiting = |connection: &&Connection| connection.waiting.0.load(Ordering::Relaxed);
    let longest = connections.iter().min_by_key(waiting).filter(|longest| waiting(longest) != u64::MAX);
    let Some(longest) = longest.filter(|_| connections.len() < 2 * max) else { return false };
    longest.waiting.over();
    longest.stream.shutdown(Shutdown::Both).is_ok()
}

enum Received {
    Request(Request),
    Refused(Malformed),
    /// The client closed the connection.
    End,
}

/// Ends the connection even if the handler panics: the acceptor holds its socket too, so dropping it is not enough.
struct HangUp<'s>(&'s TcpStream);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl<H> Shared<H>
where
    H: Fn(Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
{
    fn open(self: &Arc<Self>, stream: TcpStream) -> io::Result<Connection> {
        let waiting = Arc::new(Waiting(AtomicU64::new(self.clock.now().as_nanos())));
        let (shared, peer, its_waiting) = (Arc::clone(self), stream.try_clone()?, Arc::clone(&waiting));
        let thread = spawn(self.name, move || shared.serve(&peer, &its_waiting))?;
        Ok(Connection { stream, thread, waiting })
    }

    fn serve(&self, stream: &TcpStream, waiting: &Waiting) {
        let _hang_up = HangUp(stream);
        if let Err(error) = self.converse(stream, waiting) {
            log::debug!("{}: a connection ended early: {error}", self.name);
        }
    }

    fn converse(&self, stream: &TcpStream, waiting: &Waiting) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = RequestReader::default();
        loop {
            waiting.since(self.clock.now());
            let received = self.receive(stream, &mut reader)?;
            waiting.over();
            match received {
                Received::Request(request) => {
                    let asked = Asked::by(&request.head);
                    let mut reply = Reply::new(stream, asked, self.clock, self.limits.transfer);
                    (self.handler)(request, &mut reply)?;
                    if !reply.finish()? {
                        return Ok(());
                    }
                }
                Received::Refused(refusal) => return self.refuse(stream, &refusal),
                Received::End => return Ok(()),
            }
        }
    }

    /// Waits for the next request's first byte, and then for the rest of it.
    fn receive(&self, stream: &TcpStream, reader: &mut RequestReader) -> io::Result<Received> {
        let bounds = Bounds { max_body_bytes: self.limits.max_body_bytes };
        let within = |time: Duration| Timed::new(stream, self.clock, time);
        let mut begun = reader.has_leftover();
        let mut peer = within(if begun { self.limits.transfer } else { self.limits.idle });
        let mut buffer = [0; 16 * 1024];
        loop {
            match reader.step(&bounds) {
                Ok(Step::Complete(request)) => return Ok(Received::Request(request)),
                Ok(Step::NeedMore { send_continue: true }) => peer.write_all(CONTINUE)?,
                Ok(Step::NeedMore { send_continue: false }) => {}
                Err(refusal) => return Ok(Received::Refused(refusal)),
            }
            match peer.read(&mut buffer) {
                Ok(0) => return Ok(Received::End),
                Ok(read) => reader.feed(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::TimedOut && reader.progress() != Progress::Idle => {
                    return Ok(Received::Refused(Malformed::new(408, "the request did not arrive in time")));
                }
                Err(error) => return Err(error),
            }
            if !begun {
                begun = true;
                peer = within(self.limits.transfer);
            }
        }
    }

    /// Answers what is not a request, and takes what is still on its way for a moment so that the answer arrives.
    fn refuse(&self, stream: &TcpStream, refusal: &Malformed) -> io::Result<()> {
        let mut peer = Timed::new(stream, self.clock, LINGER);
        peer.write_all(&self.refusal(refusal.status, &refusal.message))?;
        stream.shutdown(Shutdown::Write)?;
        let mut buffer = [0; 4096];
        while peer.read(&mut buffer)? > 0 {}
        Ok(())
    }

    fn refusal(&self, status: u16, message: &str) -> Vec<u8> {
        local_answer(status, "text/plain", &[], message.as_bytes(), false, false, self.clock.wall())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LIMITS: Limits =
        Limits { max_connections: 8, max_body_bytes: 16, idle: PATIENCE, transfer: PATIENCE };

    /// Echoes a body, streams for `/stream`, breaks off for `/cut`, answers at length for `/long`, panics for `/panic`.
    fn server(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Server::start("test-server", listener, limits, Clock::start(), |request, reply| {
            match request.head.path() {
                "/stream" | "/cut" => {
                    reply.begin(200, &[("content-type", "text/event-stream")])?;
                    reply.piece(b"one")?;
                    if request.head.path() == "/cut" {
                        return Err(io::Error::other("as the test asked"));
                    }
                    reply.piece(b"three")
                }
                "/panic" => panic!("as the test asked"),
                "/long" => reply.send(200, "text/plain", &[], &[b'x'; 16 << 20]),
                _ => reply.send(200, "text/plain", &[], &request.body),
            }
        })
        .expect("a server")
    }

    /// All that the server answers to `bytes` until it closes; nothing where it refuses the connection by a reset.
    fn exchange(server: &Server, bytes: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        let mut answer = Vec::new();
        let _ = stream.write_all(bytes.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
        String::from_utf8(answer).expect("text")
    }

    const CLOSE: &str = "HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n";

    #[test]
    fn pipelined_requests_are_answered_in_turn_and_streams_are_chunked() {
        let server = server(LIMITS);
        let post = "POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 2\r\n\r\nhi";
        let answer = exchange(&server, &format!("{post}GET /stream {CLOSE}"));
        let (first, second) = answer.split_once("\r\n\r\nhiHTTP/1.1 200 OK\r\n").expect("two answers");
        assert!(first.contains("content-length: 2") && first.contains("connection: keep-alive"), "{first}");
        assert!(second.ends_with("\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"), "{second}");
        assert!(exchange(&server, "GET /stream HTTP/1.0\r\n\r\n").ends_with("\r\n\r\nonethree"));
    }

    #[test]
    fn a_stream_that_breaks_off_has_no_clean_end() {
        assert!(exchange(&server(LIMITS), &format!("GET /cut {CLOSE}")).ends_with("3\r\none\r\n"));
    }

    #[test]
    fn a_refusal_is_answered_and_a_panic_costs_only_its_connection() {
        let server = server(LIMITS);
        let too_large = "POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 17\r\n\r\n";
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.write_all(too_large.as_bytes()).expect("written");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 413");
        assert_eq!(exchange(&server, &format!("GET /panic {CLOSE}")), "");
        assert!(exchange(&server, &format!("GET / {CLOSE}")).starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn a_connection_too_many_takes_the_place_of_the_one_that_has_waited_longest() {
        let server = server(Limits { max_connections: 2, ..LIMITS });
        let connect = || TcpStream::connect(server.address()).expect("a connection");
        let (mut first, mut second) = (connect(), connect());
        first.write_all(b"GET / HTTP/1.1\r\nX: half a head").expect("written");
        assert!(exchange(&server, &format!("GET / {CLOSE}")).starts_with("HTTP/1.1 200"));
        assert_eq!(first.read(&mut [0]).unwrap_or(0), 0, "closed for it");
        second.write_all(format!("GET / {CLOSE}").as_bytes()).expect("written");
        let mut answer = String::new();
        second.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[test]
    fn one_connection_too_many_is_refused_while_all_are_being_answered_and_stopping_closes_them() {
        let server = server(Limits { max_connections: 1, ..LIMITS });
        let mut busy = TcpStream::connect(server.address()).expect("a connection");
        busy.write_all(format!("GET /long {CLOSE}").as_bytes()).expect("written");
        busy.read_exact(&mut [0; 12]).expect("the beginning of an answer that fills the socket");
        let mut refused = String::new();
        let mut second = TcpStream::connect(server.address()).expect("a connection");
        second.read_to_string(&mut refused).expect("an answer");
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        server.stop();
        let _ = busy.read_to_end(&mut Vec::new());
    }

    /// Calls `step` again and again, with a pause that is shorter than any limit of the server's, until it gives a value.
    fn drip<T>(stream: &mut TcpStream, mut step: impl FnMut(&mut TcpStream) -> Option<T>) -> T {
        let clock = Clock::start();
        stream.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
        while clock.now().since(Moment::ZERO) < PATIENCE {
            if let Some(value) = step(stream) {
                return value;
            }
        }
        panic!("it went on for {PATIENCE:?}")
    }

    #[test]
    fn a_request_whose_bytes_drip_has_a_deadline_in_all() {
        let server = server(Limits { transfer: Duration::from_millis(200), ..LIMITS });
        for start in [
            "",
            "POST / HTTP/1.1\r\nHost: n\r\nX: ",
            "POST / HTTP/1.1\r\nHost: n\r\nContent-Length: 16\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(server.address()).expect("a connection");
            stream.write_all(start.as_bytes()).expect("written");
            let answer = drip(&mut stream, |stream| {
                let _ = stream.write_all(b"a");
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).ok().map(|()| answer)
            });
            assert_eq!(&answer, b"HTTP/1.1 408", "{start:?}");
        }
    }

    #[test]
    fn an_answer_that_is_read_byte_by_byte_has_a_deadline_in_all() {
        let server = server(Limits { max_connections: 1, transfer: Duration::from_millis(200), ..LIMITS });
        let mut slow = TcpStream::connect(server.address()).expect("a connection");
        slow.write_all(format!("GET /long {CLOSE}").as_bytes()).expect("written");
        slow.read_exact(&mut [0]).expect("a byte");
        let answer = drip(&mut slow, |slow| {
            let _ = slow.read(&mut [0]);
            Some(exchange(&server, &format!("GET / {CLOSE}")))
                .filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        assert!(answer.contains("connection: close"), "{answer}");
    }

    #[test]
    fn a_connection_without_a_request_is_closed_in_time() {
        let server = server(Limits { idle: Duration::from_millis(50), ..LIMITS });
        let mut idle = TcpStream::connect(server.address()).expect("a connection");
        idle.set_read_timeout(Some(PATIENCE)).expect("set");
        assert_eq!(idle.read(&mut [0]).expect("an end"), 0);
    }
}
