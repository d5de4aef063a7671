//! The service manager's side (systemd): the listeners that it hands over, and what it is told of the service's life.
//!
//! Under no manager nothing of this does anything: no listener is inherited over, and nobody is told.

use std::io;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::clock::Clock;
use crate::config::Environment;
use crate::front::listen::InheritedListeners;
use crate::lifecycle::Threads;

/// The names of the inherited-over sockets, separated by colons (sd_listen_fds(3)).
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";
/// What the units call the listener of `listen_port` (`FileDescriptorName=`).
const API: &str = "http";
/// What they call that of `metrics_port`.
const METRICS: &str = "metrics";
/// What a stop may take beyond `drain_timeout`: the last log lines, the end of the process.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long the watchdog's thread may take to end; it may be waiting for the limiter.
const WATCHDOG_ENDS: Duration = Duration::from_secs(3);

/// Takes the listeners that were inherited over (`LISTEN_FDS`). To be called once, before any thread is started.
///
/// # Errors
/// When a socket is no TCP listener, or nobody knows what it is for; the message says which.
pub fn handed_over(environment: &Environment) -> io::Result<InheritedListeners> {
    let mut sockets = ListenFd::from_env();
    let names = environment.get(NAMES_VARIABLE).map(|names| names.to_string_lossy().into_owned());
    let names: Vec<&str> = names.as_deref().map(|names| names.split(':').collect()).unwrap_or_default();
    let uses = uses(&names, sockets.len()).map_err(io::Error::other)?;
    let mut take = |index: Option<usize>| match index {
        Some(index) => sockets.take_tcp_listener(index),
        None => Ok(None),
    };
    Ok(InheritedListeners { api: take(uses.api)?, metrics: take(uses.metrics)? })
}

/// Which of the sockets is what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Uses {
    api: Option<usize>,
    metrics: Option<usize>,
}

/// Sorts `count` sockets by their names, in whatever order they come. Those of other names (systemd gives an unnamed one
/// its unit's name) take the places that are left, the API's first.
fn uses(names: &[&str], count: usize) -> Result<Uses, String> {
    let named = |name: &str| {
        let mut found = (0..count).filter(|&i| names.get(i) == Some(&name));
        match (found.next(), found.next()) {
            (_, Some(_)) => Err(format!("more than one socket named {name} is inherited over")),
            (first, None) => Ok(first),
        }
    };
    let mut uses = Uses { api: named(API)?, metrics: named(METRICS)? };
    for other in (0..count).filter(|&i| Some(i) != uses.api && Some(i) != uses.metrics).collect::<Vec<_>>() {
        match (uses.api, uses.metrics) {
            (None, _) => uses.api = Some(other),
            (Some(_), None) => uses.metrics = Some(other),
            (Some(_), Some(_)) => {
                return Err(format!(
                    "{count} sockets are inherited over; there is use for one {API} and one {METRICS}"
                ));
            }
        }
    }
    Ok(uses)
}

/// Tells that the service serves, whether for the first time or again after a reload; `status` is for people.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Tells that the configuration is being read again; [`ready`] must follow.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("the monotonic clock cannot be read: {error}"),
    }
}

/// Tells that the service ends, and asks for the time that its drain may take.
pub fn stopping(drain: Duration) {
    let micros = u32::try_from((drain + STOP_MARGIN).as_micros()).unwrap_or(u32::MAX);
    let status = format!("finishing what is under way, within {drain:?}");
    tell(&[NotifyState::Stopping, NotifyState::Status(&status), NotifyState::ExtendTimeoutUsec(micros)]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("the service manager cannot be told: {error}");
    }
}

/// Pings the service manager's watchdog for as long as the service has a pulse.
pub struct Watchdog {
    end: Sender<()>,
    threads: Threads,
}

impl Watchdog {
    /// Starts it if the manager asks for it (`WATCHDOG_USEC`). `has_pulse` is asked twice in the manager's time, and must
    /// itself be bounded.
    ///
    /// # Errors
    /// When the system has no room for another thread.
    pub fn start(has_pulse: impl Fn() -> bool + Send + 'static) -> io::Result<Option<Watchdog>> {
        let Some(time) = sd_notify::watchdog_enabled() else { return Ok(None) };
        let threads = Threads::default();
        let (end, ended) = bounded::<()>(0);
        threads.spawn("watchdog".into(), move || {
            loop {
                if has_pulse() {
                    tell(&[NotifyState::Watchdog]);
                } else {
                    log::error!("the limiter or an event loop does not answer; the service manager's watchdog is not pinged");
                }
                if ended.recv_timeout(time / 2) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Some(Watchdog { end, threads }))
    }

    /// Ends it.
    pub fn stop(self, clock: &Clock) {
        drop(self.end);
        let _ = self.threads.join_until(clock.instant(clock.now() + WATCHDOG_ENDS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(names: &[&str], count: usize) -> (Option<usize>, Option<usize>) {
        let uses = uses(names, count).unwrap();
        (uses.api, uses.metrics)
    }

    #[test]
    fn sockets_are_told_by_their_names_in_any_order() {
        assert_eq!(sorted(&["http", "metrics"], 2), (Some(0), Some(1)));
        assert_eq!(sorted(&["metrics", "http"], 2), (Some(1), Some(0)));
        assert_eq!(sorted(&["metrics"], 1), (None, Some(0)));
    }

    #[test]
    fn sockets_without_a_known_name_are_the_api_first() {
        assert_eq!(sorted(&[], 0), (None, None));
        assert_eq!(sorted(&[], 1), (Some(0), None));
        assert_eq!(sorted(&["nvidia-sidecar.socket", "unknown"], 2), (Some(0), Some(1)));
        assert_eq!(sorted(&["other", "http"], 2), (Some(1), Some(0)));
    }

    #[test]
    fn a_socket_that_nobody_has_a_use_for_is_a_fault() {
        assert!(uses(&["http", "metrics", "admin"], 3).unwrap_err().contains("3 sockets"));
        assert!(uses(&["http", "http"], 2).unwrap_err().contains("named http"));
    }
}
