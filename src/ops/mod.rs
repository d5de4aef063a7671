//! The operator's side: what is written down, counted and shown of the sidecar's work.

pub mod agents;
pub mod dashboard;
pub mod history;
pub mod journal;
pub mod log;
pub mod metric_names;
pub mod metrics;
pub mod pages;
pub mod process;
pub mod status;
