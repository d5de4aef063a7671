//! The limiter: which request may go upstream, and when.
//!
//! All files but [`thread`], [`permit`], [`board`] and [`state_file`] are pure: no thread, no socket, no clock; `now` is handed in.
//! [`gate`] is all of them as one, and what a shell (the limiter thread, the simulator) drives:
//!
//! ```text
//! offer ─▶ lanes (priority, aging) ─▶ fairness (clients take turns) ─┐
//!            ▲  parked ◀── hold (per model, key)                      ├─▶ next ─▶ ticket
//! bucket ∧ window ∧ slot ∧ key not paused ───────────────────────────┘            │
//!            ▲                                                                      │
//!            └── retreat (rate) ◀── scope (whose refusal?) ◀── report ◀─────────────┘
//! ```

pub mod admission;
pub mod board;
pub mod bucket;
pub mod climb;
pub mod estimate;
pub mod fairness;
mod feedback;
pub mod gate;
pub mod hold;
pub mod lanes;
pub mod models;
pub mod permit;
pub mod quota;
pub mod rate;
pub mod reserve;
pub mod retreat;
pub mod settings;
pub mod share;
pub mod snapshot;
pub mod state_file;
pub mod store;
pub mod thread;
mod view;
pub mod window;
