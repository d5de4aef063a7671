//! Times as the reader's clock shows them, by the system's time zone database (TZif files, RFC 9636).

use time::{OffsetDateTime, UtcOffset};
use tz::TimeZone;

/// A time zone; UTC where none is known.
#[derive(Clone, Debug, Default)]
pub struct LocalTime(Option<TimeZone>);

impl LocalTime {
    /// The zone that `TZ` names, as POSIX and the C library read it: `Asia/Shanghai`, `:Asia/Shanghai`, `CST-8`.
    #[must_use]
    pub fn named(name: &str) -> Option<LocalTime> {
        TimeZone::from_posix_tz(name).ok().map(|zone| LocalTime(Some(zone)))
    }

    /// The system's zone, `/etc/localtime`.
    #[must_use]
    pub fn of_system() -> LocalTime {
        LocalTime(TimeZone::local().ok())
    }

    /// A time as people read it, with what it is ahead of UTC.
    pub(super) fn shown(&self, time: OffsetDateTime) -> String {
        // A year that the zone's offset would carry beyond what the calendar holds stays as it was sent.
        let local = time.checked_to_offset(self.offset(time)).unwrap_or(time);
        let (year, month, day) = (local.year(), u8::from(local.month()), local.day());
        let (hour, minute, second) = local.to_hms();
        let offset = local.offset();
        let (hours, minutes, _) = offset.as_hms();
        let (hours, minutes) = (hours.unsigned_abs(), minutes.unsigned_abs());
        let sign = if offset.is_negative() { '-' } else { '+' };
        let zone = if offset.is_utc() { "UTC".to_owned() } else { format!("{sign}{hours:02}:{minutes:02}") };
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {zone}")
    }

    fn offset(&self, time: OffsetDateTime) -> UtcOffset {
        let kind = self.0.as_ref().and_then(|zone| zone.find_local_time_type(time.unix_timestamp()).ok());
        kind.and_then(|kind| UtcOffset::from_whole_seconds(kind.ut_offset()).ok()).unwrap_or(UtcOffset::UTC)
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn shown(zone: &LocalTime, time: &str) -> String {
        zone.shown(OffsetDateTime::parse(time, &Rfc3339).expect("a time"))
    }

    #[test]
    fn a_time_is_shown_in_its_zone_with_the_offset_of_its_day() {
        let berlin = LocalTime::named("CET-1CEST,M3.5.0,M10.5.0/3").expect("a rule of POSIX");
        assert_eq!(shown(&berlin, "2026-02-06T13:08:45Z"), "2026-02-06 14:08:45 +01:00");
        assert_eq!(shown(&berlin, "2026-07-06T13:08:45Z"), "2026-07-06 15:08:45 +02:00");
        let shanghai = LocalTime::named("CST-8").expect("a rule of POSIX");
        assert_eq!(shown(&shanghai, "2026-02-06T21:08:45.5+08:00"), "2026-02-06 21:08:45 +08:00");
        let marquesas = LocalTime::named("<-0930>9:30").expect("a rule of POSIX");
        assert_eq!(shown(&marquesas, "2026-02-06T13:08:45Z"), "2026-02-06 03:38:45 -09:30");
        assert_eq!(shown(&LocalTime::default(), "2026-02-06T21:08:45+08:00"), "2026-02-06 13:08:45 UTC");
    }

    #[test]
    fn what_names_no_zone_is_none() {
        for name in ["", "Asia/Atlantis", "../../etc/passwd", "eight"] {
            assert!(LocalTime::named(name).is_none(), "{name}");
        }
    }

    #[test]
    fn the_ends_of_the_calendar_do_no_harm() {
        let far_east = LocalTime::named("FAR-24").expect("a rule of POSIX");
        let far_west = LocalTime::named("FAR24").expect("a rule of POSIX");
        for zone in [&far_east, &far_west, &LocalTime::default()] {
            for time in ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59Z"] {
                assert!(shown(zone, time).len() > 20, "{time}");
            }
        }
    }
}
