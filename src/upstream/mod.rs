//! The upstream's side: workers that forward a request, relay its answer to the client and report to the limiter.
//!
//! ```text
//! pool ─▶ worker ─▶ forward ─▶ agent (ureq, connect) ─▶ upstream
//!            │  ▲       retry: again, or is this the answer?
//!            ▼  └────── relay ─▶ client's socket
//!         report to the limiter
//! ```

pub mod agent;
mod buffers;
pub mod cancel;
mod connect;
mod dial;
pub mod early;
pub mod forward;
mod names;
pub mod reason;
pub mod relay;
pub mod retry;
mod tcp;
mod tls;
mod transport;
pub mod trust;
mod tunnel;
mod wire;
pub mod worker;
mod x509;
