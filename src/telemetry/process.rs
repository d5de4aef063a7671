//! The process's own figures, read from `/proc` under the names that Prometheus clients use.

use std::fs;

/// Clock ticks a second in `/proc`. Linux reports in `USER_HZ`, which is 100 on every architecture that Rust's Linux
/// targets run on, whatever the kernel's own timer does.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the kernel says of this process; zero where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Resident memory.
    pub resident_bytes: u64,
    /// User and system time spent.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// The limit on them.
    pub max_fds: u64,
    /// When the process started, Unix time.
    pub start_unix_seconds: f64,
    /// Its threads.
    pub threads: u64,
}

impl ProcessFigures {
    /// Reads the figures; takes some tens of microseconds.
    #[must_use]
    pub fn read() -> ProcessFigures {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = file("/proc/self/stat");
        let status = file("/proc/self/status");
        let boot: f64 = field(&file("/proc/stat"), "btime").unwrap_or_default();
        ProcessFigures {
            resident_bytes: field(&status, "VmRSS:").map_or(0, |kib: u64| kib.saturating_mul(1024)),
            // Fields 14 and 15 of stat(5), and 22 below: user time, system time, start after boot.
            cpu_seconds: (stat_ticks(&stat, 14) + stat_ticks(&stat, 15)) / TICKS_PER_SECOND,
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |dir| (dir.count() as u64).saturating_sub(1)),
            max_fds: max_fds(&file("/proc/self/limits")),
            start_unix_seconds: boot + stat_ticks(&stat, 22) / TICKS_PER_SECOND,
            threads: field(&status, "Threads:").unwrap_or_default(),
        }
    }
}

/// The word after the line's name.
fn field<T: std::str::FromStr>(text: &str, name: &str) -> Option<T> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Field `number` of stat(5), counted from 1. The second one is the command in parentheses and may hold anything,
/// so the count starts behind its last parenthesis, at field 3.
fn stat_ticks(stat: &str, number: usize) -> f64 {
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().nth(number - 3).and_then(|word| word.parse().ok()).unwrap_or_default()
}

fn max_fds(limits: &str) -> u64 {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match soft.and_then(|rest| rest.split_whitespace().next()) {
        Some("unlimited") => u64::MAX,
        word => word.and_then(|word| word.parse().ok()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1234 0 0";
        assert!((stat_ticks(stat, 14) - 250.0).abs() < f64::EPSILON);
        assert!((stat_ticks(stat, 22) - 1234.0).abs() < f64::EPSILON);
        assert!(stat_ticks("", 14).abs() < f64::EPSILON);
    }

    #[test]
    fn limits_and_missing_files_are_understood() {
        assert_eq!(
            max_fds("Limit Soft Hard Units\nMax open files            1024                 4096     files\n"),
            1024
        );
        assert_eq!(max_fds("Max open files unlimited unlimited files"), u64::MAX);
        assert_eq!(max_fds(""), 0);
    }

    #[test]
    fn this_process_has_memory_threads_and_a_start() {
        let figures = ProcessFigures::read();
        assert!(
            figures.resident_bytes > 100_000 && figures.threads >= 1 && figures.open_fds >= 3,
            "{figures:?}"
        );
        assert!(figures.start_unix_seconds > 1.0e9 && figures.max_fds > 0, "{figures:?}");
    }
}
