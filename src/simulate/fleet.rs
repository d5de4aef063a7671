//! One's own agents, as the command line describes them.
//!
//! `4 coder normal loop 20s; 1 operator urgent every 5m; 30 batch low at once`: how many, a name, a priority, what they do, and
//! if they ask for different models, `model NAME`. Entries are separated by semicolons.

use super::agents::{AgentSpec, Habit};
use crate::priority::Priority;

/// The most agents of one entry.
const MOST: u32 = 10_000;

/// Reads a description.
///
/// # Errors
/// One line with the entry and what it has to look like.
pub fn parse(text: &str) -> Result<Vec<AgentSpec>, String> {
    let entries = text.split(';').map(str::trim).filter(|entry| !entry.is_empty());
    let specs: Vec<AgentSpec> = entries
        .map(|entry| {
            read(entry).ok_or_else(|| {
                format!(
                    "--agents: {entry:?} is not COUNT NAME PRIORITY, then one of loop TIME, every TIME, burst COUNT every TIME, \
                     hog COUNT or at once, then model NAME or nothing; such as `4 coder normal loop 20s`"
                )
            })
        })
        .collect::<Result<_, _>>()?;
    if specs.is_empty() { Err("--agents: nobody is described".to_owned()) } else { Ok(specs) }
}

fn read(entry: &str) -> Option<AgentSpec> {
    let mut words = entry.split_whitespace();
    let count = words.next()?.parse().ok().filter(|count| (1..=MOST).contains(count))?;
    let name = words.next()?;
    let priority = Priority::parse(words.next()?.as_bytes())?;
    let number = |word: Option<&str>| word?.parse().ok().filter(|count| (1..=MOST).contains(count));
    let habit = match words.next()? {
        "loop" => Habit::Loop { think_secs: secs(words.next()?)? },
        "every" => Habit::Every { count: 1, secs: secs(words.next()?)? },
        "burst" => {
            let count = number(words.next())?;
            (words.next()? == "every").then_some(())?;
            Habit::Every { count, secs: secs(words.next()?)? }
        }
        "hog" => Habit::Hog { count: number(words.next())? },
        "at" => (words.next()? == "once").then_some(Habit::Once { count: 1 })?,
        _ => return None,
    };
    let model = match words.next() {
        Some("model") => words.next()?,
        Some(_) => return None,
        None => "m",
    };
    words.next().is_none().then(|| AgentSpec {
        name: name.to_owned(),
        count,
        priority,
        model: model.to_owned(),
        habit,
    })
}

/// `20s`, `5m`, `1h` or seconds.
fn secs(text: &str) -> Option<f64> {
    let (number, unit) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1.0),
        (at, 'm') => (&text[..at], 60.0),
        (at, 'h') => (&text[..at], 3600.0),
        _ => (text, 1.0),
    };
    let secs = number.parse::<f64>().ok()? * unit;
    (secs > 0.0 && secs <= 31.0 * 86_400.0).then_some(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_read_as_it_is_said() {
        let fleet =
            parse("4 coder normal loop 20s; 1 operator urgent every 5m; 30 batch low at once model big;")
                .unwrap();
        let of =
            |nth: usize| (fleet[nth].count, fleet[nth].name.as_str(), fleet[nth].priority, fleet[nth].habit);
        assert_eq!(of(0), (4, "coder", Priority::Normal, Habit::Loop { think_secs: 20.0 }));
        assert_eq!(of(1), (1, "operator", Priority::Urgent, Habit::Every { count: 1, secs: 300.0 }));
        assert_eq!(of(2), (30, "batch", Priority::Low, Habit::Once { count: 1 }));
        assert_eq!(fleet[2].model, "big");
        assert_eq!(
            parse("2 a high burst 60 every 3m").unwrap()[0].habit,
            Habit::Every { count: 60, secs: 180.0 }
        );
    }

    #[test]
    fn what_is_not_a_fleet_is_said_in_one_line() {
        for text in [
            "",
            ";",
            "4",
            "0 a normal loop 1s",
            "4 a b loop 1s",
            "4 a low loop",
            "4 a low at twice",
            "4 a low every -1s x",
            "1 a low every 1é",
        ] {
            let error = parse(text).unwrap_err();
            assert!(!error.contains('\n') && error.starts_with("--agents"), "{error}");
        }
    }
}
