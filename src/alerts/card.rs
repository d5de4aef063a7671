//! What an alert looks like: one card, shown as Feishu's interactive card or as plain text.
//!
//! Everything that comes from an alert is shown as `plain_text`, never as markdown: a label's value must not be able to
//! mention a whole group or to hide behind a link. Source of the card's form:
//! <https://open.feishu.cn/document/common-capabilities/message-card/message-cards-content/card-structure/card-content>.

use std::time::SystemTime;

use serde_json::{Value, json};
use time::{OffsetDateTime, UtcOffset};
use ureq::http::Uri;

use super::alert::{Alert, Severity, State};

/// Feishu's bound on a message's bytes. The bounds below keep a card under it even when JSON doubles their bytes.
pub const MAX_MESSAGE_BYTES: usize = 20_000;
const MAX_TITLE_BYTES: usize = 400;
const MAX_NAME_BYTES: usize = 200;
const MAX_DESCRIPTION_BYTES: usize = 4000;
const MAX_LABELS_BYTES: usize = 2500;
/// A longer link is not shown; a cut one would lead nowhere.
const MAX_LINK_BYTES: usize = 500;

/// A card, its texts cut to what a message may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    title: String,
    name: String,
    colour: &'static str,
    description: Option<String>,
    facts: Vec<(&'static str, String)>,
    labels: String,
    links: Vec<(&'static str, String)>,
    note: String,
}

impl Card {
    /// The card of an alert that was received at `now`, with a link to `dashboard` if there is one.
    #[must_use]
    pub fn new(alert: &Alert, dashboard: Option<&str>, now: SystemTime) -> Card {
        let name = clean(alert.name(), MAX_NAME_BYTES);
        let summary = alert.annotation("summary").unwrap_or(&name);
        let state = match alert.state {
            State::Firing => "Firing",
            State::Resolved => "Resolved",
        };
        let severity = alert.severity.as_str().to_ascii_uppercase();
        let runbook = alert.annotation("runbook_url");
        let mut facts = vec![("Alert", name.clone()), ("State", state.to_owned())];
        facts.extend(times(alert));
        // A path in a repository is no link, and Feishu refuses a card with a broken one.
        facts
            .extend(runbook.filter(|url| !is_link(url)).map(|path| ("Runbook", clean(path, MAX_LINK_BYTES))));
        let links = [("Runbook", runbook), ("Dashboard", dashboard)];
        Card {
            title: clean(&format!("[{severity}] {state}: {summary}"), MAX_TITLE_BYTES),
            colour: colour(alert.severity, alert.state),
            description: alert.annotation("description").map(|text| clean_lines(text, MAX_DESCRIPTION_BYTES)),
            facts,
            labels: clean_lines(&labels(alert), MAX_LABELS_BYTES),
            links: links
                .into_iter()
                .filter_map(|(text, url)| Some((text, url.filter(|url| is_link(url))?.to_owned())))
                .collect(),
            note: format!("nvidia-sidecar alert-bridge, {}", shown(now.into())),
            name,
        }
    }

    /// The alert's name, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The message to a custom bot: an interactive card.
    #[must_use]
    pub fn message(&self) -> Value {
        let mut elements = Vec::new();
        elements.extend(self.description.as_deref().map(paragraph));
        let field = |(name, value): &(&str, String)| json!({"is_short": true, "text": plain(&format!("{name}\n{value}"))});
        elements.push(json!({"tag": "div", "fields": self.facts.iter().map(field).collect::<Vec<_>>()}));
        if !self.labels.is_empty() {
            elements.push(paragraph(&self.labels));
        }
        elements.push(json!({"tag": "hr"}));
        if !self.links.is_empty() {
            let button = |(text, url): &(&str, String)| json!({"tag": "button", "type": "default", "url": url, "text": plain(text)});
            elements
                .push(json!({"tag": "action", "actions": self.links.iter().map(button).collect::<Vec<_>>()}));
        }
        elements.push(json!({"tag": "note", "elements": [plain(&self.note)]}));
        json!({"msg_type": "interactive", "card": {
            "config": {"wide_screen_mode": true},
            "header": {"template": self.colour, "title": plain(&self.title)},
            "elements": elements,
        }})
    }

    /// The message to a custom bot that refused the card.
    #[must_use]
    pub fn plain_message(&self) -> Value {
        json!({"msg_type": "text", "content": {"text": defused(&self.text())}})
    }

    /// The card as text, one line a fact.
    #[must_use]
    pub fn text(&self) -> String {
        let mut lines = vec![self.title.clone()];
        lines.extend(self.description.clone());
        lines.extend(self.facts.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.extend((!self.labels.is_empty()).then(|| self.labels.clone()));
        lines.extend(self.links.iter().map(|(name, url)| format!("{name}: {url}")));
        lines.push(self.note.clone());
        lines.join("\n") + "\n"
    }
}

fn plain(text: &str) -> Value {
    json!({"tag": "plain_text", "content": text})
}

fn paragraph(text: &str) -> Value {
    json!({"tag": "div", "text": plain(text)})
}

/// A template of Feishu's card headers.
fn colour(severity: Severity, state: State) -> &'static str {
    match (state, severity) {
        (State::Resolved, _) => "green",
        (State::Firing, Severity::Critical) => "red",
        (State::Firing, Severity::Warning) => "orange",
    }
}

/// `<at user_id="all">` mentions the group in a text message, whoever wrote it.
fn defused(text: &str) -> String {
    text.replace('<', "‹").replace('>', "›")
}

fn times(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(since) = alert.starts_at {
        facts.push(("Since", shown(since)));
    }
    if let (State::Resolved, Some(until)) = (alert.state, alert.ends_at) {
        facts.push(("Until", shown(until)));
        facts.extend(alert.starts_at.map(|since| ("Lasted", lasted((until - since).whole_seconds()))));
    }
    facts
}

/// The labels but for the name, which has its place.
fn labels(alert: &Alert) -> String {
    let lines = alert.labels.iter().filter(|(name, _)| *name != "alertname");
    lines.map(|(name, value)| format!("{name} = {}", value.replace('\n', " "))).collect::<Vec<_>>().join("\n")
}

/// A time as people read it, in UTC.
fn shown(time: OffsetDateTime) -> String {
    let utc = time.to_offset(UtcOffset::UTC);
    let (date, month) = (utc.date(), u8::from(utc.month()));
    let (hour, minute, second) = utc.to_hms();
    format!("{:04}-{month:02}-{:02} {hour:02}:{minute:02}:{second:02} UTC", date.year(), date.day())
}

/// A duration in its two largest units.
fn lasted(secs: i64) -> String {
    let secs = secs.max(0);
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// Whether a button can lead there.
pub(super) fn is_link(url: &str) -> bool {
    let web = ["http://", "https://"].iter().any(|scheme| url.starts_with(scheme));
    let whole = |uri: Uri| uri.host().is_some_and(|host| !host.is_empty());
    web && url.len() <= MAX_LINK_BYTES && url.parse().is_ok_and(whole)
}

/// `text` as one line of at most `max` bytes.
pub(super) fn clean(text: &str, max: usize) -> String {
    cut(text.chars().map(|c| if c.is_control() { ' ' } else { c }), max)
}

/// `text` with its lines, at most `max` bytes.
fn clean_lines(text: &str, max: usize) -> String {
    cut(text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }), max)
}

fn cut(chars: impl Iterator<Item = char>, max: usize) -> String {
    const MARK: char = '…';
    let mut text = String::new();
    let mut kept = 0;
    for c in chars {
        if text.len() + c.len_utf8() > max {
            text.truncate(kept);
            text.push(MARK);
            return text;
        }
        text.push(c);
        if text.len() + MARK.len_utf8() <= max {
            kept = text.len();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::alerts::webhook;
    use crate::alerts::webhook::tests as posted;

    fn card(status: &str, severity: &str) -> Card {
        let payload = posted::payload(&[posted::alert("a", status, severity)]);
        let alerts = webhook::read(payload.to_string().as_bytes()).expect("a payload");
        Card::new(&alerts[0], Some("https://grafana.example.org/d/nvidia-sidecar"), now())
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_770_383_340)
    }

    #[test]
    fn the_header_tells_severity_and_state_in_words_and_colour() {
        for (status, severity, colour, title) in [
            ("firing", "critical", "red", "[CRITICAL] Firing: The NVIDIA API does not answer"),
            ("firing", "warning", "orange", "[WARNING] Firing: The NVIDIA API does not answer"),
            ("firing", "info", "orange", "[WARNING] Firing: The NVIDIA API does not answer"),
            ("resolved", "critical", "green", "[CRITICAL] Resolved: The NVIDIA API does not answer"),
        ] {
            let message = card(status, severity).message();
            assert_eq!(message["msg_type"], "interactive");
            let header = &message["card"]["header"];
            assert_eq!(header["template"], colour);
            assert_eq!(header["title"], json!({"tag": "plain_text", "content": title}));
        }
    }

    #[test]
    fn the_card_holds_the_details_and_the_links() {
        let message = card("resolved", "critical").message();
        let elements = message["card"]["elements"].as_array().expect("elements");
        let tags: Vec<_> = elements.iter().filter_map(|element| element["tag"].as_str()).collect();
        assert_eq!(tags, ["div", "div", "div", "hr", "action", "note"]);
        let facts: Vec<_> = elements[1]["fields"].as_array().expect("fields").iter().collect();
        let facts: Vec<_> = facts.iter().filter_map(|fact| fact["text"]["content"].as_str()).collect();
        assert_eq!(
            facts,
            [
                "Alert\nSidecarUpstreamDown",
                "State\nResolved",
                "Since\n2026-02-06 13:08:45 UTC",
                "Until\n2026-02-06 13:12:55 UTC",
                "Lasted\n4 min 9 s",
            ]
        );
        assert_eq!(elements[2]["text"]["content"], "instance = sidecar:9191\nseverity = critical");
        let urls: Vec<_> = elements[4]["actions"].as_array().expect("buttons").iter().collect();
        let urls: Vec<_> = urls.iter().filter_map(|button| button["url"].as_str()).collect();
        assert_eq!(
            urls,
            [
                "https://wiki.example.org/OPERATIONS.md#sidecarupstreamdown",
                "https://grafana.example.org/d/nvidia-sidecar"
            ]
        );
        let note = &elements[5]["elements"][0]["content"];
        assert_eq!(note, "nvidia-sidecar alert-bridge, 2026-02-06 13:09:00 UTC");
    }

    #[test]
    fn the_text_holds_the_same() {
        assert_eq!(
            card("firing", "critical").text(),
            "[CRITICAL] Firing: The NVIDIA API does not answer\n\
             sidecar:9191 has not reached its upstream for a minute.\n\
             Alert: SidecarUpstreamDown\nState: Firing\nSince: 2026-02-06 13:08:45 UTC\n\
             instance = sidecar:9191\nseverity = critical\n\
             Runbook: https://wiki.example.org/OPERATIONS.md#sidecarupstreamdown\n\
             Dashboard: https://grafana.example.org/d/nvidia-sidecar\n\
             nvidia-sidecar alert-bridge, 2026-02-06 13:09:00 UTC\n"
        );
    }

    #[test]
    fn a_runbook_that_is_no_link_is_a_line_and_not_a_broken_button() {
        for runbook in ["docs/OPERATIONS.md#sidecardown", "javascript:alert(1)", "https://", "http://a b/"] {
            let mut alert = posted::alert("a", "firing", "warning");
            alert["annotations"]["runbook_url"] = runbook.into();
            let payload = posted::payload(&[alert]);
            let alerts = webhook::read(payload.to_string().as_bytes()).expect("a payload");
            let card = Card::new(&alerts[0], None, now());
            assert!(card.text().contains(&format!("Runbook: {runbook}\n")), "{}", card.text());
            assert!(!card.message().to_string().contains("\"action\""));
        }
    }

    #[test]
    fn a_plain_message_mentions_nobody() {
        let mut alert = posted::alert("a", "firing", "warning");
        alert["annotations"]["summary"] = "<at user_id=\"all\">all</at>".into();
        let payload = posted::payload(&[alert]);
        let alerts = webhook::read(payload.to_string().as_bytes()).expect("a payload");
        let message = Card::new(&alerts[0], None, now()).plain_message();
        assert!(!message.to_string().contains("<at"), "{message}");
    }

    proptest! {
        #[test]
        fn whatever_an_alert_holds_its_messages_fit(
            texts in proptest::collection::vec("(\\PC|[\"\\\\\n<>\u{7}\u{1f600}]){0,200}", 5),
            repeat in 1_usize..200,
        ) {
            let long: Vec<String> = texts.iter().map(|text| text.repeat(repeat)).collect();
            let mut alert = posted::alert("a", "resolved", &long[0]);
            alert["annotations"] = json!({"summary": long[1], "description": long[2], "runbook_url": long[3]});
            alert["labels"][&texts[4]] = long[4].clone().into();
            alert["labels"]["alertname"] = long[4].clone().into();
            let payload = posted::payload(&[alert]);
            let alerts = webhook::read(payload.to_string().as_bytes()).expect("a payload");
            let card = Card::new(&alerts[0], Some("https://grafana.example.org/"), now());
            // Room for the timestamp and the signature.
            prop_assert!(card.message().to_string().len() < MAX_MESSAGE_BYTES - 200);
            prop_assert!(card.plain_message().to_string().len() < MAX_MESSAGE_BYTES - 200);
        }

        #[test]
        fn cutting_keeps_the_bound_and_what_fits(text in "\\PC{0,40}", max in 3_usize..60) {
            let short = clean(&text, max);
            prop_assert!(short.len() <= max);
            prop_assert!(text.len() > max || short == text);
        }
    }
}
