//! A socket whose reads and writes end by one deadline, however their bytes are spread.
//!
//! The system's own time-outs (`SO_RCVTIMEO`, `SO_SNDTIMEO`) begin anew with each call, so a peer that moves one byte at
//! a time is never late for them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::clock::{Clock, Moment};

/// A blocking socket with a deadline.
pub(super) struct Timed<'s> {
    stream: &'s TcpStream,
    clock: Clock,
    until: Moment,
}

impl<'s> Timed<'s> {
    /// All that is read and written through it has `within` from now.
    pub(super) fn new(stream: &'s TcpStream, clock: Clock, within: Duration) -> Timed<'s> {
        Timed { stream, clock, until: clock.now() + within }
    }

    /// What is left; [`ErrorKind::TimedOut`] once nothing is.
    fn remaining(&self) -> io::Result<Duration> {
        let remaining = self.until.since(self.clock.now());
        if remaining.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(remaining) }
    }
}

/// The one error for a time that is up: the system says `EAGAIN`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.remaining()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.remaining()?))?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
