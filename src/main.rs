//! The command line as a table of contents: what the user asks for, and the exit status of it.

use nvidia_sidecar::cli::{self, Command, EXIT_USAGE};
use nvidia_sidecar::{alerts, config, demo, healthcheck, service, simulate};
use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let environment = config::Environment::of_process();
    match command {
        Command::Run { config } => service::run(config, environment),
        Command::Check { config } => service::check(config.as_deref(), &environment),
        Command::Healthcheck(asked) => healthcheck::run(&asked, &environment),
        Command::Demo(asked) => demo::run(&asked, &environment),
        Command::Simulate(arguments) => simulated(arguments),
        Command::AlertBridge => alerts::run(&environment),
        Command::Version => print(&cli::version()),
        Command::Help => print(cli::HELP.trim_end()),
    }
}

fn simulated(arguments: Vec<std::ffi::OsString>) -> ExitCode {
    match simulate::main(&mut lexopt::Parser::from_args(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nvidia-sidecar: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn print(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}
