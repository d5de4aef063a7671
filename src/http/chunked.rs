//! The chunked transfer coding, decoded byte by byte as it arrives (RFC 9112 §7.1).
//!
//! Nothing is buffered but the content itself, so a client that drips single bytes costs no more than any other.

use super::malformed::Malformed;

/// Bytes of chunk extensions in one request, all chunks together: nobody sends any, and none is looked at.
const MAX_EXTENSION_BYTES: usize = 4 * 1024;
/// Bytes of trailer fields. They are checked and dropped.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// What the next byte is part of.
#[derive(Clone, Copy)]
enum Expected {
    /// The first digit of a chunk's size.
    Size,
    /// A further digit of the size, or what ends it.
    MoreSize(usize),
    /// White space before an extension's `;`.
    Padding(usize),
    /// A chunk extension, up to the end of its line.
    Extension(usize),
    /// The LF of the size's line.
    SizeLf(usize),
    /// So many bytes of content.
    Data(usize),
    /// The CR after a chunk's content.
    DataCr,
    /// The LF after it.
    DataLf,
    /// The first byte of a trailer field, or of the empty line that ends it all.
    TrailerLine,
    /// A trailer field's name.
    TrailerName,
    /// A trailer field's value.
    TrailerValue,
    /// The LF of a trailer field's line.
    TrailerLf,
    /// The LF of the last line.
    LastLf,
    /// The content is complete.
    Nothing,
}

/// The state of one request's content.
pub(super) struct Decoder {
    expected: Expected,
    extension_bytes: usize,
    trailer_bytes: usize,
}

impl Decoder {
    /// Before the first chunk.
    pub(super) fn new() -> Decoder {
        Decoder { expected: Expected::Size, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// Whether the last chunk and its trailer have been read.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.expected, Expected::Nothing)
    }

    /// Decodes from `input` onto the end of `body` and returns how many bytes of `input` belonged to this request.
    ///
    /// A chunk that would take `body` over `max_body_bytes` is refused at its size, before its content arrives.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
        max_body_bytes: usize,
    ) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < input.len() && !self.is_complete() {
            if let Expected::Data(left) = self.expected {
                let piece = &input[at..input.len().min(at.saturating_add(left))];
                body.extend_from_slice(piece);
                at += piece.len();
                let left = left - piece.len();
                self.expected = if left == 0 { Expected::DataCr } else { Expected::Data(left) };
            } else {
                self.expected = self.next(input[at])?;
                at += 1;
                if let Expected::MoreSize(size) = self.expected
                    && size > max_body_bytes.saturating_sub(body.len())
                {
                    return Err(Malformed::body_too_large(max_body_bytes));
                }
            }
        }
        Ok(at)
    }

    /// What is expected after `byte`, which is part of the framing.
    fn next(&mut self, byte: u8) -> Result<Expected, Malformed> {
        use Expected::*;
        Ok(match (self.expected, byte) {
            (Size, _) => MoreSize(hex(byte).ok_or(BAD_SIZE)?),
            (MoreSize(size) | Padding(size), b';') => self.extension(Extension(size))?,
            (MoreSize(size) | Padding(size), b' ' | b'\t') => self.extension(Padding(size))?,
            (MoreSize(size) | Extension(size), b'\r') => SizeLf(size),
            (MoreSize(size), _) => {
                let digit = hex(byte).ok_or(BAD_SIZE)?;
                MoreSize(size.checked_mul(16).and_then(|size| size.checked_add(digit)).ok_or(BAD_SIZE)?)
            }
            (Extension(size), _) if is_field_char(byte) => self.extension(Extension(size))?,
            (SizeLf(0), b'\n') => TrailerLine,
            (SizeLf(size), b'\n') => Data(size),
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => Size,
            (TrailerLine, b'\r') => LastLf,
            (TrailerLine, _) if is_token_char(byte) => self.trailer(TrailerName)?,
            (TrailerName, b':') => self.trailer(TrailerValue)?,
            (TrailerName, _) if is_token_char(byte) => self.trailer(TrailerName)?,
            (TrailerValue, b'\r') => TrailerLf,
            (TrailerValue, _) if is_field_char(byte) => self.trailer(TrailerValue)?,
            (TrailerLf, b'\n') => TrailerLine,
            (LastLf, b'\n') => Nothing,
            (TrailerLine | TrailerName | TrailerValue | TrailerLf | LastLf, _) => {
                return Err(Malformed::new(400, "a trailer field is malformed"));
            }
            (DataCr | DataLf, _) => return Err(Malformed::new(400, "a chunk is longer than its size")),
            _ => return Err(BAD_SIZE),
        })
    }

    fn extension(&mut self, next: Expected) -> Result<Expected, Malformed> {
        self.extension_bytes += 1;
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(Malformed::new(400, "too many bytes of chunk extensions"));
        }
        Ok(next)
    }

    fn trailer(&mut self, next: Expected) -> Result<Expected, Malformed> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > MAX_TRAILER_BYTES {
            return Err(Malformed::new(431, "the trailer fields are too large"));
        }
        Ok(next)
    }
}

const BAD_SIZE: Malformed = Malformed::new(400, "a chunk's size line is malformed");

fn hex(byte: u8) -> Option<usize> {
    char::from(byte).to_digit(16).and_then(|digit| usize::try_from(digit).ok())
}

/// RFC 9110 §5.6.2.
const fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// A field value's characters (RFC 9110 §5.5): no control character but the tab.
const fn is_field_char(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
