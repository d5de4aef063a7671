//! Everything at once: reports, reloads, admissions, hang-ups and reads from eight threads, and nothing is lost.

use crate::ask::{Ask, ask, chat, model};
use crate::patience::{PATIENCE, now, until};
use crate::sidecar::Sidecar;
use crate::upstream::Upstream;
use crate::wire::json;
use nvidia_sidecar::app;
use nvidia_sidecar::config::Config;
use nvidia_sidecar::config::limiter::QueueFullPolicy;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn eight_threads_at_once_for_a_second_and_nothing_is_lost() {
    let upstream = Upstream::start();
    upstream.always("nvidia/refuses", &json(429, &[("Retry-After", "0")], "{}"));
    let sidecar = Sidecar::with(&upstream, |c| {
        c.drain_timeout = PATIENCE;
        c.upstream.max_attempts = 2;
        c.limiter.max_in_flight = 4;
        c.limiter.queue.timeout = Duration::from_millis(500);
    });
    let (sent, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let began = now();
    let goes_on = || now().since(began) < Duration::from_secs(1);
    let (sidecar, sent, answered, goes_on) = (&sidecar, &sent, &answered, &goes_on);
    let asks = move |request: fn() -> Ask, statuses: &'static [u16]| {
        move || {
            let mut client = sidecar.connect();
            while goes_on() {
                sent.fetch_add(1, Ordering::Relaxed);
                let answer = client.send(Vec::from(request())).answer();
                assert!(statuses.contains(&answer.status()), "{}: {}", answer.status(), answer.text());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        // Admissions, and reports of successes and of refusals.
        scope.spawn(asks(|| chat("normal"), &[200, 429]));
        scope.spawn(asks(|| chat("urgent").priority("urgent"), &[200, 429]));
        scope.spawn(asks(|| model("nvidia/refuses", "x").priority("low"), &[429]));
        scope.spawn(asks(|| model("openai/gpt", "x"), &[200]));
        // Reads, and an operator who resets the rate.
        scope.spawn(move || {
            while goes_on() {
                assert!(sidecar.status()["queue"]["current_size"].is_u64());
                assert_eq!(sidecar.ask(ask("GET", "/metrics")).status(), 200);
                let reset = ask("POST", "/api/admin/reset").host("localhost").body("");
                assert_eq!(sidecar.ask(reset).status(), 200);
            }
        });
        // Hang-ups.
        scope.spawn(move || {
            while goes_on() {
                drop(sidecar.begin(chat("leaves")));
            }
        });
        // Reloads, two at a time.
        for odd in [0, 1] {
            scope.spawn(move || {
                for turn in 0_u32.. {
                    if !goes_on() {
                        break;
                    }
                    let mut config = Config::clone(&sidecar.app().config());
                    config.limiter.rate_rpm = 600_000 + turn * 2 + odd;
                    config.limiter.max_in_flight = if turn % 2 == 0 { 4 } else { 32 };
                    config.limiter.queue.full_policy =
                        if turn % 3 == 0 { QueueFullPolicy::Reject } else { QueueFullPolicy::Passthrough };
                    sidecar.app().reload(&config).expect("it fits");
                }
            });
        }
    });
    assert!(answered.load(Ordering::Relaxed) > 0, "it stood still");
    assert_eq!(sent.load(Ordering::Relaxed), answered.load(Ordering::Relaxed), "each got its answer");
    let status = until("all is quiet", || {
        let status = sidecar.status();
        (status["in_flight"] == 0 && status["queue"]["current_size"] == 0).then_some(status)
    });
    assert!(
        status["requests"]["total"].as_u64() >= Some(answered.load(Ordering::Relaxed) as u64),
        "{status}"
    );
}

#[test]
fn all_threads_are_joined_at_the_end() {
    for _ in 0..10 {
        let upstream = Upstream::start();
        let sidecar = Sidecar::with(&upstream, |c| c.drain_timeout = PATIENCE);
        for _ in 0..5 {
            assert_eq!(sidecar.ask(chat("a")).status(), 200);
        }
        assert!(matches!(sidecar.stop(), app::End::Drained));
    }
}
