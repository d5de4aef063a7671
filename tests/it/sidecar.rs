//! A sidecar inside the test's process, on ports of its own.

use crate::listening::Listening;
use crate::upstream::Upstream;
use nvidia_sidecar::app;
use nvidia_sidecar::clock::Clock;
use nvidia_sidecar::config::{BaseUrl, Config};
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::time::Duration;

/// A running sidecar; stopped when it is dropped.
pub(crate) struct Sidecar {
    running: Option<app::Sidecar>,
    listening: Listening,
}

impl Deref for Sidecar {
    type Target = Listening;

    fn deref(&self) -> &Listening {
        &self.listening
    }
}

impl Sidecar {
    /// A sidecar in front of `upstream`, with a quota that no test exhausts.
    pub(crate) fn before(upstream: &Upstream) -> Sidecar {
        Sidecar::with(upstream, |_| {})
    }

    /// The same, configured.
    pub(crate) fn with(upstream: &Upstream, configure: impl FnOnce(&mut Config)) -> Sidecar {
        let mut config = config(&upstream.url("/v1"));
        configure(&mut config);
        let running = app::Sidecar::start(config, Clock::start()).expect("a sidecar that starts");
        let listening = Listening(running.api_address());
        Sidecar { running: Some(running), listening }
    }

    /// The sidecar itself.
    pub(crate) fn app(&self) -> &app::Sidecar {
        self.running.as_ref().expect("it runs until it is stopped")
    }

    /// Puts a changed configuration into force.
    pub(crate) fn reload(&self, change: impl FnOnce(&mut Config)) {
        let mut config = Config::clone(&self.app().config());
        change(&mut config);
        self.app().reload(&config).expect("a configuration that fits");
    }

    /// Stops it and tells how that went.
    pub(crate) fn stop(mut self) -> app::End {
        self.running.take().expect("it runs until it is stopped").stop()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let end = running.stop();
            assert!(std::thread::panicking() || end != app::End::Failed, "the limiter ended by a bug");
        }
    }
}

/// The configuration that tests start from.
fn config(upstream: &str) -> Config {
    let mut config = Config::default();
    config.listen.host = Ipv4Addr::LOCALHOST.into();
    config.listen.port = 0;
    config.listen.metrics_port = 0;
    config.upstream.url = base(upstream);
    config.limiter.rate_rpm = 1_000_000;
    config.limiter.bucket_capacity = 1_000_000;
    // What a test leaves behind is cut soon.
    config.drain_timeout = Duration::from_millis(200);
    config
}

/// A base URL.
pub(crate) fn base(url: &str) -> BaseUrl {
    BaseUrl::parse(url).expect("a base URL")
}

/// The longest silence of the upstream, before its head and between two pieces.
pub(crate) fn silence_of_at_most(config: &mut Config, silence: Duration) {
    config.upstream.first_byte_timeout = silence;
    config.upstream.stream_idle_timeout = silence;
}

/// Tickets: so many now, and the next one far away.
pub(crate) fn scarce(config: &mut Config, tickets: u32) {
    config.limiter.rate_rpm = tickets;
    config.limiter.urgent_reserve = 0;
    config.limiter.bucket_capacity = tickets;
}
