//! What an answer of Feishu's means for the message that it answers.
//!
//! Feishu answers HTTP 200 to almost everything; success is the body's `code` 0. The codes, from its documentation and
//! from what is met in the field: 11232 too many messages (a bot may send 100 a minute and 5 a second, and less at full
//! hours), 9499 either that or a malformed body, 11246 a card that cannot be shown, 19001 an unknown bot, 19002 a
//! parameter, 19007 a bot that is off, 19021 a signature or a clock, 19022 the address, 19024 the keywords.

use serde_json::Value;

use super::text::clean;

/// How a delivery ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It arrived.
    Delivered,
    /// The receiver wants fewer messages: all of them wait.
    RateLimited(String),
    /// The receiver did not take it, for a reason that is not this message: all of them wait.
    Failed(String),
    /// The receiver cannot read this message, and would not another time.
    Refused(String),
}

impl SendOutcome {
    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            SendOutcome::Delivered => "delivered",
            SendOutcome::RateLimited(_) => "rate_limited",
            SendOutcome::Failed(_) => "failed",
            SendOutcome::Refused(_) => "refused",
        }
    }
}

/// The frequency limit of custom bots, and that of Feishu's API at large.
const RATE_LIMITS: [i64; 2] = [11232, 99_991_400];
/// "Bad Request" and, with a text that says so, "too many request".
const BAD_REQUEST: i64 = 9499;
/// The message's fault besides [`BAD_REQUEST`].
const UNREADABLE: [i64; 2] = [11246, 19002];
/// How much of Feishu's explanation goes into the log.
const MAX_REASON_BYTES: usize = 200;

/// The verdict of an answer with this HTTP status and body.
#[must_use]
pub fn verdict(status: u16, body: &[u8]) -> SendOutcome {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    // `StatusCode` is the older name. Both may be there, and one of them 0 in a failure.
    let codes = ["code", "StatusCode"].map(|name| answer.get(name).and_then(Value::as_i64));
    let code = codes.iter().flatten().find(|code| **code != 0).or_else(|| codes.iter().flatten().next());
    let message = ["msg", "StatusMessage"]
        .iter()
        .filter_map(|name| answer.get(*name).and_then(Value::as_str))
        .find(|text| !text.is_empty())
        .unwrap_or_default();
    let reason = || match code {
        Some(code) => format!("status {status}, code {code}: {}", clean(message, MAX_REASON_BYTES)),
        None => format!("status {status} without a code"),
    };
    let message = message.to_ascii_lowercase();
    let too_many = message.contains("too many") || message.contains("frequency limit");
    match (status, code.copied()) {
        (200..=299, Some(0)) => SendOutcome::Delivered,
        (429, _) => SendOutcome::RateLimited(reason()),
        (500..=599, _) => SendOutcome::Failed(reason()),
        (_, Some(code)) if RATE_LIMITS.contains(&code) || too_many => SendOutcome::RateLimited(reason()),
        (_, Some(code)) if code == BAD_REQUEST || UNREADABLE.contains(&code) => {
            SendOutcome::Refused(reason())
        }
        _ => SendOutcome::Failed(reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(status: u16, body: &str) -> &'static str {
        verdict(status, body.as_bytes()).as_str()
    }

    #[test]
    fn only_code_0_is_a_delivery() {
        assert_eq!(word(200, r#"{"code":0,"msg":"success","data":{}}"#), "delivered");
        assert_eq!(word(200, r#"{"StatusCode":0,"StatusMessage":"success"}"#), "delivered");
        for body in ["", "{}", "null", "<html>", r#"{"code":null}"#, r#"{"code":"0"}"#] {
            assert_eq!(word(200, body), "failed", "{body}");
        }
        assert_eq!(word(302, r#"{"code":0}"#), "failed");
        assert_eq!(word(502, r#"{"code":0}"#), "failed");
        assert_eq!(word(200, r#"{"StatusCode":0,"code":19021,"msg":"sign match fail"}"#), "failed");
        assert_eq!(word(200, r#"{"StatusCode":19021,"code":0}"#), "failed");
    }

    #[test]
    fn a_limit_of_feishus_differs_from_a_body_that_it_cannot_read() {
        assert_eq!(
            word(200, r#"{"code":11232,"msg":"frequency limited psm[x]appID[1500]"}"#),
            "rate_limited"
        );
        assert_eq!(word(400, r#"{"code":9499,"msg":"too many request","data":{}}"#), "rate_limited");
        assert_eq!(word(429, ""), "rate_limited");
        assert_eq!(word(200, r#"{"code":9499,"msg":"Bad Request"}"#), "refused");
        assert_eq!(word(200, r#"{"code":11246,"msg":"parse card json err"}"#), "refused");
    }

    #[test]
    fn what_an_operator_can_put_right_is_tried_again() {
        for code in [19001, 19007, 19021, 19022, 19024, 424_242] {
            assert_eq!(word(200, &format!(r#"{{"code":{code},"msg":"no"}}"#)), "failed", "{code}");
        }
        for status in [400, 403, 404, 413] {
            assert_eq!(word(status, "says something between the bridge and Feishu"), "failed", "{status}");
        }
    }

    #[test]
    fn the_reason_is_one_short_line() {
        let SendOutcome::Failed(reason) = verdict(200, br#"{"code":19024,"msg":"Key\nWords Not Found"}"#)
        else {
            panic!("failed")
        };
        assert_eq!(reason, "status 200, code 19024: Key Words Not Found");
        let long = format!(r#"{{"code":1,"msg":"{}"}}"#, "x".repeat(10_000));
        let SendOutcome::Failed(reason) = verdict(200, long.as_bytes()) else { panic!("failed") };
        assert!(reason.len() < 300);
    }
}
