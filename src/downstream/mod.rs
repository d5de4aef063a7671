//! Downstream, that is, towards clients: what belongs to a client, its connection and its request.
//!
//! A [`job`] is a request on its way; its [`link`] is the connection that is lent for it, and a [`hangup`] cancels what
//! is done for a client that has gone. Who may send requests is decided by [`access`], as whom by [`identity`].

pub mod access;
pub mod body_memory;
pub mod connections;
pub mod hangup;
pub mod identity;
pub mod job;
pub mod keepalive;
pub mod link;
pub mod source;
