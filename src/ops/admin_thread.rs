//! Where operators' changes are made, which wait for the limiter: the configuration, the reset, a removal.

use crate::config::{self, Config};
use crate::control::{ADMIN_KEYS, Control, Refusal};
use crate::lifecycle::Threads;
use crate::ops::page::{Page, method_not_allowed};
use crate::ops::page_request::PageRequest;
use crossbeam_channel::{Sender, TrySendError, bounded};
use serde_json::{Map, Value, json};
use std::io;
use std::sync::Arc;

/// Calls that wait for the one under way; each takes milliseconds.
const WAITING: usize = 64;

/// Takes operators' calls to the thread that answers them.
#[derive(Clone)]
pub struct AdminThread(Sender<PageRequest>);

impl AdminThread {
    /// Starts the thread. It ends when the last admin is gone.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn open(control: Arc<Control>, threads: &Threads) -> io::Result<AdminThread> {
        let (admin, page_requests) = bounded::<PageRequest>(WAITING);
        threads.spawn_lasting("admin".into(), move || {
            for page_request in &page_requests {
                let page = answer(&page_request, &control);
                page_request.answer(&page);
            }
        })?;
        Ok(AdminThread(admin))
    }

    /// Takes a call that was let in.
    pub fn take(&self, page_request: PageRequest) {
        if let Err(TrySendError::Full(page_request)) = self.0.try_send(page_request) {
            page_request.answer(&Page::refusal(503, "too many operators at once"));
        }
    }
}

fn answer(page_request: &PageRequest, control: &Control) -> Page {
    let head = &page_request.request.head;
    match (head.method(), head.path()) {
        ("GET" | "HEAD", "/api/admin/config") => Page::json(200, &shown(&control.config())),
        ("POST", "/api/admin/config") => change(page_request, control),
        ("POST", "/api/admin/reset") => reset(page_request, control),
        ("DELETE", path) if path.starts_with("/api/queue/") => evict(page_request, control),
        (_, "/api/admin/config" | "/api/admin/reset" | "/api/queue") => method_not_allowed(),
        _ => Page::refusal(404, "there is no such page"),
    }
}

/// The effective configuration with secrets masked, each key by its name.
fn shown(config: &Config) -> Map<String, Value> {
    config::effective_json(config)
}

fn change(page_request: &PageRequest, control: &Control) -> Page {
    let values = match serde_json::from_slice::<Map<String, Value>>(&page_request.request.body) {
        Ok(values) => values,
        Err(error) => return Page::refusal(400, &format!("the body is not a JSON object: {error}")),
    };
    if values.is_empty() {
        return Page::refusal(400, &format!("nothing to change; send some of {}", ADMIN_KEYS.join(", ")));
    }
    let asked: Vec<String> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    match control.patch(&values) {
        Ok(config) => {
            log::warn!(peer = page_request.peer.to_string().as_str(); "admin: changed {}", asked.join(", "));
            Page::json(200, &shown(&config))
        }
        Err(refusal) => {
            // Several faults are several lines; the log's are one each.
            let reason = refusal.to_string().replace('\n', "; ");
            log::warn!(peer = page_request.peer.to_string().as_str(); "admin: refused a change: {reason}");
            Page::refusal(status(&refusal), &reason)
        }
    }
}

fn reset(page_request: &PageRequest, control: &Control) -> Page {
    match control.reset() {
        Ok(()) => {
            log::warn!(peer = page_request.peer.to_string().as_str(); "admin: the rate was reset to its base");
            Page::json(200, &json!({"reset": true}))
        }
        Err(refusal) => Page::refusal(status(&refusal), &refusal.to_string()),
    }
}

fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::Faults(_) | Refusal::CaFile(_) => 400,
        Refusal::Unfit(_) => 409,
        Refusal::Gone => 503,
    }
}

fn evict(page_request: &PageRequest, control: &Control) -> Page {
    let id = page_request.request.head.path().trim_start_matches("/api/queue/");
    let Ok(id) = id.parse::<u64>() else {
        return Page::refusal(400, "the id of a waiting request is a number");
    };
    match control.evict(id) {
        Ok(true) => {
            log::warn!(peer = page_request.peer.to_string().as_str(); "admin: removed request {id} from the queue");
            Page::json(200, &json!({"removed": id.to_string()}))
        }
        Ok(false) => Page::refusal(404, "no request of this id waits"),
        Err(refusal) => Page::refusal(status(&refusal), &refusal.to_string()),
    }
}
