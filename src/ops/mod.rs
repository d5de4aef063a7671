//! The operator's side: what is written down, counted and shown of the sidecar's work.
//!
//! ```text
//! journal, limiter, readiness, connections ─▶ state ─┬─▶ status ─────────┐
//!                                                    ├─▶ gauges ─────────┼─▶ overview ─▶ pages
//!                                                    ├─▶ history ────────┤
//!                                                    └─▶ dashboard ──────┴─▶ show (the dashboard's stream)
//! operator ─▶ pages ─▶ admin ─▶ control
//! ```

pub mod admin;
pub mod admin_thread;
pub mod assets;
pub mod cached;
pub mod dashboard;
pub mod gauges;
pub mod heartbeat;
pub mod history;
pub mod overview;
pub mod page;
pub mod page_request;
pub mod pages;
pub mod readiness;
pub mod show;
pub mod state;
pub mod status;
