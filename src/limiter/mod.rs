//! The limiter: which request may go upstream, and when.
//!
//! All of it is pure: no thread, no socket, no clock; `now` is handed in.
//! [`gate`] is all of them as one, and what a shell (`dispatch::thread`, the simulator) drives:
//!
//! ```text
//! offer ─▶ lanes (priority, aging) ─▶ fairness (clients take turns) ─┐
//!            ▲  opened and closed ◀── hold, quota (per model)          ├─▶ next ─▶ ticket
//! quota (window ∧ bucket ∧ reserve) ∧ slot ∧ key not paused ──────────┘            │
//!            ▲                                                                      │
//!            └── retreat (rate) ◀── scope (whose refusal?) ◀── report ◀─────────────┘
//! ```

pub mod admission;
pub mod bucket;
pub mod climb;
pub mod estimate;
pub mod fairness;
mod feedback;
pub mod fleet;
mod flight;
pub mod gate;
pub mod hold;
pub mod lanes;
pub mod model_quota;
pub mod models;
pub mod places;
pub mod quota;
pub mod rate;
pub mod reserve;
pub mod retreat;
pub mod share;
pub mod shared;
pub mod snapshot;
pub mod store;
mod view;
pub mod window;
