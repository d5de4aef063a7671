//! The limiter's shell: the one thread that owns queue and rate, the permits it hands out, and what it writes down.
//!
//! ```text
//! jobs by priority ─▶ thread (limiter::gate) ─▶ permit + job ─▶ workers
//!                       │    ▲                     │
//!              state_file    └──── feedback ◀──────┘
//! ```

pub mod fleet;
pub mod permit;
pub mod state_file;
pub mod state_lines;
pub mod thread;
