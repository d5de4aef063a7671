//! Whatever is posted to the alert bridge is refused, or becomes cards that a messenger takes: bounded, and without the
//! characters that reorder what a person reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nvidia_sidecar::alerts::card::{Card, Style};
use nvidia_sidecar::alerts::language::Language;
use nvidia_sidecar::alerts::local_time::LocalTime;
use nvidia_sidecar::alerts::webhook;
use std::time::{Duration, SystemTime};

/// Feishu refuses larger messages (30 KB).
const MOST_BYTES: usize = 30_000;

fuzz_target!(|body: &[u8]| {
    let Ok(alerts) = webhook::read(body) else { return };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_081_234);
    for language in [Language::English, Language::Chinese] {
        let zone = LocalTime::named("CST-8").expect("a POSIX time zone");
        let style = Style { language, zone, dashboard: None };
        for alert in &alerts {
            let message = Card::new(alert, &style, now).message().to_string();
            assert!(message.len() <= MOST_BYTES, "{} bytes", message.len());
            assert!(!message.contains(['\u{202e}', '\u{2066}']), "{message}");
        }
    }
});
