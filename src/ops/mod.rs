//! The operator's side: what is written down, counted and shown of the sidecar's work.
//!
//! ```text
//! journal, limiter, readiness, connections ─▶ state ─┬─▶ status ─────────┐
//!                                                    ├─▶ gauges ─────────┼─▶ overview ─▶ pages
//!                                                    ├─▶ history ────────┤
//!                                                    └─▶ dashboard ──────┴─▶ show (the dashboard's stream)
//! operator ─▶ admission ─▶ pages ─▶ admin_thread ─▶ control
//! ```

pub mod admin_thread;
pub mod admission;
pub mod assets;
pub mod cached;
pub mod dashboard;
pub mod fleet;
pub mod gauges;
mod guesses;
pub mod heartbeat;
pub mod history;
pub mod listing;
pub mod overview;
pub mod page;
pub mod page_request;
pub mod pages;
pub mod paths;
pub mod problems;
pub mod readiness;
pub mod show;
pub mod state;
pub mod status;
