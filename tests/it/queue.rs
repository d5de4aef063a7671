//! Waiting for a ticket: in which order, how long, how many, and what a request that may not wait is told.

use crate::ask::{Ask, ask, chat};
use crate::client::{Answer, Client};
use crate::patience::{now, until};
use crate::sidecar::{Sidecar, scarce};
use crate::upstream::{Held, Upstream};
use nvidia_sidecar::config::Config;
use nvidia_sidecar::config::limiter::QueueFullPolicy;
use std::time::Duration;

/// A sidecar whose only slot is taken until the test releases it: what comes meanwhile queues.
pub(crate) struct Jam {
    slot: Held,
    first: Client,
    /// The sidecar.
    pub(crate) sidecar: Sidecar,
    // The last to go: it waits for the ends of its answers.
    upstream: Upstream,
}

impl Jam {
    /// A jam.
    pub(crate) fn new(configure: impl FnOnce(&mut Config)) -> Jam {
        let upstream = Upstream::start();
        let sidecar = Sidecar::with(&upstream, |c| {
            c.limiter.max_in_flight = 1;
            configure(c);
        });
        let slot = upstream.hold();
        let first = sidecar.begin(chat("first"));
        slot.request();
        Jam { upstream, sidecar, slot, first }
    }

    /// Lets everything go and tells in which order the rest reached the upstream, by the last word of each.
    pub(crate) fn order(self, mut waiting: Vec<Client>) -> Vec<String> {
        let Jam { upstream, sidecar, slot, mut first } = self;
        slot.answer(200);
        assert_eq!(first.answer().status(), 200);
        for client in &mut waiting {
            assert_eq!(client.answer().status(), 200);
        }
        drop(sidecar);
        let text =
            |body: String| body.split("\"content\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        upstream.bodies().into_iter().skip(1).map(text).collect()
    }
}

#[test]
fn without_a_rate_only_the_slots_bound_what_goes_out() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        c.limiter.rate_rpm = 0;
        c.limiter.bucket_capacity = 1;
    });
    let mut clients: Vec<Client> = (0..100).map(|_| sidecar.begin(chat("at once"))).collect();
    for client in &mut clients {
        assert_eq!(client.answer().status(), 200);
    }
    assert_eq!(upstream.received().len(), 100);
    assert_eq!(sidecar.ask(ask("GET", "/health/ready")).status(), 200);
    let shown = format!("{}{}", sidecar.status(), sidecar.ask(ask("GET", "/metrics")).text());
    assert!(!shown.contains("NaN") && !shown.contains("inf "), "{shown}");
    // A rate can come and go while the sidecar runs.
    sidecar.reload(|c| c.limiter.rate_rpm = 40);
    sidecar.reload(|c| c.limiter.rate_rpm = 0);
    assert_eq!(sidecar.ask(chat("again")).status(), 200);
}

#[test]
fn requests_go_by_priority_and_by_arrival_within_one() {
    let jam = Jam::new(|_| {});
    let asked = ["low 1", "normal 1", "urgent 1", "high 1", "low 2", "high 2", "urgent 2", "normal 2"];
    let queued = (1..).zip(asked).map(|(depth, text)| {
        let priority = text.split(' ').next().unwrap().to_uppercase();
        jam.sidecar.queue(chat(text).priority(&priority), depth)
    });
    let waiting: Vec<Client> = queued.collect();
    let by_priority = jam.sidecar.status()["queue"]["depth_by_priority"].clone();
    assert_eq!(by_priority, serde_json::json!({"urgent": 2, "high": 2, "normal": 2, "low": 2}));
    assert_eq!(
        jam.order(waiting),
        ["urgent 1", "urgent 2", "high 1", "high 2", "normal 1", "normal 2", "low 1", "low 2"]
    );
}

#[test]
fn a_request_that_has_waited_long_enough_rises_so_that_none_starves() {
    let jam = Jam::new(|c| c.limiter.queue.aging = Duration::from_millis(150));
    let old = jam.sidecar.queue(chat("old").priority("low"), 1);
    let began = now();
    until("it has aged", || (now().since(began) > Duration::from_millis(350)).then_some(()));
    let young = jam.sidecar.queue(chat("young"), 2);
    assert_eq!(jam.order(vec![old, young]), ["old", "young"]);
}

#[test]
fn an_unknown_priority_is_normal() {
    let jam = Jam::new(|_| {});
    let names = ["low", "whatever", "", "HIGH"];
    let waiting: Vec<Client> =
        (1..).zip(names).map(|(depth, name)| jam.sidecar.queue(chat(name).priority(name), depth)).collect();
    assert_eq!(jam.order(waiting), ["HIGH", "whatever", "", "low"]);
}

#[test]
fn an_urgent_request_that_arrives_last_gets_the_next_ticket() {
    let upstream = Upstream::start();
    // One ticket a second: the wait is for the ticket, not for a slot.
    let sidecar = Sidecar::with(&upstream, |c| {
        c.limiter.rate_rpm = 60;
        c.limiter.bucket_capacity = 1;
    });
    assert_eq!(sidecar.ask(chat("first")).status(), 200);
    let early = sidecar.queue(chat("early"), 1);
    let mut late = sidecar.queue(chat("late").priority("urgent"), 2);
    assert_eq!(late.answer().status(), 200);
    assert!(upstream.bodies()[1].contains("late"));
    drop(early);
}

#[test]
fn clients_of_one_priority_take_turns() {
    let jam = Jam::new(|_| {});
    let asked = ["flood 1", "flood 2", "flood 3", "flood 4", "single 1", "other 1"];
    let waiting = (1..).zip(asked).map(|(depth, text)| {
        jam.sidecar.queue(chat(text).field("X-Agent-Id", text.split(' ').next().unwrap()), depth)
    });
    let waiting: Vec<Client> = waiting.collect();
    let order = jam.order(waiting);
    assert!(order.iter().position(|t| t == "other 1") <= Some(2), "{order:?}");
    assert!(order.iter().position(|t| t == "single 1") <= Some(2), "{order:?}");
}

#[test]
fn never_more_than_the_rate_in_a_minute_whatever_the_burst() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| scarce(c, 5));
    let clients: Vec<Client> = (0..20).map(|_| sidecar.begin(chat("burst"))).collect();
    upstream.wait_for(5);
    sidecar.wait_for_queue(15);
    let answered = clients.iter().filter(|c| c.has_input()).count();
    assert!(answered <= 5);
    assert_eq!(upstream.most_within(Duration::from_secs(60)), 5);
}

fn assert_no_ticket(answer: &Answer) {
    answer.assert_error(429, "RateLimitedError");
    let retry_after = answer.head.number("retry-after");
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    assert!(answer.head.field("x-sidecar-queue-ms").is_some());
    assert_eq!(answer.head.number("x-sidecar-attempts"), 0);
}

/// A sidecar with this many tickets a minute, all of them spent.
fn exhausted(tickets: u32, configure: impl FnOnce(&mut Config)) -> (Upstream, Sidecar) {
    let upstream = Upstream::start();
    let sidecar = Sidecar::with(&upstream, |c| {
        scarce(c, tickets);
        configure(c);
    });
    for _ in 0..tickets {
        assert_eq!(sidecar.ask(chat("spends")).status(), 200);
    }
    (upstream, sidecar)
}

#[test]
fn a_request_that_would_wait_too_long_is_refused_at_once() {
    let (_upstream, sidecar) = exhausted(2, |c| c.limiter.queue.timeout = Duration::from_secs(8));
    let began = now();
    assert_no_ticket(&sidecar.ask(chat("hopeless")));
    assert!(now().since(began) < Duration::from_secs(5), "at once, not after its wait");
}

#[test]
fn a_client_says_how_long_it_is_willing_to_wait() {
    let (_upstream, sidecar) = exhausted(2, |_| {});
    let patient = sidecar.queue(chat("patient"), 1);
    let began = now();
    assert_no_ticket(&sidecar.ask(chat("in a hurry").field("X-Sidecar-Max-Wait", "0.5")));
    assert_no_ticket(&sidecar.ask(chat("in a hurry").field("X-Sidecar-Max-Wait", "0")));
    assert!(now().since(began) < Duration::from_secs(6));
    drop(patient);
}

#[test]
fn a_client_that_will_not_wait_is_served_when_a_ticket_is_there() {
    let upstream = Upstream::start();
    let sidecar = Sidecar::before(&upstream);
    until("a machine that is not too busy serves it", || {
        let answer = sidecar.ask(chat("now or never").field("X-Sidecar-Max-Wait", "0"));
        (answer.status() == 200).then_some(())
    });
}

#[test]
fn the_retry_after_is_an_estimate_and_not_a_constant() {
    let hint = |rate| {
        let (_upstream, sidecar) = exhausted(1, |c| c.limiter.rate_rpm = rate);
        sidecar.reload(|c| c.limiter.queue.timeout = Duration::ZERO);
        let answer = sidecar.ask(chat("when then?"));
        assert_no_ticket(&answer);
        answer.head.number("retry-after")
    };
    // One token, and the next one comes after a minute, twelve seconds, two seconds.
    let hints = [1, 5, 30].map(hint);
    assert!(hints[0] > 50 && (8..=13).contains(&hints[1]) && hints[2] <= 3, "{hints:?}");
}

#[test]
fn a_wait_that_could_have_ended_in_time_ends_with_429_after_it() {
    // The slot, not the ticket, is missing, so no estimate refuses it before.
    let jam = Jam::new(|c| c.limiter.queue.timeout = Duration::from_millis(300));
    let began = now();
    let answer = jam.sidecar.ask(chat("waits"));
    assert_no_ticket(&answer);
    assert!(now().since(began) >= Duration::from_millis(290));
    assert!(answer.head.number("x-sidecar-queue-ms") >= 290);
}

#[test]
fn low_work_is_shed_when_it_is_next_and_no_ticket_comes() {
    let (_upstream, sidecar) =
        exhausted(1, |c| c.limiter.queue.low_priority_timeout = Duration::from_millis(200));
    let mut low = sidecar.begin(chat("low").priority("low"));
    assert_no_ticket(&low.answer());
    let normal = sidecar.queue(chat("normal"), 1);
    let behind = sidecar.queue(chat("low behind").priority("low"), 2);
    until("some time has passed", || (sidecar.status()["uptime_seconds"].as_f64() > Some(1.0)).then_some(()));
    assert!(!behind.has_input(), "it is not next in line");
    assert!(!normal.has_input());
}

#[test]
fn a_full_queue_refuses_when_the_policy_is_reject() {
    let jam = Jam::new(|c| {
        c.limiter.queue.max_size = 2;
        c.limiter.queue.full_policy = QueueFullPolicy::Reject;
    });
    let waiting = vec![jam.sidecar.queue(chat("a"), 1), jam.sidecar.queue(chat("b"), 2)];
    let answer = jam.sidecar.ask(chat("c").priority("urgent"));
    answer.assert_error(503, "QueueFullError");
    assert!((1..=60).contains(&answer.head.number("retry-after")));
    let status = jam.sidecar.status();
    assert_eq!(status["errors"]["queue_full_rejects"], 1);
    assert_eq!(
        (&status["queue"]["max_size"], &status["queue"]["full_policy"]),
        (&2.into(), &"reject".into())
    );
    assert_eq!(jam.order(waiting), ["a", "b"]);
}

#[test]
fn a_full_queue_drops_the_newest_of_the_lowest_when_the_policy_says_so() {
    let jam = Jam::new(|c| {
        c.limiter.queue.max_size = 3;
        c.limiter.queue.full_policy = QueueFullPolicy::DropLowest;
    });
    let low_1 = jam.sidecar.queue(chat("low 1").priority("low"), 1);
    let mut low_2 = jam.sidecar.queue(chat("low 2").priority("low"), 2);
    let normal = jam.sidecar.queue(chat("normal"), 3);
    let high = jam.sidecar.begin(chat("high").priority("high"));
    low_2.answer().assert_error(503, "QueueFullError");
    jam.sidecar.ask(chat("low 3").priority("low")).assert_error(503, "QueueFullError");
    until("one was dropped and one refused", || {
        (jam.sidecar.status()["queue"]["total_dropped"].as_u64() >= Some(1)).then_some(())
    });
    assert_eq!(jam.order(vec![low_1, normal, high]), ["high", "normal", "low 1"]);
}

#[test]
fn a_full_queue_lets_wait_outside_when_the_policy_is_passthrough() {
    let jam = Jam::new(|c| {
        c.limiter.queue.max_size = 1;
        c.limiter.queue.full_policy = QueueFullPolicy::Passthrough;
    });
    let inside = jam.sidecar.queue(chat("inside"), 1);
    let outside = jam.sidecar.begin(chat("outside"));
    until("it waits outside", || (jam.sidecar.status()["queue"]["overflow"] == 1).then_some(()));
    assert_eq!(jam.sidecar.status()["queue"]["current_size"], 1);
    assert_eq!(jam.order(vec![inside, outside]), ["inside", "outside"]);
}

#[test]
fn the_queue_is_bounded_by_bytes_too() {
    let big = |text: &str| -> Ask {
        let body = format!(r#"{{"model":"nvidia/x","content":"{text}","pad":"{}"}}"#, "x".repeat(20_000));
        ask("POST", "/v1/chat/completions").body(body)
    };
    let jam = Jam::new(|c| {
        c.limiter.queue.max_bytes = 50_000;
        c.limiter.queue.full_policy = QueueFullPolicy::Reject;
    });
    let waiting = vec![jam.sidecar.queue(big("a"), 1), jam.sidecar.queue(big("b"), 2)];
    jam.sidecar.ask(big("c")).assert_error(503, "QueueFullError");
    let bytes = jam.sidecar.status()["queue"]["bytes"].as_u64().unwrap();
    assert!((40_000..=50_000).contains(&bytes), "{bytes}");
    assert_eq!(jam.order(waiting), ["a", "b"]);
}

#[test]
fn a_limited_answer_tells_how_long_it_waited_and_how_often_it_was_sent() {
    let jam = Jam::new(|_| {});
    let mut waiting = jam.sidecar.queue(chat("waits"), 1);
    let began = now();
    until("a while has passed", || (now().since(began) > Duration::from_millis(100)).then_some(()));
    let Jam { upstream: _upstream, sidecar: _sidecar, slot, first: _first } = jam;
    slot.answer(200);
    let head = waiting.answer().head;
    assert!(head.number("x-sidecar-queue-ms") >= 100);
    assert_eq!(head.number("x-sidecar-attempts"), 1);
}

#[test]
fn what_is_not_limited_never_waits_for_what_is() {
    let (_upstream, sidecar) = exhausted(1, |_| {});
    let waiting: Vec<Client> = (1..=3).map(|depth| sidecar.queue(chat("waits"), depth)).collect();
    for _ in 0..10 {
        assert_eq!(sidecar.ask(crate::ask::models()).status(), 200);
        assert_eq!(sidecar.ask(crate::ask::model("openai/gpt", "x")).status(), 200);
    }
    drop(waiting);
}

#[test]
fn a_thousand_parked_requests_all_get_their_answer() {
    let jam = Jam::new(|c| c.limiter.queue.max_size = 1000);
    let mut parked: Vec<Client> = (0..1000).map(|_| jam.sidecar.begin(chat("parked"))).collect();
    jam.sidecar.wait_for_queue(1000);
    jam.sidecar.reload(|c| c.limiter.max_in_flight = 8);
    assert!(parked.iter_mut().all(|client| client.answer().status() == 200));
    until("the queue is empty again", || {
        let queue = jam.sidecar.status()["queue"].clone();
        (queue["current_size"] == 0 && queue["bytes"] == 0).then_some(())
    });
}
