//! Where a head ends among a connection's bytes, found in one pass however they arrive.

use std::io::BufRead;

use super::malformed::Malformed;

/// A head's largest size, its blank line included. What lies in a head is told by 16-bit offsets.
pub(super) const MAX_HEAD_BYTES: usize = u16::MAX as usize;
/// Empty lines before a request: some old clients send one after a body (RFC 9112 §2.2).
const MAX_BLANK_LINES: usize = 4;

/// The search for a head's end. It remembers where it is, so that a head costs one pass however it arrives.
#[derive(Default)]
pub(super) struct HeadScan {
    /// Empty lines before the request line, in bytes.
    pub(super) blank: usize,
    /// Where the present line starts.
    line: usize,
    /// Up to where the bytes have been searched.
    searched: usize,
}

impl HeadScan {
    /// Where the head in `bytes` starts and ends. `bytes` is the same as last time, or longer.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
        while let Some(lf) = line_feed(bytes, self.searched) {
            let is_blank = lf == self.line + 1;
            if lf == self.line || bytes[lf - 1] != b'\r' {
                return Err(Malformed::new(400, "a line of the head does not end in CRLF"));
            }
            self.searched = lf + 1;
            if is_blank && self.line > self.blank {
                return self.within_bounds(lf + 1).map(|()| Some((self.blank, lf + 1)));
            }
            self.line = lf + 1;
            if is_blank {
                self.blank = lf + 1;
                if self.blank > MAX_BLANK_LINES * "\r\n".len() {
                    return Err(Malformed::new(400, "too many empty lines before the request"));
                }
            }
        }
        self.searched = bytes.len();
        match bytes.get(self.blank) {
            // The first byte of a TLS handshake record: without this the client would wait for its time-out.
            Some(0x16) => Err(Malformed::new(400, "this port speaks plain HTTP, not TLS: use http://")),
            Some(&first) if first != b'\r' && !first.is_ascii_graphic() => {
                Err(Malformed::new(400, "the request line is malformed"))
            }
            _ => self.within_bounds(bytes.len()).map(|()| None),
        }
    }

    fn within_bounds(&self, end: usize) -> Result<(), Malformed> {
        if end - self.blank > MAX_HEAD_BYTES {
            return Err(Malformed::new(431, "the request's head is larger than 65535 bytes"));
        }
        Ok(())
    }
}

/// The first line feed at or after `from`.
fn line_feed(bytes: &[u8], from: usize) -> Option<usize> {
    // `skip_until` is the standard library's way to its `memchr`, several times faster than a loop over the bytes.
    let mut rest = &bytes[from..];
    let skipped = rest.skip_until(b'\n').unwrap_or_default();
    let at = (from + skipped).checked_sub(1)?;
    (skipped > 0 && bytes[at] == b'\n').then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_have_been_searched_are_not_searched_again() {
        let mut scan = HeadScan::default();
        assert_eq!(scan.find(b"GET / HTTP/1.1\r\nHost: n"), Ok(None));
        // A bare LF among what has been searched would be refused if it were looked at.
        assert_eq!(scan.find(b"GET /\nHTTP/1.1\r\nHost:\nn\r\n\r\nrest"), Ok(Some((0, 27))));
    }

    #[test]
    fn a_line_end_may_be_cut_anywhere() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: n\r\n\r\n";
        let mut scan = HeadScan::default();
        for end in 0..head.len() {
            assert_eq!(scan.find(&head[..end]), Ok(None), "{end}");
        }
        assert_eq!(scan.find(head), Ok(Some((2, head.len()))));
    }
}
