//! Bounds on what clients may open and send.

use std::time::Duration;

use super::key::Reload::Live;
use super::key::Variable::Own;
use super::key::{Keys, Row, Section};
use super::number::{HOUR, MAX_BYTES, SHORTEST, Seconds, Whole};

/// Bounds on what clients may open and send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    /// `max_connections`.
    pub max_connections: usize,
    /// `max_body_bytes` of one request.
    pub max_body_bytes: usize,
    /// `max_body_memory_bytes`: bodies of all connections together, being read or waiting.
    pub max_body_memory_bytes: usize,
    /// `client_timeout`: a client's slow head, body or reading.
    pub client_timeout: Duration,
}

impl Section for Front {
    fn build(keys: &mut impl Keys<Front>) -> Front {
        Front {
            max_connections: keys.key(&Row {
                name: "max_connections",
                variable: Own,
                reload: Live,
                kind: Whole(1..=1_000_000),
                default: 10_000,
                of: |c| &c.max_connections,
                text: "Open connections of clients, {range}.",
            }),
            max_body_bytes: keys.key(&Row {
                name: "max_body_bytes",
                variable: Own,
                reload: Live,
                kind: Whole(1..=1 << 30),
                default: 32 << 20,
                of: |c| &c.max_body_bytes,
                text: "Bytes of one request's body, {range}; above is 413.",
            }),
            max_body_memory_bytes: keys.key(&Row {
                name: "max_body_memory_bytes",
                variable: Own,
                reload: Live,
                kind: Whole(1024..=MAX_BYTES),
                default: 256 << 20,
                of: |c| &c.max_body_memory_bytes,
                text: "Bytes of all connections' request bodies together, being read or waiting, {range}.",
            }),
            client_timeout: keys.key(&Row {
                name: "client_timeout",
                variable: Own,
                reload: Live,
                kind: Seconds(SHORTEST..=HOUR),
                default: Duration::from_secs(15),
                of: |c| &c.client_timeout,
                text: "Seconds that a client may take to send its head, to send its body or to read its answer, {range} each.",
            }),
        }
    }
}
