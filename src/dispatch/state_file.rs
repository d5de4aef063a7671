//! What the window remembers over a restart: a journal of when tickets were granted, since the upstream's memory does
//! not end with this process.
//!
//! A line is appended before its requests leave. The system keeps written lines when the process is killed; a power cut
//! may lose the last ones, with the upstream's connection to it. A disk that fails costs the memory and no request.

use super::state_lines::{self, Found, Instants};
use crate::clock::{Clock, Moment};
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How far back lines count: the window of 60 s and the most that it is lengthened by for uneven travel.
const MEMORY: Duration = Duration::from_secs(70);

/// The file is rewritten with what still counts when it has so many lines more than it needs.
const SPARE_LINES: usize = 4096;

/// The largest file that is read: far more than [`SPARE_LINES`] and a full window need.
const MAX_BYTES: u64 = 8 << 20;

/// How often it is looked whether the file is still there, and tried again on a disk that failed.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The journal of granted tickets.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    /// `None` while the disk cannot be written.
    file: Option<File>,
    clock: Clock,
    /// The boot's id.
    boot: Option<String>,
    lines: usize,
    restored: Vec<(Duration, u32)>,
    looked_at: Moment,
}

impl StateFile {
    /// Opens or creates the journal at `path` and reads what still counts. A damaged file and a disk that cannot be
    /// written are one warning and less memory.
    ///
    /// # Errors
    /// When `path` is not a regular file, is another program's, is used by another sidecar, or may not be read or written.
    pub fn open(path: &Path, clock: Clock) -> io::Result<StateFile> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
        let (path, looked_at) = (resolve(path)?, clock.now());
        let mut state =
            StateFile { path, file: None, clock, boot, lines: 0, restored: Vec::new(), looked_at };
        if let Some(bytes) = read(&state.path)? {
            state.restored = state.understand(&bytes)?;
        }
        let restored = state.restored.clone();
        match state.rewrite(&restored) {
            Ok(()) => {}
            Err(error) if is_of_the_disk(&error) => state.warn(&error),
            Err(error) => return Err(error),
        }
        Ok(state)
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
    /// As [`open`](StateFile::open), but for a file that is in use.
    pub fn check(path: &Path, clock: Clock) -> io::Result<()> {
        let path = resolve(path)?;
        let now = Instants { wall: clock.unix(), boot: None };
        let written = match read(&path)? {
            Some(bytes) if state_lines::read(&bytes, &now, MEMORY) == Found::Foreign => Err(foreign()),
            Some(_) => options().open(&path).map(drop),
            None => {
                let probe = with_suffix(&path, ".check");
                File::create(&probe).and_then(|_| fs::remove_file(&probe))
            }
        };
        written.or_else(|error| if is_of_the_disk(&error) { Ok(()) } else { Err(error) })
    }

    /// What was read at the start, once: how long ago how many tickets were granted.
    pub fn take_restored(&mut self) -> Vec<(Duration, u32)> {
        std::mem::take(&mut self.restored)
    }

    /// Writes down that `count` tickets are granted now. `ages` gives what counts already, for when the file has to be
    /// written anew. A disk that fails is logged once and costs no request.
    pub fn record(&mut self, count: usize, ages: impl FnOnce() -> Vec<(Duration, u32)>) {
        let now = self.clock.now();
        let looks = now.since(self.looked_at) >= LOOK_EVERY;
        if looks {
            self.looked_at = now;
        }
        let was_failing = self.file.is_none();
        let line =
            state_lines::line(&self.instants(), Duration::ZERO, u32::try_from(count).unwrap_or(u32::MAX));
        let must_rewrite = self.lines >= SPARE_LINES || looks && (was_failing || !self.is_in_place());
        let result = if must_rewrite {
            // With this grant, which is among the ages already.
            self.rewrite(&ages())
        } else if let Some(file) = &mut self.file {
            self.lines += 1;
            file.write_all(line.as_bytes())
        } else {
            return;
        };
        match result {
            Ok(()) if was_failing => log::info!("{} is written again", self.path.display()),
            Ok(()) => {}
            Err(error) => {
                self.file = None;
                if !was_failing {
                    self.warn(&error);
                }
            }
        }
    }

    fn instants(&self) -> Instants {
        let boot = self.boot.clone().map(|id| (id, self.clock.since_boot()));
        Instants { wall: self.clock.unix(), boot }
    }

    fn understand(&self, bytes: &[u8]) -> io::Result<Vec<(Duration, u32)>> {
        let path = &self.path;
        match state_lines::read(bytes, &self.instants(), MEMORY) {
            Found::Sent(sent) => Ok(sent),
            Found::Damaged(sent) => {
                let kept = with_suffix(path, ".damaged");
                let copied = fs::write(&kept, bytes).map_or_else(
                    |error| format!("no copy of it could be kept: {error}"),
                    |()| format!("a copy is kept at {}", kept.display()),
                );
                log::warn!(
                    "the state_file {} is damaged; {} of its moments could be read; {copied}",
                    path.display(),
                    sent.len()
                );
                Ok(sent)
            }
            Found::Foreign => Err(foreign()),
        }
    }

    fn warn(&self, error: &io::Error) {
        log::warn!(
            "the state_file {} cannot be written: {error}; a restart will not remember the last minute",
            self.path.display()
        );
    }

    /// Whether the file that is written to is the one at its path; somebody may have deleted or replaced it.
    fn is_in_place(&self) -> bool {
        let open = self.file.as_ref().and_then(|file| file.metadata().ok());
        let there = fs::metadata(&self.path).ok();
        let in_place = open.zip(there).is_some_and(|(a, b)| (a.dev(), a.ino()) == (b.dev(), b.ino()));
        if !in_place {
            log::warn!("the state_file {} is gone; it is written anew", self.path.display());
        }
        in_place
    }

    /// Writes the file anew with what counts, in one step where the directory allows it, so that a crash leaves the old or
    /// the new one whole, and open for appending.
    fn rewrite(&mut self, ages: &[(Duration, u32)]) -> io::Result<()> {
        let now = self.instants();
        let mut text = state_lines::head(&now);
        ages.iter().for_each(|(age, count)| text.push_str(&state_lines::line(&now, *age, *count)));
        let file = match self.replace(text.as_bytes()) {
            // A file that is a mount point of its own (a container's bind mount), or a directory that is not ours.
            Err(error) if is_of_the_place(&error) => self.overwrite(text.as_bytes())?,
            replaced => replaced?,
        };
        self.file = Some(file);
        // Twice what is needed again before the next time, however much that is.
        self.lines = ages.len() / 2;
        Ok(())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<File> {
        let beside = with_suffix(&self.path, ".new");
        if self.file.is_none() && self.path.exists() {
            // A sidecar that has it open keeps it.
            lock(&options().open(&self.path)?)?;
        }
        let mut file = options().create(true).open(&beside)?;
        lock(&file)?;
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        if let Some(folder) = self.path.parent() {
            // The name as well; some file systems cannot, and keep it all the same.
            let _ = File::open(folder).and_then(|folder| folder.sync_all());
        }
        Ok(file)
    }

    fn overwrite(&self, bytes: &[u8]) -> io::Result<File> {
        let mut file = options().open(&self.path)?;
        if self.file.is_none() {
            lock(&file)?;
        }
        file.set_len(0)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(file)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Never waits for the other end of a pipe that somebody put in its place.
    options.append(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options
}

fn lock(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another sidecar uses it; give each a file of its own",
        ),
        error => error.into(),
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The path behind symbolic links, also where the last one leads to nothing yet.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::read_link(path) {
            Ok(target) => Ok(path.parent().unwrap_or(Path::new("")).join(target)),
            Err(_) => Ok(path.to_owned()),
        },
        resolved => resolved,
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let kind = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a state file of nvidia-sidecar; move it away")
}

/// Whether the disk is to blame, which may mend, and not the configuration.
fn is_of_the_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), StorageFull | ReadOnlyFilesystem | QuotaExceeded)
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Whether the file may be written though nothing can be put in its place.
fn is_of_the_place(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), CrossesDevices | PermissionDenied | ReadOnlyFilesystem)
        || error.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A directory of one test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("nvidia-sidecar-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("state")
        }

        fn open(&self) -> io::Result<StateFile> {
            StateFile::open(&self.file(), Clock::start())
        }

        fn remembered(&self) -> u32 {
            self.open().unwrap().take_restored().iter().map(|sent| sent.1).sum()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_granted_is_remembered_by_the_next_process() {
        let scratch = Scratch::new("remembers");
        let mut first = scratch.open().unwrap();
        assert!(first.take_restored().is_empty());
        first.record(3, Vec::new);
        first.record(1, Vec::new);
        drop(first);
        assert_eq!(scratch.remembered(), 4);
    }

    #[test]
    fn a_damaged_file_is_kept_aside_and_does_not_keep_the_service_down() {
        let scratch = Scratch::new("damaged");
        for damage in [vec![0; 4096], b"nvidia-sidecar win".to_vec(), vec![0xff; 10]] {
            fs::write(scratch.file(), &damage).unwrap();
            scratch.open().unwrap().record(2, Vec::new);
            assert_eq!(scratch.remembered(), 2);
            assert_eq!(fs::read(with_suffix(&scratch.file(), ".damaged")).unwrap(), damage);
        }
    }

    #[test]
    fn a_file_that_is_not_ours_is_left_alone() {
        let scratch = Scratch::new("foreign");
        fs::write(scratch.file(), "precious\n").unwrap();
        assert!(StateFile::check(&scratch.file(), Clock::start()).is_err());
        assert_eq!(scratch.open().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_to_string(scratch.file()).unwrap(), "precious\n");
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused_and_stays_what_it_is() {
        let scratch = Scratch::new("folder");
        fs::create_dir(scratch.file()).unwrap();
        assert!(scratch.open().unwrap_err().to_string().contains("not a regular file"));
        assert!(scratch.file().is_dir());
        let scratch = Scratch::new("socket");
        let _socket = std::os::unix::net::UnixListener::bind(scratch.file()).unwrap();
        assert!(scratch.open().unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_symbolic_link_is_followed_and_stays_one() {
        let scratch = Scratch::new("link");
        let target = scratch.0.join("target");
        symlink("target", scratch.file()).unwrap();
        for _ in 0..2 {
            scratch.open().unwrap().record(1, Vec::new);
            assert!(fs::symlink_metadata(scratch.file()).unwrap().is_symlink());
            assert!(fs::symlink_metadata(&target).unwrap().is_file());
        }
        assert_eq!(scratch.remembered(), 2);
    }

    #[test]
    fn a_check_changes_nothing_and_finds_what_the_start_would() {
        let (scratch, clock) = (Scratch::new("checked"), Clock::start());
        StateFile::check(&scratch.file(), clock).unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 0);
        let mut running = scratch.open().unwrap();
        StateFile::check(&scratch.file(), clock).unwrap();
        running.record(3, Vec::new);
        drop(running);
        assert_eq!(scratch.remembered(), 3);
        for path in [scratch.file().join("below-a-file"), scratch.0.clone()] {
            assert!(StateFile::check(&path, clock).is_err(), "{}", path.display());
        }
    }

    #[test]
    fn two_sidecars_do_not_share_a_file() {
        let scratch = Scratch::new("lock");
        let mut first = scratch.open().unwrap();
        for _ in 0..2 {
            assert!(scratch.open().unwrap_err().to_string().contains("another sidecar"));
            first.rewrite(&[]).unwrap();
        }
        drop(first);
        scratch.open().unwrap();
    }

    #[test]
    fn a_file_that_was_deleted_is_written_anew() {
        let scratch = Scratch::new("deleted");
        let mut state = scratch.open().unwrap();
        state.record(1, Vec::new);
        fs::remove_file(scratch.file()).unwrap();
        assert!(!state.is_in_place());
        state.rewrite(&[(Duration::from_secs(1), 5)]).unwrap();
        drop(state);
        assert_eq!(scratch.remembered(), 5);
    }

    #[test]
    fn the_file_does_not_grow_with_uptime() {
        let scratch = Scratch::new("bounded");
        let mut state = scratch.open().unwrap();
        for _ in 0..3 * SPARE_LINES {
            state.record(1, || vec![(Duration::ZERO, 40)]);
        }
        let lines = fs::read_to_string(scratch.file()).unwrap().lines().count();
        assert!(lines <= SPARE_LINES + 3, "{lines} lines");
    }
}
