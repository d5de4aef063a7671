//! The bridge's settings, all from the environment, and what is wrong with them.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::alert::Severity;
use super::card::Style;
use super::language::Language;
use super::local_time::LocalTime;
use super::text::is_link;
use crate::config::{self, BaseUrl, Environment, Secret};

/// The port that Alertmanager's configuration names.
const DEFAULT_PORT: u16 = 9094;
/// Without a token, all who reach the port can send cards, so opening it to others is a decision: the compose file, where
/// Alertmanager comes over a network of its own, makes it.
const DEFAULT_HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The variables that the bridge shares with the proxy.
const LOG_VARIABLES: [&str; 2] = ["SIDECAR_LOG_LEVEL", "SIDECAR_LOG_FORMAT"];
/// What a command inherits where it is set: how to find, speak and trust, and nothing that may hold a secret.
const INHERITED: [&str; 17] = [
    "HOME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_MESSAGES",
    "LC_TIME",
    "LOGNAME",
    "PATH",
    "SHELL",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];

/// How the bridge runs.
#[derive(Clone, Debug)]
pub struct BridgeSettings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What a webhook call must carry as its bearer token, where it must.
    pub token: Option<Secret>,
    /// How cards are written.
    pub style: Style,
    /// The ways to send, at least one.
    pub routes: Vec<AlertRoute>,
    /// The variables that commands get.
    pub command_environment: Vec<(&'static str, OsString)>,
    /// The log.
    pub log: config::Log,
    /// What is allowed but deserves a look.
    pub warnings: Vec<String>,
}

/// One way to send the alerts of one severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertRoute {
    /// Whose alerts.
    pub severity: Severity,
    /// How.
    pub way: Way,
}

/// How to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a custom bot of Feishu's.
    Feishu {
        /// The bot's address, which is all that is needed to write to its group.
        webhook: Secret,
        /// The key of the signature, where the bot wants one.
        secret: Option<Secret>,
    },
    /// To a program, with its arguments.
    Command(Vec<String>),
}

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFaults(Vec<String>);

impl fmt::Display for SettingsFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> =
            self.0.iter().map(|fault| format!("nvidia-sidecar alert-bridge: {fault}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl BridgeSettings {
    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// All faults at once. None repeats a value that may be secret.
    pub fn read(environment: &Environment) -> Result<BridgeSettings, SettingsFaults> {
        let mut reader = Reader { environment, faults: Vec::new(), warnings: Vec::new() };
        let listen = SocketAddr::new(reader.host(), reader.port());
        let token = reader.secret("WEBHOOK_TOKEN").map(Secret::new);
        let style = Style { language: reader.language(), zone: reader.zone(), dashboard: reader.dashboard() };
        let routes: Vec<AlertRoute> =
            Severity::ALL.into_iter().flat_map(|severity| reader.routes(severity)).collect();
        let log = reader.log();
        reader.look_for_gaps(&routes);
        let inherited = |name| Some((name, environment.get(name)?.to_owned()));
        let command_environment = INHERITED.into_iter().filter_map(inherited).collect();
        let (faults, warnings) = (reader.faults, reader.warnings);
        match log {
            Some(log) if faults.is_empty() => {
                Ok(BridgeSettings { listen, token, style, routes, command_environment, log, warnings })
            }
            _ => Err(SettingsFaults(faults)),
        }
    }
}

struct Reader<'e> {
    environment: &'e Environment,
    faults: Vec<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn fault(&mut self, variable: &str, problem: impl fmt::Display) {
        self.faults.push(format!("{variable} {problem}"));
    }

    fn text(&mut self, variable: &str) -> Option<String> {
        let value = self.environment.get(variable)?;
        match value.to_str() {
            Some(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            None => {
                self.fault(variable, "is not UTF-8 text; set it to plain text");
                None
            }
        }
    }

    fn host(&mut self) -> IpAddr {
        match self.text("WEBHOOK_HOST").as_deref() {
            None | Some("localhost") => DEFAULT_HOST,
            Some(text) => text.parse().unwrap_or_else(|_| {
                self.fault(
                    "WEBHOOK_HOST",
                    format!("{text:?} is not an IP address; 127.0.0.1 and 0.0.0.0 are"),
                );
                DEFAULT_HOST
            }),
        }
    }

    fn port(&mut self) -> u16 {
        let Some(text) = self.text("WEBHOOK_PORT") else { return DEFAULT_PORT };
        text.parse().unwrap_or_else(|_| {
            self.fault("WEBHOOK_PORT", format!("{text:?} is not a port; give a number from 1 to 65535"));
            DEFAULT_PORT
        })
    }

    fn language(&mut self) -> Language {
        let Some(tag) = self.text("ALERT_LANGUAGE") else { return Language::default() };
        Language::of(&tag).unwrap_or_else(|| {
            self.fault("ALERT_LANGUAGE", format!("{tag:?} is not a language of the cards; en and zh are"));
            Language::default()
        })
    }

    /// An unknown zone is not a reason to keep alerts back: the cards say which one they show.
    fn zone(&mut self) -> LocalTime {
        let Some(name) = self.text("TZ") else { return LocalTime::of_system() };
        LocalTime::named(&name).unwrap_or_else(|| {
            let warning = format!("TZ {name:?} is not in the system's time zone database: cards show UTC");
            self.warnings.push(warning);
            LocalTime::default()
        })
    }

    fn dashboard(&mut self) -> Option<String> {
        let url = self.text("DASHBOARD_URL")?;
        if !is_link(&url) {
            self.fault("DASHBOARD_URL", "is not a link; give a URL that starts with http:// or https://");
        }
        Some(url)
    }

    fn routes(&mut self, severity: Severity) -> Vec<AlertRoute> {
        let feishu = self.feishu(severity);
        let command = self.command(severity);
        [feishu, command].into_iter().flatten().map(|way| AlertRoute { severity, way }).collect()
    }

    fn feishu(&mut self, severity: Severity) -> Option<Way> {
        let (webhook_variable, secret_variable) =
            (variable("FEISHU_WEBHOOK", severity), variable("FEISHU_SECRET", severity));
        let webhook = self.secret(&webhook_variable);
        let secret = self.secret(&secret_variable).map(Secret::new);
        let Some(webhook) = webhook else {
            if secret.is_some() {
                self.fault(
                    &secret_variable,
                    format!("is set and {webhook_variable} is not; set both or neither"),
                );
            }
            return None;
        };
        match BaseUrl::parse(&webhook) {
            Err(problem) => {
                self.fault(
                    &webhook_variable,
                    format!("{problem}; copy the webhook's address from the bot's page"),
                );
            }
            Ok(url) if !url.is_https() && !url.is_loopback() => {
                self.warnings.push(format!(
                    "{webhook_variable} is not https: the alerts and the bot's address go in the clear"
                ));
            }
            Ok(_) => {}
        }
        Some(Way::Feishu { webhook: Secret::new(webhook), secret })
    }

    /// A variable's value unless it is an example's placeholder, alone or as the end of a URL.
    fn secret(&mut self, variable: &str) -> Option<String> {
        let text = self.text(variable)?;
        let last = text.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        if config::is_placeholder(&text) || config::is_placeholder(last) {
            self.fault(variable, "is a placeholder; put the real value in its place, or leave it unset");
        }
        Some(text)
    }

    fn command(&mut self, severity: Severity) -> Option<Way> {
        let variable = variable("ALERT_COMMAND", severity);
        let text = self.text(&variable)?;
        let words: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
        let fits = words.first().is_some_and(|program| !program.is_empty());
        if !fits || words.iter().any(|word| word.contains('\0')) {
            let example = r#"["/usr/local/bin/page", "--urgent"]"#;
            self.fault(&variable, format!("is not a list of words in JSON; write it like {example}"));
        }
        Some(Way::Command(words))
    }

    /// The log's settings are the proxy's, read by the proxy's rules.
    fn log(&mut self) -> Option<config::Log> {
        let environment = self.environment;
        let given = LOG_VARIABLES.into_iter().filter_map(|name| Some((name, environment.get(name)?)));
        match config::load(None, &given.collect()) {
            Ok(loaded) => Some(loaded.config.log),
            Err(faults) => {
                self.faults.extend(faults.notices().iter().map(ToString::to_string));
                None
            }
        }
    }

    fn look_for_gaps(&mut self, routes: &[AlertRoute]) {
        if routes.is_empty() {
            let ways = "FEISHU_WEBHOOK_CRITICAL, FEISHU_WEBHOOK_WARNING, ALERT_COMMAND_CRITICAL or ALERT_COMMAND_WARNING";
            self.faults.push(format!("there is no receiver of alerts; set {ways}"));
            return;
        }
        for severity in Severity::ALL {
            if routes.iter().all(|route| route.severity != severity) {
                let severity = severity.as_str();
                self.warnings
                    .push(format!("{severity} alerts have no way of their own: they go where the others go"));
            }
        }
    }
}

fn variable(prefix: &str, severity: Severity) -> String {
    format!("{prefix}_{}", severity.as_str().to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "https://open.feishu.cn/open-apis/bot/v2/hook/0a1b2c3d-secret";

    fn read(variables: &[(&str, &str)]) -> Result<BridgeSettings, String> {
        BridgeSettings::read(&variables.iter().copied().collect()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn one_way_is_enough_and_the_rest_has_defaults() {
        let settings = read(&[("FEISHU_WEBHOOK_CRITICAL", HOOK)]).expect("valid");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9094");
        assert_eq!((settings.style.dashboard, settings.style.language), (None, Language::English));
        assert_eq!(settings.token, None);
        assert_eq!(settings.routes.len(), 1);
        assert_eq!(
            settings.warnings,
            ["warning alerts have no way of their own: they go where the others go"]
        );
    }

    #[test]
    fn all_variables_are_read() {
        let settings = read(&[
            ("WEBHOOK_HOST", "0.0.0.0"),
            ("WEBHOOK_PORT", "19094"),
            ("DASHBOARD_URL", "http://127.0.0.1:3000/d/nvidia-sidecar"),
            ("FEISHU_WEBHOOK_CRITICAL", HOOK),
            ("FEISHU_SECRET_CRITICAL", "s3cret"),
            ("FEISHU_WEBHOOK_WARNING", "http://relay.example.org/hook"),
            ("ALERT_COMMAND_WARNING", r#"["/usr/local/bin/page", "a b", "$HOME"]"#),
            ("WEBHOOK_TOKEN", "t0ken-long"),
            ("ALERT_LANGUAGE", "zh-CN"),
            ("TZ", "CST-8"),
            ("PATH", "/usr/bin"),
            ("SIDECAR_API_KEY", "nvapi-hidden"),
            ("HTTPS_PROXY", "http://user:hidden@proxy:3128"),
            ("SIDECAR_LOG_LEVEL", "DEBUG"),
            ("SIDECAR_RATE_RPM", "not the bridge's business"),
        ])
        .expect("valid");
        assert_eq!(settings.listen.to_string(), "0.0.0.0:19094");
        assert_eq!(settings.log.level, log::LevelFilter::Debug);
        let ways: Vec<_> = settings.routes.iter().map(|route| (route.severity, route.way.clone())).collect();
        let words = ["/usr/local/bin/page", "a b", "$HOME"].map(str::to_owned).to_vec();
        let (hook, relay) = (Secret::new(HOOK), Secret::new("http://relay.example.org/hook"));
        assert_eq!(
            ways,
            [
                (Severity::Critical, Way::Feishu { webhook: hook, secret: Some(Secret::new("s3cret")) }),
                (Severity::Warning, Way::Feishu { webhook: relay, secret: None }),
                (Severity::Warning, Way::Command(words)),
            ]
        );
        assert_eq!(settings.token, Some(Secret::new("t0ken-long")));
        assert_eq!(settings.style.language, Language::Chinese);
        let inherited: Vec<_> = settings.command_environment.iter().map(|(name, _)| *name).collect();
        assert_eq!(inherited, ["PATH", "TZ"], "and no secret");
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
        assert!(settings.warnings[0].starts_with("FEISHU_WEBHOOK_WARNING is not https"));
    }

    #[test]
    fn without_any_way_there_is_one_line() {
        for variables in [&[][..], &[("FEISHU_WEBHOOK_CRITICAL", ""), ("ALERT_COMMAND_WARNING", " ")]] {
            let fault = read(variables).expect_err("a fault");
            assert_eq!(fault.lines().count(), 1, "{fault}");
            assert!(fault.contains("FEISHU_WEBHOOK_CRITICAL"), "{fault}");
        }
    }

    #[test]
    fn each_wrong_value_is_told_with_its_remedy_and_no_secret() {
        for (name, value, problem) in [
            (
                "FEISHU_WEBHOOK_WARNING",
                "https://open.feishu.cn/open-apis/bot/v2/hook/REPLACE_ME",
                "placeholder",
            ),
            (
                "FEISHU_WEBHOOK_WARNING",
                "https://open.feishu.cn/open-apis/bot/v2/hook/xxxxxxxx",
                "placeholder",
            ),
            ("FEISHU_WEBHOOK_WARNING", "https://open.feishu.cn/open-apis/bot/v2/hook/****", "placeholder"),
            ("FEISHU_WEBHOOK_WARNING", "0a1b2c3d-hidden", "has no scheme"),
            ("FEISHU_WEBHOOK_WARNING", "https://open.feishu.cn/hook?token=hidden", "has a query"),
            ("FEISHU_SECRET_CRITICAL", "<hidden>", "placeholder"),
            ("FEISHU_SECRET_WARNING", "hidden", "FEISHU_WEBHOOK_WARNING is not"),
            ("ALERT_COMMAND_WARNING", "page hidden", "not a list of words"),
            ("ALERT_COMMAND_WARNING", "[]", "not a list of words"),
            ("ALERT_COMMAND_WARNING", "[\"\"]", "not a list of words"),
            ("ALERT_COMMAND_WARNING", "[\"page\", 1]", "not a list of words"),
            ("WEBHOOK_PORT", "65536", "is not a port"),
            ("WEBHOOK_HOST", "eth0", "is not an IP address"),
            ("WEBHOOK_TOKEN", "REPLACE_ME", "placeholder"),
            ("ALERT_LANGUAGE", "klingon", "is not a language"),
            ("DASHBOARD_URL", "grafana", "is not a link"),
            ("SIDECAR_LOG_LEVEL", "LOUD", "log_level"),
        ] {
            let fault = read(&[("FEISHU_WEBHOOK_CRITICAL", HOOK), (name, value)]).expect_err(value);
            assert_eq!(fault.lines().count(), 1, "{fault}");
            assert!(fault.contains(name) && fault.contains(problem), "{fault}");
            assert!(!fault.contains("hidden"), "{fault}");
        }
    }

    #[test]
    fn a_zone_that_is_not_known_is_a_warning_and_utc() {
        let settings = read(&[("FEISHU_WEBHOOK_CRITICAL", HOOK), ("TZ", "Asia/Atlantis")]).expect("valid");
        assert!(settings.warnings[0].starts_with("TZ \"Asia/Atlantis\""), "{:?}", settings.warnings);
        let epoch = time::OffsetDateTime::UNIX_EPOCH;
        assert_eq!(settings.style.zone.shown(epoch), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn debug_shows_no_address_and_no_secret() {
        let settings = read(&[
            ("FEISHU_WEBHOOK_CRITICAL", HOOK),
            ("FEISHU_SECRET_CRITICAL", "s3cret-long"),
            ("WEBHOOK_TOKEN", "t0ken-long"),
        ]);
        let shown = format!("{:?}", settings.expect("valid"));
        assert!(
            !shown.contains("0a1b2c3d") && !shown.contains("s3cret-long") && !shown.contains("t0ken-long"),
            "{shown}"
        );
    }
}
