//! Rates of single models, as the upstream counts them: several windows at once, and so many at one time.

use std::fmt;
use std::time::Duration;

use super::kind::{Kind, Misfit, as_text, shown};
use super::list::{Fields, List};
use super::number::{MAX_RPM, Whole};
use super::raw::Raw;

/// Entries of `model_rates`; each has metrics of its own.
const MAX_RULES: usize = 64;
/// Windows of one entry.
const MAX_WINDOWS: usize = 4;
/// Characters of a pattern.
const MAX_PATTERN: usize = 128;
/// Requests of one window: all of their times are kept.
const MAX_REQUESTS: u32 = 100_000;
/// Seconds of the longest window.
const MAX_SPAN: u64 = 7 * 86_400;

const IN_FLIGHT: Whole<u32> = Whole(1..=MAX_RPM);

/// The rate of the models that a pattern matches, beside the key's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRate {
    /// `match`: which models it is about.
    pub pattern: ModelPattern,
    /// `rate`: each of the windows holds; ascending by span, at most one of each span.
    pub windows: Vec<RateWindow>,
    /// `in_flight`: the most at one time.
    pub in_flight: Option<u32>,
}

/// So many requests in any span of this length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RateWindow {
    /// The length of the span: whole seconds.
    pub span: Duration,
    /// The requests.
    pub requests: u32,
}

impl RateWindow {
    /// Reads `20/1m`; units are s, m, h and d, and `20/m` is one of them.
    fn parse(text: &str) -> Option<RateWindow> {
        let (requests, span) = text.split_once('/')?;
        let span = span.trim();
        let unit = span.chars().next_back()?;
        let (_, secs) = UNITS.into_iter().find(|(letter, _)| unit.eq_ignore_ascii_case(letter))?;
        let count = match span.strip_suffix(unit)?.trim() {
            "" => 1,
            count => count.parse::<u64>().ok()?,
        };
        let span = count.checked_mul(secs).filter(|secs| (1..=MAX_SPAN).contains(secs))?;
        let requests = requests.trim().parse().ok().filter(|count| (1..=MAX_REQUESTS).contains(count))?;
        Some(RateWindow { span: Duration::from_secs(span), requests })
    }
}

/// The units of a span with their seconds, the longest last.
const UNITS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];

impl fmt::Display for RateWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.span.as_secs();
        let whole = UNITS.into_iter().rev().find(|(_, unit)| secs.is_multiple_of(*unit));
        let (letter, unit) = whole.unwrap_or(('s', 1));
        write!(f, "{}/{}{letter}", self.requests, secs / unit)
    }
}

/// A model's name, in which `*` stands for any characters; in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPattern(String);

impl ModelPattern {
    /// A pattern that is written in the program.
    #[must_use]
    pub fn new(pattern: &str) -> ModelPattern {
        ModelPattern(pattern.to_ascii_lowercase())
    }

    /// The pattern as it was written, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the model is one of those meant.
    #[must_use]
    pub fn matches(&self, model: &str) -> bool {
        let model = model.to_ascii_lowercase();
        let mut parts = self.0.split('*');
        let Some(mut rest) = model.strip_prefix(parts.next().unwrap_or_default()) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.split_once(part) {
                Some((_, after)) => rest = after,
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

impl Kind for ModelPattern {
    type Value = ModelPattern;

    fn read(&self, given: &Raw) -> Result<ModelPattern, Misfit> {
        let text = as_text(given).unwrap_or_default().to_ascii_lowercase();
        if text.is_empty() || text.len() > MAX_PATTERN || !text.bytes().all(|b| b.is_ascii_graphic()) {
            let remedy = "write a model's name, with * for any characters, such as deepseek-ai/*";
            return Err(Misfit::new(format!("is {}", shown(given)), remedy));
        }
        Ok(ModelPattern(text))
    }

    fn show(&self, value: &ModelPattern) -> Raw {
        Raw::Text(value.0.clone())
    }
}

/// The list `model_rates`, by distinct pattern.
pub(super) struct ModelRates;

const RATES: List<OneRate> = List { most: MAX_RULES, item: OneRate };

impl Kind for ModelRates {
    type Value = Vec<ModelRate>;

    fn read(&self, given: &Raw) -> Result<Vec<ModelRate>, Misfit> {
        let rates = RATES.read(given)?;
        let mut patterns: Vec<&str> = rates.iter().map(|rate| rate.pattern.as_str()).collect();
        patterns.sort_unstable();
        match patterns.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(twice) => Err(Misfit::new(format!("matches `{}` twice", twice[0]), "keep one of them")),
            None => Ok(rates),
        }
    }

    fn show(&self, value: &Vec<ModelRate>) -> Raw {
        RATES.show(value)
    }
}

struct OneRate;

impl Kind for OneRate {
    type Value = ModelRate;

    fn read(&self, given: &Raw) -> Result<ModelRate, Misfit> {
        let remedy = "give each entry `match`, and `rate`, `in_flight` or both";
        let fields = Fields::of(given, &["match", "rate", "in_flight"], remedy)?;
        let pattern = fields.required("match", &ModelPattern(String::new()))?;
        let windows = fields.optional("rate", &Windows)?.unwrap_or_default();
        let in_flight = fields.optional("in_flight", &IN_FLIGHT)?;
        if windows.is_empty() && in_flight.is_none() {
            return Err(Misfit::new(format!("has an entry for `{}` without a limit", pattern.0), remedy));
        }
        Ok(ModelRate { pattern, windows, in_flight })
    }

    fn show(&self, value: &ModelRate) -> Raw {
        let mut fields = vec![("match".into(), Raw::Text(value.pattern.0.clone()))];
        if !value.windows.is_empty() {
            fields.push(("rate".into(), Windows.show(&value.windows)));
        }
        if let Some(most) = &value.in_flight {
            fields.push(("in_flight".into(), IN_FLIGHT.show(most)));
        }
        Raw::Map(fields)
    }
}

struct Windows;

impl Kind for Windows {
    type Value = Vec<RateWindow>;

    fn read(&self, given: &Raw) -> Result<Vec<RateWindow>, Misfit> {
        let parts = as_text(given).unwrap_or_default().split(',').map(str::trim);
        let windows: Option<Vec<RateWindow>> = parts.map(RateWindow::parse).collect();
        let mut windows = windows.filter(|windows| windows.len() <= MAX_WINDOWS).ok_or_else(|| {
            let remedy = format!(
                "write up to {MAX_WINDOWS} of the form 20/1m, separated by commas: 1 to {MAX_REQUESTS} requests in \
                 so many s, m, h or d, at most 7 days"
            );
            Misfit::new(format!("is {}", shown(given)), remedy)
        })?;
        windows.sort_unstable();
        match windows.windows(2).find(|pair| pair[0].span == pair[1].span) {
            Some(twice) => Err(Misfit::new(
                format!("has `{}` and `{}` for one span", twice[0], twice[1]),
                "keep one of them",
            )),
            None => Ok(windows),
        }
    }

    fn show(&self, value: &Vec<RateWindow>) -> Raw {
        let windows: Vec<String> = value.iter().map(ToString::to_string).collect();
        Raw::Text(windows.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_so_many_requests_in_so_long() {
        for (text, secs, requests, shown) in [
            ("20/1m", 60, 20, "20/1m"),
            ("300 / 1h", 3600, 300, "300/1h"),
            ("5/s", 1, 5, "5/1s"),
            ("40/60s", 60, 40, "40/1m"),
            ("1/90s", 90, 1, "1/90s"),
            ("1000/24H", 86_400, 1000, "1000/1d"),
        ] {
            let window = RateWindow::parse(text).expect(text);
            assert_eq!((window.span.as_secs(), window.requests), (secs, requests), "{text}");
            assert_eq!(window.to_string(), shown);
        }
        for text in [
            "",
            "20",
            "20/",
            "20/m1",
            "0/1m",
            "20/0m",
            "-1/m",
            "20/8d",
            "20/1y",
            "100001/d",
            "1/99999999999999999999d",
            "1/é",
        ] {
            assert_eq!(RateWindow::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        let matches = |pattern: &str, model| ModelPattern(pattern.into()).matches(model);
        for (pattern, model) in [
            ("a/b", "A/b"),
            ("*", ""),
            ("*", "a/b"),
            ("a/*", "a/"),
            ("*r1*", "deepseek-ai/deepseek-R1-0528"),
            ("a*b*c", "a-b-b-c"),
            ("*b", "abb"),
            ("a**b", "ab"),
        ] {
            assert!(matches(pattern, model), "{pattern} {model}");
        }
        for (pattern, model) in [
            ("a/b", "a/bc"),
            ("a/b", "xa/b"),
            ("a/*", "b/a/"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
            ("*b", "abc"),
        ] {
            assert!(!matches(pattern, model), "{pattern} {model}");
        }
    }
}
