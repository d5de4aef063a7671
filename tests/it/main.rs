//! The sidecar as its clients and its upstream see it: real sockets, a scripted upstream, a raw client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ask;
mod client;
mod patience;
mod process;
mod sidecar;
mod upstream;
mod waiting;
mod wire;

mod connections;
mod contract;
mod dashboard;
mod edges;
mod floors;
mod forwarding;
mod front_door;
mod hangups;
mod lifecycle;
mod memory;
mod operator;
mod pages;
mod peers;
mod places;
mod queue;
mod refusals;
mod retries;
mod service;
mod streaming;
mod together;
mod trust;
