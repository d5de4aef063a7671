//! The service manager's side (systemd): the listeners that it hands over, and the reports of the service's life.
//!
//! Under no manager nothing of this does anything: no listener is handed over, and there is nothing to report to.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::clock::Clock;
use crate::config::Environment;
use crate::front::listen::InheritedListeners;
use crate::lifecycle::Threads;

/// The names of the sockets that are handed over, separated by colons (sd_listen_fds(3)).
const NAMES_VARIABLE: &str = "LISTEN_FDNAMES";
/// What the units call the listener of `listen_port` (`FileDescriptorName=`).
const API: &str = "http";
/// What they call that of `metrics_port`.
const METRICS: &str = "metrics";
/// What a stop may take beyond `drain_timeout`: the last log lines, the end of the process.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// How long the watchdog's thread may take to end; it may be waiting for the limiter.
const WATCHDOG_ENDS: Duration = Duration::from_secs(3);

/// Takes the listeners that were handed over (`LISTEN_FDS`). To be called once, before any thread is started.
///
/// # Errors
/// When a socket is not a TCP listener, or has no use; the message says which.
pub fn handed_over(environment: &Environment) -> io::Result<InheritedListeners> {
    let mut sockets = ListenFd::from_env();
    let names = environment.get(NAMES_VARIABLE).map(|names| names.to_string_lossy().into_owned());
    let names: Vec<&str> = names.as_deref().map(|names| names.split(':').collect()).unwrap_or_default();
    let uses = uses(&names, sockets.len()).map_err(io::Error::other)?;
    let mut take = |places: &[usize]| -> io::Result<Vec<TcpListener>> {
        places.iter().filter_map(|&place| sockets.take_tcp_listener(place).transpose()).collect()
    };
    Ok(InheritedListeners { api: take(&uses.api)?, metrics: take(&uses.metrics)? })
}

/// Which of the sockets are what, by their places.
#[derive(Debug, Default, PartialEq, Eq)]
struct Uses {
    api: Vec<usize>,
    metrics: Vec<usize>,
}

/// Sorts `count` sockets by their names: a socket unit with several addresses hands over as many of one name. One of another
/// name (systemd gives an unnamed one its unit's name) takes the use that is left, the API's first.
fn uses(names: &[&str], count: usize) -> Result<Uses, String> {
    let named = |name: &str| (0..count).filter(|&i| names.get(i) == Some(&name)).collect();
    let mut uses = Uses { api: named(API), metrics: named(METRICS) };
    let known = |i: &usize| names.get(*i).is_some_and(|name| [API, METRICS].contains(name));
    for other in (0..count).filter(|i| !known(i)) {
        match (uses.api.is_empty(), uses.metrics.is_empty()) {
            (true, _) => uses.api.push(other),
            (false, true) => uses.metrics.push(other),
            (false, false) => {
                return Err(format!(
                    "of {count} sockets that are handed over, one is named neither {API} nor {METRICS}"
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

    fn sorted(names: &[&str], count: usize) -> (Vec<usize>, Vec<usize>) {
        let uses = uses(names, count).unwrap();
        (uses.api, uses.metrics)
    }

    #[test]
    fn sockets_are_sorted_by_their_names_in_any_order() {
        assert_eq!(sorted(&["http", "metrics"], 2), (vec![0], vec![1]));
        assert_eq!(sorted(&["metrics", "http"], 2), (vec![1], vec![0]));
        assert_eq!(sorted(&["metrics"], 1), (vec![], vec![0]));
        assert_eq!(
            sorted(&["http", "http", "metrics", "http"], 4),
            (vec![0, 1, 3], vec![2]),
            "several addresses"
        );
    }

    #[test]
    fn sockets_without_a_known_name_are_the_api_first() {
        assert_eq!(sorted(&[], 0), (vec![], vec![]));
        assert_eq!(sorted(&[], 1), (vec![0], vec![]));
        assert_eq!(sorted(&["nvidia-sidecar.socket", "unknown"], 2), (vec![0], vec![1]));
        assert_eq!(sorted(&["other", "http"], 2), (vec![1], vec![0]));
    }

    #[test]
    fn a_socket_without_a_use_is_a_fault() {
        let fault = uses(&["http", "metrics", "admin"], 3).unwrap_err();
        assert!(fault.contains("3 sockets"), "{fault}");
    }
}
