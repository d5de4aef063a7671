//! What is written down and counted of finished requests.
//!
//! ```text
//! finished request (record) ─▶ journal ─┬─▶ log
//!                                       ├─▶ metrics
//!                                       └─▶ agents
//! ```

pub mod agents;
pub mod journal;
pub mod log;
pub mod metric_names;
pub mod metrics;
pub mod process;
pub mod record;
