//! Values that are numbers: whole ones, fractions and seconds, each with its range.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::kind::{Kind, Misfit};
use super::raw::Raw;

/// A day in seconds, more than any wait makes sense for.
pub(super) const DAY: f64 = 86_400.0;
/// An hour in seconds.
pub(super) const HOUR: f64 = 3_600.0;
/// The shortest time-out in seconds; below it nothing would ever be in time.
pub(super) const SHORTEST: f64 = 0.001;
/// The largest rate and burst in requests a minute; above it, a sidecar is not what limits.
pub(super) const MAX_RPM: u32 = 10_000_000;
/// The largest number of bytes that a bound on memory may name: a terabyte.
pub(super) const MAX_BYTES: usize = 1 << 40;

/// A whole number within a range.
pub(super) struct Whole<T>(pub(super) RangeInclusive<T>);

impl<T> Whole<T>
where
    T: TryInto<i128> + Copy,
{
    fn bounds(&self) -> (i128, i128) {
        let bound = |bound: &T| (*bound).try_into().unwrap_or(i128::MAX);
        (bound(self.0.start()), bound(self.0.end()))
    }
}

impl<T> Kind for Whole<T>
where
    T: TryFrom<i128> + TryInto<i128> + Copy + PartialEq,
{
    type Value = T;

    fn read(&self, given: &Raw) -> Result<T, Misfit> {
        let (least, most) = self.bounds();
        let needs = format!("a whole number from {least} to {most}");
        let whole = match given {
            Raw::Whole(number) => Some(*number),
            Raw::Untyped(text) => text.trim().parse().ok(),
            _ => None,
        };
        let whole = match (whole, number(given)) {
            (Some(whole), _) => whole,
            // 40.0 and 1e30 are whole too; the cast saturates, which is out of every range.
            #[expect(clippy::cast_possible_truncation, reason = "saturates")]
            (None, Some(float)) if float.is_finite() && float.fract() == 0.0 => float as i128,
            _ => return Err(Misfit::wrong_type(given, &needs)),
        };
        let in_range = (least..=most).contains(&whole).then(|| T::try_from(whole).ok()).flatten();
        in_range.ok_or_else(|| Misfit::out_of_range(given, &needs))
    }

    fn show(&self, value: &T) -> Raw {
        Raw::Whole((*value).try_into().unwrap_or(i128::MAX))
    }

    fn range(&self) -> String {
        let (least, most) = self.bounds();
        format!("{least} to {most}")
    }
}

/// A number within a range, with or without a fraction.
pub(super) struct Fraction(pub(super) RangeInclusive<f64>);

impl Kind for Fraction {
    type Value = f64;

    fn read(&self, given: &Raw) -> Result<f64, Misfit> {
        fraction(given, &self.0, "a number")
    }

    fn show(&self, value: &f64) -> Raw {
        Raw::Fraction(*value)
    }

    fn range(&self) -> String {
        format!("{} to {}", self.0.start(), self.0.end())
    }
}

/// Seconds within a range, with or without a fraction.
pub(super) struct Seconds(pub(super) RangeInclusive<f64>);

impl Kind for Seconds {
    type Value = Duration;

    fn read(&self, given: &Raw) -> Result<Duration, Misfit> {
        let secs = fraction(given, &self.0, "seconds")?;
        Duration::try_from_secs_f64(secs).map_err(|_| Misfit::wrong_type(given, "seconds"))
    }

    fn show(&self, value: &Duration) -> Raw {
        Raw::Fraction(value.as_secs_f64())
    }

    fn range(&self) -> String {
        Fraction(self.0.clone()).range()
    }
}

/// Seconds that are cut to the range's end, with a warning, when they are above it.
pub(super) struct CutSeconds {
    pub(super) range: RangeInclusive<f64>,
    /// What to set for more, as the warning says it.
    pub(super) beyond: &'static str,
}

impl Kind for CutSeconds {
    type Value = Duration;

    fn read(&self, given: &Raw) -> Result<Duration, Misfit> {
        Seconds(self.range.clone()).read(given)
    }

    fn show(&self, value: &Duration) -> Raw {
        Raw::Fraction(value.as_secs_f64())
    }

    fn range(&self) -> String {
        Seconds(self.range.clone()).range()
    }

    fn cut(&self, given: &Raw) -> Option<(Duration, String)> {
        let most = *self.range.end();
        number(given).filter(|secs| *secs > most && secs.is_finite())?;
        Some((Duration::try_from_secs_f64(most).ok()?, format!("{most} applies; {}", self.beyond)))
    }
}

/// The value as a number, when it is one.
fn number(value: &Raw) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "only compared with bounds that are far below 2^53")]
        Raw::Whole(number) => Some(*number as f64),
        Raw::Fraction(number) => Some(*number),
        Raw::Untyped(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn fraction(value: &Raw, range: &RangeInclusive<f64>, what: &str) -> Result<f64, Misfit> {
    let needs = format!("{what} from {} to {}", range.start(), range.end());
    match number(value) {
        Some(number) if range.contains(&number) => Ok(number),
        Some(number) if number.is_finite() => Err(Misfit::out_of_range(value, &needs)),
        _ => Err(Misfit::wrong_type(value, &needs)),
    }
}
