//! Blocking worker threads: a pool that grows with its work, and its workers at rest.

pub mod idle;
pub mod pool;
pub mod shares;
