//! The command line: arguments in, one [`Command`] out; nothing is read or started here.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::{Long, Short, Value};
use lexopt::{Arg, Parser};

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the proxy.
    Run {
        /// `--config`; without it `SIDECAR_CONFIG` counts.
        config: Option<PathBuf>,
    },
    /// Validate the configuration, print the effective one and exit.
    Check {
        /// `--config`; without it `SIDECAR_CONFIG` counts.
        config: Option<PathBuf>,
    },
    /// Run the sidecar between agents and a look-alike of NIM.
    Demo(Demo),
    /// Ask a running sidecar whether it is alive.
    Healthcheck(Healthcheck),
    /// Carry Alertmanager's alerts to Feishu or to a command.
    AlertBridge,
    /// Run the limiter on virtual time; the simulator reads its own arguments.
    Simulate(Vec<OsString>),
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// Options of `demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demo {
    /// `--seconds`; without it until Ctrl-C.
    pub seconds: Option<Duration>,
    /// `--port` of the sidecar; without it one that is free.
    pub port: Option<u16>,
}

/// Options of `healthcheck`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `--url`; without it the address in the configuration.
    pub url: Option<String>,
    /// `--config`; without it `SIDECAR_CONFIG` counts.
    pub config: Option<PathBuf>,
}

/// The text of `--help`.
pub const HELP: &str = "\
nvidia-sidecar: a proxy in front of the NVIDIA NIM API that makes a fleet of agents wait their turn

Usage:
  nvidia-sidecar [run] [--config FILE]      run the proxy
  nvidia-sidecar --check [--config FILE]    validate the configuration, print the effective one, exit
  nvidia-sidecar demo [--seconds N] [--port N]
                                            watch it work: a look-alike of NIM with a dozen agents,
                                            without a key or a network, until Ctrl-C or for N seconds
  nvidia-sidecar simulate [OPTIONS]         run the limiter on virtual time: \"twelve agents on 40 rpm, what
                                            will URGENT wait?\"; simulate --help tells more
  nvidia-sidecar healthcheck [--url URL]    exit 0 if a running sidecar answers, else 1
  nvidia-sidecar alert-bridge               carry Alertmanager's alerts to Feishu or to a command

Options:
  -c, --config FILE   the configuration file; without it, the one that SIDECAR_CONFIG names
      --check         validate only
  -h, --help          print this
  -V, --version       print the version

Configuration:
  Defaults, then the file, then the environment: each key has a variable, such as SIDECAR_API_KEY,
  SIDECAR_UPSTREAM, SIDECAR_RATE_RPM, SIDECAR_HOST, SIDECAR_PORT. --check shows every key and its value.
  An agent then uses http://127.0.0.1:9190/v1 as its base URL, and may send X-Priority: urgent, high,
  normal or low.

Alert bridge, by variables only:
  FEISHU_WEBHOOK_CRITICAL, FEISHU_WEBHOOK_WARNING      the bots' addresses
  FEISHU_SECRET_CRITICAL, FEISHU_SECRET_WARNING        where a bot wants signatures
  ALERT_COMMAND_CRITICAL, ALERT_COMMAND_WARNING        a program as a JSON list; {text}, {title}, {severity}
                                                       in its arguments, else the text on its stdin
  ALERT_LANGUAGE, TZ                                   en or zh; the time zone, such as Asia/Shanghai
  WEBHOOK_HOST, WEBHOOK_PORT, WEBHOOK_TOKEN            127.0.0.1, 9094, the bearer token of Alertmanager
  DASHBOARD_URL                                        the link on every card

Signals:
  SIGHUP              read the configuration again; a broken one changes nothing
  SIGTERM, SIGINT     stop accepting, finish what is there within drain_timeout; a second one exits at once

Exit status:
  0 success, 1 failure while running, 2 wrong usage or configuration
";

/// The exit status of wrong usage and of a wrong configuration.
pub const EXIT_USAGE: u8 = 2;

/// The text of `--version`.
#[must_use]
pub fn version() -> String {
    format!("nvidia-sidecar {}", env!("CARGO_PKG_VERSION"))
}

/// Wrong usage: one line that says what is wrong and one that says where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nvidia-sidecar: {}\nTry 'nvidia-sidecar --help'.", self.0)
    }
}

impl Error for UsageError {}

impl From<lexopt::Error> for UsageError {
    fn from(error: lexopt::Error) -> UsageError {
        UsageError(error.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
    }
}

/// Reads the arguments, the program's name not among them.
///
/// # Errors
///
/// [`UsageError`] for an unknown command or option, a missing or a wrong value.
pub fn parse<I>(arguments: I) -> Result<Command, UsageError>
where
    I: IntoIterator<Item: Into<OsString>>,
{
    let mut parser = Parser::from_args(arguments.into_iter().map(Into::into));
    let mut config = None;
    let mut check = false;
    let mut run = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Short('c') | Long("config") => config = Some(path(&mut parser)?),
            Long("check") => check = true,
            Value(name) => match name.to_str() {
                Some("run") if !run => run = true,
                Some("demo") if config.is_none() && !check && !run => return demo(parser),
                Some("healthcheck") if !check && !run => return healthcheck(parser, config),
                Some("alert-bridge") if config.is_none() && !check && !run => return alert_bridge(parser),
                Some("simulate") if config.is_none() && !check && !run => {
                    return Ok(Command::Simulate(parser.raw_args()?.collect()));
                }
                Some("help") => return Ok(Command::Help),
                Some("version") => return Ok(Command::Version),
                Some("run" | "demo" | "healthcheck" | "simulate" | "alert-bridge") => {
                    return Err(UsageError(format!("{name:?} does not go with what stands before it")));
                }
                _ => {
                    return Err(UsageError(format!(
                        "{name:?} is not a command; there are run, demo, simulate, healthcheck and alert-bridge"
                    )));
                }
            },
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(if check { Command::Check { config } } else { Command::Run { config } })
}

fn demo(mut parser: Parser) -> Result<Command, UsageError> {
    let mut demo = Demo::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => {
                let text = text(&mut parser)?;
                let seconds: Option<f64> = text.parse().ok().filter(|seconds| *seconds > 0.0);
                let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                demo.seconds = Some(seconds.ok_or_else(|| wrong("--seconds", &text, "a number above 0"))?);
            }
            Long("port") => {
                let text = text(&mut parser)?;
                let port = text.parse().map_err(|_| wrong("--port", &text, "a port from 0 to 65535"))?;
                demo.port = Some(port);
            }
            other => return common(other),
        }
    }
    Ok(Command::Demo(demo))
}

fn healthcheck(mut parser: Parser, config: Option<PathBuf>) -> Result<Command, UsageError> {
    let mut check = Healthcheck { url: None, config };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("url") => check.url = Some(text(&mut parser)?),
            Short('c') | Long("config") => check.config = Some(path(&mut parser)?),
            other => return common(other),
        }
    }
    Ok(Command::Healthcheck(check))
}

fn alert_bridge(mut parser: Parser) -> Result<Command, UsageError> {
    parser.next()?.map_or(Ok(Command::AlertBridge), common)
}

/// The options that every subcommand has.
fn common(argument: Arg<'_>) -> Result<Command, UsageError> {
    match argument {
        Short('h') | Long("help") => Ok(Command::Help),
        Short('V') | Long("version") => Ok(Command::Version),
        other => Err(other.unexpected().into()),
    }
}

fn path(parser: &mut Parser) -> Result<PathBuf, UsageError> {
    let value = parser.value()?;
    if value.is_empty() {
        Err(UsageError("--config needs a file's name".into()))
    } else {
        Ok(PathBuf::from(value))
    }
}

fn text(parser: &mut Parser) -> Result<String, UsageError> {
    parser.value()?.into_string().map_err(|value| UsageError(format!("{value:?} is not UTF-8 text")))
}

fn wrong(option: &str, value: &str, needs: &str) -> UsageError {
    UsageError(format!("{option} {value:?} is not {needs}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace())
    }

    #[test]
    fn without_a_command_the_proxy_runs() {
        assert_eq!(parsed(""), Ok(Command::Run { config: None }));
        assert_eq!(parsed("run"), Ok(Command::Run { config: None }));
        let config = Some(PathBuf::from("a.yaml"));
        for line in ["--config a.yaml", "run --config=a.yaml", "-c a.yaml run", "run -ca.yaml"] {
            assert_eq!(parsed(line), Ok(Command::Run { config: config.clone() }), "{line}");
        }
    }

    #[test]
    fn check_goes_with_or_without_run_and_a_file() {
        assert_eq!(parsed("--check"), Ok(Command::Check { config: None }));
        let config = Some(PathBuf::from("a.yaml"));
        for line in ["--check --config a.yaml", "run -c a.yaml --check"] {
            assert_eq!(parsed(line), Ok(Command::Check { config: config.clone() }), "{line}");
        }
    }

    #[test]
    fn a_subcommand_has_options_of_its_own() {
        let demo = Demo { seconds: Some(Duration::from_millis(2500)), port: Some(0) };
        assert_eq!(parsed("demo --seconds 2.5 --port 0"), Ok(Command::Demo(demo)));
        let check = Healthcheck { url: Some("http://localhost:1/health".into()), config: None };
        assert_eq!(parsed("healthcheck --url http://localhost:1/health"), Ok(Command::Healthcheck(check)));
        let check = Healthcheck { url: None, config: Some("a.yaml".into()) };
        assert_eq!(parsed("--config a.yaml healthcheck"), Ok(Command::Healthcheck(check)));
        assert_eq!(parsed("alert-bridge"), Ok(Command::AlertBridge));
    }

    #[test]
    fn help_and_version_win_over_what_follows() {
        for line in [
            "-h",
            "--help",
            "help",
            "demo --help",
            "run --help --nonsense",
            "healthcheck -h",
            "alert-bridge -h",
        ] {
            assert_eq!(parsed(line), Ok(Command::Help), "{line}");
        }
        for line in ["-V", "--version", "version", "demo -V"] {
            assert_eq!(parsed(line), Ok(Command::Version), "{line}");
        }
    }

    #[test]
    fn wrong_usage_is_one_line_and_a_hint() {
        for line in [
            "--nonsense",
            "start",
            "demo demo",
            "run demo",
            "run run",
            "run run demo extra",
            "--config",
            "--config=",
            "demo --seconds",
            "demo --seconds 0",
            "demo --seconds NaN",
            "demo --seconds inf",
            "demo --port 65536",
            "--check demo",
            "--config a.yaml demo",
            "healthcheck --check",
            "alert-bridge now",
            "--config a.yaml alert-bridge",
            "--check=yes",
        ] {
            let error = parsed(line).expect_err(line).to_string();
            assert_eq!(error.lines().count(), 2, "{line}: {error}");
            assert!(error.ends_with("--help'."), "{line}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_files_name_need_not_be_text_and_a_commands_does() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![0xff]);
        let config = Some(PathBuf::from(odd.clone()));
        assert_eq!(parse([OsString::from("-c"), odd.clone()]), Ok(Command::Run { config }));
        assert!(parse([odd.clone()]).is_err());
        assert!(parse([OsString::from("demo"), "--seconds".into(), odd]).is_err());
    }

    #[test]
    fn the_help_names_every_command_and_option() {
        for word in [
            "run",
            "demo",
            "healthcheck",
            "alert-bridge",
            "--config",
            "--check",
            "--version",
            "--help",
            "--seconds",
            "--url",
        ] {
            assert!(HELP.contains(word), "{word}");
        }
        assert!(HELP.lines().all(|line| line.len() <= 110));
    }
}
