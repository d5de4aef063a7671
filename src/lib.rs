//! **nvidia-sidecar**: a low-footprint, synchronous, thread-per-core proxy in front of the NVIDIA NIM API.
//!
//! ```text
//!         epoll loop per core         limiter thread (owns queue and rate, no lock)    worker threads (blocking)
//! client ─▶ front ── 4 crossbeam channels ─▶ lanes ─ ticket + slot ─ crossbeam ─▶ upstream (ureq) ──▶ client
//!            │         (urgent … low)          ▲                                     │ (written straight)
//!            ├── pass-through ─────────────────┼──────────▶ pass-through workers     │
//!            ├── operator's pages              │                                     │
//!            └── client hung up: cancel ───────┘◀────────── report: 200, 429, … ─────┘
//! ```
//!
//! Words: a **request** is what a client sent, a **job** is a request in the queue, a **ticket** is the permission to
//! send one request upstream, the **window** is the last 60 s, **limited** is what draws on the NVIDIA quota and
//! **pass-through** is what does not.
//!
//! Log levels: `error` is a defect of the sidecar or a loss of its function, `warn` is something that an operator may
//! have to act on, `info` is one line a request and each change of state, `debug` explains a decision, `trace` shows
//! pieces. Keys, tokens and webhook addresses appear at no level.

pub mod alerts;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod front;
pub mod healthcheck;
pub mod http;
pub mod job;
pub mod lifecycle;
pub mod limiter;
pub mod ops;
pub mod outcome;
pub mod priority;
pub mod record;
pub mod service;
pub mod simulate;
pub mod systemd;
pub mod upstream;
