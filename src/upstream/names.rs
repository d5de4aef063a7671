//! Addresses of the upstreams' names: looked up by one thread a name, remembered, and used while they are looked up again.

use crate::clock::{Clock, Moment};
use crate::lifecycle::Threads;
use crate::upstream::reason::{Kind, Reason};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// How long addresses are used before they are looked up again.
const TTL: Duration = Duration::from_secs(30);

/// Names remembered at once: the upstream's, the pass-through's, a proxy's, and what a reload adds.
const MAX_NAMES: usize = 8;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Looks one name up, as [`ToSocketAddrs`] does; it may block for as long as the system's resolver does.
type LookUp = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The memory. Clones share it.
#[derive(Clone)]
pub(super) struct Names {
    shared: Arc<Shared>,
    clock: Clock,
    /// Not waited for at the end of the process: a look-up lasts as long as the system's resolver wants.
    threads: Threads,
}

struct Shared {
    known: Mutex<Vec<Name>>,
    changed: Condvar,
    look_up: Box<LookUp>,
}

#[derive(Debug)]
struct Name {
    host: String,
    port: u16,
    addresses: Vec<SocketAddr>,
    /// When the addresses were learnt, or looking them up failed.
    at: Moment,
    failure: Option<String>,
    /// A thread is looking it up.
    is_looked_up: bool,
}

impl Names {
    /// An empty memory before the system's resolver.
    pub(super) fn new(clock: Clock) -> Names {
        Names::with(clock, |host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn with(
        clock: Clock,
        look_up: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Names {
        let shared = Shared { known: Mutex::default(), changed: Condvar::new(), look_up: Box::new(look_up) };
        Names { shared: Arc::new(shared), clock, threads: Threads::default() }
    }

    /// The addresses of `host`, the best first. Waits only for a name of which nothing is known, at most until `until`.
    pub(super) fn addresses(&self, host: &str, port: u16, until: Moment) -> Result<Vec<SocketAddr>, Reason> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let began = self.clock.now();
        let mut known = self.shared.known.lock();
        loop {
            let now = self.clock.now();
            let place = self.place_of(&mut known, bare, port);
            let name = &mut known[place];
            let is_fresh = name.failure.is_none() && now.since(name.at) < TTL && name.at > Moment::ZERO;
            let failed_since = name.failure.clone().filter(|_| name.at >= began && !name.is_looked_up);
            if !name.addresses.is_empty() {
                let addresses = name.addresses.clone();
                if !is_fresh && !name.is_looked_up {
                    // It serves in the meantime, and when it cannot be looked up again, for longer.
                    drop(self.begin(&mut known, place));
                }
                return Ok(addresses);
            }
            if let Some(failure) = failed_since {
                return Err(Reason::new(Kind::Connect, format!("the name {bare} was not found ({failure})")));
            }
            if !name.is_looked_up {
                self.begin(&mut known, place)?;
            }
            if self.shared.changed.wait_until(&mut known, self.clock.instant(until)).timed_out()
                && self.clock.now() >= until
            {
                return Err(Reason::new(
                    Kind::ConnectTimeout,
                    format!("the resolver did not find the name {bare} in time"),
                ));
            }
        }
    }

    /// `address` accepted a connection: it is tried first from now on.
    pub(super) fn worked(&self, host: &str, port: u16, address: SocketAddr) {
        if let Some(name) = find(&mut self.shared.known.lock(), host, port)
            && let Some(place) = name.addresses.iter().position(|known| *known == address)
        {
            name.addresses[..=place].rotate_right(1);
        }
    }

    /// None of the addresses accepted a connection: they are not used again before the name has been looked up.
    pub(super) fn forget(&self, host: &str, port: u16) {
        if let Some(name) = find(&mut self.shared.known.lock(), host, port) {
            name.addresses.clear();
        }
    }

    /// The place of a name, made where it is new; the one that was looked up longest ago goes when there is no room.
    fn place_of(&self, known: &mut Vec<Name>, host: &str, port: u16) -> usize {
        if let Some(place) = known.iter().position(|name| name.is(host, port)) {
            return place;
        }
        if known.len() >= MAX_NAMES {
            let oldest = known.iter().enumerate().min_by_key(|(_, name)| (name.is_looked_up, name.at));
            if let Some((place, _)) = oldest {
                known.remove(place);
            }
        }
        known.push(Name {
            host: host.into(),
            port,
            addresses: Vec::new(),
            at: Moment::ZERO,
            failure: None,
            is_looked_up: false,
        });
        known.len() - 1
    }

    /// Starts the thread that looks a name up.
    fn begin(&self, known: &mut MutexGuard<'_, Vec<Name>>, place: usize) -> Result<(), Reason> {
        let (host, port) = (known[place].host.clone(), known[place].port);
        known[place].is_looked_up = true;
        let (shared, clock) = (self.shared.clone(), self.clock);
        let started = self.threads.spawn("resolver".into(), move || {
            let found = (shared.look_up)(&host, port);
            let mut known = shared.known.lock();
            if let Some(name) = find(&mut known, &host, port) {
                name.learn(found, clock.now());
            }
            drop(known);
            shared.changed.notify_all();
        });
        started.map_err(|error| {
            known[place].is_looked_up = false;
            Reason::new(Kind::Connect, format!("no thread to look a name up: {error}"))
        })
    }
}

impl Name {
    fn is(&self, host: &str, port: u16) -> bool {
        self.port == port && self.host == host
    }

    fn learn(&mut self, found: io::Result<Vec<SocketAddr>>, now: Moment) {
        self.is_looked_up = false;
        self.at = now;
        match found {
            Ok(mut found) if !found.is_empty() => {
                found.truncate(MAX_ADDRESSES);
                // The one that worked stays the first.
                if let Some(first) = self.addresses.first()
                    && let Some(place) = found.iter().position(|address| address == first)
                {
                    found[..=place].rotate_right(1);
                }
                self.addresses = found;
                self.failure = None;
            }
            Ok(_) => self.failure = Some("it has no address".into()),
            Err(error) => self.failure = Some(error.to_string()),
        }
    }
}

fn find<'a>(known: &'a mut [Name], host: &str, port: u16) -> Option<&'a mut Name> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    known.iter_mut().find(|name| name.is(bare, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, Sender, unbounded};
    use std::thread;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 443))
    }

    /// Names whose look-ups wait for what the test answers.
    fn scripted(clock: Clock) -> (Names, Receiver<String>, Sender<io::Result<Vec<SocketAddr>>>) {
        let (asked, questions) = unbounded();
        let (answers, answer) = unbounded::<io::Result<Vec<SocketAddr>>>();
        let names = Names::with(clock, move |host, _| {
            asked.send(host.to_owned()).unwrap();
            answer.recv().unwrap_or_else(|_| Err(io::ErrorKind::NotFound.into()))
        });
        (names, questions, answers)
    }

    fn soon(clock: Clock) -> Moment {
        clock.now() + PATIENCE
    }

    /// Makes what is known of `host` as old as its time to live.
    fn age(names: &Names, host: &str) {
        let mut known = names.shared.known.lock();
        find(&mut known, host, 443).unwrap().failure = Some("old".into());
    }

    fn wait_until_known(names: &Names, host: &str, is: impl Fn(&Name) -> bool) {
        let mut known = names.shared.known.lock();
        while !find(&mut known, host, 443).is_some_and(|name| is(name)) {
            let timed_out = names
                .shared
                .changed
                .wait_until(&mut known, names.clock.instant(soon(names.clock)))
                .timed_out();
            assert!(!timed_out, "{known:?}");
        }
    }

    #[test]
    fn ten_who_ask_for_one_name_ask_once() {
        let clock = Clock::start();
        let (names, questions, answers) = scripted(clock);
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let names = names.clone();
                thread::Builder::new().spawn(move || names.addresses("h", 443, soon(clock)).unwrap()).unwrap()
            })
            .collect();
        assert_eq!(questions.recv_timeout(PATIENCE).unwrap(), "h");
        answers.send(Ok(vec![address(1)])).unwrap();
        for one in asking {
            assert_eq!(one.join().unwrap(), [address(1)]);
        }
        assert!(questions.try_recv().is_err(), "asked more than once");
    }

    #[test]
    fn an_old_answer_serves_while_the_name_is_looked_up_again() {
        let clock = Clock::start();
        let (names, questions, answers) = scripted(clock);
        answers.send(Ok(vec![address(1)])).unwrap();
        assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(1)]);
        age(&names, "h");
        // The resolver is silent from here on; nobody waits for it.
        for _ in 0..3 {
            assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(1)]);
        }
        answers.send(Ok(vec![address(2)])).unwrap();
        wait_until_known(&names, "h", |name| name.addresses == [address(2)]);
        assert_eq!(questions.try_iter().count(), 2);
        age(&names, "h");
        answers.send(Err(io::ErrorKind::NotFound.into())).unwrap();
        assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(2)]);
        wait_until_known(&names, "h", |name| !name.is_looked_up);
        answers.send(Err(io::ErrorKind::NotFound.into())).unwrap();
        assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(2)], "better than none");
    }

    #[test]
    fn what_refused_is_looked_up_before_it_is_used_again() {
        let clock = Clock::start();
        let (names, _questions, answers) = scripted(clock);
        answers.send(Ok(vec![address(1)])).unwrap();
        names.addresses("h", 443, soon(clock)).unwrap();
        names.forget("h", 443);
        answers.send(Ok(vec![address(2)])).unwrap();
        assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(2)]);
    }

    #[test]
    fn the_address_that_worked_last_is_the_first() {
        let clock = Clock::start();
        let (names, _questions, answers) = scripted(clock);
        answers.send(Ok(vec![address(1), address(2), address(3)])).unwrap();
        names.addresses("h", 443, soon(clock)).unwrap();
        names.worked("h", 443, address(3));
        assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(3), address(1), address(2)]);
        age(&names, "h");
        answers.send(Ok(vec![address(2), address(4), address(3)])).unwrap();
        names.addresses("h", 443, soon(clock)).unwrap();
        wait_until_known(&names, "h", |name| name.failure.is_none());
        assert_eq!(names.addresses("h", 443, soon(clock)).unwrap(), [address(3), address(2), address(4)]);
    }

    #[test]
    fn a_name_that_is_not_found_says_so_and_a_silent_resolver_costs_no_more_than_the_time_given() {
        let clock = Clock::start();
        let (names, _questions, answers) = scripted(clock);
        answers.send(Err(io::Error::other("no such host"))).unwrap();
        let error = names.addresses("h", 443, soon(clock)).unwrap_err();
        assert_eq!((error.kind, &*error.text), (Kind::Connect, "the name h was not found (no such host)"));
        let error = names.addresses("silent", 443, clock.now()).unwrap_err();
        assert_eq!(error.kind, Kind::ConnectTimeout);
    }

    #[test]
    fn memory_is_bounded_and_addresses_need_no_resolver() {
        let clock = Clock::start();
        let names = Names::with(clock, |_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]));
        for i in 0..100 {
            names.addresses(&format!("h{i}"), 443, soon(clock)).unwrap();
        }
        assert_eq!(names.shared.known.lock().len(), MAX_NAMES);
        assert_eq!(names.addresses("[::1]", 80, Moment::ZERO).unwrap(), ["[::1]:80".parse().unwrap()]);
        assert_eq!(names.addresses("10.0.0.1", 80, Moment::ZERO).unwrap(), ["10.0.0.1:80".parse().unwrap()]);
        assert_eq!(names.shared.known.lock().len(), MAX_NAMES);
    }
}
