//! The yardstick: every scenario meets its targets, with committed seeds.

use super::*;

const SEEDS: [u64; 3] = [1, 2, 3];

fn run(name: &str, mode: Adaptive, seed: u64) -> Run {
    let scenario = scenarios(mode).into_iter().find(|scenario| scenario.name == name).unwrap();
    let figures = engine::run(&scenario, seed);
    Run { scenario, seed, figures }
}

#[test]
fn every_scenario_meets_its_targets() {
    let mut missed = Vec::new();
    for seed in SEEDS {
        for scenario in scenarios(Adaptive::default()) {
            let run = run(scenario.name, Adaptive::default(), seed);
            missed.extend(
                run.missed().into_iter().map(|line| format!("{} (seed {seed}): {line}", scenario.name)),
            );
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn learning_costs_fewer_refusals_than_the_specified_figures_wherever_the_quota_shrinks() {
    for name in ["drop", "drop-two-models", "other", "low-quota"] {
        let [specified, learned] = Adaptive::ALL
            .map(|mode| SEEDS.map(|seed| run(name, mode, seed).figures.upstream_429).iter().sum::<u64>());
        assert!(learned < specified, "{name}: {learned} against {specified}");
    }
}

#[test]
fn a_polite_client_beside_a_hog_waits_at_most_twice_its_fair_share() {
    let figures = run("hog", Adaptive::default(), 1).figures;
    // Two clients take turns: the fair share of one is every second ticket, 3 s apart.
    let fair_share = 2.0 * 60.0 / 40.0;
    let polite = figures.waits_by_kind[1].quantile(0.99).unwrap();
    assert!(polite <= 2.0 * fair_share, "{polite} s");
    assert_eq!(figures.refusals_by_kind[1], 0);
}

#[test]
fn the_lowest_priority_progresses_under_saturation() {
    let waits = run("mixed", Adaptive::default(), 1).figures.waits;
    let low = waits[3].quantile(0.99).unwrap();
    assert!(low <= 60.0, "LOW has risen to HIGH after a minute, and waited {low} s");
    assert!(waits[3].total() > 100);
}

#[test]
fn estimates_are_good_to_twenty_percent_under_steady_load() {
    assert!(run("rolling", Adaptive::default(), 1).figures.estimates_good > 0.95);
    let bias = run("mixed", Adaptive::default(), 1).figures.estimate_bias;
    assert!((0.8..=1.2).contains(&bias), "{bias}");
}

#[test]
fn a_seed_makes_a_run_repeatable() {
    let print = || format!("{}", report::json(&[run("drop-two-models", Adaptive::default(), 7)]));
    assert_eq!(print(), print());
}

fn printed(args: &[&str]) -> Result<String, String> {
    let mut parser = lexopt::Parser::from_args(args);
    parse(&mut parser)?.map_or(Ok(HELP.to_owned()), |options| output(&options))
}

#[test]
fn users_can_ask_what_their_agents_would_wait() {
    let text = printed(&["--scenario", "mixed", "--rpm", "20", "--agents", "6", "--hours", "0.5", "--json"])
        .unwrap();
    let runs: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(runs[0]["wait_seconds"]["urgent"]["p99"].is_number(), "{text}");
    assert!(printed(&["--list"]).unwrap().contains("hog"));
    assert!(printed(&["--help"]).unwrap().contains("--svg"));
}

#[test]
fn a_picture_shows_rate_tickets_and_refusals() {
    let svg = svg::picture(&run("drop", Adaptive::default(), 1));
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<polyline").count(), 3);
}

#[test]
fn a_wrong_command_line_is_told_in_one_line() {
    for args in [
        &["--scenario", "nosuch"][..],
        &["--hours", "0"],
        &["--hours", "NaN"],
        &["--rpm", "0"],
        &["--adaptive", "guess"],
        &["--frobnicate"],
    ] {
        let error = printed(args).unwrap_err();
        assert!(!error.is_empty() && !error.contains('\n'), "{error}");
    }
}
