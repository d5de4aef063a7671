//! A small blocking server on the same framing, for the demo's look-alike upstream and the alert bridge.
//!
//! It has a thread for each connection, so it is for few and well-known clients; the proxy's own front is an event loop.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::framing::{Bounds, RequestReader, Step};
pub use super::reply::Reply;
use super::request::Request;
use super::write::{Asked, CONTINUE, local_answer};
use crate::clock::Clock;

const STACK_BYTES: usize = 256 * 1024;
/// How long to wait after a failed accept: out of file descriptors, it would fail again at once.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Input to read away after a refusal: closing a socket with unread input would reset it and lose the answer.
const LINGER_READS: usize = 64;

/// What the server's clients may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, each with its thread; further ones are answered 503.
    pub max_connections: usize,
    /// The largest body in bytes.
    pub max_body_bytes: usize,
    /// The longest silence of a client, between requests as well; also the longest wait for it to take an answer.
    pub timeout: Duration,
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

fn accept<H>(listener: &TcpListener, stopping: &AtomicBool, shared: &Arc<Shared<H>>)
where
    H: Fn(Request, &mut Reply<'_>) -> io::Result<()> + Send + Sync + 'static,
{
    let mut connections: Vec<(TcpStream, JoinHandle<()>)> = Vec::new();
    while !stopping.load(Ordering::Acquire) {
        let accepted = listener.accept().and_then(|(stream, _)| {
            connections.retain(|(_, thread)| !thread.is_finished());
            if connections.len() < shared.limits.max_connections {
                let (shared, peer) = (Arc::clone(shared), stream.try_clone()?);
                connections.push((stream, spawn(shared.name, move || shared.serve(&peer))?));
            } else {
                let _ = (&stream).write_all(&shared.refusal(503, "too many connections"));
            }
            Ok(())
        });
        if accepted.is_err() {
            thread::park_timeout(ACCEPT_RETRY);
        }
    }
    for (stream, _) in &connections {
        let _ = stream.shutdown(Shutdown::Both);
    }
    for (_, thread) in connections {
        let _ = thread.join();
    }
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
    H: Fn(Request, &mut Reply<'_>) -> io::Result<()>,
{
    fn serve(&self, stream: &TcpStream) {
        let _hang_up = HangUp(stream);
        if let Err(error) = self.converse(stream) {
            log::debug!("{}: a connection ended early: {error}", self.name);
        }
    }

    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(self.limits.timeout))?;
        stream.set_write_timeout(Some(self.limits.timeout))?;
        stream.set_nodelay(true)?;
        let bounds = Bounds { max_body_bytes: self.limits.max_body_bytes };
        let mut reader = RequestReader::default();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match reader.step(&bounds) {
                Ok(Step::Complete(request)) => {
                    let asked = Asked::by(&request.head);
                    let mut reply = Reply::new(stream, asked, self.clock);
                    (self.handler)(request, &mut reply)?;
                    if !reply.finish()? {
                        return Ok(());
                    }
                }
                Ok(Step::NeedMore { send_continue }) => {
                    if send_continue {
                        stream.write_all(CONTINUE)?;
                    }
                    let read = stream.read(&mut buffer)?;
                    if read == 0 {
                        return Ok(());
                    }
                    reader.feed(&buffer[..read]);
                }
                Err(refusal) => {
                    stream.write_all(&self.refusal(refusal.status, &refusal.message))?;
                    stream.shutdown(Shutdown::Write)?;
                    for _ in 0..LINGER_READS {
                        if stream.read(&mut buffer)? == 0 {
                            break;
                        }
                    }
                    return Ok(());
                }
            }
        }
    }

    fn refusal(&self, status: u16, message: &str) -> Vec<u8> {
        local_answer(status, "text/plain", &[], message.as_bytes(), false, false, self.clock.wall())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { max_connections: 8, max_body_bytes: 16, timeout: Duration::from_secs(10) };

    /// Echoes a body, streams for `/stream`, breaks off for `/cut`, panics for `/panic`.
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
                _ => reply.send(200, "text/plain", &[], &request.body),
            }
        })
        .expect("a server")
    }

    /// All that the server answers to `bytes` until it closes.
    fn exchange(server: &Server, bytes: &str) -> String {
        let mut stream = TcpStream::connect(server.address()).expect("a connection");
        stream.write_all(bytes.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
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
    fn one_connection_too_many_is_refused_and_stopping_closes_those_that_are_idle() {
        let server = server(Limits { max_connections: 1, ..LIMITS });
        let mut idle = TcpStream::connect(server.address()).expect("a connection");
        let mut refused = String::new();
        let mut second = TcpStream::connect(server.address()).expect("a connection");
        second.read_to_string(&mut refused).expect("an answer");
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        server.stop();
        assert_eq!(idle.read(&mut [0]).expect("an end"), 0);
    }
}
