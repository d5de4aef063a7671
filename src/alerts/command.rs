//! Hands a card to a program: in its arguments where they ask for it, else on its standard input; no shell, an environment
//! of its own, a bound on its time.
//!
//! The program runs in a process group of its own, so that at the end of its time its children are killed with it. A
//! thread feeds it and waits for it *without reaping* it (`waitid`, `WNOWAIT`): until the sender reaps it, its number
//! belongs to it, and the signal cannot hit another process.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command as Program, ExitStatus, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::answer::SendOutcome;
use super::card::Card;
use crate::lifecycle::Threads;

/// In an argument, what stands for the card's text.
const TEXT: &str = "{text}";

/// A program that sends alerts.
pub struct Command {
    words: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    timeout: Duration,
    threads: Threads,
}

impl Command {
    /// The program `words[0]` with the rest as its arguments and these variables alone, which may run for `timeout`.
    ///
    /// In the arguments `{text}`, `{title}` and `{severity}` stand for the card's.
    #[must_use]
    pub fn new(words: Vec<String>, environment: Vec<(&'static str, OsString)>, timeout: Duration) -> Command {
        Command { words, environment, timeout, threads: Threads::default() }
    }

    /// Runs it for a card; its exit status 0 is a delivery.
    #[must_use]
    pub fn send(&self, card: &Card) -> SendOutcome {
        match self.run(card) {
            Ok(Some(status)) if status.success() => SendOutcome::Delivered,
            Ok(Some(status)) => SendOutcome::Failed(format!("it ended with {status}")),
            Ok(None) => SendOutcome::Failed(format!("it was killed after {:?}", self.timeout)),
            Err(error) => SendOutcome::Failed(format!("it cannot be run: {error}")),
        }
    }

    /// Its exit status, or none when its time was up.
    fn run(&self, card: &Card) -> io::Result<Option<ExitStatus>> {
        let mut child = self.program(card).spawn()?;
        let group = Pid::from_child(&child);
        let ended = self.ends_in_time(&mut child, group, card.text());
        if !matches!(ended, Ok(true)) {
            // That it is gone already is not an error.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait()?;
        Ok(ended?.then_some(status))
    }

    fn program(&self, card: &Card) -> Program {
        let (name, arguments) = self.words.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest));
        let mut program = Program::new(name);
        // A program that gets its text as an argument and waits for the end of its input as well must find it.
        let asks = arguments.iter().any(|argument| argument.contains(TEXT));
        let input = if asks { Stdio::null() } else { Stdio::piped() };
        program.args(arguments.iter().map(|argument| filled(argument, card)));
        program.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        program.stdin(input).stdout(Stdio::null()).process_group(0);
        program
    }

    fn ends_in_time(&self, child: &mut Child, pid: Pid, text: String) -> io::Result<bool> {
        let input = child.stdin.take();
        let (ended, end) = bounded(1);
        self.threads.spawn("alert-command".into(), move || {
            feed(input, &text);
            // An error is an end too: the sender's own wait has the exit status.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let _ = ended.send(());
        })?;
        Ok(end.recv_timeout(self.timeout).is_ok())
    }
}

/// The argument with what the card says in place of the names. In one pass, so that a text which holds such a name
/// arrives as it is.
fn filled(argument: &str, card: &Card) -> String {
    let mut rest = argument;
    let mut filled = String::new();
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, value) = if rest.starts_with(TEXT) {
            (TEXT, card.text())
        } else if rest.starts_with("{title}") {
            ("{title}", card.title().to_owned())
        } else if rest.starts_with("{severity}") {
            ("{severity}", card.severity().as_str().to_owned())
        } else {
            ("{", "{".to_owned())
        };
        filled.push_str(&value);
        rest = &rest[name.len()..];
    }
    filled + rest
}

fn feed(input: Option<ChildStdin>, text: &str) {
    if let Some(mut input) = input {
        // A program may end without reading all of it; its exit status says whether that was right.
        let _ = input.write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use super::*;
    use crate::alerts::alert::{Alert, AlertState, Severity};
    use crate::alerts::card::Style;
    use crate::clock::{Clock, Moment};

    const LONG: Duration = Duration::from_secs(20);

    fn card(summary: &str) -> Card {
        let alert = Alert {
            fingerprint: "a".into(),
            state: AlertState::Firing,
            severity: Severity::Critical,
            labels: BTreeMap::new(),
            annotations: BTreeMap::from([("summary".to_owned(), summary.to_owned())]),
            starts_at: None,
            ends_at: None,
        };
        Card::new(&alert, &Style::default(), SystemTime::UNIX_EPOCH)
    }

    fn command(words: &[&str], timeout: Duration) -> Command {
        let path = vec![("PATH", OsString::from("/usr/local/bin:/usr/bin:/bin"))];
        Command::new(words.iter().map(ToString::to_string).collect(), path, timeout)
    }

    fn run(words: &[&str], summary: &str) -> SendOutcome {
        command(words, LONG).send(&card(summary))
    }

    #[test]
    fn the_text_is_on_its_standard_input_and_status_0_is_a_delivery() {
        assert_eq!(run(&["grep", "-q", "^\\[CRITICAL\\] Firing: disk$"], "disk"), SendOutcome::Delivered);
        let SendOutcome::Failed(reason) = run(&["grep", "-q", "^disk$"], "disk") else { panic!("failed") };
        assert!(reason.contains("exit status: 1"), "{reason}");
    }

    #[test]
    fn an_argument_takes_text_title_and_severity_and_the_input_is_empty_then() {
        let script = "[ -z \"$(cat)\" ] && [ \"$1\" = \"to: [CRITICAL] Firing: disk\" ] && [ \"$2\" = critical! ] && \
                      case $3 in '[CRITICAL] Firing: disk'*Alert:*) ;; *) exit 1 ;; esac";
        let words = ["sh", "-c", script, "page", "to: {title}", "{severity}!", "{text}"];
        assert_eq!(run(&words, "disk"), SendOutcome::Delivered);
    }

    #[test]
    fn what_an_alert_says_is_never_read_as_a_name_to_be_filled_in() {
        assert_eq!(filled("{title}{{text}", &card("{severity} {text}")), {
            let card = card("{severity} {text}");
            format!("[CRITICAL] Firing: {{severity}} {{text}}{{{}", card.text())
        });
        assert_eq!(filled("{\"text\": 1} {other} {", &card("x")), "{\"text\": 1} {other} {");
    }

    #[test]
    fn no_shell_reads_the_words() {
        let words = ["test", "$HOME;`id` {title}", "=", "$HOME;`id` [CRITICAL] Firing: $(id)"];
        assert_eq!(run(&words, "$(id)"), SendOutcome::Delivered);
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        let SendOutcome::Failed(reason) = run(&["/nonexistent/page"], "x") else { panic!("failed") };
        assert!(reason.starts_with("it cannot be run"), "{reason}");
    }

    #[test]
    fn a_program_that_reads_nothing_is_not_a_failure() {
        assert_eq!(run(&["true"], &"x".repeat(1_000_000)), SendOutcome::Delivered);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let clock = Clock::start();
        let verdict = command(&["sh", "-c", "sleep 600 & wait"], Duration::from_millis(200)).send(&card("x"));
        assert!(
            matches!(&verdict, SendOutcome::Failed(reason) if reason.starts_with("it was killed")),
            "{verdict:?}"
        );
        assert!(clock.now().since(Moment::ZERO) < LONG);
    }

    #[test]
    fn it_has_the_variables_that_it_was_given_and_no_others() {
        let script = "[ \"$(env | cut -d= -f1 | sort | grep -vE '^(PWD|SHLVL|_)$')\" = PATH ]";
        assert_eq!(run(&["sh", "-c", script], "x"), SendOutcome::Delivered);
    }
}
