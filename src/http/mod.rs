//! HTTP/1.1 without I/O: bytes to requests, header fields across the proxy, answers to bytes (RFC 9110, RFC 9112).
//!
//! All of it decides on values: no socket, no clock, no thread. The one exception is [`server`], a small blocking
//! server on the same framing for the parts that are not the proxy.

pub mod anthropic;
mod chunked;
pub mod error;
pub mod framing;
mod head;
pub mod headers;
mod malformed;
pub mod path;
mod reply;
pub mod request;
pub mod retry_after;
#[cfg(test)]
pub(crate) mod samples;
mod scan;
pub mod server;
mod target;
mod timed;
pub mod write;

pub use framing::{Bounds, Malformed, Progress, RequestReader, Step};
pub use request::{Head, Request};
