//! The alert bridge: Alertmanager's webhook in, cards to Feishu or to a command out.
//!
//! ```text
//! Alertmanager ─ POST /webhook ─ webhook.rs ─▶ Alert ─ card.rs ─▶ Card ─┬─▶ outbox (queue.rs) ─▶ feishu.rs
//!                                                                       └─▶ outbox (queue.rs) ─▶ command.rs
//! ```
//!
//! Alertmanager's own retries end with the group's interval, so the bridge takes an alert over once it is queued and
//! answers 503 only when it is not. Each way of each severity has its outbox, its bounded queue and its thread, so that
//! one that fails delays no other. The queue lives in memory: what a stop cannot send in time is counted in the log, and
//! comes again with Alertmanager's `repeat_interval`.

pub mod alert;
pub mod answer;
pub mod bridge;
pub mod card;
pub mod command;
mod endpoints;
pub mod feishu;
pub mod language;
pub mod local_time;
mod metrics;
mod outbox;
pub mod queue;
pub mod settings;
pub mod sign;
#[cfg(test)]
mod tests;
mod text;
pub mod webhook;

pub use bridge::run;
