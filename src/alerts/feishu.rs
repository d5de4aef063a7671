//! Sends a message to a custom bot of Feishu's.

use std::time::Duration;

use serde_json::Value;
use ureq::{Agent, Error};

use super::answer::{SendOutcome, verdict};
use super::sign::sign;
use crate::clock::Clock;
use crate::config::Secret;

/// How much of an answer is read; Feishu's are a few hundred bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// One bot.
pub struct Feishu {
    agent: Agent,
    webhook: Secret,
    secret: Option<Secret>,
    clock: Clock,
}

impl Feishu {
    /// The bot at `webhook`, which has `timeout` for everything, resolving its name included.
    #[must_use]
    pub fn new(webhook: Secret, secret: Option<Secret>, timeout: Duration, clock: Clock) -> Feishu {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry the alert, and with it the secret address, to another host.
            .max_redirects(0)
            .proxy(None)
            // It costs a thread for each name to resolve, which at the pace of alerts is nothing.
            .timeout_global(Some(timeout))
            .build();
        Feishu { agent: config.into(), webhook, secret, clock }
    }

    /// Sends the message, signed where the bot wants it, and returns how that ended.
    #[must_use]
    pub fn send(&self, mut message: Value) -> SendOutcome {
        if let (Some(secret), Some(fields)) = (&self.secret, message.as_object_mut()) {
            // Read when it is sent: Feishu refuses what was signed an hour ago.
            let secs = self.clock.unix().as_secs();
            fields.insert("timestamp".into(), secs.to_string().into());
            fields.insert("sign".into(), sign(secs, secret).into());
        }
        self.post(message.to_string().as_bytes())
            .unwrap_or_else(|error| SendOutcome::Failed(described(&error)))
    }

    fn post(&self, body: &[u8]) -> Result<SendOutcome, Error> {
        let request = self.agent.post(self.webhook.expose()).header("content-type", "application/json");
        let mut answer = request.send(body)?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(verdict(status, &body))
    }
}

/// The error in words that never hold the address, which some of ureq's do.
fn described(error: &Error) -> String {
    match error {
        Error::Timeout(_) => "no answer in time".into(),
        Error::HostNotFound => "its host's name does not resolve".into(),
        Error::ConnectionFailed => "no connection".into(),
        Error::Io(error) => format!("connection: {}", error.kind()),
        Error::Rustls(error) => format!("TLS: {error}"),
        Error::BodyExceedsLimit(_) => "its answer is too long".into(),
        _ => "its answer is not HTTP".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_never_holds_the_address() {
        let bot = |url: &str| Feishu::new(Secret::new(url), None, Duration::from_secs(5), Clock::start());
        for url in
            ["http://127.0.0.1:0/hook/hidden", "https://[::1]:1/hook/hidden", "hidden", "http://hid den/"]
        {
            let SendOutcome::Failed(reason) = bot(url).send(Value::Null) else {
                panic!("{url} cannot be sent to")
            };
            assert!(!reason.contains("hid"), "{reason}");
        }
    }
}
