//! One quota for several sidecars: the windows that they share in Redis or Valkey.
//!
//! ```text
//! limiter ── claim, sent, given back ──▶ fleet thread ─ member (P) ─ ledger (P) ── connection ──▶ take.lua in Redis
//!    ▲                                        │
//!    └────────── grants, standing ────────────┘
//! ```
//!
//! [`protocol`] is what is said, `take.lua` what is decided, [`member`] what one sidecar makes of it, [`thread`] the shell. The
//! limiter never waits for any of it.

pub mod connection;
pub mod ledger;
pub mod member;
pub mod protocol;
pub mod thread;
pub mod timeline;
