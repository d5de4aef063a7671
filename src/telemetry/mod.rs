//! What is written down and counted of finished requests.
//!
//! ```text
//! finished request (record) ─▶ journal ─┬─▶ log
//!                                       ├─▶ metrics
//!                                       ├─▶ key_watch
//!                                       └─▶ agents, clients, waits (when they are next looked at)
//! ```

pub mod agents;
pub mod clients;
pub mod journal;
pub mod key_watch;
pub mod log;
pub mod metric_names;
pub mod metrics;
pub mod process;
pub mod record;
pub mod usage;
pub mod waits;
