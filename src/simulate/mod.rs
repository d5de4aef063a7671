//! `nvidia-sidecar simulate`: the limiter on virtual time, against model upstreams and model agents.
//!
//! It answers before the fact what a configuration gives ("twelve agents on 40 rpm: what will URGENT wait?"), and it
//! is the limiter's yardstick: a test runs every scenario and asserts its targets.

pub mod agents;
pub mod engine;
pub mod figures;
pub mod fleet;
pub mod report;
pub mod scenario;
pub mod svg;
pub mod upstream;

use std::io::Write as _;
use std::time::Duration;

use lexopt::prelude::*;

use self::agents::AgentSpec;
use self::report::Run;
use self::scenario::{Scenario, scenarios};
use crate::clock::duration_from_secs_f64;
use crate::config::limiter::Adaptive;
use crate::limiter::rate::whole;

/// What `--help` says.
pub const HELP: &str = "\
Run the limiter on virtual time against model upstreams and model agents.

Usage: nvidia-sidecar simulate [OPTIONS]

  --scenario NAME   one scenario (all without it)
  --list            the scenarios
  --adaptive MODE   specified, learned or both (default: learned)
  --seed N          the seed of all chance (default: 1)
  --runs N          so many runs of each, with seeds from there on (default: 1)
  --rpm N           requests a minute, of the upstream and in the settings alike
  --agents N        as many agents, in the scenario's proportions
  --agents TEXT     your own: \"4 coder normal loop 20s; 1 operator urgent every 5m; 30 batch low at once\";
                    also \"burst 60 every 3m\", \"hog 500\", and \"model NAME\" at the end of an entry
  --hours H         how long, in virtual time (default: 1)
  --table           the figures, one line a run
  --json            for machines
  --svg FILE        a picture of the first scenario: rate, tickets and 429s over time
";

/// What was asked for.
#[derive(Clone, Debug)]
struct Options {
    scenario: Option<String>,
    list: bool,
    modes: Vec<Adaptive>,
    seed: u64,
    runs: u64,
    rpm: Option<u32>,
    agents: Option<u32>,
    fleet: Option<Vec<AgentSpec>>,
    hours: f64,
    table: bool,
    json: bool,
    svg: Option<std::path::PathBuf>,
}

/// The subcommand: takes the rest of the command line, prints to standard output.
///
/// # Errors
/// One line that says what is wrong with the command line, or with writing.
pub fn main(args: &mut lexopt::Parser) -> Result<(), String> {
    let text = match parse(args)? {
        Some(options) => output(&options)?,
        None => HELP.to_owned(),
    };
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| format!("cannot print: {error}"))
}

fn parse(args: &mut lexopt::Parser) -> Result<Option<Options>, String> {
    let mut options = Options {
        scenario: None,
        list: false,
        modes: vec![Adaptive::default()],
        seed: 1,
        runs: 1,
        rpm: None,
        agents: None,
        fleet: None,
        hours: 1.0,
        table: false,
        json: false,
        svg: None,
    };
    let wrong = |error: lexopt::Error| error.to_string();
    while let Some(arg) = args.next().map_err(wrong)? {
        match arg {
            Long("scenario") => {
                options.scenario = Some(args.value().and_then(ValueExt::string).map_err(wrong)?);
            }
            Long("list") => options.list = true,
            Long("adaptive") => {
                let mode = args.value().and_then(ValueExt::string).map_err(wrong)?;
                options.modes = match Adaptive::parse(&mode) {
                    Some(mode) => vec![mode],
                    None if mode == "both" => Adaptive::ALL.to_vec(),
                    None => return Err(format!("--adaptive {mode:?}: one of specified, learned, both")),
                };
            }
            Long("seed") => options.seed = args.value().and_then(|v| v.parse()).map_err(wrong)?,
            Long("runs") => options.runs = args.value().and_then(|v| v.parse()).map_err(wrong)?,
            Long("rpm") => options.rpm = Some(args.value().and_then(|v| v.parse()).map_err(wrong)?),
            Long("agents") => {
                let text = args.value().and_then(ValueExt::string).map_err(wrong)?;
                match text.trim().parse() {
                    Ok(count) => options.agents = Some(count),
                    Err(_) => options.fleet = Some(fleet::parse(&text)?),
                }
            }
            Long("hours") => options.hours = args.value().and_then(|v| v.parse()).map_err(wrong)?,
            Long("table") => options.table = true,
            Long("json") => options.json = true,
            Long("svg") => options.svg = Some(args.value().map_err(wrong)?.into()),
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let sane = |hours: f64| hours > 0.0 && hours <= 24.0 * 366.0;
    if !sane(options.hours) {
        return Err(format!("--hours {}: above 0, at most a year", options.hours));
    }
    if options.rpm == Some(0) || options.agents == Some(0) || options.runs == 0 {
        return Err("--rpm, --agents and --runs: at least 1".to_owned());
    }
    Ok(Some(options))
}

fn output(options: &Options) -> Result<String, String> {
    if options.list {
        let lines = scenarios(Adaptive::default());
        return Ok(lines
            .iter()
            .map(|scenario| format!("{:16} {}\n", scenario.name, scenario.title))
            .collect());
    }
    let mut runs = Vec::new();
    for &mode in &options.modes {
        let (all, name) = match &options.fleet {
            Some(agents) => (vec![scenario::own(mode, agents.clone())], None),
            None => (scenarios(mode), options.scenario.as_deref()),
        };
        for mut scenario in all {
            if name.is_none_or(|name| name == scenario.name) {
                adjust(&mut scenario, options);
                let seeds = (0..options.runs).map(|nth| options.seed.wrapping_add(nth));
                runs.extend(seeds.map(|seed| {
                    let figures = engine::run(&scenario, seed);
                    Run { scenario: scenario.clone(), seed, figures }
                }));
            }
        }
    }
    let Some(first) = runs.first() else {
        return Err(format!(
            "no scenario is called {:?}; --list shows them",
            options.scenario.as_deref().unwrap_or("")
        ));
    };
    if let Some(file) = &options.svg {
        std::fs::write(file, svg::picture(first))
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(match (options.json, options.table) {
        (true, _) => format!("{:#}\n", report::json(&runs)),
        (false, true) => report::table(&runs),
        (false, false) => report::sentences(&runs),
    })
}

/// The user's numbers in place of the scenario's.
fn adjust(scenario: &mut Scenario, options: &Options) {
    scenario.duration = duration_from_secs_f64(options.hours * 3600.0).max(Duration::from_secs(1));
    if let Some(rpm) = options.rpm {
        let factor = f64::from(rpm) / f64::from(scenario.settings.rate_rpm);
        scenario.settings.rate_rpm = rpm;
        scenario.settings.bucket_capacity = rpm;
        scenario.upstream.limit *= factor;
        for (_, limit) in [&mut scenario.upstream.drop, &mut scenario.upstream.other].into_iter().flatten() {
            *limit *= factor;
        }
    }
    if let Some(agents) = options.agents {
        let present: u32 = scenario.agents.iter().map(|kind| kind.count).sum();
        for kind in &mut scenario.agents {
            let share = f64::from(kind.count) * f64::from(agents) / f64::from(present.max(1));
            kind.count = whole(share.round()).max(1);
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
