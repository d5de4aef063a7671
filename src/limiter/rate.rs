//! Requests a minute as a number with a unit, and the few conversions that it needs.

use std::time::Duration;

use crate::clock::duration_from_secs_f64;

/// Requests a minute; finite and above zero.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rpm(f64);

impl Rpm {
    /// The slowest rate that the limiter works with: one request an hour.
    const SLOWEST: f64 = 1.0 / 60.0;

    /// `per_minute` requests a minute; what is not a number or too slow becomes the slowest.
    #[must_use]
    pub const fn new(per_minute: f64) -> Rpm {
        Rpm(if per_minute.is_finite() { per_minute.max(Rpm::SLOWEST) } else { Rpm::SLOWEST })
    }

    /// Requests a minute.
    #[must_use]
    pub const fn per_minute(self) -> f64 {
        self.0
    }

    /// Requests a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0 / 60.0
    }

    /// How many whole requests a window of this length may hold, at least one.
    #[must_use]
    pub fn whole_in(self, window: Duration) -> u32 {
        // The hair keeps 0.75 × 40 at 30 when it is computed as 29.999…
        whole((self.per_second() * window.as_secs_f64() + 1e-9).max(1.0))
    }

    /// How long `requests` requests take at this rate.
    #[must_use]
    pub fn time_for(self, requests: f64) -> Duration {
        duration_from_secs_f64(requests / self.per_second())
    }

    /// The lower of the two.
    #[must_use]
    pub fn min(self, other: Rpm) -> Rpm {
        Rpm(self.0.min(other.0))
    }

    /// The higher of the two.
    #[must_use]
    pub fn max(self, other: Rpm) -> Rpm {
        Rpm(self.0.max(other.0))
    }
}

impl From<u32> for Rpm {
    fn from(per_minute: u32) -> Rpm {
        Rpm::new(f64::from(per_minute))
    }
}

impl std::ops::Mul<f64> for Rpm {
    type Output = Rpm;
    fn mul(self, factor: f64) -> Rpm {
        Rpm::new(self.0 * factor)
    }
}

impl std::ops::Add<f64> for Rpm {
    type Output = Rpm;
    fn add(self, per_minute: f64) -> Rpm {
        Rpm::new(self.0 + per_minute)
    }
}

/// The whole part of a number that is not negative; too large is the largest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is meant"
)]
#[must_use]
pub fn whole(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_holds_the_whole_requests_of_its_rate() {
        let minute = Duration::from_secs(60);
        assert_eq!(Rpm::new(40.0).whole_in(minute), 40);
        assert_eq!(Rpm::new(22.5).whole_in(minute), 22);
        assert_eq!((Rpm::new(0.1) * 300.0).whole_in(minute), 30);
        assert_eq!(Rpm::new(0.2).whole_in(minute), 1);
    }

    #[test]
    fn no_number_makes_a_rate_that_divides_by_zero() {
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Rpm::new(odd).time_for(1.0) <= Duration::from_secs(3600));
        }
    }
}
