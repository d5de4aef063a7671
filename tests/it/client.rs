//! A raw client: sends any bytes in any pieces and takes answers apart strictly, as they arrive.

use crate::patience::PATIENCE;
use crate::wire;
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// The status.
    pub(crate) status: u16,
    /// The fields in their order, names as they came.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// Its head.
    pub(crate) head: Head,
    /// Its content, without the transfer coding.
    pub(crate) body: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// By a FIN.
    Closed,
    /// By a RST.
    Reset,
}

/// An answer that ended before it was whole.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Content that came before.
    pub(crate) body: Vec<u8>,
    /// How it ended.
    pub(crate) end: End,
}

impl Head {
    /// The values of a field.
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        let of_name = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| &value[..]).collect()
    }

    /// The only value of a field.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let values = self.all(name);
        assert!(values.len() < 2, "{name} came more than once");
        values.first().map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// A field that is a number.
    #[track_caller]
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.field(name)
            .and_then(|v| v.parse().ok())
            .unwrap_or_else(|| panic!("{name} is no number: {self:?}"))
    }
}

impl Answer {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    /// The content as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The content as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {self:?}"))
    }

    /// Checks that this is an error of the sidecar's own in OpenAI's form.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, error_type: &str) -> &Answer {
        assert_eq!(self.status(), status, "{}", self.text());
        let error = &self.json()["error"];
        assert_eq!(error["type"], error_type, "{error}");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
        assert!(error["code"].is_string(), "{error}");
        assert!(self.head.field("x-request-id").is_some_and(|id| !id.is_empty()), "{:?}", self.head);
        self
    }
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("the sidecar does not listen");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, unread: Vec::new() }
    }

    /// Sends bytes as they are. A connection that the other side has ended is told by what is read from it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends nothing more and goes on reading.
    pub(crate) fn half_close(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one whole answer.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        match self.try_answer() {
            Ok(answer) => answer,
            Err(broken) => panic!("no whole answer: {broken:?}"),
        }
    }

    /// Reads one whole answer, or tells how it broke.
    pub(crate) fn try_answer(&mut self) -> Result<Answer, Broken> {
        let head = self.try_head()?;
        let body = self.content(&head)?;
        Ok(Answer { head, body })
    }

    /// Reads the answer to a HEAD request.
    #[track_caller]
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        Answer { head: self.head(), body: Vec::new() }
    }

    /// Reads the head of an answer.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Head {
        self.try_head().unwrap_or_else(|broken| panic!("no head of an answer: {broken:?}"))
    }

    fn try_head(&mut self) -> Result<Head, Broken> {
        let end = loop {
            if let Some(end) = wire::head_end(&self.unread) {
                break end;
            }
            self.read_more().map_err(|end| Broken { body: self.unread.clone(), end })?;
        };
        let raw: Vec<u8> = self.unread.drain(..end).collect();
        let line = raw.split(|b| *b == b'\r').next().unwrap();
        let status = std::str::from_utf8(line).ok().and_then(|l| l.strip_prefix("HTTP/1.1 "));
        let status = status.and_then(|s| s.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {:?}", String::from_utf8_lossy(line)));
        Ok(Head { status, fields: wire::fields(&raw) })
    }

    /// Reads the content that belongs to a head.
    pub(crate) fn content(&mut self, head: &Head) -> Result<Vec<u8>, Broken> {
        if matches!(head.status, 100..=199 | 204 | 304) {
            return Ok(Vec::new());
        }
        if let Some(coding) = head.field("transfer-encoding") {
            assert_eq!(coding, "chunked");
            assert_eq!(head.field("content-length"), None, "both framings at once");
            let mut body = Vec::new();
            while let Some(chunk) = self.chunk().map_err(|end| Broken { body: body.clone(), end })? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        if head.field("content-length").is_some() {
            let length = usize::try_from(head.number("content-length")).unwrap();
            return self.exactly(length);
        }
        assert_eq!(head.field("connection").as_deref(), Some("close"), "content without an end: {head:?}");
        let (body, end) = self.rest();
        if end == End::Closed { Ok(body) } else { Err(Broken { body, end }) }
    }

    /// Reads the next chunk of a chunked answer; `None` after the last.
    pub(crate) fn chunk(&mut self) -> Result<Option<Vec<u8>>, End> {
        let line_end = loop {
            if let Some(at) = self.unread.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            self.read_more()?;
        };
        let line: Vec<u8> = self.unread.drain(..line_end + 2).collect();
        let size =
            std::str::from_utf8(&line[..line_end]).ok().and_then(|s| usize::from_str_radix(s, 16).ok());
        let size = size.unwrap_or_else(|| panic!("no chunk size: {:?}", String::from_utf8_lossy(&line)));
        let mut chunk = self.exactly(size + 2).map_err(|broken| broken.end)?;
        assert!(chunk.ends_with(b"\r\n"), "no end of a chunk: {chunk:?}");
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }

    /// Reads the next event of an event stream, without its blank line.
    #[track_caller]
    pub(crate) fn event(&mut self) -> String {
        loop {
            if let Some(at) = self.unread.windows(2).position(|w| w == b"\n\n") {
                let event: Vec<u8> = self.unread.drain(..at + 2).collect();
                return String::from_utf8_lossy(&event[..at]).into_owned();
            }
            self.read_more().unwrap_or_else(|end| panic!("the stream ended: {end:?}"));
        }
    }

    /// Reads until the connection ends.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            if let Err(end) = self.read_more() {
                break end;
            }
        };
        (std::mem::take(&mut self.unread), end)
    }

    /// Checks that the connection ends now, without another byte.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let (bytes, end) = self.rest();
        assert_eq!((String::from_utf8_lossy(&bytes).into_owned(), end), (String::new(), End::Closed));
    }

    /// Whether anything has arrived that was not read; does not wait.
    pub(crate) fn has_input(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let input = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        !self.unread.is_empty() || !matches!(input, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Makes the kernel take no more than a few kilobytes for this client, so that a server notices that it does not read.
    pub(crate) fn shrink_receive_buffer(&self) {
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(4096).unwrap();
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        while self.unread.len() < length {
            if let Err(end) = self.read_more() {
                return Err(Broken { body: std::mem::take(&mut self.unread), end });
            }
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn read_more(&mut self) -> Result<(), End> {
        let mut piece = [0; 64 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(End::Closed),
            Ok(n) => {
                self.unread.extend_from_slice(&piece[..n]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => self.read_more(),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(e) => panic!("nothing came ({e}); so far: {:?}", String::from_utf8_lossy(&self.unread)),
        }
    }
}
