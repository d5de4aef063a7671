//! Time as a number, and the one place that reads the clock.
//!
//! Cores are handed a [`Moment`]; only shells hold a [`Clock`]. Tests and the simulator make moments by hand.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime};

/// A point in time: nanoseconds since the process's clock was started (or since the start of a simulation).
///
/// 64 bits of nanoseconds last 584 years. Arithmetic saturates, so no input from the network can make it panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The clock's origin.
    pub const ZERO: Moment = Moment(0);
    /// Later than anything that happens: "no deadline".
    pub const NEVER: Moment = Moment(u64::MAX);

    /// The moment `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Moment {
        Moment(nanos)
    }

    /// The moment `secs` seconds after the origin; negative and NaN give the origin.
    #[must_use]
    pub fn from_secs_f64(secs: f64) -> Moment {
        Moment::ZERO + duration_from_secs_f64(secs)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Seconds since the origin.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_nanos(self.0).as_secs_f64()
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, by: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;
    fn sub(self, by: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The longest time that anything from outside may say: longer than any sidecar runs, and short enough that sums of such
/// times and of an [`Instant`] with one never overflow.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `secs` as a duration, without the panic of [`Duration::from_secs_f64`]: negative and NaN are zero, too long is
/// [`LONGEST`]. The one way from a number that came from outside to a time.
#[must_use]
pub fn duration_from_secs_f64(secs: f64) -> Duration {
    if secs > 0.0 {
        Duration::try_from_secs_f64(secs).map_or(LONGEST, |time| time.min(LONGEST))
    } else {
        Duration::ZERO
    }
}

/// The process's clock: monotonic moments, and calendar time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the owner of the clock")]
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the owner of the clock")]
    pub fn now(&self) -> Moment {
        Moment::ZERO + Instant::now().duration_since(self.started)
    }

    /// The instant of a moment, for libraries that wait until an [`Instant`]; far moments are far enough.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        self.started + moment.since(Moment::ZERO).min(LONGEST)
    }

    /// Calendar time as a time since the Unix epoch.
    #[must_use]
    pub fn unix(&self) -> Duration {
        self.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    /// Calendar time now, read afresh: it follows an adjusted system clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the owner of the clock")]
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The time since this machine was booted, sleep included (`CLOCK_BOOTTIME`): it goes on over a restart of the process,
    /// and cannot be set.
    #[must_use]
    pub fn since_boot(&self) -> Duration {
        Duration::try_from(rustix::time::clock_gettime(rustix::time::ClockId::Boottime)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        assert_eq!(Moment::NEVER + Duration::MAX, Moment::NEVER);
        assert_eq!(Moment::ZERO - Duration::from_secs(1), Moment::ZERO);
        assert_eq!(Moment::ZERO.since(Moment::NEVER), Duration::ZERO);
    }

    #[test]
    fn odd_seconds_make_no_panic() {
        for secs in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(duration_from_secs_f64(secs), Duration::ZERO);
        }
        assert_eq!(duration_from_secs_f64(f64::INFINITY), LONGEST);
    }

    #[test]
    fn sums_of_times_from_outside_do_not_overflow() {
        let longest = duration_from_secs_f64(f64::MAX);
        assert_eq!([longest; 1000].into_iter().sum::<Duration>(), longest * 1000);
        let clock = Clock::start();
        assert!(clock.instant(clock.now() + longest) > clock.instant(clock.now()));
        assert!(clock.instant(Moment::NEVER) + longest > clock.instant(Moment::NEVER));
    }
}
