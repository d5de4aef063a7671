//! A request as the client sent it: one block of bytes, and where in it the parts lie.
//!
//! Ten thousand of these wait at once on a small host, so a head is two allocations and not two for each field.

use std::fmt;

/// Where a part lies in a head. Sixteen bits suffice because a head is at most [`MAX_HEAD_BYTES`] long.
///
/// [`MAX_HEAD_BYTES`]: super::scan::MAX_HEAD_BYTES
#[derive(Clone, Copy, Default)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The place of `part`, which is a piece of `whole`.
    pub(super) fn of(part: &[u8], whole: &[u8]) -> Span {
        let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        Span::new(start, start + part.len())
    }

    /// From `start` up to, not including, `end`; both within [`MAX_HEAD_BYTES`](super::scan::MAX_HEAD_BYTES).
    pub(super) fn new(start: usize, end: usize) -> Span {
        let narrow = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        Span { start: narrow(start), end: narrow(end) }
    }

    pub(super) fn in_bytes(self, bytes: &[u8]) -> &[u8] {
        bytes.get(usize::from(self.start)..usize::from(self.end)).unwrap_or_default()
    }

    fn in_ascii(self, bytes: &[u8]) -> &str {
        std::str::from_utf8(self.in_bytes(bytes)).unwrap_or_default()
    }
}

/// One field line of a head.
#[derive(Clone, Copy)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// The request line and the header fields.
#[derive(Clone)]
pub struct Head {
    pub(super) raw: Box<[u8]>,
    pub(super) fields: Box<[Field]>,
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) http_10: bool,
    pub(super) keep_alive: bool,
}

impl Head {
    /// The method, case-sensitive (RFC 9110 §9.1).
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.in_ascii(&self.raw)
    }

    /// Path and query as sent, or `*`; an absolute-form target is reduced to this form (RFC 9112 §3.2.2).
    #[must_use]
    pub fn target(&self) -> &str {
        self.target.in_ascii(&self.raw)
    }

    /// The target up to its `?`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target().split_once('?').map_or(self.target(), |(path, _)| path)
    }

    /// What follows the target's `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// Whether the client speaks HTTP/1.0, which knows neither chunked answers nor `100 Continue`.
    #[must_use]
    pub fn is_http_10(&self) -> bool {
        self.http_10
    }

    /// Whether the client allows another request on its connection (RFC 9112 §9.3).
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// All fields in the order sent; values are bytes, since Latin-1 is legal in them (RFC 9110 §5.5).
    ///
    /// With an absolute-form target the value of `Host` is the target's authority (RFC 9112 §3.2.2).
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (field.name.in_ascii(&self.raw), field.value.in_bytes(&self.raw)))
    }

    /// The value of the first field called `name`, in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields_named(name).next()
    }

    /// The values of all fields called `name`, in any case, in the order sent.
    pub fn fields_named<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let called =
            move |field: &&Field| field.name.in_bytes(&self.raw).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(called).map(|field| field.value.in_bytes(&self.raw))
    }

    /// Bytes of memory that the head holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.raw.len() + size_of_val(&*self.fields)
    }
}

/// Neither field values nor the query, which may hold secrets.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method())
            .field("path", &self.path())
            .field("fields", &self.fields.len())
            .finish_non_exhaustive()
    }
}

/// A whole request.
pub struct Request {
    /// The request line and the header fields.
    pub head: Head,
    /// The content, without any transfer coding; its capacity is its length.
    pub body: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("head", &self.head).field("body_bytes", &self.body.len()).finish()
    }
}
