//! `Retry-After` (RFC 9110 §10.2.3): how it is read, rounded, bounded and written, in one place.

use std::time::{Duration, SystemTime};

/// The longest that a client is told to wait: older SDKs do not believe more, and others sleep whatever they are told.
const MOST_SECONDS: u64 = 60;

/// Reads a value: seconds (fractions too, which some servers send) or an HTTP date.
#[must_use]
pub fn read(value: &[u8], wall: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if let Ok(secs) = text.parse::<f64>() {
        return (secs.is_finite() && secs >= 0.0).then(|| crate::clock::duration_from_secs_f64(secs));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(wall).unwrap_or_default())
}

/// A wait as a client is told it: whole seconds, rounded up so that nothing comes too early, at least one, because zero
/// invites a busy loop, and at most a minute.
#[must_use]
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).clamp(1, MOST_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_seconds_fractions_or_a_date() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(read(b"3", wall), Some(Duration::from_secs(3)));
        assert_eq!(read(b" 0.25 ", wall), Some(Duration::from_millis(250)));
        assert_eq!(read(b"0", wall), Some(Duration::ZERO));
        assert_eq!(read(b"86400", wall), Some(Duration::from_secs(86400)));
        assert_eq!(read(b"Sun, 06 Nov 1994 08:49:47 GMT", wall), Some(Duration::from_secs(10)));
        assert_eq!(read(b"Sun, 06 Nov 1994 08:49:27 GMT", wall), Some(Duration::ZERO), "in the past");
        for nonsense in [&b"-1"[..], b"NaN", b"soon", b"", b"\xff", b"inf"] {
            assert_eq!(read(nonsense, wall), None);
        }
    }

    #[test]
    fn what_is_told_is_between_a_second_and_a_minute_however_much_was_read() {
        for (wait, told) in [("0", 1), ("0.2", 1), ("1.2", 2), ("59", 59), ("61", 60)] {
            assert_eq!(read(wait.as_bytes(), SystemTime::UNIX_EPOCH).map(seconds), Some(told), "{wait}");
        }
        for huge in ["18446744073709551615", "18446744073709551616", "99999999999999999999999", "1e300"] {
            assert_eq!(read(huge.as_bytes(), SystemTime::UNIX_EPOCH).map(seconds), Some(60), "{huge}");
        }
    }
}
