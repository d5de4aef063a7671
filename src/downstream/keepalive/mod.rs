//! Signs of life for a client that waits for a stream: what they look like, when one is due, and where in an answer one
//! may stand. Pure: no socket, no thread, no clock.
//!
//! Clients and the proxies in between hang up on silence long before a queue or a model is done with a request. A
//! [`Plan`] says for one request from when on it gets an early `200` and then, whenever nothing else was sent for a while, a
//! [frame](Plan::frame) that parsers count as progress and as nothing else; a [`KeptAlive`] is such a request on its way.
//! What the upstream says at last continues that answer; where it is not a stream, an [`error`](ErrorFrame) frame ends it.
//! `docs/decisions/signs-of-life.md` says how the frames were chosen.

mod asked;
mod boundary;
mod error_frame;
mod form;
mod kept;

pub use asked::{Plan, Wanted, patience};
pub use boundary::{FrameScanner, LineEnd, Place, Seen};
pub use error_frame::{ErrorFrame, upstream_error};
pub use form::Form;
pub use kept::{Begun, DueBytes, Early, KeptAlive, Opening, Sent};
