//! The yardstick: every scenario meets its targets, with committed seeds.

use super::*;

const SEEDS: [u64; 3] = [1, 2, 3];

#[test]
fn every_scenario_meets_its_targets() {
    let mut missed = Vec::new();
    for seed in SEEDS {
        for scenario in scenarios(Adaptive::default()) {
            let figures = engine::run(&scenario, seed);
            let run = Run { scenario, seed, figures };
            missed.extend(
                run.missed().into_iter().map(|line| format!("{} (seed {seed}): {line}", run.scenario.name)),
            );
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn print_table() {
    let options = Options {
        scenario: None,
        list: false,
        modes: Adaptive::ALL.to_vec(),
        seed: 1,
        rpm: None,
        agents: None,
        hours: 1.0,
        json: false,
        svg: None,
    };
    println!("{}", output(&options).unwrap());
}
