//! Connecting to the first of several addresses that answers, without waiting long for those that do not: Happy Eyeballs
//! (RFC 8305), with non-blocking connects and a poll.

use crate::clock::{Clock, Moment};
use crate::upstream::reason::{Kind, Reason};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use ureq::unversioned::transport::ShutdownHandle;

/// The head start of one address before the next (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects that are under way, so that another thread can give them up.
#[derive(Debug, Default)]
pub(super) struct Dialling(Mutex<Underway>);

#[derive(Debug, Default)]
struct Underway {
    is_cancelled: bool,
    sockets: Vec<Arc<Socket>>,
}

impl ShutdownHandle for Dialling {
    fn shutdown(&self) {
        let mut underway = self.0.lock();
        underway.is_cancelled = true;
        for socket in &underway.sockets {
            // Ends the connect, and wakes who waits for it.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Dialling {
    fn add(&self, socket: &Arc<Socket>) -> io::Result<()> {
        let mut underway = self.0.lock();
        if underway.is_cancelled {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "given up"));
        }
        underway.sockets.push(socket.clone());
        Ok(())
    }

    /// Whether it was given up from outside.
    pub(super) fn is_cancelled(&self) -> bool {
        self.0.lock().is_cancelled
    }

    fn clear(&self) {
        self.0.lock().sockets.clear();
    }
}

/// Connects to the first of `addresses` that accepts, until `until`; also says which.
pub(super) fn dial(
    addresses: &[SocketAddr],
    until: Moment,
    clock: Clock,
    dialling: &Dialling,
) -> Result<(TcpStream, SocketAddr), Reason> {
    let mut race = Race { waiting: by_turns(addresses), underway: Vec::new(), failures: Vec::new() };
    let result = race.run(until, clock, dialling);
    dialling.clear();
    let (socket, address) = result?;
    // The list of those under way held the other reference.
    let socket = Arc::try_unwrap(socket)
        .map_err(|_| Reason::new(Kind::Connect, "the connection was given up while it was made"))?;
    Ok((socket.into(), address))
}

/// The order in which addresses are tried: the families take turns, the one of the first address first (RFC 8305 §4).
fn by_turns(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut same, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.iter().copied().partition(|address| address.is_ipv6() == first_is_v6);
    let mut order = VecDeque::with_capacity(addresses.len());
    while !same.is_empty() || !other.is_empty() {
        order.extend(same.pop_front());
        order.extend(other.pop_front());
    }
    order
}

struct Race {
    waiting: VecDeque<SocketAddr>,
    underway: Vec<(SocketAddr, Arc<Socket>)>,
    failures: Vec<(SocketAddr, io::Error)>,
}

impl Race {
    fn run(
        &mut self,
        until: Moment,
        clock: Clock,
        dialling: &Dialling,
    ) -> Result<(Arc<Socket>, SocketAddr), Reason> {
        let mut next_at = Moment::ZERO;
        loop {
            let now = clock.now();
            if now >= until {
                return Err(self.out_of_time());
            }
            if now >= next_at || self.underway.is_empty() {
                match self.waiting.pop_front() {
                    Some(address) => {
                        self.start(address, dialling);
                        next_at = now + HEAD_START;
                    }
                    None if self.underway.is_empty() => return Err(self.all_failed()),
                    None => next_at = Moment::NEVER,
                }
            }
            if let Some(won) = self.await_any(next_at.min(until).since(clock.now()))? {
                return Ok(won);
            }
        }
    }

    fn start(&mut self, address: SocketAddr, dialling: &Dialling) {
        match begin_connect(address, dialling) {
            Ok(socket) => self.underway.push((address, socket)),
            Err(error) => self.failures.push((address, error)),
        }
    }

    /// Waits until a connect has an end; that it was refused makes the next one's turn come at once.
    fn await_any(&mut self, patience: Duration) -> Result<Option<(Arc<Socket>, SocketAddr)>, Reason> {
        if self.underway.is_empty() {
            return Ok(None);
        }
        let mut polled: Vec<_> =
            self.underway.iter().map(|(_, socket)| PollFd::new(&**socket, PollFlags::OUT)).collect();
        match poll(&mut polled, Timespec::try_from(patience).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Reason::new(Kind::Connect, format!("poll: {error}"))),
        }
        let ended: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        for place in (0..ended.len()).rev().filter(|place| ended[*place]) {
            let (address, socket) = self.underway.remove(place);
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => return Ok(Some((socket, address))),
                Ok(None) => self.failures.push((address, io::ErrorKind::ConnectionAborted.into())),
                Ok(Some(error)) | Err(error) => self.failures.push((address, error)),
            }
        }
        Ok(None)
    }

    fn all_failed(&self) -> Reason {
        if self.failures.is_empty() {
            return Reason::new(Kind::Connect, "there is no address to connect to");
        }
        Reason::new(Kind::Connect, self.failed())
    }

    fn out_of_time(&self) -> Reason {
        let silent = self.underway.iter().map(|(address, _)| address.to_string());
        let tried: Vec<String> = silent.chain((!self.failures.is_empty()).then(|| self.failed())).collect();
        Reason::new(Kind::ConnectTimeout, format!("no answer in time from {}", tried.join(", ")))
    }

    fn failed(&self) -> String {
        let failed: Vec<String> =
            self.failures.iter().map(|(address, error)| format!("{address} ({})", in_words(error))).collect();
        failed.join(", ")
    }
}

fn begin_connect(address: SocketAddr, dialling: &Dialling) -> io::Result<Arc<Socket>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    let socket = Arc::new(socket);
    dialling.add(&socket)?;
    match socket.connect(&SockAddr::from(address)) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(socket),
    }
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "it refused".into(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            "there is no route to it".into()
        }
        io::ErrorKind::TimedOut => "no answer".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn addresses(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn soon(clock: Clock) -> Moment {
        clock.now() + Duration::from_secs(20)
    }

    #[test]
    fn families_take_turns_and_the_resolvers_order_is_kept_within_each() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let wanted = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(by_turns(&given), wanted);
        let mut v4_first = given.clone();
        v4_first.rotate_left(3);
        let order: Vec<_> = by_turns(&v4_first).into_iter().take(2).collect();
        assert_eq!(order, addresses(&["1.1.1.1:1", "[::1]:1"]));
    }

    #[test]
    fn an_address_that_refuses_is_followed_by_the_next_at_once() {
        let clock = Clock::start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let (stream, address) = dial(&[refusing(), there], soon(clock), clock, &Dialling::default()).unwrap();
        assert_eq!((stream.peer_addr().unwrap(), address), (there, there));
    }

    #[test]
    fn the_reason_names_every_address_and_what_it_did() {
        let clock = Clock::start();
        let (a, b) = (refusing(), refusing());
        let reason = dial(&[a, b], soon(clock), clock, &Dialling::default()).unwrap_err();
        assert_eq!(reason.kind, Kind::Connect);
        assert_eq!(reason.text, format!("{a} (it refused), {b} (it refused)"));
        let reason = dial(&[a], clock.now(), clock, &Dialling::default()).unwrap_err();
        assert_eq!(reason.kind, Kind::ConnectTimeout);
    }

    #[test]
    fn what_is_given_up_before_it_began_connects_to_nothing() {
        let clock = Clock::start();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialling = Dialling::default();
        dialling.shutdown();
        assert!(dial(&[listener.local_addr().unwrap()], soon(clock), clock, &dialling).is_err());
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err());
    }
}
