//! A small blocking server on the same framing, for the demo's look-alike upstream and the alert bridge.
//!
//! One thread a connection, so it is for few and well-known clients; the proxy's own front is the event loop.
