//! The front: one event loop per core reads requests, hands them on and watches for hang-ups.
//!
//! ```text
//! listen ─▶ event_loop ─▶ connection ─▶ intake ─┬─▶ pages                       (answered by the loop)
//!                             ▲                 ├─▶ limiter, by priority         (lent)
//!                             └──── link ◀──────┴─▶ pass-through workers         (lent)
//! ```

pub mod event_loop;
pub mod intake;
pub mod listen;
pub mod route;

mod connection;
