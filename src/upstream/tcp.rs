//! One TCP connection to an upstream or a proxy: every wait has an end, a peer that died is noticed, and an answer that
//! comes before the request is out is not lost.

use crate::clock::{Clock, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::unversioned::transport::ShutdownHandle;

/// How long a connection is silent before the kernel asks whether the peer is still there.
pub(super) const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);

/// How long after a question without an answer the next one follows.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How many questions without an answer end the connection.
const KEEPALIVE_PROBES: u32 = 3;

/// How long data may stay unacknowledged before the connection counts as dead (`TCP_USER_TIMEOUT`, RFC 5482).
const UNACKNOWLEDGED: Duration = Duration::from_secs(20);

/// Read time-outs are rounded up to whole steps of this length, so that the kernel is told of a new one only when it
/// really is another and not the rest of the old one.
const TIMEOUT_STEP_MILLIS: u128 = 100;

/// The socket itself, which another thread may shut down.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// It was shut down here: the end that a read then sees is not the upstream's.
    cut: AtomicBool,
}

impl ShutdownHandle for Socket {
    fn shutdown(&self) {
        self.cut.store(true, Ordering::Release);
        // Fails when the connection is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// A connection and what its present owner knows of it. Reads and writes end at the moment set with [`Tcp::until`].
#[derive(Debug)]
pub(super) struct Tcp {
    socket: Arc<Socket>,
    clock: Clock,
    until: Moment,
    read_timeout: Option<Duration>,
    /// Writing is over, because it failed or because the upstream has answered already; with the reason if it failed.
    unwritable: Option<Option<io::Error>>,
    /// What arrives is HTTP and may be looked at while writing blocks.
    is_plain: bool,
}

impl Tcp {
    /// Takes a connected socket. `silence` is the shortest time-out that requests on it will have.
    ///
    /// # Errors
    /// When the kernel refuses an option.
    pub(super) fn new(stream: TcpStream, is_plain: bool, silence: Duration, clock: Clock) -> io::Result<Tcp> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
        // Below the request's own time-out: what was never acknowledged is known as such before that is up.
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED.min(silence * 3 / 4)))?;
        let socket = Arc::new(Socket { stream, cut: AtomicBool::new(false) });
        Ok(Tcp { socket, clock, until: Moment::NEVER, read_timeout: None, unwritable: None, is_plain })
    }

    /// What another thread needs to shut the connection down.
    pub(super) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Reads and writes from now on fail with [`ErrorKind::WouldBlock`] at this moment; what is there is read even then.
    pub(super) fn until(&mut self, until: Moment) {
        self.until = until;
    }

    /// Whether another request may be sent: nothing is left to read, neither bytes nor an end (RFC 9112 §9.2), and
    /// writing never failed.
    pub(super) fn is_quiet(&self) -> bool {
        let nothing = recv(&self.socket.stream, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.unwritable.is_none() && matches!(nothing, Err(rustix::io::Errno::AGAIN))
    }

    fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.socket.stream, into, RecvFlags::DONTWAIT)?.0)
    }

    fn left(&self) -> Duration {
        self.until.since(self.clock.now())
    }

    /// Waits for room to write. When meanwhile an answer has begun that refuses the request, the rest of the request is
    /// not sent (RFC 9112 §9.5).
    fn await_room(&mut self, watches_input: &mut bool) -> io::Result<()> {
        let left = self.left();
        if left.is_zero() {
            if self.is_quiet() {
                return Err(ErrorKind::WouldBlock.into());
            }
            // What the peer has said meanwhile is judged before the time-out is.
            self.unwritable = Some(None);
            return Ok(());
        }
        let wanted = if *watches_input { PollFlags::OUT | PollFlags::IN } else { PollFlags::OUT };
        let mut polled = [PollFd::new(&self.socket.stream, wanted)];
        match poll(&mut polled, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if *watches_input && polled[0].revents().contains(PollFlags::IN) {
            *watches_input = false;
            if self.is_refused() {
                self.unwritable = Some(None);
            }
        }
        Ok(())
    }

    /// Whether what has arrived begins an answer of 300 or above.
    fn is_refused(&self) -> bool {
        let mut start = [0; 10];
        let read = recv(&self.socket.stream, &mut start, RecvFlags::PEEK | RecvFlags::DONTWAIT);
        self.is_plain
            && read.is_ok_and(|(n, _)| n == start.len())
            && start.starts_with(b"HTTP/1.")
            && matches!(start[9], b'3'..=b'9')
    }
}

impl Write for Tcp {
    /// Takes all of `bytes` or fails. What cannot be written because the peer has closed is dropped without an error:
    /// whatever it said before that is read next, and only where it said nothing the failure is told.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        let mut watches_input = true;
        while !rest.is_empty() && self.unwritable.is_none() {
            match send(&self.socket.stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => rest = &rest[sent..],
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.await_room(&mut watches_input)?,
                Err(error @ (rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET)) => {
                    self.unwritable = Some(Some(error.into()));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Tcp {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            let left = self.left();
            if left.is_zero() {
                // Out of time, perhaps because the process was stopped: what is there counts all the same.
                break self.read_now(into);
            }
            let timeout = in_steps(left);
            if timeout != self.read_timeout {
                self.socket.stream.set_read_timeout(timeout)?;
                self.read_timeout = timeout;
            }
            match (&self.socket.stream).read(into) {
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                read => break read,
            }
        };
        match (read, &mut self.unwritable) {
            (Ok(0), _) if self.socket.cut.load(Ordering::Acquire) => {
                Err(io::Error::new(ErrorKind::ConnectionAborted, "the connection was cut here"))
            }
            (Ok(0) | Err(_), Some(failure)) if failure.is_some() => {
                Err(failure.take().unwrap_or_else(|| ErrorKind::BrokenPipe.into()))
            }
            (read, _) => read,
        }
    }
}

/// A time-out as the kernel is told of it; `None` for one that never comes.
fn in_steps(left: Duration) -> Option<Duration> {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let steps = left.as_millis() / TIMEOUT_STEP_MILLIS + 1;
    let millis = u64::try_from(steps * TIMEOUT_STEP_MILLIS).ok()?;
    Some(Duration::from_millis(millis)).filter(|timeout| *timeout < FAR)
}
