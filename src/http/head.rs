//! One complete head: parsed by httparse, then held to the rules of RFC 9112 that keep two parsers from disagreeing.

use std::mem::MaybeUninit;

use super::malformed::Malformed;
use super::request::{Field, Head, Span};
use super::target::{Target, classify, is_authority};

/// Header fields that a request may have. The official OpenAI SDK sends 17.
const MAX_FIELDS: usize = 128;
/// Options in all `Connection` fields together; each is compared with each field's name when a request is forwarded.
const MAX_CONNECTION_OPTIONS: usize = 64;

/// How the request's content is delimited (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// So many bytes; zero also where no field announces content.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A valid head and what it says about what follows.
pub(super) struct Parsed {
    pub(super) head: Head,
    pub(super) content: Content,
    /// The client waits for `100 Continue` before it sends its content.
    pub(super) expects_continue: bool,
}

/// Parses `bytes`, which are one head up to and with its blank line, each line ending in CRLF.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Malformed::new(400, "the request's head is malformed")),
        Err(error) => return Err(explain(error, bytes)),
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let http_10 = request.version == Some(0);

    let form = classify(method, target)?;
    let mut rules = Rules::default();
    for field in &*request.headers {
        rules.see(field.name, field.value)?;
    }
    let mut head = Head {
        raw: bytes.into(),
        fields: request
            .headers
            .iter()
            .map(|field| Field {
                name: Span::of(field.name.as_bytes(), bytes),
                value: Span::of(field.value, bytes),
            })
            .collect(),
        method: Span::of(method.as_bytes(), bytes),
        target: Span::of(target.as_bytes(), bytes),
        http_10,
        keep_alive: !rules.close && (!http_10 || rules.keep_alive),
    };
    if let Target::Absolute { authority_start, authority_end } = form {
        let start = target.as_ptr().addr() - bytes.as_ptr().addr();
        reduce_to_origin_form(
            &mut head,
            start + authority_start,
            start + authority_end,
            start + target.len(),
        );
    }
    let content = rules.content(http_10)?;
    Ok(Parsed { head, content, expects_continue: rules.expects_continue && !http_10 })
}

/// Makes path and query the target, and the authority the value of `Host` (RFC 9112 §3.2.2).
///
/// A target without a path gets one: the authority moves one byte to the left, over the slash that the reduced target no
/// longer needs, and `/` takes the byte that this frees.
fn reduce_to_origin_form(head: &mut Head, mut authority_start: usize, mut authority_end: usize, end: usize) {
    let mut path_start = authority_end;
    if head.raw.get(path_start) != Some(&b'/') {
        head.raw.copy_within(authority_start..authority_end, authority_start - 1);
        (authority_start, authority_end, path_start) =
            (authority_start - 1, authority_end - 1, authority_end - 1);
        head.raw[path_start] = b'/';
    }
    head.target = Span::new(path_start, end);
    let authority = Span::new(authority_start, authority_end);
    let raw = &head.raw;
    if let Some(host) =
        head.fields.iter_mut().find(|field| field.name.in_bytes(raw).eq_ignore_ascii_case(b"host"))
    {
        host.value = authority;
    }
}

/// What the fields seen so far say about framing and connection.
#[derive(Default)]
struct Rules {
    hosts: usize,
    content_length: Option<u64>,
    transfer_encoding: bool,
    codings: usize,
    close: bool,
    keep_alive: bool,
    connection_options: usize,
    expects_continue: bool,
}

impl Rules {
    fn see(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        // Lengths first: most fields are none of these, and this is every request's path.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.host(value),
            6 if name.eq_ignore_ascii_case("expect") => self.expect(value),
            10 if name.eq_ignore_ascii_case("connection") => self.connection(value),
            14 if name.eq_ignore_ascii_case("content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case("transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Malformed> {
        self.hosts += 1;
        if self.hosts > 1 {
            return Err(Malformed::new(400, "more than one Host field"));
        }
        if !is_authority(value) {
            return Err(Malformed::new(400, "the Host field is invalid"));
        }
        Ok(())
    }

    fn expect(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            return Err(Malformed::new(417, "the only expectation that can be met is 100-continue"));
        }
        self.expects_continue = true;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.connection_options += 1;
        }
        if self.connection_options > MAX_CONNECTION_OPTIONS {
            return Err(Malformed::new(400, "too many options in the Connection field"));
        }
        Ok(())
    }

    /// Repeating one value is harmless and legal, as `5, 5` or as two fields (RFC 9110 §8.6).
    fn content_length(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for member in list(value) {
            let length = decimal(member).ok_or(Malformed::new(400, "the Content-Length is not a number"))?;
            if self.content_length.is_some_and(|other| other != length) {
                return Err(Malformed::new(400, "two different Content-Lengths"));
            }
            self.content_length = Some(length);
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Malformed> {
        self.transfer_encoding = true;
        for coding in list(value) {
            if coding.is_empty() {
                return Err(Malformed::new(400, "an empty transfer coding"));
            }
            if !coding.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::new(501, "the only transfer coding supported is chunked"));
            }
            self.codings += 1;
        }
        Ok(())
    }

    /// How the content is delimited, now that all fields have been seen.
    fn content(&self, http_10: bool) -> Result<Content, Malformed> {
        if self.hosts == 0 && !http_10 {
            return Err(Malformed::new(400, "the Host field is missing"));
        }
        if !self.transfer_encoding {
            return Ok(Content::Length(self.content_length.unwrap_or(0)));
        }
        // Each of these is how a request is smuggled past a proxy that reads it in another way than its upstream (§11.2).
        if self.content_length.is_some() {
            return Err(Malformed::new(400, "both Content-Length and Transfer-Encoding"));
        }
        if http_10 {
            return Err(Malformed::new(400, "HTTP/1.0 has no Transfer-Encoding"));
        }
        if self.codings != 1 {
            return Err(Malformed::new(400, "the transfer coding chunked must be applied exactly once"));
        }
        Ok(Content::Chunked)
    }
}

/// The members of a comma-separated list, without the white space around them (RFC 9110 §5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Digits and nothing else; `None` also when the number does not fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// What httparse's verdict means to the client.
fn explain(error: httparse::Error, bytes: &[u8]) -> Malformed {
    match error {
        httparse::Error::TooManyHeaders => Malformed::new(431, "more than 128 header fields"),
        httparse::Error::Version if bytes.starts_with(b"PRI * HTTP/2") => {
            Malformed::new(505, "HTTP/2 is not spoken here: use HTTP/1.1")
        }
        httparse::Error::Version if names_another_version(bytes) => {
            Malformed::new(505, "the only versions spoken are HTTP/1.1 and HTTP/1.0")
        }
        httparse::Error::HeaderName => {
            Malformed::new(400, "a header field's name is invalid, folded, or followed by white space")
        }
        httparse::Error::HeaderValue => Malformed::new(400, "a header field's value has a control character"),
        _ => Malformed::new(400, "the request line is malformed"),
    }
}

/// Whether the request line ends in `HTTP/x.y` with another version than ours, and is not malformed in some other way.
fn names_another_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let version = words.nth(2).and_then(|word| word.strip_prefix(b"HTTP/"));
    let is_version =
        |v: &[u8]| matches!(v, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit());
    version.is_some_and(is_version) && words.next().is_none()
}
