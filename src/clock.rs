//! Time as a number, and the one place that reads the clock.
//!
//! Cores are handed a [`Moment`]; only shells hold a [`Clock`]. Tests and the simulator make moments by hand.

use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime};

/// A point in time: nanoseconds since an origin, which is an hour before the process's clock was made, or the start of a
/// simulation.
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

/// `secs` as a duration, without the panic of [`Duration::from_secs_f64`]: negative and NaN are zero, too large is the largest.
#[must_use]
pub fn duration_from_secs_f64(secs: f64) -> Duration {
    if secs > 0.0 { Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX) } else { Duration::ZERO }
}

/// How long before the clock's making its origin lies, so that what happened before a restart has its moment too.
const BEFORE_START: Duration = Duration::from_secs(3600);

/// The process's clock: monotonic moments, and their place in calendar time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix: Duration,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the owner of the clock")]
    pub fn start() -> Clock {
        let started_unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_unix }
    }

    /// The moment at which this clock was started.
    #[must_use]
    pub fn started(&self) -> Moment {
        Moment::ZERO + BEFORE_START
    }

    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the owner of the clock")]
    pub fn now(&self) -> Moment {
        self.started() + Instant::now().duration_since(self.started)
    }

    /// The instant of a moment, for libraries that wait until an [`Instant`]; far moments are far enough.
    #[must_use]
    pub fn instant(&self, moment: Moment) -> Instant {
        const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
        self.started + moment.since(self.started()).min(FAR)
    }

    /// The moment's time since the Unix epoch.
    #[must_use]
    pub fn unix(&self, moment: Moment) -> Duration {
        (self.started_unix + Duration::from_nanos(moment.0)).saturating_sub(BEFORE_START)
    }

    /// The moment of a time since the Unix epoch; `None` when it lies before the clock's origin.
    #[must_use]
    pub fn moment_of_unix(&self, unix: Duration) -> Option<Moment> {
        (unix + BEFORE_START).checked_sub(self.started_unix).map(|since| Moment::ZERO + since)
    }

    /// Calendar time now, read afresh: it follows an adjusted system clock.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the owner of the clock")]
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
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
    fn calendar_time_and_moments_translate_both_ways() {
        let clock = Clock::start();
        let moment = clock.started() - Duration::from_secs(59);
        assert_eq!(clock.moment_of_unix(clock.unix(moment)), Some(moment), "before the start");
        assert_eq!(clock.moment_of_unix(Duration::ZERO), None, "long before the start");
    }

    #[test]
    fn odd_seconds_make_no_panic() {
        for secs in [f64::NAN, f64::NEG_INFINITY, -1.0] {
            assert_eq!(duration_from_secs_f64(secs), Duration::ZERO);
        }
        assert_eq!(duration_from_secs_f64(f64::INFINITY), Duration::MAX);
    }
}
