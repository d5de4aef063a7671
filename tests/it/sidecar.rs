//! A sidecar inside the test's process, on ports of its own.

use crate::ask::{Ask, ask};
use crate::client::{Answer, Client};
use crate::patience::until;
use crate::upstream::Upstream;
use nvidia_sidecar::app;
use nvidia_sidecar::clock::Clock;
use nvidia_sidecar::config::{BaseUrl, Config};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// A running sidecar; stopped when it is dropped.
pub(crate) struct Sidecar {
    running: Option<app::Sidecar>,
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
        Sidecar { running: Some(app::Sidecar::start(config, Clock::start()).expect("a sidecar that starts")) }
    }

    /// The sidecar itself.
    pub(crate) fn app(&self) -> &app::Sidecar {
        self.running.as_ref().expect("it runs until it is stopped")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.app().api_address()
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn begin(&self, ask: Ask) -> Client {
        let mut client = self.connect();
        client.send(Vec::from(ask));
        client
    }

    /// Sends a request on a connection of its own and reads the answer.
    #[track_caller]
    pub(crate) fn ask(&self, ask: Ask) -> Answer {
        self.begin(ask).answer()
    }

    /// What `/status` says.
    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.ask(ask("GET", "/status")).json()
    }

    /// Waits until so many requests wait in the queue.
    #[track_caller]
    pub(crate) fn wait_for_queue(&self, depth: u64) {
        until(&format!("{depth} requests are queued"), || {
            (self.status()["queue"]["current_size"] == depth).then_some(())
        });
    }

    /// Sends a request that is to wait, and waits until it does; `depth` counts it.
    #[track_caller]
    pub(crate) fn queue(&self, ask: Ask, depth: u64) -> Client {
        let client = self.begin(ask);
        self.wait_for_queue(depth);
        client
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
