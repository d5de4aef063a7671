//! `POST /api/agents/NAME/heartbeat`: an agent's cron tells that it is alive and how its work goes.

use crate::clock::Moment;
use crate::downstream::access::is_local_origin;
use crate::http::Request;
use crate::ops::page::{Page, method_not_allowed};
use crate::telemetry::journal::Journal;
use serde::Deserialize;
use std::time::Duration;

/// The body; an empty one is a heartbeat too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    pending: Option<u64>,
    stagnation_seconds: Option<f64>,
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
    let beat = if request.body.trim_ascii().is_empty() {
        Beat::default()
    } else {
        match serde_json::from_slice::<Beat>(&request.body) {
            Ok(beat) => beat,
            Err(error) => return Page::refusal(400, &format!("the body is not a heartbeat: {error}")),
        }
    };
    let stagnation = match beat.stagnation_seconds.map(Duration::try_from_secs_f64) {
        None => None,
        Some(Ok(stagnation)) => Some(stagnation),
        Some(Err(_)) => return Page::refusal(400, "stagnation_seconds is not a time"),
    };
    match journal.agents().lock().beat(&name, beat.pending, stagnation, now) {
        Ok(()) => Page::new(204, "", ""),
        Err(_) => Page::refusal(404, "no agent of this name is configured under agents"),
    }
}
