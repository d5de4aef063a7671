//! The request that moves from stage to stage, and its obligation to be answered.
//!
//! A job is owned by one stage at a time. It ends through exactly one of [`Job::refuse`], [`Job::settle`] and
//! [`Job::abandon`]; one that is dropped unanswered, by a bug, answers its client with an internal error.

use crate::clock::Moment;
use crate::downstream::access::cors_fields;
use crate::downstream::body_memory::BodyShare;
use crate::downstream::keepalive::{Begun, Early, ErrorFrame};
use crate::downstream::link::{AfterAnswer, Link};
use crate::http::Head;
use crate::http::error::ErrorAnswer;
use crate::http::retry_after as told;
use crate::http::write::chunk_into;
use crate::outcome::Outcome;
use crate::priority::Priority;
use crate::telemetry::journal::Journal;
use crate::telemetry::record::{Record, Route, UpstreamError};
use crate::telemetry::usage::UsageReader;
use crate::workers::shares::Share;
use std::sync::Arc;
use std::time::Duration;

/// One client request on its way.
pub struct Job {
    /// What the front found out about it.
    pub facts: Facts,
    /// The request's head as it came.
    pub head: Head,
    /// Length of its body in bytes.
    pub bytes_in: u64,
    /// The request's body, with what it takes of the memory budget; gone once it cannot be needed again.
    pub body: Option<Body>,
    /// Time spent waiting for tickets so far.
    pub queued: Duration,
    /// When it last began to wait.
    pub waiting_since: Moment,
    /// How often it was sent upstream.
    pub attempts: u32,
    /// How often no connection to the upstream came about.
    pub unconnected: u32,
    /// Its client's hold on a pass-through worker.
    pub worker: Option<Share>,
    /// A pooled connection failed it: the next attempt takes a fresh one.
    pub needs_fresh_connection: bool,
    /// What it did upstream, for its record.
    pub upstream: UpstreamAttempt,
    /// The 200 that the client got while it waited.
    early: Option<Early>,
    responder: Responder,
    journal: Arc<Journal>,
}

/// What the front found out about a request.
pub struct Facts {
    /// Unique in this process.
    pub id: u64,
    /// What the answer's `X-Request-Id` will be unless the upstream sends one.
    pub request_id: String,
    /// Who sent it.
    pub client: Arc<str>,
    /// The model it asks for.
    pub model: Option<Arc<str>>,
    /// The priority it came with.
    pub priority: Priority,
    /// Whether it draws on the quota.
    pub route: Route,
    /// Which upstream it goes to.
    pub destination: Destination,
    /// The origin of the browser's page that sent it and may read the answer.
    pub page: Option<Box<str>>,
    /// When its last byte had come.
    pub arrived: Moment,
    /// When it arrived for the first time, where its client had given up and has sent it again.
    pub first_arrived: Moment,
    /// What it is known by when its client sends it again; `None` where that is not remembered.
    pub fingerprint: Option<u64>,
    /// Until when it may wait for tickets.
    pub deadline: Moment,
    /// Its client may get an early 200, so the answer must not come compressed.
    pub is_kept_alive: bool,
}

/// Which of the two upstreams a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `upstream_url`.
    Nvidia,
    /// `passthrough_url`; where it is not set, `upstream_url` too.
    Other,
}

/// A request's body in memory.
pub struct Body {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// Held for as long as the bytes are.
    pub share: BodyShare,
}

/// What the last attempt at the upstream came to.
#[derive(Debug, Default)]
pub struct UpstreamAttempt {
    /// From sending the request until the head of the answer.
    pub latency: Option<Duration>,
    /// How it failed.
    pub error: Option<UpstreamError>,
    /// The cause in words.
    pub cause: Option<String>,
    /// Bytes of the answer's body that were passed on.
    pub bytes_out: u64,
    /// Reads the answer's usage, where that can be read.
    pub usage: Option<UsageReader>,
}

impl UpstreamAttempt {
    /// A piece of the answer's body is passed on.
    pub fn pass_on(&mut self, piece: &[u8]) {
        self.bytes_out += piece.len() as u64;
        if let Some(usage) = &mut self.usage {
            usage.read(piece);
        }
    }
}

/// The way back to the client.
pub struct Responder {
    link: Arc<Link>,
    /// Pipelined bytes wait in the loop's buffer.
    leftover: bool,
    settled: bool,
}

impl Responder {
    /// The way back over a connection that has just been lent.
    #[must_use]
    pub fn new(link: Arc<Link>, leftover: bool) -> Responder {
        Responder { link, leftover, settled: false }
    }
}

impl Job {
    /// A job for a complete request.
    #[must_use]
    pub fn new(facts: Facts, head: Head, body: Body, responder: Responder, journal: Arc<Journal>) -> Job {
        journal.begin(&facts.client);
        Job {
            waiting_since: facts.arrived,
            facts,
            head,
            bytes_in: body.bytes.len() as u64,
            body: Some(body),
            queued: Duration::ZERO,
            attempts: 0,
            unconnected: 0,
            worker: None,
            needs_fresh_connection: false,
            upstream: UpstreamAttempt::default(),
            early: None,
            responder,
            journal,
        }
    }

    /// The client's connection.
    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.responder.link
    }

    /// Whether the connection may carry another request after this one's answer.
    #[must_use]
    pub fn may_persist(&self) -> bool {
        self.head.keep_alive() && self.responder.link.may_persist()
    }

    /// Whether the client has hung up.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.responder.link.hangup().is_cancelled()
    }

    /// Bytes that its body holds in memory.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.body.as_ref().map_or(0, |b| b.bytes.len())
    }

    /// The wait for a ticket ends at `now`.
    pub fn end_wait(&mut self, now: Moment) {
        self.queued += now.since(self.waiting_since);
        self.waiting_since = now;
        self.responder.link.note_queued(self.queued);
    }

    /// The holder is about to pass an answer on: no early 200 is sent from here on. `None` for a request that is not
    /// kept alive.
    pub fn begin_answer(&mut self) -> Option<Begun> {
        let begun = self.responder.link.begin_answer();
        self.early = begun.and_then(|begun| begun.early);
        begun
    }

    /// Ends an early 200 with an error that the upstream's answer amounts to; the log says `outcome`.
    pub fn end_early(mut self, outcome: Outcome, error: &ErrorFrame) {
        let unsent = self.end_signs();
        self.end_with_frame(outcome, error, unsent);
    }

    /// Enters in the books how long it waited for its first ticket, once that is about to be used.
    pub fn enter_wait(&self) {
        if self.attempts == 0 && self.unconnected == 0 && self.facts.route == Route::Limited {
            self.journal.waited(self.facts.priority, self.queued);
        }
    }

    /// Answers with an error of the sidecar's own.
    pub fn refuse(mut self, outcome: Outcome, message: &str, retry_after: Option<Duration>) {
        self.refuse_in_place(outcome, message, retry_after, &[]);
    }

    /// As [`Job::refuse`], with further header fields.
    pub fn refuse_with(
        mut self,
        outcome: Outcome,
        message: &str,
        retry_after: Option<Duration>,
        fields: &[(&str, String)],
    ) {
        self.refuse_in_place(outcome, message, retry_after, fields);
    }

    /// The answer has been written: gives the connection back and closes the books.
    pub fn settle(mut self, outcome: Outcome, next: AfterAnswer) {
        self.responder.settled = true;
        self.end_signs();
        // First, because the client may send its next request at once.
        self.responder.link.give_back(next, self.responder.leftover);
        self.close_books(outcome);
    }

    /// The client has gone: nothing is left to answer.
    pub fn abandon(self) {
        self.settle(Outcome::ClientGone, AfterAnswer::Abort);
    }

    fn refuse_in_place(
        &mut self,
        outcome: Outcome,
        message: &str,
        retry_after: Option<Duration>,
        fields: &[(&str, String)],
    ) {
        let unsent = self.end_signs();
        let outcome = if self.is_abandoned() { Outcome::ClientGone } else { outcome };
        if self.early.is_some() && outcome != Outcome::ClientGone {
            let retry_after = retry_after.map(told::seconds);
            let error = ErrorFrame::own(outcome, message).with_retry_after(retry_after);
            return self.end_with_frame(outcome, &error, unsent);
        }
        self.close_books(outcome);
        self.responder.settled = true;
        if outcome == Outcome::ClientGone {
            self.responder.link.give_back(AfterAnswer::Abort, false);
            return;
        }
        let keep = self.may_persist() && outcome != Outcome::Internal && outcome != Outcome::ShuttingDown;
        let mut fields: Vec<(&str, String)> = fields.to_vec();
        fields.extend(self.own_fields());
        let extra_fields: Vec<(&str, &str)> =
            fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = ErrorAnswer {
            outcome,
            message,
            path: self.head.path(),
            retry_after,
            request_id: &self.facts.request_id,
            extra_fields: &extra_fields,
            keep_alive: keep,
            head_only: self.head.method() == "HEAD",
        }
        .to_bytes(self.journal.wall());
        self.responder.link.give_back_with(answer, AfterAnswer::keep_if(keep));
    }

    /// The end of the signs of life; returns what must be written before anything else.
    fn end_signs(&mut self) -> Vec<u8> {
        let ended = self.responder.link.end_signs();
        self.early = self.early.or(ended.early);
        ended.unsent
    }

    /// The frame and then the end without a last chunk: a clean end would pass for success.
    fn end_with_frame(&mut self, outcome: Outcome, error: &ErrorFrame, mut answer: Vec<u8>) {
        self.close_books(outcome);
        self.responder.settled = true;
        if let Some(early) = self.early {
            let frame = if early.is_stream { error.to_event(early.form) } else { error.to_json(early.form) };
            chunk_into(&mut answer, &frame);
        }
        self.responder.link.give_back_with(answer, AfterAnswer::Close);
    }

    /// The fields that every answer to this request gets: what a limited one went through, and for a browser's page the
    /// permission to read it.
    #[must_use]
    pub fn own_fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = Vec::new();
        if self.facts.route == Route::Limited {
            fields.push(("x-sidecar-queue-ms", self.queued.as_millis().to_string()));
            fields.push(("x-sidecar-attempts", self.attempts.to_string()));
        }
        fields.extend(self.facts.page.iter().flat_map(|origin| cors_fields(origin)));
        fields
    }

    fn close_books(&self, outcome: Outcome) {
        self.journal.close(&Record {
            request_id: &self.facts.request_id,
            client: &self.facts.client,
            route: self.facts.route,
            priority: self.facts.priority,
            model: self.facts.model.as_deref(),
            method: self.head.method(),
            path: self.head.path(),
            outcome,
            queue: self.queued,
            upstream: self.upstream.latency,
            total: self.journal.now().since(self.facts.arrived),
            attempts: self.attempts,
            bytes_in: self.bytes_in,
            bytes_out: self.upstream.bytes_out,
            pace: self.journal.pace(),
            tokens: self.upstream.usage.as_ref().and_then(UsageReader::tokens),
            upstream_error: self.upstream.error,
            cause: self.upstream.cause.as_deref(),
            early_200: self.early.map(|early| early.at.since(self.facts.arrived)),
        });
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.responder.settled {
            self.refuse_in_place(
                Outcome::Internal,
                "the sidecar lost this request; this is a bug",
                None,
                &[],
            );
        }
    }
}
