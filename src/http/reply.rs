//! The answer that a handler of the small [`server`](super::server) gives, whole or piece by piece.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::timed::Timed;
use super::write::{Asked, BodyFraming, Delivery, LAST_CHUNK, answer_head, chunk_into, local_answer};
use crate::clock::Clock;

/// The answer to one request: either [`send`](Reply::send), or [`begin`](Reply::begin) and then pieces.
pub struct Reply<'c> {
    stream: &'c TcpStream,
    asked: Asked,
    clock: Clock,
    within: Duration,
    begun: Option<Delivery>,
}

impl<'c> Reply<'c> {
    /// The client has `within` for a whole answer, and for each piece of one that streams.
    pub(super) fn new(stream: &'c TcpStream, asked: Asked, clock: Clock, within: Duration) -> Reply<'c> {
        Reply { stream, asked, clock, within, begun: None }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        Timed::new(self.stream, self.clock, self.within).write_all(bytes)
    }

    /// Sends a whole answer.
    pub fn send(
        &mut self,
        status: u16,
        content_type: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let Asked { is_head, keep_alive, .. } = self.asked;
        self.begun = Some(Delivery::decide(self.asked, status, Some(body.len() as u64)));
        let date = self.clock.wall();
        self.write(&local_answer(status, content_type, fields, body, keep_alive, is_head, date))
    }

    /// Sends the head of an answer that follows in pieces.
    pub fn begin(&mut self, status: u16, fields: &[(&str, &str)]) -> io::Result<()> {
        let delivery = Delivery::decide(self.asked, status, None);
        let mut out = Vec::new();
        answer_head(&mut out, status, fields.iter().map(|(name, value)| (*name, value.as_bytes())), delivery);
        self.begun = Some(delivery);
        self.write(&out)
    }

    /// Sends the next piece of a begun answer at once.
    pub fn piece(&mut self, piece: &[u8]) -> io::Result<()> {
        match self.begun.map(|delivery| delivery.framing) {
            Some(BodyFraming::Chunked) => {
                let mut out = Vec::new();
                chunk_into(&mut out, piece);
                self.write(&out)
            }
            Some(BodyFraming::UntilClose) => self.write(piece),
            _ => Ok(()),
        }
    }

    /// Ends the answer, and returns whether the connection persists.
    pub(super) fn finish(&mut self) -> io::Result<bool> {
        let delivery = self.begun.ok_or_else(|| io::Error::other("the handler gave no answer"))?;
        if delivery.framing == BodyFraming::Chunked {
            self.write(LAST_CHUNK)?;
        }
        Ok(delivery.persists)
    }
}
