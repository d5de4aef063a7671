//! `POST /api/agents/NAME/heartbeat`: an agent says that it is alive and how its work goes.

use crate::clock::{Moment, duration_from_secs_f64};
use crate::downstream::access::is_local_origin;
use crate::http::Request;
use crate::ops::page::{Page, method_not_allowed};
use crate::telemetry::agents::Beat;
use crate::telemetry::journal::Journal;
use serde::Deserialize;

/// The body; an empty one is a heartbeat too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    pending: Option<u64>,
    stagnation_seconds: Option<f64>,
    rounds: Option<u64>,
    task: Option<String>,
}

/// Takes a heartbeat down.
#[must_use]
pub fn page(request: &Request, journal: &Journal, now: Moment) -> Page {
    let head = &request.head;
    let name = head.path().strip_prefix("/api/agents/").and_then(|rest| rest.strip_suffix("/heartbeat"));
    let Some(name) = name else {
        return Page::refusal(404, "there is only /api/agents/NAME/heartbeat");
    };
    if head.method() != "POST" {
        return method_not_allowed();
    }
    // A web page has no heartbeat; a foreign one would only be there to deceive.
    let origin = head.field("origin").map(String::from_utf8_lossy);
    if origin.is_some_and(|origin| !is_local_origin(&origin)) {
        return Page::refusal(403, "pages of this origin may not send heartbeats");
    }
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let body = if request.body.trim_ascii().is_empty() {
        Body::default()
    } else {
        match serde_json::from_slice::<Body>(&request.body) {
            Ok(body) => body,
            Err(error) => return Page::refusal(400, &format!("the body is not a heartbeat: {error}")),
        }
    };
    if body.stagnation_seconds.is_some_and(|seconds| seconds < 0.0) {
        return Page::refusal(400, "stagnation_seconds is below zero");
    }
    let beat = Beat {
        pending: body.pending,
        stagnation: body.stagnation_seconds.map(duration_from_secs_f64),
        rounds: body.rounds,
        task: body.task,
    };
    match journal.beat(&name, beat, now) {
        Ok(()) => Page::new(204, "", ""),
        Err(_) => Page::refusal(404, "no agent of this name is configured under agents"),
    }
}
