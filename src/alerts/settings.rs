//! The bridge's settings, all from the environment, and what is wrong with them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::alert::Severity;
use super::card::is_link;
use crate::config::{self, BaseUrl, Environment, Secret};

/// The port that Alertmanager's configuration names.
const DEFAULT_PORT: u16 = 9094;
/// Whoever reaches the port can send cards, so opening it to others is a decision: the compose file, where Alertmanager
/// comes over a network of its own, makes it.
const DEFAULT_HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The variables that the bridge shares with the proxy.
const LOG_VARIABLES: [&str; 2] = ["SIDECAR_LOG_LEVEL", "SIDECAR_LOG_FORMAT"];
/// Feishu's custom bots, and what a command must not inherit.
pub(super) const SECRET_VARIABLES: [&str; 4] =
    ["FEISHU_WEBHOOK_CRITICAL", "FEISHU_WEBHOOK_WARNING", "FEISHU_SECRET_CRITICAL", "FEISHU_SECRET_WARNING"];

/// How the bridge runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The link on every card.
    pub dashboard: Option<String>,
    /// The ways to send, at least one.
    pub routes: Vec<Route>,
    /// The log.
    pub log: config::Log,
    /// What is allowed but deserves a look.
    pub warnings: Vec<String>,
}

/// One way to send the alerts of one severity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
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
    /// To a program's standard input.
    Command(Vec<String>),
}

/// Everything that is wrong, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> =
            self.0.iter().map(|fault| format!("nvidia-sidecar alert-bridge: {fault}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    ///
    /// All faults at once. None repeats a value that may be secret.
    pub fn read(environment: &Environment) -> Result<Settings, Faults> {
        let mut reader = Reader { environment, faults: Vec::new(), warnings: Vec::new() };
        let listen = SocketAddr::new(reader.host(), reader.port());
        let dashboard = reader.dashboard();
        let routes: Vec<Route> =
            Severity::ALL.into_iter().flat_map(|severity| reader.routes(severity)).collect();
        let log = reader.log();
        reader.look_for_gaps(&routes);
        match (log, reader.faults.is_empty()) {
            (Some(log), true) => Ok(Settings { listen, dashboard, routes, log, warnings: reader.warnings }),
            _ => Err(Faults(reader.faults)),
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
                self.fault("WEBHOOK_HOST", format!("{text:?} is no IP address; 127.0.0.1 and 0.0.0.0 are"));
                DEFAULT_HOST
            }),
        }
    }

    fn port(&mut self) -> u16 {
        let Some(text) = self.text("WEBHOOK_PORT") else { return DEFAULT_PORT };
        text.parse().unwrap_or_else(|_| {
            self.fault("WEBHOOK_PORT", format!("{text:?} is no port; give a number from 1 to 65535"));
            DEFAULT_PORT
        })
    }

    fn dashboard(&mut self) -> Option<String> {
        let url = self.text("DASHBOARD_URL")?;
        if !is_link(&url) {
            self.fault("DASHBOARD_URL", "is no link; give a URL that starts with http:// or https://");
        }
        Some(url)
    }

    fn routes(&mut self, severity: Severity) -> Vec<Route> {
        let feishu = self.feishu(severity);
        let command = self.command(severity);
        [feishu, command].into_iter().flatten().map(|way| Route { severity, way }).collect()
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
            self.fault(&variable, format!("is no list of words in JSON; write it like {example}"));
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

    fn look_for_gaps(&mut self, routes: &[Route]) {
        if routes.is_empty() {
            let ways = "FEISHU_WEBHOOK_CRITICAL, FEISHU_WEBHOOK_WARNING, ALERT_COMMAND_CRITICAL or ALERT_COMMAND_WARNING";
            self.faults.push(format!("there is nobody to send alerts to; set {ways}"));
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

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(&variables.iter().copied().collect()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn one_way_is_enough_and_the_rest_has_defaults() {
        let settings = read(&[("FEISHU_WEBHOOK_CRITICAL", HOOK)]).expect("valid");
        assert_eq!(settings.listen.to_string(), "127.0.0.1:9094");
        assert_eq!(settings.dashboard, None);
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
            ("ALERT_COMMAND_WARNING", "page hidden", "no list of words"),
            ("ALERT_COMMAND_WARNING", "[]", "no list of words"),
            ("ALERT_COMMAND_WARNING", "[\"\"]", "no list of words"),
            ("ALERT_COMMAND_WARNING", "[\"page\", 1]", "no list of words"),
            ("WEBHOOK_PORT", "65536", "is no port"),
            ("WEBHOOK_HOST", "eth0", "is no IP address"),
            ("DASHBOARD_URL", "grafana", "is no link"),
            ("SIDECAR_LOG_LEVEL", "LOUD", "log_level"),
        ] {
            let fault = read(&[("FEISHU_WEBHOOK_CRITICAL", HOOK), (name, value)]).expect_err(value);
            assert_eq!(fault.lines().count(), 1, "{fault}");
            assert!(fault.contains(name) && fault.contains(problem), "{fault}");
            assert!(!fault.contains("hidden"), "{fault}");
        }
    }

    #[test]
    fn debug_shows_no_address_and_no_secret() {
        let settings = read(&[("FEISHU_WEBHOOK_CRITICAL", HOOK), ("FEISHU_SECRET_CRITICAL", "s3cret-long")]);
        let shown = format!("{:?}", settings.expect("valid"));
        assert!(!shown.contains("0a1b2c3d") && !shown.contains("s3cret-long"), "{shown}");
    }
}
