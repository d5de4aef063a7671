//! A sidecar that listens, in this process or in one of its own, as its clients see it.

use crate::ask::{Ask, ask};
use crate::client::{Answer, Client};
use crate::patience::until;
use serde_json::Value;
use std::net::SocketAddr;

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listening(pub(crate) SocketAddr);

impl Listening {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.0)
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn begin(&self, ask: Ask) -> Client {
        let mut client = self.connect();
        client.send(Vec::from(ask));
        client
    }

    /// Sends a request on a connection of its own and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&self, ask: Ask) -> Answer {
        self.begin(ask).answer()
    }

    /// What `/status` says.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.ask(ask("GET", "/status")).json()
    }

    /// What Prometheus would scrape.
    #[track_caller]
    pub(crate) fn scrape(&self) -> String {
        let answer = self.ask(ask("GET", "/metrics"));
        assert_eq!(answer.status(), 200);
        answer.text()
    }

    /// Waits until so many requests wait in the queue.
    #[track_caller]
    pub(crate) fn wait_for_queue(&self, depth: u64) {
        until(&format!("{depth} requests are queued"), || {
            (self.status()["queue"]["current_size"] == depth).then_some(())
        });
    }

    /// Sends a request that is to wait, and waits until it does; `depth` counts it.
    #[track_caller]
    pub(crate) fn queue(&self, ask: Ask, depth: u64) -> Client {
        let client = self.begin(ask);
        self.wait_for_queue(depth);
        client
    }
}
