//! The words of a card in the languages that it can have.

use super::alert::{AlertState, Severity};

/// What cards are written in, `ALERT_LANGUAGE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// The default.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

/// The words of a language. A card says nothing else of its own.
pub(super) struct Words {
    severities: [&'static str; 2],
    states: [&'static str; 2],
    pub(super) alert: &'static str,
    pub(super) state: &'static str,
    pub(super) since: &'static str,
    pub(super) until: &'static str,
    pub(super) lasted: &'static str,
    pub(super) runbook: &'static str,
    pub(super) dashboard: &'static str,
    /// Between a name and its value.
    pub(super) colon: &'static str,
    /// Around what is said in passing.
    pub(super) brackets: [&'static str; 2],
    /// Days, hours, minutes, seconds, after their number.
    pub(super) units: [&'static str; 4],
    /// What the names of annotations in this language end with: `summary_zh` is the `summary` in Chinese.
    pub(super) suffix: &'static str,
}

impl Words {
    pub(super) fn severity(&self, severity: Severity) -> &'static str {
        self.severities[usize::from(severity == Severity::Warning)]
    }

    pub(super) fn state(&self, state: AlertState) -> &'static str {
        self.states[usize::from(state == AlertState::Resolved)]
    }
}

const ENGLISH: Words = Words {
    severities: ["CRITICAL", "WARNING"],
    states: ["Firing", "Resolved"],
    alert: "Alert",
    state: "State",
    since: "Since",
    until: "Until",
    lasted: "Lasted",
    runbook: "Runbook",
    dashboard: "Dashboard",
    colon: ": ",
    brackets: [" (", ")"],
    units: [" d", " h", " min", " s"],
    suffix: "",
};

const CHINESE: Words = Words {
    severities: ["严重", "警告"],
    states: ["触发", "已恢复"],
    alert: "告警",
    state: "状态",
    since: "开始时间",
    until: "恢复时间",
    lasted: "持续时间",
    runbook: "处理手册",
    dashboard: "仪表盘",
    colon: "：",
    brackets: ["（", "）"],
    units: [" 天", " 小时", " 分", " 秒"],
    suffix: "_zh",
};

impl Language {
    /// The language that a tag names (`en`, `zh`, `zh-CN`, `zh_CN.UTF-8`), if cards can have it.
    #[must_use]
    pub fn of(tag: &str) -> Option<Language> {
        match tag.split(['-', '_', '.']).next()?.to_ascii_lowercase().as_str() {
            "en" => Some(Language::English),
            "zh" => Some(Language::Chinese),
            _ => None,
        }
    }

    pub(super) const fn words(self) -> &'static Words {
        match self {
            Language::English => &ENGLISH,
            Language::Chinese => &CHINESE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_names_its_language_whatever_its_region() {
        for tag in ["zh", "zh-CN", "ZH_cn.UTF-8", "zh-Hans"] {
            assert_eq!(Language::of(tag), Some(Language::Chinese), "{tag}");
        }
        assert_eq!(Language::of("en-GB"), Some(Language::English));
        for tag in ["", "cn", "chinese", "de"] {
            assert_eq!(Language::of(tag), None, "{tag}");
        }
    }
}
