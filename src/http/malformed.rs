//! The refusal of a request that cannot be read in exactly one way, or that costs too much.

use std::borrow::Cow;

/// Why a request was refused. The connection cannot be used for another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The answer's status: 400, 413, 417, 431, 501 or 505.
    pub status: u16,
    /// What is wrong, for the client.
    pub message: Cow<'static, str>,
}

impl Malformed {
    pub(super) const fn new(status: u16, message: &'static str) -> Malformed {
        Malformed { status, message: Cow::Borrowed(message) }
    }

    pub(super) fn body_too_large(max_body_bytes: usize) -> Malformed {
        let message = format!("the body is larger than max_body_bytes, {max_body_bytes} bytes");
        Malformed { status: 413, message: Cow::Owned(message) }
    }
}
