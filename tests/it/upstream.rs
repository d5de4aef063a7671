//! A scripted upstream: it answers what the test told it to, piece by piece if need be, and records what it received.

use crate::patience::{PATIENCE, now};
use crate::wire::{self, field_of};
use nvidia_sidecar::clock::Moment;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// NVIDIA's body of a 429.
pub(crate) const REFUSAL: &str = r#"{"status":429,"title":"Too Many Requests"}"#;

/// The upstream. Each request takes the next answer of the script; when there is none it gets a plain 200.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    script: VecDeque<Script>,
    rules: Vec<(String, Vec<u8>)>,
    /// Probes for readiness take nothing from the script.
    probes_apart: bool,
    received: Vec<Received>,
    /// Bytes of requests that were never completed.
    partial: Vec<Vec<u8>>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    stopping: bool,
}

struct Script {
    steps: Receiver<Step>,
    seen: Option<Sender<Received>>,
}

enum Step {
    Send(Vec<u8>),
    AwaitEnd(Sender<()>),
    Close,
    Reset,
}

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Received {
    /// Which connection it came by, from 0.
    pub(crate) connection: usize,
    /// When its last byte had come.
    pub(crate) at: Moment,
    /// The head up to and with its blank line.
    pub(crate) head: Vec<u8>,
    /// The content.
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The request line.
    pub(crate) fn line(&self) -> String {
        String::from_utf8_lossy(&self.head).lines().next().unwrap_or_default().to_owned()
    }

    /// The values of a field, as often as it came.
    pub(crate) fn fields(&self, name: &str) -> Vec<String> {
        let values = wire::fields(&self.head).into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        values.map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
    }

    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let mut values = self.fields(name);
        assert!(values.len() < 2, "{name} came more than once: {values:?}");
        values.pop()
    }

    /// The content as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Upstream {
    /// Starts it on a port of its own.
    pub(crate) fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        let acceptor = Builder::new().spawn(move || accept(&listener, &accepting)).unwrap();
        Upstream { address, shared, acceptor: Some(acceptor) }
    }

    /// Its base URL with this path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The authority that a request's `Host` names.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The next request gets this status, with a JSON content.
    pub(crate) fn answer(&self, status: u16) -> &Upstream {
        let body = if status == 429 { REFUSAL } else { r#"{"object":"answer"}"# };
        self.answer_with(&wire::json(status, &[], body))
    }

    /// The next request gets these bytes.
    pub(crate) fn answer_with(&self, bytes: &[u8]) -> &Upstream {
        self.script([Step::Send(bytes.to_vec())])
    }

    /// The next request gets these bytes, and then the connection is closed.
    pub(crate) fn answer_and_close(&self, bytes: &[u8]) -> &Upstream {
        self.script([Step::Send(bytes.to_vec()), Step::Close])
    }

    /// The next request gets these bytes, and then the connection is reset.
    pub(crate) fn answer_and_reset(&self, bytes: &[u8]) -> &Upstream {
        self.script([Step::Send(bytes.to_vec()), Step::Reset])
    }

    /// The next request is answered as the test says, step by step.
    pub(crate) fn hold(&self) -> Held {
        let (steps, receiver) = channel();
        let (sender, seen) = channel();
        self.state().script.push_back(Script { steps: receiver, seen: Some(sender) });
        Held { steps, seen }
    }

    /// Every request whose content contains this text gets these bytes and takes nothing from the script.
    pub(crate) fn always(&self, containing: &str, bytes: &[u8]) {
        self.state().rules.push((containing.to_owned(), bytes.to_vec()));
    }

    /// From now on probes for readiness are answered with 200 and take nothing from the script: a failure calls for one.
    pub(crate) fn keep_probes_apart(&self) -> &Upstream {
        self.state().probes_apart = true;
        self
    }

    /// What has been received so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// Waits until so many requests have been received.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Received> {
        let short = |state: &mut State| state.received.len() < count;
        let (state, waited) = self.shared.changed.wait_timeout_while(self.state(), PATIENCE, short).unwrap();
        assert!(!waited.timed_out(), "{} requests reached the upstream, not {count}", state.received.len());
        state.received.clone()
    }

    /// The contents of the requests received, in their order.
    pub(crate) fn bodies(&self) -> Vec<String> {
        self.received().iter().map(Received::text).collect()
    }

    /// Bytes that came and were no whole request.
    pub(crate) fn partial(&self) -> Vec<Vec<u8>> {
        self.state().partial.clone()
    }

    /// The most requests received in any span of this length.
    pub(crate) fn most_within(&self, span: Duration) -> usize {
        let times: Vec<Moment> = self.received().iter().map(|r| r.at).collect();
        let in_span = |from: &Moment| times.iter().filter(|t| **t >= *from && t.since(*from) < span).count();
        times.iter().map(in_span).max().unwrap_or(0)
    }

    fn script(&self, steps: impl IntoIterator<Item = Step>) -> &Upstream {
        let (sender, receiver) = channel();
        for step in steps {
            sender.send(step).unwrap();
        }
        self.state().script.push_back(Script { steps: receiver, seen: None });
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    fn print_log(&self) {
        let state = self.state();
        eprintln!("--- the upstream received {} requests:", state.received.len());
        let first = state.received.first().map(|r| r.at).unwrap_or_default();
        for (i, r) in state.received.iter().enumerate() {
            let after = r.at.since(first);
            eprintln!("{i}: connection {}, after {after:.3?}: {}", r.connection, r.line());
            eprintln!("   {}", String::from_utf8_lossy(&r.body[..r.body.len().min(200)]));
        }
        for bytes in &state.partial {
            eprintln!("never completed: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(500)]));
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_log();
        }
        let threads = {
            let mut state = self.state();
            state.stopping = true;
            // Held answers end when their steps do, kept connections when their sockets are shut down.
            state.script.clear();
            state.sockets.iter().for_each(|s| drop(s.shutdown(Shutdown::Both)));
            std::mem::take(&mut state.threads)
        };
        let _ = TcpStream::connect(self.address);
        let acceptor = self.acceptor.take();
        threads.into_iter().chain(acceptor).for_each(|t| drop(t.join()));
    }
}

/// An answer in the test's hand. Dropping it ends the answer; the connection is kept.
pub(crate) struct Held {
    steps: Sender<Step>,
    seen: Receiver<Received>,
}

impl Held {
    /// Waits for the request that takes this answer.
    pub(crate) fn request(&self) -> Received {
        self.seen.recv_timeout(PATIENCE).expect("no request reached the upstream")
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) {
        let _ = self.steps.send(Step::Send(bytes.as_ref().to_vec()));
    }

    /// Sends one chunk of a chunked answer.
    pub(crate) fn chunk(&self, text: &str) {
        self.send(wire::chunk(text));
    }

    /// Sends a whole answer and lets go.
    pub(crate) fn answer(self, status: u16) {
        self.send(wire::json(status, &[], r#"{"object":"answer"}"#));
    }

    /// Sends a whole answer with this JSON content and lets go.
    pub(crate) fn answer_with(self, status: u16, body: &str) {
        self.send(wire::json(status, &[], body));
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let _ = self.steps.send(Step::Reset);
    }

    /// Closes the connection.
    pub(crate) fn close(self) {
        let _ = self.steps.send(Step::Close);
    }

    /// Waits until the other side closes the connection.
    pub(crate) fn await_hangup(&self) {
        let (ended, end) = channel();
        let _ = self.steps.send(Step::AwaitEnd(ended));
        // Disconnected: a step before could not be sent, because the connection was closed already.
        assert_ne!(
            end.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Timeout),
            "the connection was not closed"
        );
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for connection in 0.. {
        let Ok((socket, _)) = listener.accept() else { return };
        let mut state = shared.state.lock().unwrap();
        if state.stopping {
            return;
        }
        socket.set_nodelay(true).unwrap();
        state.sockets.push(socket.try_clone().unwrap());
        let serving = shared.clone();
        state.threads.push(Builder::new().spawn(move || serve(socket, connection, &serving)).unwrap());
    }
}

fn serve(mut socket: TcpStream, connection: usize, shared: &Shared) {
    let mut buffered = Vec::new();
    while let Some(received) = read_request(&mut socket, &mut buffered, connection) {
        let script = take_script(received, shared);
        while let Ok(step) = script.steps.recv_timeout(PATIENCE) {
            let done = match step {
                Step::Send(bytes) => socket.write_all(&bytes).is_err(),
                Step::AwaitEnd(ended) => {
                    while socket.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
                    let _ = ended.send(());
                    true
                }
                Step::Close => true,
                Step::Reset => {
                    let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                    forget_socket(&socket, shared);
                    true
                }
            };
            if done {
                forget_socket(&socket, shared);
                return;
            }
        }
    }
    forget_socket(&socket, shared);
    if !buffered.is_empty() {
        shared.state.lock().unwrap().partial.push(buffered);
    }
}

/// The last handle of a socket closes it; the list for the end holds another one.
fn forget_socket(socket: &TcpStream, shared: &Shared) {
    let port = socket.peer_addr().ok();
    shared.state.lock().unwrap().sockets.retain(|s| s.peer_addr().ok() != port);
}

fn take_script(received: Received, shared: &Shared) -> Script {
    let mut state = shared.state.lock().unwrap();
    state.received.push(received.clone());
    let text = received.text();
    let is_probe = received.field("user-agent").is_some_and(|name| name.starts_with("nvidia-sidecar/"));
    let apart = state.probes_apart && is_probe;
    let rule = state.rules.iter().find(|(containing, _)| text.contains(containing)).map(|(_, b)| b.clone());
    let scripted = if rule.is_some() || apart { None } else { state.script.pop_front() };
    shared.changed.notify_all();
    drop(state);
    let script = scripted.unwrap_or_else(|| {
        let (sender, steps) = channel();
        let bytes = rule.unwrap_or_else(|| wire::json(200, &[], r#"{"object":"unscripted"}"#));
        sender.send(Step::Send(bytes)).unwrap();
        Script { steps, seen: None }
    });
    if let Some(seen) = &script.seen {
        let _ = seen.send(received);
    }
    script
}

fn read_request(socket: &mut TcpStream, buffered: &mut Vec<u8>, connection: usize) -> Option<Received> {
    let mut piece = [0; 64 * 1024];
    loop {
        if let Some(end) = wire::head_end(buffered) {
            assert_eq!(
                field_of(&buffered[..end], "transfer-encoding"),
                None,
                "bodies go upstream with their length"
            );
            let length = field_of(&buffered[..end], "content-length").map_or(0, |v| v.parse().unwrap());
            if buffered.len() >= end + length {
                let rest = buffered.split_off(end + length);
                let body = buffered.split_off(end);
                let head = std::mem::replace(buffered, rest);
                return Some(Received { connection, at: now(), head, body });
            }
        }
        match socket.read(&mut piece) {
            Ok(n) if n > 0 => buffered.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}
