//! After which failures a request is sent again.

use super::kind::{Kind, Misfit, as_text, shown};
use super::list::{List, MAX_WORDS};
use super::raw::Raw;

/// After which failures a request is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryOn {
    /// Upstream statuses, ascending: some of [`RetryOn::STATUSES`].
    pub statuses: Vec<u16>,
    /// Whether a connection that could not be made is tried again.
    pub connect: bool,
}

impl RetryOn {
    /// The statuses that may be retried: the upstream did not do the work.
    pub const STATUSES: [u16; 4] = [429, 502, 503, 504];

    /// Whether an answer with this status is tried again.
    #[must_use]
    pub fn status(&self, status: u16) -> bool {
        self.statuses.contains(&status)
    }
}

/// The list `retry_on`.
pub(super) struct Retrying;

const CAUSES: List<Cause> = List { most: MAX_WORDS, item: Cause };

impl Kind for Retrying {
    type Value = RetryOn;

    fn read(&self, given: &Raw) -> Result<RetryOn, Misfit> {
        let causes = CAUSES.read(given)?;
        let mut statuses: Vec<u16> = causes.iter().filter_map(|cause| *cause).collect();
        statuses.sort_unstable();
        statuses.dedup();
        Ok(RetryOn { statuses, connect: causes.contains(&None) })
    }

    fn show(&self, value: &RetryOn) -> Raw {
        let statuses = value.statuses.iter().map(|status| Some(*status));
        CAUSES.show(&statuses.chain(value.connect.then_some(None)).collect())
    }
}

/// A status, or `None` for a connection that could not be made.
struct Cause;

impl Kind for Cause {
    type Value = Option<u16>;

    fn read(&self, given: &Raw) -> Result<Option<u16>, Misfit> {
        let text = match given {
            Raw::Whole(number) => number.to_string(),
            other => as_text(other).unwrap_or_default().to_ascii_lowercase(),
        };
        let status = RetryOn::STATUSES.into_iter().find(|status| status.to_string() == text);
        if status.is_none() && text != "connect" {
            let problem = format!("lists {}, which cannot be retried", shown(given));
            return Err(Misfit::new(problem, "list some of 429, 502, 503, 504 and connect"));
        }
        Ok(status)
    }

    fn show(&self, value: &Option<u16>) -> Raw {
        value.map_or_else(|| Raw::Text("connect".into()), |status| Raw::Whole(status.into()))
    }
}
