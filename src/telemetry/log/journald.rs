//! What systemd's journal is told of a line: its syslog priority.

use log::Level;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Whether standard output is the journal's stream: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)). A
/// variable that was inherited by a process whose output goes elsewhere does not match.
pub(super) fn reads_stdout(journal_stream: Option<&OsStr>) -> bool {
    let Some((device, inode)) = journal_stream.and_then(OsStr::to_str).and_then(|text| text.split_once(':'))
    else {
        return false;
    };
    fs::metadata("/proc/self/fd/1")
        .is_ok_and(|stdout| device.parse() == Ok(stdout.dev()) && inode.parse() == Ok(stdout.ino()))
}

/// The prefix that says how bad a line is (sd-daemon(3), syslog(3)).
pub(super) const fn priority(level: Level) -> &'static [u8] {
    match level {
        Level::Error => b"<3>",
        Level::Warn => b"<4>",
        Level::Info => b"<6>",
        Level::Debug | Level::Trace => b"<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_is_standard_output_is_the_journals() {
        let own = fs::metadata("/proc/self/fd/1").unwrap();
        let named = |device: u64, inode: u64| format!("{device}:{inode}");
        assert!(reads_stdout(Some(OsStr::new(&named(own.dev(), own.ino())))));
        assert!(!reads_stdout(Some(OsStr::new(&named(own.dev(), own.ino() + 1)))));
        for odd in ["", ":", "a:b", "1", "-1:2"] {
            assert!(!reads_stdout(Some(OsStr::new(odd))), "{odd}");
        }
        assert!(!reads_stdout(None));
    }
}
