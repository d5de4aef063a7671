//! The sidecar as its clients and its upstream see it: real sockets, a scripted upstream, a raw client.

mod ask;
mod client;
mod patience;
mod process;
mod sidecar;
mod upstream;
mod wire;

mod connections;
mod forwarding;
mod operator;
mod refusals;
mod service;
mod streaming;
