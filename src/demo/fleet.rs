//! The agents at work: blocking threads that use the sidecar over HTTP, and somebody who uses its key behind its back.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use super::book::{Book, End};
use super::cast::{CAST, Role, Work};
use super::nim::MODELS;
use super::pause::Stop;
use crate::clock::Clock;
use crate::lifecycle::Threads;

/// As long as OpenAI's SDKs wait for an answer.
const PATIENCE: Duration = Duration::from_secs(600);
/// After a failure no agent asks again at once.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The first time that somebody else uses the key, and how often after it.
const STRANGER_FIRST: Duration = Duration::from_secs(20);
const STRANGER_AGAIN: Duration = Duration::from_secs(240);
/// How many requests it sends each time.
const STRANGER_REQUESTS: u32 = 12;

/// What all agents share.
#[derive(Clone)]
pub(super) struct Fleet {
    /// The sidecar's address.
    pub(super) sidecar: SocketAddr,
    /// The look-alike's address, for the one that goes around the sidecar.
    pub(super) nim: SocketAddr,
    /// What they experience.
    pub(super) book: Arc<Mutex<Book>>,
    /// The clock.
    pub(super) clock: Clock,
    /// The end of the demo.
    pub(super) stop: Stop,
}

impl Fleet {
    /// Starts a thread for each request that an agent may have open, and one for the stranger.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub(super) fn start(&self, threads: &Threads) -> io::Result<()> {
        let http = http_agent(PATIENCE);
        for (index, role) in CAST.iter().enumerate() {
            for i in 0..role.at_once {
                let (fleet, http) = (self.clone(), http.clone());
                threads.spawn(format!("{}-{i}", role.name), move || fleet.work(index, role, &http))?;
            }
        }
        let fleet = self.clone();
        threads.spawn("stranger".into(), move || fleet.use_the_key_elsewhere(&http))
    }

    fn work(&self, index: usize, role: &'static Role, http: &Agent) {
        // Everybody begins within the first second, not in the same instant.
        let mut pause = Duration::from_millis(fastrand::u64(..1000));
        while !self.stop.pause(pause) {
            let sent = self.clock.now();
            self.book.lock().sent(index, sent);
            let end = match ask(http, self.sidecar, role) {
                // What the sidecar says at its own end is not a failure.
                End::Failed | End::RateLimited if self.stop.has_come() => End::Unfinished,
                end => end,
            };
            self.book.lock().ended(index, sent, end, self.clock.now());
            let share = fastrand::f64() + 0.5;
            pause = match end {
                End::Answered { .. } => role.thinks.mul_f64(share),
                _ => AFTER_FAILURE,
            };
        }
    }

    /// Why the upstream refuses now and then although the sidecar keeps to the quota: it is not alone with its key.
    fn use_the_key_elsewhere(&self, http: &Agent) {
        let mut pause = STRANGER_FIRST;
        while !self.stop.pause(pause) {
            for _ in 0..STRANGER_REQUESTS {
                self.book.lock().sent_around();
                // Its answers are nobody's concern here.
                let _ =
                    post(http, self.nim, "/v1/embeddings", None, &json!({"model": "any", "input": "hello"}));
            }
            pause = STRANGER_AGAIN;
        }
    }
}

/// An HTTP client that takes every status as an answer, and a silence of `patience` as a failure.
pub(super) fn http_agent(patience: Duration) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_idle_connections(64)
        .max_idle_connections_per_host(64)
        .timeout_per_read(Some(patience))
        .build()
        .into()
}

/// Sends one request as `role` and reads its answer to the end.
fn ask(http: &Agent, sidecar: SocketAddr, role: &Role) -> End {
    let messages = json!([{"role": "user", "content": format!("What does {} need to know now?", role.name)}]);
    let (path, body) = match role.work {
        Work::Chat => ("/v1/chat/completions", json!({"model": MODELS[0], "messages": messages})),
        Work::Stream => {
            ("/v1/chat/completions", json!({"model": MODELS[1], "stream": true, "messages": messages}))
        }
        Work::Embed => ("/v1/embeddings", json!({"model": MODELS[2], "input": ["one text", "another"]})),
    };
    let Ok(answer) = post(http, sidecar, path, Some(role), &body) else { return End::Failed };
    match answer.status().as_u16() {
        200 => {}
        429 => return End::RateLimited,
        _ => return End::Failed,
    }
    let queued = queued(&answer);
    let mut pieces = answer.into_body().into_reader();
    let mut piece = [0; 4096];
    loop {
        match pieces.read(&mut piece) {
            Ok(0) => return End::Answered { queued },
            Ok(_) => {}
            Err(_) => return End::Failed,
        }
    }
}

fn post(
    http: &Agent,
    to: SocketAddr,
    path: &str,
    role: Option<&Role>,
    body: &Value,
) -> Result<Response<ureq::Body>, ureq::Error> {
    let mut request = http.post(format!("http://{to}{path}")).header("content-type", "application/json");
    if let Some(role) = role {
        request = request.header("x-agent-id", role.name).header("x-priority", role.priority.as_str());
    }
    request.send(body.to_string())
}

/// How long the request waited in the sidecar's queue, as the answer says.
fn queued(answer: &Response<ureq::Body>) -> Duration {
    let header = answer.headers().get("x-sidecar-queue-ms").and_then(|value| value.to_str().ok());
    Duration::from_millis(header.and_then(|millis| millis.parse().ok()).unwrap_or_default())
}
