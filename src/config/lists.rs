//! Reads the keys that hold more than one value: causes, gateways, origins, tokens and agents.

use std::collections::BTreeMap;
use std::time::Duration;

use super::notice::Source;
use super::raw::{Given, Raw};
use super::reader::{Misfit, Reader, as_text, secret, shown, split};
use super::spelling::{self, shown_text};
use super::{Agent, RetryOn, Secret};

/// Items of a list of words.
pub(super) const MAX_LIST: usize = 64;
const MAX_CLIENTS: usize = 1000;
/// Each agent has metrics of its own, so their number bounds the labels.
const MAX_AGENTS: usize = 256;
/// Characters of a name, a label or a gateway.
const MAX_NAME: usize = 64;
/// The interval of an agent for which none is given.
const HEARTBEAT: Duration = Duration::from_secs(600);
/// Seconds; a longer interval tells nothing about an agent's health.
const MONTH: f64 = 30.0 * 86_400.0;

/// The list `retry_on`.
pub(super) fn retry_on(r: &mut Reader, base: &RetryOn) -> RetryOn {
    let mut causes: Vec<Option<u16>> = base.statuses.iter().map(|status| Some(*status)).collect();
    causes.extend(base.connect.then_some(None));
    let causes = r.list("retry_on", causes, MAX_LIST, |item| {
        let text = match item {
            Raw::Whole(number) => number.to_string(),
            other => as_text(other).unwrap_or_default().to_ascii_lowercase(),
        };
        let status = RetryOn::STATUSES.into_iter().find(|status| status.to_string() == text);
        if status.is_none() && text != "connect" {
            let problem = format!("lists {}, which cannot be retried", shown(item));
            return Err(Misfit::new(problem, "list some of 429, 502, 503, 504 and connect"));
        }
        Ok(status)
    });
    let mut statuses: Vec<u16> = causes.iter().filter_map(|cause| *cause).collect();
    statuses.sort_unstable();
    statuses.dedup();
    RetryOn { statuses, connect: causes.contains(&None) }
}

pub(super) fn gateway(item: &Raw) -> Result<String, Misfit> {
    let name = as_text(item).unwrap_or_default().to_ascii_lowercase();
    if name.is_empty() || name.len() > MAX_NAME || name.contains('/') || name.chars().any(char::is_control) {
        let problem = format!("lists {}, which is no prefix of a model", shown(item));
        return Err(Misfit::new(problem, "list what stands before the first `/`, such as nvidia"));
    }
    Ok(name)
}

/// A browser's `Origin` is scheme, host and port; those of desktop apps may be a scheme alone.
pub(super) fn origin(item: &Raw) -> Result<String, Misfit> {
    let text = as_text(item).unwrap_or_default().to_ascii_lowercase();
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty() && text.len() <= 256 && !host.contains(['/', '?', '#', '@', ','])
    });
    if text == "*" || (is_origin && text.bytes().all(|b| b.is_ascii_graphic())) {
        return Ok(text);
    }
    let problem = format!("lists {}, which is no origin", shown(item));
    Err(Misfit::new(problem, "list `*`, or origins such as https://chat.example.org, without a path"))
}

/// A name that a header, a log and a metric can carry.
fn name(text: &str) -> Result<String, Misfit> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'@');
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
        let problem = format!("holds the name {}", shown_text(text));
        return Err(Misfit::new(problem, "use 1 to 64 of the characters A-Z a-z 0-9 . - _ : @"));
    }
    Ok(text.to_owned())
}

pub(super) fn tokens(value: Raw) -> Result<BTreeMap<String, Secret>, Misfit> {
    let entries = match value {
        Raw::Map(entries) => entries,
        Raw::Untyped(text) => split(&text)
            .map(|part| {
                let (name, token) = part.split_once('=').ok_or_else(|| {
                    Misfit::new("has a part without `=`", "write name=token, separated by commas")
                })?;
                Ok((name.trim().to_owned(), Raw::Untyped(token.to_owned())))
            })
            .collect::<Result<_, Misfit>>()?,
        _ => {
            return Err(Misfit::new(
                "is no map of names to tokens",
                "write `name: token`, one a line, indented",
            ));
        }
    };
    if entries.len() > MAX_CLIENTS {
        return Err(Misfit::new(
            format!("has {} entries", entries.len()),
            format!("give at most {MAX_CLIENTS}"),
        ));
    }
    let mut tokens: BTreeMap<String, Secret> = BTreeMap::new();
    for (client, token) in entries {
        let client = name(&client)?;
        let token = secret(&token)
            .map_err(|misfit| Misfit::new(format!("of `{client}` {}", misfit.problem), misfit.remedy))?;
        if let Some((other, _)) = tokens.iter().find(|(_, known)| **known == token) {
            let problem = format!("gives `{other}` and `{client}` the same token");
            return Err(Misfit::new(problem, "give each client its own"));
        }
        if tokens.contains_key(&client) {
            return Err(Misfit::new(format!("names `{client}` twice"), "keep one of them"));
        }
        tokens.insert(client, token);
    }
    Ok(tokens)
}

pub(super) fn agents(r: &mut Reader, base: &[Agent]) -> Vec<Agent> {
    let agents = r.list("agents", base.to_vec(), MAX_AGENTS, agent);
    let mut names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let fault = r.notice("agents", format!("names `{}` twice", twice[0]), "keep one of them");
        r.faults.push(fault);
    }
    agents
}

fn agent(item: &Raw) -> Result<Agent, Misfit> {
    let remedy = "give each agent `name`, and if you like `label` and `heartbeat_seconds`";
    let Raw::Map(fields) = item else { return Err(Misfit::new("lists something without a name", remedy)) };
    let mut given = Given::default();
    for (field, value) in fields {
        let field = ["name", "label", "heartbeat_seconds"]
            .into_iter()
            .find(|known| known == field)
            .ok_or_else(|| {
                Misfit::new(
                    format!("has an entry with the unknown key {}", spelling::shown_name(field)),
                    remedy,
                )
            })?;
        if given.0.insert(field, (value.clone(), Source::Default)).is_some() {
            return Err(Misfit::new(format!("has an entry with two `{field}`"), remedy));
        }
    }
    let mut r = Reader::new(given, true);
    let agent_name = r.read("name", String::new(), |value| name(as_text(&value).unwrap_or_default()));
    let label = r.read("label", agent_name.clone(), |value| label(&value));
    let heartbeat = r.seconds("heartbeat_seconds", HEARTBEAT, 1.0..=MONTH);
    match r.faults.into_iter().next() {
        Some(fault) => {
            let key = fault.key.unwrap_or_default();
            Err(Misfit::new(format!("has an entry whose {key} {}", fault.problem), fault.remedy))
        }
        None if agent_name.is_empty() => Err(Misfit::new("has an entry without a name", remedy)),
        None => Ok(Agent { name: agent_name, label, heartbeat }),
    }
}

fn label(value: &Raw) -> Result<String, Misfit> {
    match as_text(value) {
        Some(text) if text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control) => {
            Ok(text.to_owned())
        }
        _ => Err(Misfit::new(format!("is {}", shown(value)), "give up to 64 characters of text")),
    }
}
