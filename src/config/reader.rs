//! Takes given values by key and type, and notes every one that does not fit instead of stopping at the first.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::choices::{self, Choices};
use super::notice::{Notice, Source};
use super::raw::{Given, Raw};
use super::spelling::shown_text;
use super::{BaseUrl, Secret, keys, placeholder};

/// Why a value does not fit its key.
#[derive(Debug)]
pub(super) struct Misfit {
    /// What the value is, as the end of a sentence that begins with the key.
    pub(super) problem: String,
    pub(super) remedy: String,
    /// Whether it is of the right type and only too large or too small.
    out_of_range: bool,
}

impl Misfit {
    pub(super) fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Misfit {
        Misfit { problem: problem.into(), remedy: remedy.into(), out_of_range: false }
    }

    pub(super) fn wrong_type(value: &Raw, needs: &str) -> Misfit {
        Misfit::new(format!("is {}", shown(value)), format!("it has to be {needs}"))
    }
}

/// What the values of one load are read through.
#[derive(Debug)]
pub(super) struct Reader {
    values: BTreeMap<&'static str, Raw>,
    sources: BTreeMap<&'static str, Source>,
    /// Whether an out-of-range value is a fault even where a file's would fall back.
    strict: bool,
    pub(super) faults: Vec<Notice>,
    pub(super) warnings: Vec<Notice>,
}

impl Reader {
    pub(super) fn new(given: Given, strict: bool) -> Reader {
        let mut values = BTreeMap::new();
        let mut sources = BTreeMap::new();
        for (key, (value, source)) in given.0 {
            // `key:` with nothing behind it is how a file says "not set".
            if value != Raw::Null {
                values.insert(key, value);
                sources.insert(key, source);
            }
        }
        Reader { values, sources, strict, faults: Vec::new(), warnings: Vec::new() }
    }

    pub(super) fn gives(&self, key: &str) -> bool {
        self.sources.contains_key(key)
    }

    /// A notice about a key, at the place where it was given.
    pub(super) fn notice(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Notice {
        let source = self.sources.get(key).cloned().unwrap_or(Source::Default);
        Notice::new(source, problem, remedy).about(key)
    }

    /// The key's value as `convert` understands it, else `default`.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        convert: impl FnOnce(Raw) -> Result<T, Misfit>,
    ) -> T {
        let Some(value) = self.values.remove(key) else { return default };
        convert(value).unwrap_or_else(|misfit| {
            let fault = self.notice(key, misfit.problem, misfit.remedy);
            self.faults.push(fault);
            default
        })
    }

    /// Like [`read`](Reader::read), but a value out of range gives way to the default with a warning.
    fn read_or_fall_back<T>(
        &mut self,
        key: &'static str,
        default: T,
        fallback: T,
        convert: impl FnOnce(Raw) -> Result<T, Misfit>,
    ) -> T {
        let Some(value) = self.values.remove(key) else { return default };
        match convert(value) {
            Ok(value) => value,
            Err(misfit) if misfit.out_of_range && !self.strict => {
                let default = keys::find(key).map_or("", |key| key.default);
                let remedy = format!("{}, and the default, {default}, applies", misfit.remedy);
                let warning = self.notice(key, misfit.problem, remedy);
                self.warnings.push(warning);
                fallback
            }
            Err(misfit) => {
                let fault = self.notice(key, misfit.problem, misfit.remedy);
                self.faults.push(fault);
                default
            }
        }
    }

    pub(super) fn whole<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<T>) -> T
    where
        T: TryFrom<i128> + TryInto<i128> + Copy,
    {
        self.read(key, default, |value| whole(&value, &range))
    }

    /// A whole number that falls back to the default `fallback` when it is out of range.
    pub(super) fn whole_or_fall_back<T>(
        &mut self,
        key: &'static str,
        default: T,
        fallback: T,
        range: RangeInclusive<T>,
    ) -> T
    where
        T: TryFrom<i128> + TryInto<i128> + Copy,
    {
        self.read_or_fall_back(key, default, fallback, |value| whole(&value, &range))
    }

    pub(super) fn fraction(&mut self, key: &'static str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.read(key, default, |value| fraction(&value, &range, "a number"))
    }

    pub(super) fn seconds(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<f64>,
    ) -> Duration {
        self.read(key, default, |value| seconds(&value, &range))
    }

    /// Seconds that are cut to the range's end when they are above it, and fall back when they are below its start.
    pub(super) fn seconds_or_cut(
        &mut self,
        key: &'static str,
        default: Duration,
        fallback: Duration,
        range: RangeInclusive<f64>,
    ) -> Duration {
        let most = *range.end();
        match self.values.get(key).and_then(number) {
            Some(given) if given > most && given.is_finite() && !self.strict => {
                self.values.remove(key);
                let warning =
                    self.notice(key, format!("is {given}, above {most}"), format!("{most} applies"));
                self.warnings.push(warning);
                Duration::try_from_secs_f64(most).unwrap_or(fallback)
            }
            _ => self.read_or_fall_back(key, default, fallback, |value| seconds(&value, &range)),
        }
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.read(key, default, |value| match &value {
            Raw::Bool(flag) => Ok(*flag),
            Raw::Untyped(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Ok(true),
                "false" | "no" | "off" | "0" => Ok(false),
                _ => Err(Misfit::wrong_type(&value, "true or false")),
            },
            _ => Err(Misfit::wrong_type(&value, "true or false")),
        })
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, default: T, choices: Choices<T>) -> T {
        self.read(key, default, |value| {
            let found = as_text(&value).and_then(|word| choices::find(choices, word));
            found.ok_or_else(|| {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                Misfit::wrong_type(&value, &format!("one of {}", words.join(", ")))
            })
        })
    }

    pub(super) fn address(&mut self, key: &'static str, default: IpAddr) -> IpAddr {
        self.read(key, default, |value| {
            let text = as_text(&value).unwrap_or_default();
            if text.eq_ignore_ascii_case("localhost") {
                return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
            }
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
            bare.parse()
                .map_err(|_| Misfit::wrong_type(&value, "an IP address, such as 127.0.0.1 or 0.0.0.0"))
        })
    }

    pub(super) fn url(&mut self, key: &'static str, default: BaseUrl) -> BaseUrl {
        self.read(key, default, |value| url(&value))
    }

    pub(super) fn optional_url(&mut self, key: &'static str, default: Option<BaseUrl>) -> Option<BaseUrl> {
        self.read(key, default, |value| if is_empty(&value) { Ok(None) } else { url(&value).map(Some) })
    }

    pub(super) fn path(&mut self, key: &'static str, default: Option<PathBuf>) -> Option<PathBuf> {
        self.read(key, default, |value| match as_text(&value) {
            Some("") => Ok(None),
            Some(text) if !text.contains('\0') => Ok(Some(PathBuf::from(text))),
            _ => Err(Misfit::wrong_type(&value, "a path")),
        })
    }

    pub(super) fn secret(&mut self, key: &'static str, default: Option<Secret>) -> Option<Secret> {
        self.read(key, default, |value| if is_empty(&value) { Ok(None) } else { secret(&value).map(Some) })
    }

    /// A list, each item read by `item`. A variable's is comma-separated, with or without brackets.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        most: usize,
        item: impl Fn(&Raw) -> Result<T, Misfit>,
    ) -> Vec<T> {
        self.read(key, default, |value| {
            let items = match value {
                Raw::List(items) => items,
                Raw::Untyped(text) => split(&text).map(|part| Raw::Untyped(part.to_owned())).collect(),
                other => return Err(Misfit::wrong_type(&other, "a list, such as [a, b]")),
            };
            if items.len() > most {
                return Err(Misfit::new(
                    format!("has {} items", items.len()),
                    format!("give at most {most}"),
                ));
            }
            items.iter().map(item).collect()
        })
    }
}

/// The parts of a variable's list; `[]` is how a variable says "none", since an empty one is not set.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Text from a file or a variable, without blanks around it.
pub(super) fn as_text(value: &Raw) -> Option<&str> {
    match value {
        Raw::Text(text) | Raw::Untyped(text) => Some(text.trim()),
        _ => None,
    }
}

fn is_empty(value: &Raw) -> bool {
    as_text(value).is_some_and(str::is_empty)
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

fn whole<T>(value: &Raw, range: &RangeInclusive<T>) -> Result<T, Misfit>
where
    T: TryFrom<i128> + TryInto<i128> + Copy,
{
    let bound = |bound: &T| (*bound).try_into().unwrap_or(i128::MAX);
    let (least, most) = (bound(range.start()), bound(range.end()));
    let needs = format!("a whole number from {least} to {most}");
    let number = match value {
        Raw::Whole(number) => Some(*number),
        Raw::Untyped(text) => text.trim().parse().ok(),
        _ => None,
    };
    let number = match (number, self::number(value)) {
        (Some(number), _) => number,
        // 40.0 and 1e30 are whole too; the cast saturates, which is out of every range.
        #[expect(clippy::cast_possible_truncation, reason = "saturates")]
        (None, Some(float)) if float.is_finite() && float.fract() == 0.0 => float as i128,
        _ => return Err(Misfit::wrong_type(value, &needs)),
    };
    let in_range = (least..=most).contains(&number).then(|| T::try_from(number).ok()).flatten();
    in_range.ok_or_else(|| out_of_range(value, &needs))
}

fn fraction(value: &Raw, range: &RangeInclusive<f64>, what: &str) -> Result<f64, Misfit> {
    let needs = format!("{what} from {} to {}", range.start(), range.end());
    match number(value) {
        Some(number) if range.contains(&number) => Ok(number),
        Some(number) if number.is_finite() => Err(out_of_range(value, &needs)),
        _ => Err(Misfit::wrong_type(value, &needs)),
    }
}

fn seconds(value: &Raw, range: &RangeInclusive<f64>) -> Result<Duration, Misfit> {
    let secs = fraction(value, range, "seconds")?;
    Duration::try_from_secs_f64(secs).map_err(|_| Misfit::wrong_type(value, "seconds"))
}

fn out_of_range(value: &Raw, needs: &str) -> Misfit {
    Misfit {
        problem: format!("is {}, out of range", shown(value)),
        remedy: format!("it has to be {needs}"),
        out_of_range: true,
    }
}

fn url(value: &Raw) -> Result<BaseUrl, Misfit> {
    let remedy = "give a URL such as https://integrate.api.nvidia.com/v1";
    let Some(text) = as_text(value) else {
        return Err(Misfit::new(format!("is {}, which is no URL", shown(value)), remedy));
    };
    BaseUrl::parse(text)
        .map_err(|problem| Misfit::new(format!("is {}, which {problem}", shown_url(text)), remedy))
}

/// The longest secret in bytes; it has to fit into a header.
const MAX_SECRET: usize = 4096;

/// A secret that a header can carry and that is not an example's placeholder. Notices never repeat it.
pub(super) fn secret(value: &Raw) -> Result<Secret, Misfit> {
    let remedy = "give the secret as it was issued";
    let text = as_text(value).ok_or_else(|| Misfit::new("is no text", "put the secret in quotes"))?;
    if placeholder::is_placeholder(text) {
        return Err(Misfit::new(
            "still holds an example's placeholder",
            "replace it with the real secret, or remove it",
        ));
    }
    if text.is_empty() {
        return Err(Misfit::new("is empty", remedy));
    }
    if text.len() > MAX_SECRET {
        return Err(Misfit::new(format!("is longer than {MAX_SECRET} bytes"), remedy));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Misfit::new("holds a blank or a character that no header can carry", remedy));
    }
    Ok(Secret::new(text))
}

/// A value as a notice repeats it.
pub(super) fn shown(value: &Raw) -> String {
    match value {
        Raw::Null => "empty".into(),
        Raw::Bool(flag) => format!("`{flag}`"),
        Raw::Whole(number) => format!("`{number}`"),
        Raw::Fraction(number) => format!("`{number}`"),
        Raw::Text(text) | Raw::Untyped(text) if text.trim().is_empty() => "empty".into(),
        Raw::Text(text) => format!("the text {}", shown_text(text)),
        Raw::Untyped(text) => shown_text(text),
        Raw::List(_) => "a list".into(),
        Raw::Map(_) => "a map".into(),
        Raw::Secret(secret) => format!("`{secret}`"),
    }
}

/// A URL as a notice repeats it: without what may be a password or a key.
fn shown_url(text: &str) -> String {
    if text.trim().is_empty() {
        return "empty".into();
    }
    let public = text.split(['?', '#']).next().unwrap_or_default();
    match public.rsplit_once('@') {
        Some((_, host)) => shown_text(&format!("…@{host}")),
        None => shown_text(public),
    }
}
