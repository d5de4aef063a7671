//! The listening sockets: one for each port and event loop, or those that a service manager hands over.

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that the kernel keeps for a loop that is busy.
const BACKLOG: i32 = 4096;

/// How often the system chooses a port, if that is left to it and somebody else takes the one it chose.
const CHOICES: usize = 8;

/// Listeners that a service manager opened, to be used in place of the configured addresses.
#[derive(Debug, Default)]
pub struct InheritedListeners {
    /// Those of `listen_port`, one for each address.
    pub api: Vec<TcpListener>,
    /// Those of `metrics_port`.
    pub metrics: Vec<TcpListener>,
}

/// As many listeners as there are loops for each address: handles of those that were inherited, or else new ones. The first
/// address has to be there; of the rest, those of a family that this host does not have are left out.
///
/// # Errors
/// As `bind` with the address, and when the system has no descriptor left.
pub fn open(
    addresses: &[SocketAddr],
    inherited: Vec<TcpListener>,
    count: usize,
) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    if inherited.is_empty() {
        return bind(addresses, count);
    }
    // Each socket is one and the manager's, so the loops share it: each hears of a connection, the first accepts it.
    let share = |listener: TcpListener| {
        listener.set_nonblocking(true)?;
        let others: io::Result<Vec<TcpListener>> = (1..count).map(|_| listener.try_clone()).collect();
        others.map(|others| others.into_iter().chain([listener]))
    };
    let handles: io::Result<Vec<_>> = inherited.into_iter().map(share).collect();
    let handles = handles.map_err(|error| (SocketAddr::from(([0, 0, 0, 0], 0)), error))?;
    Ok(handles.into_iter().flatten().collect())
}

/// Binds `count` listeners to each address, among which the kernel spreads the connections (`SO_REUSEPORT`). A port that
/// the system chooses is the same for all addresses.
///
/// # Errors
/// When an address is taken, also by another process of the same user that allows sharing, or is not this host's.
fn bind(addresses: &[SocketAddr], count: usize) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let chosen = addresses.first().is_some_and(|first| first.port() == 0);
    let mut bound = bind_each(addresses, count);
    for _ in 1..CHOICES {
        match &bound {
            Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse && chosen => {
                bound = bind_each(addresses, count);
            }
            _ => break,
        }
    }
    bound
}

fn bind_each(addresses: &[SocketAddr], count: usize) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut all: Vec<TcpListener> = Vec::new();
    for (i, &address) in addresses.iter().enumerate() {
        let port = match all.first().map(TcpListener::local_addr) {
            Some(Ok(first)) => first.port(),
            _ => address.port(),
        };
        match bind_all(SocketAddr::new(address.ip(), port), count) {
            Ok(bound) => all.extend(bound),
            Err(error) if i > 0 && is_missing_family(&error) => {}
            Err(error) => return Err((SocketAddr::new(address.ip(), port), error)),
        }
    }
    Ok(all)
}

/// A host without IPv6 refuses the family or has no such address.
fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_all(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sharing is asked for among the loops only. A socket that does not ask fails when somebody listens already, so two
    // sidecars never split one port between them unnoticed.
    let address = bind_one(address, false)?.local_addr()?;
    (0..count).map(|_| bind_one(address, true)).collect()
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // Listening on [::] takes IPv4 along, as operators expect of "all addresses".
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_share_a_port_and_a_second_process_cannot_join_them() {
        let loops = bind(&["127.0.0.1:0".parse().unwrap()], 2).unwrap();
        let address = loops[0].local_addr().unwrap();
        assert_eq!(loops[1].local_addr().unwrap(), address);
        assert_eq!(bind(&[address], 1).unwrap_err().1.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn localhost_is_both_families_on_one_port_and_does_without_the_second() {
        let both = ["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
        let bound = bind(&both, 2).unwrap();
        let port = bound[0].local_addr().unwrap().port();
        let families: Vec<bool> = bound.iter().map(|l| l.local_addr().unwrap().is_ipv6()).collect();
        assert!(families == [false, false, true, true] || families == [false, false], "{families:?}");
        assert!(bound.iter().all(|listener| listener.local_addr().unwrap().port() == port));
        // Addresses for documentation, which no host has (RFC 5737, RFC 3849).
        let (v4, v6) = ("192.0.2.1:0".parse().unwrap(), "[2001:db8::1]:0".parse().unwrap());
        assert_eq!(bind(&[both[0], v6], 1).unwrap().len(), 1);
        assert_eq!(bind(&[v4, both[0]], 1).unwrap_err().0, v4);
    }
}
