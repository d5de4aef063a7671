//! What the table of keys is quoted in says what the table says.

use std::path::Path;

use super::super::*;
use super::config;

const EXAMPLE: &str = include_str!("../../../conf/nvidia-sidecar.yaml");
const VARIABLES: &str = include_str!("../../../deploy/nvidia-sidecar.env.example");
const DOCUMENT: &str = include_str!("../../../docs/CONFIGURATION.md");
const CHINESE: &str = include_str!("../../../docs/zh-CN/CONFIGURATION.md");

#[test]
fn the_example_of_agents_has_both_classes() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/agents.example.yaml");
    let loaded = load(Some(&example), &Environment::default()).expect("a configuration of its own");
    let intervals: Vec<u64> =
        loaded.config.agents.iter().map(|agent| agent.expected().heartbeat.as_secs()).collect();
    assert_eq!(intervals, [600, 600, 600, 900, 900]);
}

#[test]
fn the_example_file_holds_every_key_with_a_comment_at_its_default() {
    assert_eq!(config(EXAMPLE), Config::default());
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    let mut places = Vec::new();
    for key in KEYS.iter() {
        let line = match (key.name, key.default.as_str()) {
            (name, "") => format!("# {name}:"),
            // Written down, they would make the key that chooses their default idle.
            (name @ ("queue_full_policy" | "first_byte_timeout" | "stream_idle_timeout"), default) => {
                format!("# {name}: {default}")
            }
            (name, default) => format!("{name}: {default}"),
        };
        let at =
            lines.iter().position(|found| *found == line).unwrap_or_else(|| panic!("`{line}` is missing"));
        let comment: Vec<&str> =
            lines[..at].iter().rev().take_while(|line| line.starts_with('#')).copied().collect();
        let comment =
            comment.iter().rev().map(|line| line.trim_start_matches("# ")).collect::<Vec<_>>().join(" ");
        let restart = if key.reload == Reload::Restart { " (restart)" } else { "" };
        assert_eq!(
            comment,
            format!("{}{restart} [{}]", key.doc.replace('`', ""), key.variable),
            "{}",
            key.name
        );
        places.push(at);
    }
    assert!(places.is_sorted(), "the table and the file have the same order");
}

#[test]
fn the_example_of_an_environment_names_variables_at_their_default() {
    let given = VARIABLES
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .filter(|(name, _)| name.starts_with("SIDECAR_"));
    for (name, value) in given {
        let key = KEYS.iter().find(|key| key.variable == name).unwrap_or_else(|| panic!("no key has {name}"));
        let default = key.default.trim_matches(['[', ']', '{', '}', '"']).replace(", ", ",");
        let expected = match key.name {
            "upstream_api_key" => "nvapi-REPLACE_ME",
            // The unit sets it.
            "state_file" => "/var/lib/nvidia-sidecar/state",
            _ => &default,
        };
        assert_eq!(value, expected, "{name}");
    }
}

/// The rows of the table of keys in a document.
fn rows(document: &str) -> Vec<&str> {
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), KEYS.len(), "a row for each key");
    rows
}

/// The row of a key in a document that has these words for `none`, `live` and `restart`.
fn row(key: &Key, [none, live, restart]: [&str; 3], text: &str) -> String {
    let default = if key.default.is_empty() { none.to_owned() } else { format!("`{}`", key.default) };
    let reload = if key.reload == Reload::Live { live } else { restart };
    format!("| `{}` | `{}` | {default} | {reload} | {text}", key.name, key.variable)
}

#[test]
fn the_document_holds_the_table() {
    for (found, key) in rows(DOCUMENT).into_iter().zip(KEYS.iter()) {
        assert_eq!(found, row(key, ["none", "live", "restart"], &format!("{} |", key.doc)));
    }
}

#[test]
fn the_chinese_document_holds_the_table_with_its_ranges_and_words() {
    for (found, key) in rows(CHINESE).into_iter().zip(KEYS.iter()) {
        let start = row(key, ["无", "即时", "重启"], "");
        assert!(found.starts_with(&start), "{found} does not start with {start}");
        let words = key.doc.split('`').skip(1).step_by(2).map(|word| format!("`{word}`"));
        let range = key.doc.contains(&key.range).then(|| key.range.replace(" to ", " 到 "));
        for part in words.chain(range) {
            assert!(found.contains(&part), "{} says nothing of {part}", key.name);
        }
    }
}
