//! Why there is no connection, or no answer on it: one cause in one wording, for the client's message, the log and
//! readiness alike.

use std::error::Error;
use std::fmt;
use std::io;
use ureq::Timeout;

/// What a cause means for what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No connection came about; nothing was sent.
    Connect,
    /// Connecting took too long; nothing was sent.
    ConnectTimeout,
    /// The server's certificate is refused, which no other attempt changes; nothing was sent.
    Untrusted,
    /// The connection broke.
    Broken,
    /// The kernel gave the connection up because nothing that was sent on it was acknowledged.
    Unacknowledged,
}

/// A cause in words. It names addresses, certificates and statuses, and never a secret.
#[derive(Debug)]
pub struct Reason {
    /// What it means.
    pub kind: Kind,
    /// The words.
    pub text: String,
}

impl Reason {
    /// A cause of this kind.
    #[must_use]
    pub fn new(kind: Kind, text: impl Into<String>) -> Reason {
        Reason { kind, text: text.into() }
    }

    /// The reason that ureq hands through, if `error` is one of ours.
    #[must_use]
    pub fn in_error(error: &ureq::Error) -> Option<&Reason> {
        match error {
            ureq::Error::Other(other) => other.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Reason {}

impl From<Reason> for ureq::Error {
    /// Hidden from ureq as something that it does not know: it takes a reset, and an end without TLS's close_notify, for
    /// the clean end of an answer without a length, and such an end has to be visible (RFC 9112 §9.8).
    fn from(reason: Reason) -> ureq::Error {
        ureq::Error::Other(Box::new(reason))
    }
}

/// An error of a call in words.
#[must_use]
pub fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Other(other) => other.to_string(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed before the answer was complete".into()
        }
        ureq::Error::Timeout(Timeout::Connect) => "connecting to the upstream took too long".into(),
        ureq::Error::Timeout(Timeout::RecvResponse) => {
            "the upstream did not begin its answer in time (first_byte_timeout)".into()
        }
        ureq::Error::Timeout(Timeout::PerRead) => {
            "the upstream fell silent in the middle of its answer (stream_idle_timeout)".into()
        }
        ureq::Error::Timeout(_) => "the upstream did not take the request in time".into(),
        // Their own words may quote the query, which may hold a key.
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => "the request cannot be expressed".into(),
        ureq::Error::Protocol(error) => format!("what came is not HTTP ({error})"),
        ureq::Error::LargeResponseHeader(_, most) => {
            format!("the answer's head is larger than {most} bytes")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_passes_through_ureqs_errors_with_its_words() {
        let error = ureq::Error::from(Reason::new(Kind::Connect, "no route"));
        assert_eq!(Reason::in_error(&error).unwrap().kind, Kind::Connect);
        assert_eq!(in_words(&error), "no route");
        // Its words reach who reads the answer's content, too.
        assert!(error.into_io().to_string().contains("no route"));
    }
}
