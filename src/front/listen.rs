//! The listening sockets: one for each port and event loop, or those that a service manager hands over.

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
    /// That of `listen_port`.
    pub api: Option<TcpListener>,
    /// That of `metrics_port`.
    pub metrics: Option<TcpListener>,
}

/// As many handles as there are loops, of one listener that was inherited over, or else of new ones.
///
/// # Errors
/// As [`bind`], and when the system has no descriptor left.
pub fn open(
    address: SocketAddr,
    inherited: Option<TcpListener>,
    count: usize,
) -> io::Result<Vec<TcpListener>> {
    let Some(listener) = inherited else { return bind(address, count) };
    // The socket is one and the manager's, so the loops share it: each hears of a connection, the first accepts it.
    listener.set_nonblocking(true)?;
    let mut handles = (1..count).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
    handles.push(listener);
    Ok(handles)
}

/// Binds `count` listeners to one address, among which the kernel spreads the connections (`SO_REUSEPORT`).
///
/// # Errors
/// When the address is taken, also by another process of the same user that allows sharing, or is not this host's.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut bound = bind_all(address, count);
    for _ in 1..CHOICES {
        match &bound {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() == 0 => {
                bound = bind_all(address, count);
            }
            _ => break,
        }
    }
    bound
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
        let loops = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = loops[0].local_addr().unwrap();
        assert_eq!(loops[1].local_addr().unwrap(), address);
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
