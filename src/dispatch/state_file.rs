//! What the window remembers over a restart: a journal of when tickets were granted, since the upstream's memory does
//! not end with this process.
//!
//! One line a moment, `SECONDS.MILLIS COUNT` since the Unix epoch, appended before the requests leave. The system keeps
//! written lines when the process is killed; a power cut may lose the last ones, with the upstream's connection to it.

use crate::clock::Clock;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first line; a file that begins otherwise is not ours and is left alone.
const HEADER: &str = "nvidia-sidecar window 1\n";

/// How far back lines count: the window of 60 s and the most that it is lengthened by for uneven travel.
const MEMORY: Duration = Duration::from_secs(70);

/// The file is rewritten with what still counts when it has so many lines more than it needs.
const SPARE_LINES: usize = 4096;

/// The largest file that is read: far more than [`SPARE_LINES`] and a full window need.
const MAX_BYTES: u64 = 8 << 20;

/// The journal of granted tickets.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    file: File,
    clock: Clock,
    lines: usize,
    restored: Vec<(Duration, u32)>,
    failing: bool,
}

impl StateFile {
    /// Opens or creates the journal at `path` and reads what still counts.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not a journal of this program.
    pub fn open(path: &Path, clock: Clock) -> io::Result<StateFile> {
        let restored = read(path, clock)?;
        let file = rewrite(path, &restored, &clock)?;
        Ok(StateFile { path: path.into(), file, clock, lines: restored.len(), restored, failing: false })
    }

    /// How long ago each ticket was granted that was read at the start.
    #[must_use]
    pub fn restored(&self) -> Vec<Duration> {
        let repeat = |&(age, count): &(Duration, u32)| std::iter::repeat_n(age, count as usize);
        self.restored.iter().flat_map(repeat).collect()
    }

    /// Whether [`open`](StateFile::open) would succeed; the journal of a sidecar that is running stays as it is.
    ///
    /// # Errors
    /// As [`open`](StateFile::open).
    pub fn check(path: &Path, clock: Clock) -> io::Result<()> {
        read(path, clock)?;
        let probe = beside(path, ".check");
        File::create(&probe)?;
        fs::remove_file(&probe)
    }

    /// What was read at the start, once: how long ago how many tickets were granted.
    pub fn take_restored(&mut self) -> Vec<(Duration, u32)> {
        std::mem::take(&mut self.restored)
    }

    /// Writes down that `count` tickets are granted now. `ages` tells what still counts, when the file has grown so much
    /// that it is rewritten. A disk that fails is logged once and costs no request.
    pub fn record(&mut self, count: usize, ages: impl FnOnce() -> Vec<(Duration, u32)>) {
        let line = line(self.clock.unix(), count);
        let written = self.file.write_all(line.as_bytes()).and_then(|()| {
            self.lines += 1;
            if self.lines < SPARE_LINES {
                return Ok(());
            }
            let ages = ages();
            // Twice what is needed again before the next time, however much that is.
            self.lines = ages.len() / 2;
            self.file = rewrite(&self.path, &ages, &self.clock)?;
            Ok(())
        });
        if let Err(error) = &written
            && !self.failing
        {
            log::error!(
                "cannot write {}: {error}; a restart will not remember the window",
                self.path.display()
            );
        }
        self.failing = written.is_err();
    }
}

fn line(unix: Duration, count: usize) -> String {
    format!("{}.{:03} {count}\n", unix.as_secs(), unix.subsec_millis())
}

/// What still counts of the journal at `path`, nothing where there is none.
fn read(path: &Path, clock: Clock) -> io::Result<Vec<(Duration, u32)>> {
    match File::open(path) {
        Ok(file) => {
            let mut text = String::new();
            file.take(MAX_BYTES).read_to_string(&mut text)?;
            read_ages(&text, &clock)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A file in the same directory.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Replaces the file in one step, so that a crash leaves the old or the new one whole; the new one is open for appending.
fn rewrite(path: &Path, ages: &[(Duration, u32)], clock: &Clock) -> io::Result<File> {
    let mut text = String::from(HEADER);
    for (age, count) in ages {
        text.push_str(&line(clock.unix().saturating_sub(*age), *count as usize));
    }
    let new = beside(path, ".new");
    fs::write(&new, text)?;
    fs::rename(&new, path)?;
    OpenOptions::new().append(true).open(path)
}

fn read_ages(text: &str, clock: &Clock) -> io::Result<Vec<(Duration, u32)>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let Some(lines) = text.strip_prefix(HEADER) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not a state file of nvidia-sidecar; move it away",
        ));
    };
    let now = clock.unix();
    let ages = lines.lines().filter_map(|line| {
        // A line that a crash cut short, or that a hand has changed, is passed over.
        let (at, count) = line.split_once(' ')?;
        let (secs, millis) = at.split_once('.')?;
        let at = Duration::from_secs(secs.parse().ok()?)
            .saturating_add(Duration::from_millis(millis.parse::<u16>().ok()?.into()));
        // A clock that was set back leaves stamps of the future: they count from now.
        let age = now.saturating_sub(at);
        (age < MEMORY).then_some((age, count.parse().ok()?))
    });
    Ok(ages.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let name = format!("nvidia-sidecar-{}-{name}", std::process::id());
            Scratch(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    #[test]
    fn what_was_granted_is_remembered_by_the_next_process() {
        let (scratch, clock) = (Scratch::new("remembers"), Clock::start());
        let mut first = StateFile::open(&scratch.0, clock).unwrap();
        assert!(first.take_restored().is_empty());
        first.record(3, Vec::new);
        first.record(1, Vec::new);
        drop(first);
        let restored = StateFile::open(&scratch.0, Clock::start()).unwrap().take_restored();
        assert_eq!(restored.iter().map(|s| s.1).sum::<u32>(), 4);
    }

    #[test]
    fn old_lines_and_torn_lines_are_passed_over() {
        let (scratch, clock) = (Scratch::new("torn"), Clock::start());
        let unix = clock.unix();
        let old = line(unix - Duration::from_secs(71), 5);
        let fresh = line(unix - Duration::from_secs(30), 2);
        fs::write(&scratch.0, format!("{HEADER}{old}{fresh}{}.1", unix.as_secs())).unwrap();
        let restored = StateFile::open(&scratch.0, clock).unwrap().take_restored();
        assert_eq!(restored.iter().map(|s| s.1).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let scratch = Scratch::new("foreign");
        fs::write(&scratch.0, "precious\n").unwrap();
        assert!(StateFile::check(&scratch.0, Clock::start()).is_err());
        let error = StateFile::open(&scratch.0, Clock::start()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(&scratch.0).unwrap(), "precious\n");
    }

    #[test]
    fn a_check_changes_nothing_and_finds_what_the_start_would() {
        let (scratch, clock) = (Scratch::new("checked"), Clock::start());
        StateFile::check(&scratch.0, clock).unwrap();
        assert!(!scratch.0.exists() && !beside(&scratch.0, ".check").exists());
        let mut running = StateFile::open(&scratch.0, clock).unwrap();
        StateFile::check(&scratch.0, clock).unwrap();
        running.record(3, Vec::new);
        assert_eq!(StateFile::open(&scratch.0, clock).unwrap().take_restored().len(), 1);
        for path in [scratch.0.join("below-a-file"), std::env::temp_dir()] {
            assert!(StateFile::check(&path, clock).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn the_file_does_not_grow_with_uptime() {
        let (scratch, clock) = (Scratch::new("bounded"), Clock::start());
        let mut state = StateFile::open(&scratch.0, clock).unwrap();
        for _ in 0..3 * SPARE_LINES {
            state.record(1, || vec![(Duration::ZERO, 40)]);
        }
        let lines = fs::read_to_string(&scratch.0).unwrap().lines().count();
        assert!(lines <= SPARE_LINES + 2, "{lines} lines");
    }
}
