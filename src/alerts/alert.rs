//! One alert, as the bridge understands it.

use std::collections::BTreeMap;

use time::OffsetDateTime;

/// How urgent an alert is; it decides where the alert goes and what colour it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It needs a person now.
    Critical,
    /// It needs a look today; also every severity that the bridge does not know.
    Warning,
}

impl Severity {
    /// Both.
    pub const ALL: [Severity; 2] = [Severity::Critical, Severity::Warning];

    /// The severity that the label `severity` names.
    #[must_use]
    pub fn of(label: Option<&str>) -> Severity {
        let critical = label.is_some_and(|label| label.trim().eq_ignore_ascii_case("critical"));
        if critical { Severity::Critical } else { Severity::Warning }
    }

    /// Its name in labels, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
        }
    }
}

/// Whether the alert's condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// It does.
    Firing,
    /// It did.
    Resolved,
}

impl AlertState {
    /// Its name in Alertmanager's payload.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
        }
    }
}

/// One alert of a notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What distinguishes it from others: the same alert has the same fingerprint whenever it fires.
    pub fingerprint: String,
    /// Whether it fires.
    pub state: AlertState,
    /// How urgent it is.
    pub severity: Severity,
    /// Its labels, `alertname` among them.
    pub labels: BTreeMap<String, String>,
    /// Its annotations: `summary`, `description`, `runbook_url`.
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires.
    pub starts_at: Option<OffsetDateTime>,
    /// Since when it no longer does.
    pub ends_at: Option<OffsetDateTime>,
}

impl Alert {
    /// The annotation's text, unless it is blank.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// The label `alertname`, or a word that stands for it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("alert", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severity_that_is_unknown_or_missing_is_a_warning() {
        assert_eq!(Severity::of(Some(" Critical ")), Severity::Critical);
        for label in [None, Some(""), Some("info"), Some("page"), Some("warning")] {
            assert_eq!(Severity::of(label), Severity::Warning, "{label:?}");
        }
    }
}
