//! The operator's side: what is written down, counted and shown of the sidecar's work.
//!
//! ```text
//! finished request ─▶ journal ─┬─▶ log
//!                              ├─▶ metrics ──┐
//!                              └─▶ agents ───┤
//! limiter ─▶ board ─▶ readiness, history ────┴─▶ overview ─▶ pages, show (the dashboard's stream)
//! operator ─▶ pages ─▶ desk ─▶ control
//! ```

pub mod admin;
pub mod agents;
pub mod dashboard;
pub mod desk;
pub mod errand;
pub mod heartbeat;
pub mod history;
pub mod journal;
pub mod log;
pub mod metric_names;
pub mod metrics;
pub mod overview;
pub mod pages;
pub mod process;
pub mod readiness;
pub mod show;
pub mod status;
