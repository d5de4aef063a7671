//! **nvidia-sidecar**: a low-footprint, synchronous, thread-per-core proxy in front of the NVIDIA NIM API.
//!
//! `docs/ARCHITECTURE.md` has the picture, follows one request through the files, and says what may import what.
//!
//! Words: a **request** is what a client sent, a **job** is a request in the queue, a **ticket** is the permission to
//! send one request upstream, the **window** is the last 60 s, **limited** is what draws on the NVIDIA quota and
//! **pass-through** is what does not.
//!
//! Log levels: `error` is a bug of the sidecar or a loss of its function, `warn` is something that an operator may
//! have to act on, `info` is one line a request and each change of state, `debug` explains a decision, `trace` shows
//! pieces. Keys, tokens and webhook addresses appear at no level.

pub mod alerts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod dispatch;
pub mod downstream;
pub mod front;
pub mod healthcheck;
pub mod http;
pub mod lifecycle;
pub mod limiter;
pub mod ops;
pub mod outcome;
pub mod priority;
pub mod published;
pub mod service;
pub mod simulate;
pub mod systemd;
pub mod telemetry;
pub mod upstream;
pub mod workers;

/// How property tests run: what made one fail is kept under `tests/` and tried first from then on.
#[cfg(test)]
fn properties() -> proptest::test_runner::Config {
    use proptest::test_runner::{Config, FileFailurePersistence};
    let kept = FileFailurePersistence::SourceParallel("tests/regressions");
    Config { failure_persistence: Some(Box::new(kept)), ..Config::default() }
}
