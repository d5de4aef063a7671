//! A look-alike of NIM: the endpoints that agents use, canned answers at a model's pace, and a limit that is enforced.
//!
//! It counts chat completions and embeddings, as NVIDIA does; listing models is free. A refusal is NVIDIA's: status
//! 429 with a two-field body and no word about when to come back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::pause::Stop;
use super::quota::Quota;
use crate::clock::Clock;
use crate::http::Request;
use crate::http::server::{Limits, Reply, Server};

/// The models that it lists; it answers for any other name as well.
pub(super) const MODELS: [&str; 3] =
    ["nvidia/llama-3.3-nemotron-super-49b-v1", "nvidia/nemotron-nano-9b-v2", "nvidia/nv-embedqa-e5-v5"];

const LIMITS: Limits = Limits {
    max_connections: 320,
    max_body_bytes: 32 << 20,
    idle: Duration::from_secs(120),
    transfer: Duration::from_secs(120),
};
/// How long a chat model thinks before its first word.
const FIRST_WORD: Duration = Duration::from_millis(250);
const NEXT_WORD: Duration = Duration::from_millis(45);
const EMBEDDING: Duration = Duration::from_millis(80);
/// As many figures as an embedding has here; real ones have a thousand or more.
const DIMENSIONS: usize = 8;
const MAX_EMBEDDED: usize = 256;
const WORDS: &str = "Every agent got its answer because each of them waited its turn.";

/// A running look-alike; its port is free for others once it is dropped.
pub(super) struct Nim {
    server: Server,
    quota: Arc<Mutex<Quota>>,
}

impl Nim {
    /// Starts on a free loopback port, granting `rpm` requests in any 60 s.
    pub(super) fn start(rpm: usize, clock: Clock, stop: Stop) -> io::Result<Nim> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let quota = Arc::new(Mutex::new(Quota::new(rpm)));
        let desk = Desk { quota: quota.clone(), clock, stop };
        let serve = move |request: Request, reply: &mut Reply<'_>| desk.serve(&request, reply);
        let server = Server::start("demo-nim", listener, LIMITS, clock, serve)?;
        Ok(Nim { server, quota })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How many requests it answered with 429.
    pub(super) fn refused(&self) -> u64 {
        self.quota.lock().refused()
    }
}

/// What each connection's thread serves from.
struct Desk {
    quota: Arc<Mutex<Quota>>,
    clock: Clock,
    stop: Stop,
}

/// What an inference request asks for; fields that a look-alike need not know pass unread.
#[derive(Deserialize)]
struct Asked {
    model: String,
    #[serde(default)]
    messages: Vec<Value>,
    /// One text or a list of them, as the embeddings endpoint takes them.
    #[serde(default)]
    input: Value,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: StreamOptions,
    max_tokens: Option<usize>,
}

#[derive(Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Desk {
    fn serve(&self, request: &Request, reply: &mut Reply<'_>) -> io::Result<()> {
        match (request.head.method(), request.head.path()) {
            ("GET" | "HEAD", "/v1/models") => json_answer(reply, 200, &self.models()),
            ("POST", "/v1/chat/completions") => self.limited(request, reply, Desk::chat),
            ("POST", "/v1/embeddings") => self.limited(request, reply, Desk::embed),
            _ => json_answer(reply, 404, &json!({"status": 404, "title": "Not Found"})),
        }
    }

    fn models(&self) -> Value {
        let created = self.created();
        let model = |id| json!({"id": id, "object": "model", "created": created, "owned_by": "nvidia"});
        json!({"object": "list", "data": MODELS.map(model)})
    }

    fn limited(
        &self,
        request: &Request,
        reply: &mut Reply<'_>,
        answer: fn(&Desk, &Asked, &mut Reply<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if !self.quota.lock().admit(self.clock.now()) {
            return json_answer(reply, 429, &json!({"status": 429, "title": "Too Many Requests"}));
        }
        match serde_json::from_slice::<Asked>(&request.body) {
            Ok(asked) => answer(self, &asked, reply),
            Err(error) => {
                let detail = format!("the request's body does not fit: {error}");
                json_answer(reply, 400, &json!({"status": 400, "title": "Bad Request", "detail": detail}))
            }
        }
    }

    fn chat(&self, asked: &Asked, reply: &mut Reply<'_>) -> io::Result<()> {
        if asked.messages.is_empty() {
            let detail = "messages needs at least one message";
            return json_answer(
                reply,
                400,
                &json!({"status": 400, "title": "Bad Request", "detail": detail}),
            );
        }
        let words: Vec<&str> =
            WORDS.split_inclusive(' ').take(asked.max_tokens.unwrap_or(usize::MAX).max(1)).collect();
        let usage = json!({
            "prompt_tokens": asked.messages.len(),
            "completion_tokens": words.len(),
            "total_tokens": asked.messages.len() + words.len(),
        });
        self.stop.pause(FIRST_WORD);
        if asked.stream {
            return self.stream(asked, &words, &usage, reply);
        }
        self.stop.pause(NEXT_WORD * u32::try_from(words.len()).unwrap_or(u32::MAX));
        let message = json!({"role": "assistant", "content": words.concat()});
        let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
        let answer = json!({
            "id": self.answer_id(), "object": "chat.completion", "created": self.created(),
            "model": asked.model, "choices": choices, "usage": usage,
        });
        json_answer(reply, 200, &answer)
    }

    fn stream(&self, asked: &Asked, words: &[&str], usage: &Value, reply: &mut Reply<'_>) -> io::Result<()> {
        let (id, created) = (self.answer_id(), self.created());
        let chunk = |choices: Value, usage: Option<&Value>| {
            let chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": created,
                "model": asked.model, "choices": choices, "usage": usage,
            });
            format!("data: {chunk}\n\n").into_bytes()
        };
        let delta = |delta: Value| json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        reply.begin(200, &[("content-type", "text/event-stream"), ("cache-control", "no-cache")])?;
        reply.piece(&chunk(delta(json!({"role": "assistant", "content": ""})), None))?;
        for word in words {
            if self.stop.pause(NEXT_WORD) {
                return Err(io::Error::other("the demo ends"));
            }
            reply.piece(&chunk(delta(json!({"content": word})), None))?;
        }
        reply.piece(&chunk(json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), None))?;
        if asked.stream_options.include_usage {
            reply.piece(&chunk(json!([]), Some(usage)))?;
        }
        reply.piece(b"data: [DONE]\n\n")
    }

    fn embed(&self, asked: &Asked, reply: &mut Reply<'_>) -> io::Result<()> {
        self.stop.pause(EMBEDDING);
        let figures: Vec<f64> = (0..DIMENSIONS).map(|i| (i as f64 + 0.5) / DIMENSIONS as f64).collect();
        let embedding = |index| json!({"object": "embedding", "index": index, "embedding": figures});
        let texts = asked.input.as_array().map_or(1, Vec::len).min(MAX_EMBEDDED);
        let data: Vec<Value> = (0..texts).map(embedding).collect();
        let usage = json!({"prompt_tokens": data.len(), "total_tokens": data.len()});
        json_answer(
            reply,
            200,
            &json!({"object": "list", "model": asked.model, "data": data, "usage": usage}),
        )
    }

    /// Seconds since the epoch, as OpenAI's `created` counts.
    fn created(&self) -> u64 {
        self.clock.unix().as_secs()
    }

    fn answer_id(&self) -> String {
        format!("chatcmpl-{:032x}", fastrand::u128(..))
    }
}

fn json_answer(reply: &mut Reply<'_>, status: u16, body: &Value) -> io::Result<()> {
    reply.send(status, "application/json", &[], body.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ureq::http::StatusCode;

    fn nim(rpm: usize) -> (Nim, ureq::Agent) {
        let nim = Nim::start(rpm, Clock::start(), Stop::already()).expect("a port");
        (nim, ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into())
    }

    fn post(agent: &ureq::Agent, nim: &Nim, path: &str, body: &Value) -> (StatusCode, String) {
        let url = format!("http://{}{path}", nim.address());
        let mut answer = agent.post(&url).send(body.to_string()).expect("an answer");
        (answer.status(), answer.body_mut().read_to_string().expect("a body"))
    }

    #[test]
    fn it_speaks_as_nim_does_until_its_quota_is_used_up() {
        let (nim, agent) = nim(2);
        let chat = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let (status, text) = post(&agent, &nim, "/v1/chat/completions", &chat);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status.as_u16(), &answer["choices"][0]["message"]["content"]), (200, &json!(WORDS)));

        let embed = json!({"model": "m", "input": ["a", "b"]});
        let (status, text) = post(&agent, &nim, "/v1/embeddings", &embed);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status.as_u16(), answer["data"].as_array().map(Vec::len)), (200, Some(2)));

        let (status, text) = post(&agent, &nim, "/v1/chat/completions", &chat);
        assert_eq!(
            (status.as_u16(), text.as_str()),
            (429, r#"{"status":429,"title":"Too Many Requests"}"#),
            "the third within a minute"
        );
        assert_eq!(nim.refused(), 1);

        let models = agent.get(format!("http://{}/v1/models", nim.address())).call().expect("an answer");
        assert_eq!(models.status().as_u16(), 200, "listing models draws on no quota");
    }

    #[test]
    fn what_it_cannot_understand_is_told_and_what_it_does_not_have_is_not_found() {
        let (nim, agent) = nim(9);
        for body in [json!({}), json!({"model": "m"}), json!([1])] {
            assert_eq!(post(&agent, &nim, "/v1/chat/completions", &body).0.as_u16(), 400, "{body}");
        }
        assert_eq!(post(&agent, &nim, "/v1/nonsense", &json!({})).0.as_u16(), 404);
    }

    #[test]
    fn a_stream_is_cut_short_when_the_demo_ends() {
        let (nim, agent) = nim(9);
        let body = json!({"model": "m", "stream": true, "messages": ["hi"]}).to_string();
        let url = format!("http://{}/v1/chat/completions", nim.address());
        let mut answer = agent.post(&url).send(body).expect("a head");
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(answer.body_mut().read_to_string().is_err(), "no clean end");
    }
}
