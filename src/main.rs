//! The command line: flags, configuration, start, wait for a signal, stop.

use nvidia_sidecar::app::Sidecar;
use nvidia_sidecar::cli::{self, Command, EXIT_USAGE};
use nvidia_sidecar::clock::Clock;
use nvidia_sidecar::config::{self, Environment};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match command {
        Command::Run { config } => {
            let loaded = config::load(config.as_deref(), &Environment::of_process()).unwrap();
            let sidecar = Sidecar::start(loaded.config, Clock::start()).unwrap();
            eprintln!("listening on {}", sidecar.api_address());
            let mut signals = signal_hook::iterator::Signals::new([15, 2]).unwrap();
            signals.forever().next();
            eprintln!("clean: {}", sidecar.stop());
            ExitCode::SUCCESS
        }
        _ => ExitCode::from(EXIT_USAGE),
    }
}
