//! A page's request that an event loop must not answer itself because it may take a while, on its way to who does.

use crate::clock::Clock;
use crate::downstream::link::{AfterAnswer, Link};
use crate::downstream::source::Source;
use crate::http::Request;
use crate::ops::page::Page;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::panicking;

/// A request for a page, its lent connection, and the obligation to answer it.
pub struct PageRequest {
    /// What is asked.
    pub request: Request,
    /// Who asks.
    pub peer: IpAddr,
    link: Arc<Link>,
    clock: Clock,
    settled: bool,
}

impl PageRequest {
    /// Lends the connection.
    #[must_use]
    pub fn new(request: Request, source: &Source<'_>, clock: Clock) -> PageRequest {
        source.link.lend(source.unread);
        PageRequest { request, peer: source.peer, link: source.link.clone(), clock, settled: false }
    }

    /// Answers and gives the connection back.
    pub fn answer(mut self, page: &Page) {
        self.give_back(page);
    }

    fn give_back(&mut self, page: &Page) {
        self.settled = true;
        let head = &self.request.head;
        let keep = head.keep_alive() && self.link.may_persist();
        let bytes = page.to_bytes(head, keep, self.clock.wall());
        self.link.give_back_with(bytes, AfterAnswer::keep_if(keep));
    }
}

impl Drop for PageRequest {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.give_back(&if panicking() {
            Page::refusal(500, "the sidecar failed at this; please report it with its log")
        } else {
            Page::refusal(503, "the sidecar is shutting down")
        });
    }
}
