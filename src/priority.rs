//! The four priorities of a request, most urgent first.

use std::fmt;

/// How urgent a request is. The order of the variants is the order of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Goes before everything else.
    Urgent,
    /// Goes before normal work.
    High,
    /// What a request without `X-Priority` has.
    #[default]
    Normal,
    /// Background work, shed first.
    Low,
}

impl Priority {
    /// All priorities in the order of service.
    pub const ALL: [Priority; 4] = [Priority::Urgent, Priority::High, Priority::Normal, Priority::Low];

    /// The priority that a header value names, in any case and with blanks around it; `None` when it names none.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Priority> {
        let value = value.trim_ascii();
        Priority::ALL.into_iter().find(|p| value.eq_ignore_ascii_case(p.as_str().as_bytes()))
    }

    /// The name used in headers, labels, logs and snapshots.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Priority::Urgent => "urgent",
            Priority::High => "high",
            Priority::Normal => "normal",
            Priority::Low => "low",
        }
    }

    /// Position in [`Priority::ALL`], for tables with one cell a priority.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The next more urgent priority; `None` above [`Priority::Urgent`].
    #[must_use]
    pub const fn raised(self) -> Option<Priority> {
        match self {
            Priority::Urgent => None,
            Priority::High => Some(Priority::Urgent),
            Priority::Normal => Some(Priority::High),
            Priority::Low => Some(Priority::Normal),
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_names_a_priority_in_any_case() {
        assert_eq!(Priority::parse(b" UrGent "), Some(Priority::Urgent));
        assert_eq!(Priority::parse(b"low"), Some(Priority::Low));
        assert_eq!(Priority::parse(b"asap"), None);
        assert_eq!(Priority::parse(b""), None);
    }

    #[test]
    fn all_is_the_order_of_service_and_index_points_into_it() {
        for (i, p) in Priority::ALL.into_iter().enumerate() {
            assert_eq!(p.index(), i);
        }
        assert!(Priority::ALL.is_sorted());
    }
}
