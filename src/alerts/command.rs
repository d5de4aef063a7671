//! Hands a card's text to a program: arguments as configured, no shell, a bound on its time.
//!
//! The program runs in a process group of its own, so that at the end of its time its children are killed with it. A
//! thread feeds it and waits for it *without reaping* it (`waitid`, `WNOWAIT`): until the sender reaps it, its number
//! belongs to it, and the signal cannot hit somebody else.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command as Program, ExitStatus, Stdio};
use std::time::Duration;

use crossbeam_channel::bounded;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::answer::Verdict;
use super::settings::SECRET_VARIABLES;
use crate::lifecycle::Threads;

/// A program that sends alerts.
pub struct Command {
    words: Vec<String>,
    timeout: Duration,
    threads: Threads,
}

impl Command {
    /// The program `words[0]` with the rest as its arguments, which may run for `timeout`.
    #[must_use]
    pub fn new(words: Vec<String>, timeout: Duration) -> Command {
        Command { words, timeout, threads: Threads::default() }
    }

    /// Runs it with `text` on its standard input; its exit status 0 is a delivery.
    #[must_use]
    pub fn send(&self, text: String) -> Verdict {
        match self.run(text) {
            Ok(Some(status)) if status.success() => Verdict::Delivered,
            Ok(Some(status)) => Verdict::Failed(format!("it ended with {status}")),
            Ok(None) => Verdict::Failed(format!("it was killed after {:?}", self.timeout)),
            Err(error) => Verdict::Failed(format!("it cannot be run: {error}")),
        }
    }

    /// Its exit status, or none when its time was up.
    fn run(&self, text: String) -> io::Result<Option<ExitStatus>> {
        let mut child = self.program().spawn()?;
        let group = Pid::from_child(&child);
        let ended = self.ends_in_time(&mut child, group, text);
        if !matches!(ended, Ok(true)) {
            // That it is gone already is no error.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let status = child.wait()?;
        Ok(ended?.then_some(status))
    }

    fn program(&self) -> Program {
        let (name, arguments) = self.words.split_first().map_or(("", &[][..]), |(name, rest)| (name, rest));
        let mut program = Program::new(name);
        program.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        for secret in SECRET_VARIABLES {
            program.env_remove(secret);
        }
        program
    }

    fn ends_in_time(&self, child: &mut Child, pid: Pid, text: String) -> io::Result<bool> {
        let input = child.stdin.take();
        let (ended, end) = bounded(1);
        self.threads.spawn("alert-command".into(), move || {
            feed(input, &text);
            // An error is an end too: the sender's own wait tells the truth.
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let _ = ended.send(());
        })?;
        Ok(end.recv_timeout(self.timeout).is_ok())
    }
}

fn feed(input: Option<ChildStdin>, text: &str) {
    if let Some(mut input) = input {
        // A program may end without reading all of it; its exit status says whether that was right.
        let _ = input.write_all(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Moment};

    fn run(words: &[&str], text: &str, timeout: Duration) -> Verdict {
        Command::new(words.iter().map(ToString::to_string).collect(), timeout).send(text.into())
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_text_is_on_its_standard_input_and_status_0_is_a_delivery() {
        assert_eq!(run(&["grep", "-q", "CRITICAL"], "[CRITICAL] Firing\n", LONG), Verdict::Delivered);
        let Verdict::Failed(reason) = run(&["grep", "-q", "CRITICAL"], "other\n", LONG) else {
            panic!("failed")
        };
        assert!(reason.contains("exit status: 1"), "{reason}");
    }

    #[test]
    fn no_shell_reads_the_words() {
        assert_eq!(run(&["test", "$HOME;`id`", "=", "$HOME;`id`"], "", LONG), Verdict::Delivered);
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failure() {
        let Verdict::Failed(reason) = run(&["/nonexistent/page"], "x", LONG) else { panic!("failed") };
        assert!(reason.starts_with("it cannot be run"), "{reason}");
    }

    #[test]
    fn a_program_that_reads_nothing_is_no_failure() {
        assert_eq!(run(&["true"], &"x".repeat(1_000_000), LONG), Verdict::Delivered);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let clock = Clock::start();
        let script = "sleep 600 & wait";
        let verdict = run(&["sh", "-c", script], &"x".repeat(1_000_000), Duration::from_millis(200));
        assert!(
            matches!(&verdict, Verdict::Failed(reason) if reason.starts_with("it was killed")),
            "{verdict:?}"
        );
        assert!(clock.now().since(Moment::ZERO) < LONG);
    }

    #[test]
    fn it_does_not_inherit_the_secrets() {
        let program = Command::new(vec!["page".into()], LONG).program();
        let removed: Vec<_> =
            program.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert_eq!(removed.len(), SECRET_VARIABLES.len());
        assert!(SECRET_VARIABLES.iter().all(|secret| removed.contains(&std::ffi::OsStr::new(secret))));
    }
}
