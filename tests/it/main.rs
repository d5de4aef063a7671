//! The sidecar as its clients and its upstream see it: real sockets, a scripted upstream, a raw client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod ask;
mod client;
mod command_line;
mod connections;
mod contract;
mod dashboard;
mod edges;
mod floors;
mod forwarding;
mod front_door;
mod hangups;
mod health;
mod listening;
mod logging;
mod memory;
mod outbound;
mod pages;
mod patience;
mod peers;
mod places;
mod process;
mod queue;
mod refusals;
mod reload;
mod restart;
mod retries;
mod service_manager;
mod sidecar;
mod stop;
mod streaming;
mod together;
mod trust;
mod upstream;
mod waiting;
mod wire;
