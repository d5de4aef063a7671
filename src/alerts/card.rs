//! What an alert looks like: one card, shown as Feishu's interactive card or as plain text.
//!
//! Everything that comes from an alert is shown as `plain_text`, never as markdown: a label's value must not be able to
//! mention a whole group or to hide behind a link. Source of the card's form:
//! <https://open.feishu.cn/document/common-capabilities/message-card/message-cards-content/card-structure/card-content>.

use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::alert::{Alert, AlertState, Severity};
use super::language::{Language, Words};
use super::local_time::LocalTime;
use super::text::{MAX_LINK_BYTES, clean, clean_lines, is_link};

/// Feishu's bound on a message's bytes. The bounds below keep a card under it even when JSON doubles their bytes.
pub const MAX_MESSAGE_BYTES: usize = 20_000;
const MAX_TITLE_BYTES: usize = 400;
const MAX_SUBJECT_BYTES: usize = 150;
const MAX_NAME_BYTES: usize = 200;
const MAX_DESCRIPTION_BYTES: usize = 4000;
const MAX_LABELS_BYTES: usize = 2500;

/// How cards are written, whatever they are about.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// In what language.
    pub language: Language,
    /// In whose time.
    pub zone: LocalTime,
    /// The link on every card.
    pub dashboard: Option<String>,
}

/// A card, its texts cut to what a message may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    title: String,
    name: String,
    severity: Severity,
    colour: &'static str,
    description: Option<String>,
    facts: Vec<(&'static str, String)>,
    labels: String,
    links: Vec<(&'static str, String)>,
    note: String,
    /// Between a name and its value, in the card's language.
    colon: &'static str,
}

impl Card {
    /// The card of an alert that was received at `now`.
    #[must_use]
    pub fn new(alert: &Alert, style: &Style, now: SystemTime) -> Card {
        let words = style.language.words();
        let name = clean(alert.name(), MAX_NAME_BYTES);
        let runbook = alert.annotation("runbook_url");
        let mut facts = vec![(words.alert, name.clone()), (words.state, words.state(alert.state).to_owned())];
        facts.extend(times(alert, style));
        // A path in a repository is not a link, and Feishu refuses a card with a broken one.
        let path = runbook.filter(|url| !is_link(url));
        facts.extend(path.map(|path| (words.runbook, clean(path, MAX_LINK_BYTES))));
        let links = [(words.runbook, runbook), (words.dashboard, style.dashboard.as_deref())];
        Card {
            title: title(alert, &name, words),
            severity: alert.severity,
            colour: colour(alert.severity, alert.state),
            description: annotation(alert, "description", words)
                .map(|text| clean_lines(text, MAX_DESCRIPTION_BYTES)),
            facts,
            labels: clean_lines(&labels(alert), MAX_LABELS_BYTES),
            links: links
                .into_iter()
                .filter_map(|(text, url)| Some((text, url.filter(|url| is_link(url))?.to_owned())))
                .collect(),
            note: format!("nvidia-sidecar alert-bridge, {}", style.zone.shown(now.into())),
            colon: words.colon,
            name,
        }
    }

    /// The alert's name, for the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The one line that says what is the matter, how urgent it is, and with whom.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How urgent it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
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
        let line = |(name, value): &(&str, String)| format!("{name}{}{value}", self.colon);
        lines.extend(self.facts.iter().map(line));
        lines.extend((!self.labels.is_empty()).then(|| self.labels.clone()));
        lines.extend(self.links.iter().map(line));
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
fn colour(severity: Severity, state: AlertState) -> &'static str {
    match (state, severity) {
        (AlertState::Resolved, _) => "green",
        (AlertState::Firing, Severity::Critical) => "red",
        (AlertState::Firing, Severity::Warning) => "orange",
    }
}

/// `<at user_id="all">` mentions the group in a text message, no matter who wrote it.
fn defused(text: &str) -> String {
    text.replace('<', "‹").replace('>', "›")
}

/// The annotation in the card's language; in English, which every rule has, where it does not have it in that one.
fn annotation<'a>(alert: &'a Alert, name: &str, words: &Words) -> Option<&'a str> {
    alert.annotation(&format!("{name}{}", words.suffix)).or_else(|| alert.annotation(name))
}

fn title(alert: &Alert, name: &str, words: &Words) -> String {
    let summary = annotation(alert, "summary", words).unwrap_or(name);
    let (severity, state) = (words.severity(alert.severity), words.state(alert.state));
    let subject = subject(alert, words).map(|subject| format!(" · {}", clean(&subject, MAX_SUBJECT_BYTES)));
    let subject = subject.unwrap_or_default();
    let stated =
        clean(&format!("[{severity}] {state}{}{summary}", words.colon), MAX_TITLE_BYTES - subject.len());
    stated + &subject
}

/// With whom something is the matter: the agent, else the instance and what of it.
fn subject(alert: &Alert, words: &Words) -> Option<String> {
    let label =
        |name: &str| alert.labels.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let [open, close] = words.brackets;
    match (label("agent_name"), label("agent_label")) {
        (Some(agent), Some(group)) => return Some(format!("{agent}{open}{group}{close}")),
        (Some(agent), None) => return Some(agent.to_owned()),
        _ => {}
    }
    let instance = label("instance")?;
    Some(label("mountpoint").map_or(instance.to_owned(), |mountpoint| format!("{instance} {mountpoint}")))
}

fn times(alert: &Alert, style: &Style) -> Vec<(&'static str, String)> {
    let words = style.language.words();
    let mut facts = Vec::new();
    if let Some(since) = alert.starts_at {
        facts.push((words.since, style.zone.shown(since)));
    }
    if let (AlertState::Resolved, Some(until)) = (alert.state, alert.ends_at) {
        facts.push((words.until, style.zone.shown(until)));
        let lasting = |since: OffsetDateTime| (words.lasted, lasted((until - since).whole_seconds(), words));
        facts.extend(alert.starts_at.map(lasting));
    }
    facts
}

/// The labels but for the name, which has its place.
fn labels(alert: &Alert) -> String {
    let lines = alert.labels.iter().filter(|(name, _)| *name != "alertname");
    lines.map(|(name, value)| format!("{name} = {}", value.replace('\n', " "))).collect::<Vec<_>>().join("\n")
}

/// A duration in its two largest units.
fn lasted(secs: i64, words: &Words) -> String {
    let secs = secs.max(0);
    let [day, hour, minute, second] = words.units;
    match secs {
        0..60 => format!("{secs}{second}"),
        60..3600 => format!("{}{minute} {}{second}", secs / 60, secs % 60),
        3600..86_400 => format!("{}{hour} {}{minute}", secs / 3600, secs % 3600 / 60),
        _ => format!("{}{day} {}{hour}", secs / 86_400, secs % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;
    use crate::alerts::webhook;
    use crate::alerts::webhook::tests as posted;

    fn style() -> Style {
        Style { dashboard: Some("https://grafana.example.org/d/nvidia-sidecar".into()), ..Style::default() }
    }

    fn card(status: &str, severity: &str) -> Card {
        card_of(posted::alert("a", status, severity), &style())
    }

    fn card_of(alert: Value, style: &Style) -> Card {
        let payload = posted::payload(&[alert]);
        let alerts = webhook::read(payload.to_string().as_bytes()).expect("a payload");
        Card::new(&alerts[0], style, now())
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_770_383_340)
    }

    #[test]
    fn the_header_shows_severity_and_state_in_words_and_colour() {
        for (status, severity, colour, title) in [
            ("firing", "critical", "red", "[CRITICAL] Firing: The NVIDIA API does not answer · sidecar:9191"),
            (
                "firing",
                "warning",
                "orange",
                "[WARNING] Firing: The NVIDIA API does not answer · sidecar:9191",
            ),
            ("firing", "info", "orange", "[WARNING] Firing: The NVIDIA API does not answer · sidecar:9191"),
            (
                "resolved",
                "critical",
                "green",
                "[CRITICAL] Resolved: The NVIDIA API does not answer · sidecar:9191",
            ),
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
            "[CRITICAL] Firing: The NVIDIA API does not answer · sidecar:9191\n\
             sidecar:9191 has not reached its upstream for a minute.\n\
             Alert: SidecarUpstreamDown\nState: Firing\nSince: 2026-02-06 13:08:45 UTC\n\
             instance = sidecar:9191\nseverity = critical\n\
             Runbook: https://wiki.example.org/OPERATIONS.md#sidecarupstreamdown\n\
             Dashboard: https://grafana.example.org/d/nvidia-sidecar\n\
             nvidia-sidecar alert-bridge, 2026-02-06 13:09:00 UTC\n"
        );
    }

    #[test]
    fn in_chinese_it_is_chinese_throughout_and_in_the_readers_time() {
        let mut alert = posted::alert("a", "resolved", "critical");
        alert["annotations"]["summary_zh"] = "NVIDIA API 没有响应".into();
        alert["annotations"]["description_zh"] = "sidecar:9191 已有一分钟连不上上游。".into();
        let zone = LocalTime::named("CST-8").expect("a rule of POSIX");
        let chinese = Style { language: Language::Chinese, zone, ..style() };
        assert_eq!(
            card_of(alert.clone(), &chinese).text(),
            "[严重] 已恢复：NVIDIA API 没有响应 · sidecar:9191\n\
             sidecar:9191 已有一分钟连不上上游。\n\
             告警：SidecarUpstreamDown\n状态：已恢复\n\
             开始时间：2026-02-06 21:08:45 +08:00\n恢复时间：2026-02-06 21:12:55 +08:00\n持续时间：4 分 9 秒\n\
             instance = sidecar:9191\nseverity = critical\n\
             处理手册：https://wiki.example.org/OPERATIONS.md#sidecarupstreamdown\n\
             仪表盘：https://grafana.example.org/d/nvidia-sidecar\n\
             nvidia-sidecar alert-bridge, 2026-02-06 21:09:00 +08:00\n"
        );
        alert["annotations"]["summary_zh"] = " ".into();
        let title = card_of(alert, &chinese).title().to_owned();
        assert_eq!(title, "[严重] 已恢复：The NVIDIA API does not answer · sidecar:9191", "not empty");
    }

    #[test]
    fn the_title_names_the_agent_else_the_instance() {
        let titled = |labels: Value, language| {
            let mut alert = posted::alert("a", "firing", "warning");
            alert["labels"] = labels;
            alert["annotations"]["summary"] = "x".into();
            card_of(alert, &Style { language, ..Style::default() }).title().to_owned()
        };
        let agent = json!({"agent_name": "scout", "agent_label": "research", "instance": "sidecar:9191"});
        assert_eq!(titled(agent.clone(), Language::English), "[WARNING] Firing: x · scout (research)");
        assert_eq!(titled(agent, Language::Chinese), "[警告] 触发：x · scout（research）");
        let unlabelled = json!({"agent_name": "scout", "agent_label": ""});
        assert_eq!(titled(unlabelled, Language::English), "[WARNING] Firing: x · scout");
        let disk = json!({"instance": "node:9100", "mountpoint": "/data"});
        assert_eq!(titled(disk, Language::English), "[WARNING] Firing: x · node:9100 /data");
        assert_eq!(titled(json!({}), Language::English), "[WARNING] Firing: x");
        let long = json!({"agent_name": "写".repeat(1000), "instance": "sidecar:9191"});
        let title = titled(long, Language::English);
        assert!(title.len() <= MAX_TITLE_BYTES && title.starts_with("[WARNING] Firing: x · 写"), "{title}");
    }

    #[test]
    fn no_text_of_a_card_can_turn_its_direction() {
        let mut alert = posted::alert("a", "firing", "warning");
        let hidden = "a\u{202e}b\u{2066}c";
        alert["annotations"] = json!({"summary": hidden, "description": hidden, "runbook_url": hidden});
        alert["labels"] = json!({"alertname": hidden, "agent_name": hidden, hidden: hidden});
        let card = card_of(alert, &style());
        let shown = card.text() + &card.message().to_string() + card.name();
        assert!(shown.contains("abc") && !shown.contains(['\u{202e}', '\u{2066}']), "{shown:?}");
    }

    #[test]
    fn times_at_the_ends_of_the_calendar_do_no_harm() {
        let mut alert = posted::alert("a", "resolved", "critical");
        alert["startsAt"] = "0002-01-01T00:00:00+23:59".into();
        alert["endsAt"] = "9999-12-31T23:59:59-23:59".into();
        let text = card_of(alert, &style()).text();
        assert!(text.contains("Lasted: 365"), "{text}");
    }

    #[test]
    fn a_runbook_that_is_not_a_link_is_a_line_and_not_a_broken_button() {
        for runbook in ["docs/OPERATIONS.md#sidecardown", "javascript:alert(1)", "https://", "http://a b/"] {
            let mut alert = posted::alert("a", "firing", "warning");
            alert["annotations"]["runbook_url"] = runbook.into();
            let card = card_of(alert, &Style::default());
            assert!(card.text().contains(&format!("Runbook: {runbook}\n")), "{}", card.text());
            assert!(!card.message().to_string().contains("\"action\""));
        }
    }

    #[test]
    fn a_plain_message_mentions_no_one() {
        let mut alert = posted::alert("a", "firing", "warning");
        alert["annotations"]["summary"] = "<at user_id=\"all\">all</at>".into();
        let message = card_of(alert, &Style::default()).plain_message();
        assert!(!message.to_string().contains("<at"), "{message}");
    }

    proptest! {
        #![proptest_config(crate::properties())]
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
            let card = card_of(alert, &style());
            // Room for the timestamp and the signature.
            prop_assert!(card.message().to_string().len() < MAX_MESSAGE_BYTES - 200);
            prop_assert!(card.plain_message().to_string().len() < MAX_MESSAGE_BYTES - 200);
        }
    }
}
