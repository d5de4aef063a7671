//! The upstream's side: workers that forward a request, relay its answer to the client and report to the limiter.
//!
//! ```text
//! pool ─▶ worker ─▶ forward ─▶ agent (ureq, cancel, resolver) ─▶ upstream
//!            │  ▲       retry: again, or is this the answer?
//!            ▼  └────── relay ─▶ client's socket
//!         report to the limiter
//! ```

pub mod agent;
pub mod cancel;
pub mod early;
pub mod forward;
pub mod relay;
pub mod resolver;
pub mod retry;
pub mod worker;
