//! What carries the bytes of a connection: TCP, TLS, TLS in a tunnel.

use crate::upstream::tcp::Tcp;
use std::io::{Read, Write};

/// A stream of bytes to an upstream or a proxy, over TCP in the end.
pub(super) trait Wire: Read + Write + Send + Sync {
    /// The connection at the bottom.
    fn tcp(&mut self) -> &mut Tcp;

    /// Whether another request may be sent: nothing is left to read, neither bytes nor an end (RFC 9112 §9.2), and writing
    /// never failed.
    fn is_quiet(&mut self) -> bool;
}

impl Wire for Tcp {
    fn tcp(&mut self) -> &mut Tcp {
        self
    }

    fn is_quiet(&mut self) -> bool {
        Tcp::is_quiet(self)
    }
}
