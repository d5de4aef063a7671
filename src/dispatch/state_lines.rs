//! The state file's text: what was sent when, one line a moment.
//!
//! ```text
//! nvidia-sidecar window 1
//! boot 0b3d7e1c-6f0a-4e0e-9d1c-3f0c8a4f1b7e
//! 1764081234.567 3 up=4821.377
//! ```
//!
//! A line is the wall clock's seconds since the epoch, how many requests, and the seconds since this machine was booted
//! (`CLOCK_BOOTTIME`), which no one can set. Within one boot the latter decides, so that a clock that jumps over a restart
//! forgets nothing and invents nothing. What follows in other words is for later versions and is passed over.
//!
//! Nothing in the file is trusted: a power cut leaves NULs, half lines and blocks of other files.

use std::time::Duration;

/// The first line; a file of ours that begins otherwise is damaged.
const HEADER: &str = "nvidia-sidecar window 1";

/// The most requests that one line can stand for: above any rate that can be configured.
const MOST_AT_ONCE: u32 = 10_000_000;

/// Where in time something stands: by the wall clock, and by the time since this machine was booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instants {
    /// Since the Unix epoch.
    pub wall: Duration,
    /// Since the boot, which is named; `None` where the system does not say.
    pub boot: Option<(String, Duration)>,
}

/// What a file was found to hold.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// How long ago how many requests were sent.
    Sent(Vec<(Duration, u32)>),
    /// Not what this program wrote: damaged, with what can still be read of it.
    Damaged(Vec<(Duration, u32)>),
    /// Text that somebody else wrote.
    Foreign,
}

/// The head of a file that is written now.
pub fn head(now: &Instants) -> String {
    match &now.boot {
        Some((boot, _)) => format!("{HEADER}\nboot {boot}\n"),
        None => format!("{HEADER}\n"),
    }
}

/// The line of so many requests that were sent `age` before `now`.
pub fn line(now: &Instants, age: Duration, count: u32) -> String {
    let at = |time: Duration| {
        let time = time.saturating_sub(age);
        format!("{}.{:03}", time.as_secs(), time.subsec_millis())
    };
    let up = now.boot.as_ref().map(|(_, up)| format!(" up={}", at(*up))).unwrap_or_default();
    format!("{} {count}{up}\n", at(now.wall))
}

/// Reads what counts of a file: what is not older than `memory`.
pub fn read(bytes: &[u8], now: &Instants, memory: Duration) -> Found {
    if bytes.is_empty() {
        return Found::Sent(Vec::new());
    }
    let (mut sent, mut is_damaged, mut boot) = (Vec::new(), false, None);
    let has_head = bytes.strip_prefix(HEADER.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'\n'));
    if !has_head && is_foreign(bytes) {
        return Found::Foreign;
    }
    is_damaged |= !has_head;
    for line in bytes.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()) {
        match std::str::from_utf8(line) {
            Ok(text) if text.starts_with("boot ") => boot = text.strip_prefix("boot "),
            Ok(text) => match age_and_count(text, boot, now) {
                Some((age, count)) if age < memory => sent.push((age, count)),
                Some(_) => {}
                None => is_damaged = true,
            },
            Err(_) => is_damaged = true,
        }
    }
    if is_damaged { Found::Damaged(sent) } else { Found::Sent(sent) }
}

/// Whether this may be a file of another program's, which is not touched: whole text that does not begin as ours.
fn is_foreign(bytes: &[u8]) -> bool {
    let is_text = std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'));
    is_text && !HEADER.as_bytes().starts_with(bytes)
}

fn age_and_count(line: &str, boot: Option<&str>, now: &Instants) -> Option<(Duration, u32)> {
    let mut words = line.split(' ');
    let wall = moment(words.next()?)?;
    let count = words.next()?.parse::<u32>().ok()?.min(MOST_AT_ONCE);
    let up = words.find_map(|word| moment(word.strip_prefix("up=")?));
    let age = match (&now.boot, up) {
        (Some((this_boot, now_up)), Some(up)) if boot == Some(this_boot) => now_up.saturating_sub(up),
        // A clock that was set back leaves stamps of the future: they count from now.
        _ => now.wall.saturating_sub(wall),
    };
    Some((age, count))
}

fn moment(text: &str) -> Option<Duration> {
    let (secs, millis) = text.split_once('.')?;
    let millis = (millis.len() == 3).then(|| millis.parse::<u16>().ok()).flatten()?;
    Duration::from_secs(secs.parse().ok()?).checked_add(Duration::from_millis(millis.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMORY: Duration = Duration::from_secs(70);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn instants(wall: u64, boot: &str, up: u64) -> Instants {
        Instants { wall: secs(wall), boot: Some((boot.into(), secs(up))) }
    }

    fn file(now: &Instants, sent: &[(u64, u32)]) -> String {
        head(now) + &sent.iter().map(|(age, count)| line(now, secs(*age), *count)).collect::<String>()
    }

    #[test]
    fn within_one_boot_a_clock_that_jumps_changes_nothing() {
        let written = file(&instants(1_000_000, "a", 500), &[(10, 3)]);
        for wall in [10, 1_000_020, 9_000_000] {
            let found = read(written.as_bytes(), &instants(wall, "a", 520), MEMORY);
            assert_eq!(found, Found::Sent(vec![(secs(30), 3)]), "{wall}");
        }
        let rebooted = read(written.as_bytes(), &instants(1_000_030, "b", 5), MEMORY);
        assert_eq!(rebooted, Found::Sent(vec![(secs(40), 3)]), "after a boot the wall clock is all there is");
        let set_back = read(written.as_bytes(), &instants(10, "b", 5), MEMORY);
        assert_eq!(set_back, Found::Sent(vec![(secs(0), 3)]), "a stamp of the future counts from now");
    }

    #[test]
    fn a_file_of_the_version_before_is_read() {
        let now = instants(1_000_000, "a", 500);
        let found = read(b"nvidia-sidecar window 1\n999990.000 3\n999000.000 4\n", &now, MEMORY);
        assert_eq!(found, Found::Sent(vec![(secs(10), 3)]));
    }

    #[test]
    fn what_a_power_cut_leaves_is_damaged_and_not_foreign() {
        let now = instants(1_000_000, "a", 500);
        let good = file(&now, &[(10, 3)]);
        let with = |tail: &[u8]| [good.as_bytes(), tail].concat();
        for (bytes, counts) in [
            (with(&[0; 99]), 1),
            (with(&(128..=255).collect::<Vec<u8>>()), 1),
            (with(b"999990.0"), 1),
            (with(b"99999999999999999999.000 1\n"), 1),
            (with(b"18446744073709551615.999 1 up=18446744073709551615.999\n"), 2),
            (vec![0; 4096], 0),
            (b"nvidia-sidecar win".to_vec(), 0),
            (vec![0xff, 0xfe, b'\n'], 0),
        ] {
            match read(&bytes, &now, MEMORY) {
                Found::Damaged(sent) | Found::Sent(sent) => {
                    assert_eq!(sent.len(), counts, "{}", bytes.escape_ascii());
                }
                Found::Foreign => panic!("{} is foreign", bytes.escape_ascii()),
            }
        }
        assert_eq!(read(b"precious\n", &now, MEMORY), Found::Foreign);
        assert_eq!(read(b"", &now, MEMORY), Found::Sent(vec![]));
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn no_bytes_make_the_reader_panic_and_none_count_too_much(
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            number in any::<u64>(),
        ) {
            let now = instants(1_000_000, "a", 500);
            let lines = format!("{number}.{:03} {number} up={number}.999\n", number % 1000);
            for bytes in [tail.clone(), [head(&now).as_bytes(), lines.as_bytes(), &tail].concat()] {
                if let Found::Sent(sent) | Found::Damaged(sent) = read(&bytes, &now, MEMORY) {
                    prop_assert!(sent.iter().all(|(age, count)| *age < MEMORY && *count <= MOST_AT_ONCE));
                }
            }
        }

        #[test]
        fn what_is_written_is_read_again(sent in proptest::collection::vec((0..69_u64, 1..100_u32), 0..20)) {
            let now = instants(1_000_000, "a", 500);
            let expected = sent.iter().map(|(age, count)| (secs(*age), *count)).collect();
            prop_assert_eq!(read(file(&now, &sent).as_bytes(), &now, MEMORY), Found::Sent(expected));
        }
    }
}
