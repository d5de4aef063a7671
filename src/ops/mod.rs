//! The operator's side: what is written down, counted and shown of the sidecar's work.
//!
//! ```text
//! finished request ─▶ journal ─┬─▶ log
//!                              ├─▶ metrics ──┐
//!                              └─▶ agents ───┤
//! limiter ─▶ board ─▶ readiness, history ────┴─▶ overview ─▶ pages, show (the dashboard's stream)
//! operator ─▶ pages ─▶ admin ─▶ control
//! ```

pub mod admin;
pub mod admin_thread;
pub mod dashboard;
pub mod fleet;
pub mod heartbeat;
pub mod history;
pub mod overview;
pub mod page;
pub mod page_request;
pub mod pages;
pub mod readiness;
pub mod show;
pub mod status;
