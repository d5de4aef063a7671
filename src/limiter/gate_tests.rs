//! Stories of the gate, and a random walk that no invariant may fail on.

use super::*;
use crate::clock::duration_from_secs_f64;
use crate::config::limiter::{ModelPattern, ModelRate, QueueSettings, RateWindow};
use crate::limiter::admission::{Outlook, Report, Scope, Verdict};
use crate::limiter::snapshot::ClientSide;
use crate::limiter::snapshot::RetreatState;
use crate::priority::Priority;
use proptest::prelude::*;

const OWN: Verdict = Verdict::Refused { scope: Scope::Model, retry_after: None };
const PLAIN: Verdict = Verdict::Refused { scope: Scope::Unknown, retry_after: None };

fn at(secs: f64) -> Moment {
    Moment::from_secs_f64(secs)
}

/// A gate over job numbers, and the hand that drives it.
struct Story {
    gate: Gate<u64>,
    now: Moment,
    ids: u64,
    out: HashMap<u64, (Ticket, Candidate)>,
    expired: Vec<(u64, Outlook)>,
}

impl Story {
    fn new(settings: Settings) -> Story {
        let now = at(1.0);
        Story { gate: Gate::new(settings, now), now, ids: 0, out: HashMap::new(), expired: Vec::new() }
    }

    fn candidate(&mut self, priority: Priority, client: &str, model: &str) -> Candidate {
        self.ids += 1;
        Candidate {
            id: self.ids,
            priority,
            client: client.into(),
            model: Some(model.into()),
            arrived: self.now,
            deadline: self.now + Duration::from_secs(600),
            bytes: 100,
        }
    }

    fn offer(&mut self, priority: Priority, client: &str, model: &str) -> (u64, Offered<u64>) {
        let candidate = self.candidate(priority, client, model);
        let id = candidate.id;
        (id, self.gate.offer(candidate, id, self.now))
    }

    fn queue(&mut self, priority: Priority, client: &str, model: &str) -> u64 {
        let (id, offered) = self.offer(priority, client, model);
        assert!(matches!(offered, Offered::Queued), "{offered:?}");
        id
    }

    /// Everything that may happen now; gives the jobs that were released.
    fn released(&mut self) -> Vec<u64> {
        let mut released = Vec::new();
        loop {
            match self.gate.next(self.now) {
                Next::Release { job, candidate, ticket } => {
                    self.gate.report(ticket, Report::Sent { at: self.now }, self.now);
                    self.out.insert(job, (ticket, candidate));
                    released.push(job);
                }
                Next::Expired { job, outlook, .. } => self.expired.push((job, outlook)),
                Next::Nothing => return released,
            }
        }
    }

    /// Lets time pass as the gate asks for it; gives what was released, with the second of its release.
    fn pass(&mut self, secs: f64) -> Vec<(u64, f64)> {
        let until = self.now + duration_from_secs_f64(secs);
        let mut all = Vec::new();
        loop {
            let when = self.now.as_secs_f64();
            all.extend(self.released().into_iter().map(|job| (job, when)));
            match self.gate.ready_at(self.now).filter(|&due| due <= until) {
                Some(due) => {
                    assert!(due > self.now, "asks to be called again at once at {due:?}");
                    self.now = due;
                }
                None => break,
            }
        }
        self.now = until;
        all
    }

    fn answer(&mut self, job: u64, verdict: Verdict) {
        let (ticket, candidate) = self.out.remove(&job).unwrap();
        let sent_at = ticket.granted_at;
        self.gate.report(ticket, Report::Answered { sent_at, answered_at: self.now, verdict }, self.now);
        self.gate.done(ticket, self.now);
        if matches!(verdict, Verdict::Refused { .. }) {
            self.gate.give_back(candidate, job, self.now, None);
        }
    }
}

#[test]
fn a_burst_leaves_two_places_to_urgent_and_each_minute_is_used_to_its_last_place() {
    let mut story = Story::new(Settings::default());
    for _ in 0..100 {
        story.queue(Priority::Normal, "a", "m");
    }
    assert_eq!(story.released().len(), 38);
    let later = story.pass(130.0);
    let until = |secs: f64| 38 + later.iter().filter(|(_, when)| *when <= 1.0 + secs).count();
    assert_eq!([until(55.0), until(60.1), until(60.5), until(120.1), until(120.7)], [38, 40, 76, 80, 100]);
}

#[test]
fn urgent_finds_two_places_behind_a_burst_and_the_third_within_the_minute() {
    let mut story = Story::new(Settings::default());
    for _ in 0..300 {
        story.queue(Priority::Normal, "a", "m");
    }
    story.pass(5.0);
    let urgent: Vec<_> = (0..3).map(|_| story.queue(Priority::Urgent, "b", "m")).collect();
    assert_eq!(story.released(), urgent[..2]);
    let third = story.pass(60.0).into_iter().find(|(job, _)| *job == urgent[2]).unwrap();
    assert!(third.1 < 66.0, "{third:?}");
}

#[test]
fn no_token_is_shown_that_has_no_place() {
    let mut story = Story::new(Settings::default());
    for _ in 0..100 {
        story.queue(Priority::Normal, "a", "m");
    }
    story.released();
    let bucket = story.gate.snapshot(story.now).bucket;
    for (secs, tokens) in [(0.0, 2.0), (50.0, 2.0), (61.0, 40.0)] {
        let shown = bucket.tokens_at(story.now + duration_from_secs_f64(secs));
        assert!((shown - tokens).abs() < 1e-6, "{shown} tokens after {secs} s");
    }
}

#[test]
fn a_low_job_is_shed_two_seconds_after_it_became_next_in_line_and_not_before() {
    let settings = Settings { bucket_capacity: 1, ..Settings::default() };
    let mut story = Story::new(Settings { rate_rpm: 6, ..settings });
    story.queue(Priority::High, "a", "m");
    story.queue(Priority::High, "a", "m");
    let low = story.queue(Priority::Low, "b", "m");
    story.pass(9.0);
    assert!(story.expired.is_empty(), "somebody else was ahead");
    story.pass(1.5);
    assert!(story.expired.is_empty());
    story.pass(1.6);
    let (job, outlook) = story.expired[0];
    assert_eq!(job, low);
    assert!((1..=60).contains(&outlook.retry_after.as_secs()));
}

#[test]
fn a_request_that_cannot_be_served_in_time_is_refused_at_once_with_place_and_estimate() {
    let mut story = Story::new(Settings { bucket_capacity: 1, ..Settings::default() });
    for _ in 0..21 {
        story.queue(Priority::Normal, "a", "m");
    }
    story.released();
    let mut hurried = story.candidate(Priority::Normal, "a", "m");
    hurried.deadline = story.now + Duration::from_secs(20);
    match story.gate.offer(hurried, 99, story.now) {
        Offered::Refused { job: 99, reason: Refused::NoTicket, outlook } => {
            assert_eq!(outlook.position, 21);
            assert!((outlook.eta.as_secs_f64() - 31.5).abs() < 0.1, "{outlook:?}");
            assert_eq!(outlook.retry_after.as_secs(), 32);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_queue_follows_its_policy() {
    let full = |full_policy| {
        let queue = QueueSettings { max_size: 2, full_policy, ..QueueSettings::default() };
        let mut story = Story::new(Settings { queue, max_in_flight: 0, ..Settings::default() });
        story.queue(Priority::Normal, "a", "m");
        story.queue(Priority::Normal, "a", "m");
        story
    };
    let mut reject = full(QueueFullPolicy::Reject);
    assert!(matches!(
        reject.offer(Priority::Urgent, "b", "m").1,
        Offered::Refused { reason: Refused::QueueFull, .. }
    ));

    let mut drop = full(QueueFullPolicy::DropLowest);
    assert!(matches!(
        drop.offer(Priority::Normal, "b", "m").1,
        Offered::Refused { reason: Refused::QueueFull, .. }
    ));
    assert!(matches!(drop.offer(Priority::High, "b", "m").1, Offered::Displaced { id: 2, job: 2, .. }));

    let mut pass = full(QueueFullPolicy::Passthrough);
    assert!(matches!(pass.offer(Priority::Normal, "b", "m").1, Offered::Overflow));
    let queue = pass.gate.snapshot(pass.now).queue;
    assert_eq!((queue.current_size, queue.overflow, queue.total_overflowed), (2, 1, 1));
    assert_eq!(pass.gate.cancel(1, pass.now), Some(1));
    let queue = pass.gate.snapshot(pass.now).queue;
    assert_eq!((queue.current_size, queue.overflow), (2, 0), "it moves up when there is room");
}

#[test]
fn heavy_bodies_fill_the_queue_as_many_do() {
    let queue =
        QueueSettings { max_bytes: 250, full_policy: QueueFullPolicy::Reject, ..QueueSettings::default() };
    let mut story = Story::new(Settings { queue, max_in_flight: 0, ..Settings::default() });
    story.queue(Priority::Normal, "a", "m");
    story.queue(Priority::Normal, "a", "m");
    assert!(matches!(
        story.offer(Priority::Normal, "a", "m").1,
        Offered::Refused { reason: Refused::QueueFull, .. }
    ));
}

#[test]
fn a_model_that_refuses_waits_alone_and_is_tried_with_one_request() {
    let mut story = Story::new(Settings::default());
    let first = story.queue(Priority::Normal, "a", "bad");
    story.released();
    story.answer(first, PLAIN);
    for _ in 0..3 {
        story.queue(Priority::Normal, "a", "bad");
    }
    let good = story.queue(Priority::Normal, "b", "good");
    assert_eq!(story.released(), [good]);
    let tried = story.pass(2.5);
    assert_eq!(
        tried.iter().map(|(job, _)| *job).collect::<Vec<_>>(),
        [first],
        "the refused one is the probe"
    );
    story.answer(first, Verdict::Success);
    assert_eq!(story.released().len(), 1, "all are free again, and go without a burst");
    assert_eq!(story.pass(3.1).len(), 2);
    assert!(story.gate.take_events().iter().any(|event| matches!(event, Event::Freed { .. })));
}

#[test]
fn refusals_of_two_models_pause_all_tickets_and_a_success_between_them_does_not() {
    let mut story = Story::new(Settings::default());
    let (a, b) = (story.queue(Priority::Normal, "a", "a"), story.queue(Priority::Normal, "b", "b"));
    let c = story.queue(Priority::Normal, "c", "c");
    story.released();
    story.pass(0.5);
    story.answer(a, PLAIN);
    story.answer(b, PLAIN);
    assert!(story.gate.snapshot(story.now).key_paused_until.is_some());
    story.queue(Priority::Urgent, "d", "d");
    assert!(story.released().is_empty());
    assert_eq!(story.pass(2.1).len(), 1, "one probe for the key");
    let _ = c;

    let mut story = Story::new(Settings::default());
    let a = story.queue(Priority::Normal, "a", "a");
    story.released();
    story.pass(0.1);
    story.answer(a, PLAIN);
    let c = story.queue(Priority::Normal, "c", "c");
    story.released();
    story.pass(0.1);
    story.answer(c, Verdict::Success);
    let b = story.queue(Priority::Normal, "b", "b");
    story.released();
    story.pass(0.1);
    story.answer(b, PLAIN);
    assert_eq!(story.gate.snapshot(story.now).key_paused_until, None);
}

#[test]
fn worker_refusals_are_the_models_and_teach_the_rate_nothing() {
    let mut story =
        Story::new(Settings { retry_after_cap: Duration::from_millis(100), ..Settings::default() });
    for number in 0..30 {
        let job = story.queue(Priority::Normal, "a", &format!("model {number}"));
        story.released();
        story.pass(0.1);
        story.answer(job, OWN);
        story.gate.cancel(job, story.now);
    }
    let snapshot = story.gate.snapshot(story.now);
    assert_eq!(snapshot.retreat.state, RetreatState::Normal);
    assert_eq!(snapshot.key_paused_until, None);
}

#[test]
fn a_ticket_given_back_unsent_can_be_used_again() {
    let mut story = Story::new(Settings { rate_rpm: 1, bucket_capacity: 1, ..Settings::default() });
    let job = story.queue(Priority::Normal, "a", "m");
    let Next::Release { ticket, candidate, .. } = story.gate.next(story.now) else { panic!() };
    story.gate.report(ticket, Report::Unsent, story.now);
    story.gate.done(ticket, story.now);
    story.gate.give_back(candidate, job, story.now, Some(story.now + Duration::from_secs(1)));
    assert!(story.released().is_empty(), "not before its backoff");
    assert_eq!(story.pass(1.0), [(job, 2.0)]);
}

#[test]
fn slots_bound_what_is_on_its_way() {
    let mut story = Story::new(Settings { max_in_flight: 2, ..Settings::default() });
    let jobs: Vec<_> = (0..3).map(|_| story.queue(Priority::Normal, "a", "m")).collect();
    assert_eq!(story.released(), jobs[..2]);
    story.pass(5.0);
    story.answer(jobs[0], Verdict::Success);
    assert_eq!(story.released(), jobs[2..]);
}

#[test]
fn waiting_for_a_slot_costs_no_tokens() {
    let mut story = Story::new(Settings { max_in_flight: 1, ..Settings::default() });
    let jobs: Vec<_> = (0..30).map(|_| story.queue(Priority::Normal, "a", "m")).collect();
    for job in jobs {
        assert_eq!(story.released(), [job]);
        story.pass(0.05);
        story.answer(job, Verdict::Success);
    }
}

#[test]
fn where_slots_are_the_bound_the_estimate_follows_their_pace() {
    let mut story = Story::new(Settings { rate_rpm: 6_000, max_in_flight: 2, ..Settings::default() });
    let jobs: Vec<_> = (0..100).map(|_| story.queue(Priority::Normal, "a", "m")).collect();
    story.released();
    for &job in &jobs[..60] {
        story.pass(0.5);
        story.answer(job, Verdict::Success);
        story.released();
    }
    let newcomer = story.candidate(Priority::Normal, "a", "m");
    let outlook = story.gate.outlook(&newcomer, false, story.now);
    assert_eq!(outlook.position, 39);
    assert!((outlook.eta.as_secs_f64() / 19.5 - 1.0).abs() < 0.1, "{outlook:?}");
}

#[test]
fn a_low_job_that_has_risen_is_not_shed() {
    let queue = QueueSettings { low_priority_timeout: Duration::from_secs(40), ..QueueSettings::default() };
    let mut story = Story::new(Settings { rate_rpm: 1, bucket_capacity: 1, queue, ..Settings::default() });
    story.queue(Priority::Normal, "a", "m");
    story.released();
    let low = story.queue(Priority::Low, "b", "m");
    assert_eq!(story.pass(61.0), [(low, 61.2)]);
    assert!(story.expired.is_empty());
}

#[test]
fn jobs_of_a_held_model_expire_and_hang_up_as_others_do() {
    let mut story = Story::new(Settings::default());
    let bad = story.queue(Priority::Normal, "a", "bad");
    story.released();
    let retry_after = Some(Duration::from_secs(86_400));
    story.answer(bad, Verdict::Refused { scope: Scope::Model, retry_after });
    let mut impatient = story.candidate(Priority::Normal, "a", "bad");
    impatient.deadline = story.now + Duration::from_secs(61);
    let id = impatient.id;
    assert!(matches!(story.gate.offer(impatient, id, story.now), Offered::Queued));
    assert_eq!(story.gate.cancel(bad, story.now), Some(bad));
    assert!(story.pass(59.9).is_empty(), "a day is capped to a minute");
    assert_eq!(story.pass(1.0).len(), 1, "then one is tried");
}

#[test]
fn shrinking_the_queue_below_its_depth_is_refused_with_both_numbers() {
    let mut story = Story::new(Settings { max_in_flight: 0, ..Settings::default() });
    for _ in 0..3 {
        story.queue(Priority::Normal, "a", "m");
    }
    let queue = QueueSettings { max_size: 2, ..QueueSettings::default() };
    let refusal = story.gate.reconfigure(Settings { queue, ..Settings::default() }, story.now).unwrap_err();
    assert!(refusal.to_string().contains('2') && refusal.to_string().contains('3'), "{refusal}");
    assert_eq!(story.gate.settings().queue.max_size, 500);
}

#[test]
fn a_new_rate_is_the_new_base_at_once() {
    let mut story = Story::new(Settings::default());
    story.gate.reconfigure(Settings { rate_rpm: 100, ..Settings::default() }, story.now).unwrap();
    let snapshot = story.gate.snapshot(story.now);
    assert_eq!(snapshot.window.limit, 100);
    assert!((snapshot.retreat.base_rpm - 100.0).abs() < 1e-9);
    assert!((snapshot.bucket.rate_per_minute - 100.0).abs() < 1e-9);
}

#[test]
fn what_was_sent_before_a_restart_is_not_sent_again() {
    let mut story = Story::new(Settings::default());
    for _ in 0..40 {
        story.queue(Priority::Normal, "a", "m");
    }
    story.released();
    story.pass(20.0);
    let mut after: Story = Story::new(Settings::default());
    after.gate.restore_window(story.gate.window_ages(story.now), after.now);
    let job = after.queue(Priority::Normal, "a", "m");
    assert!(after.released().is_empty());
    let passed = after.pass(60.0);
    assert_eq!(passed[0].0, job);
    // Three intervals before the burst of the process before leaves the window, the two places that it left come into use.
    assert!((passed[0].1 - (41.2 - 3.0 * 1.505)).abs() < 0.1, "{passed:?}");
}

#[test]
fn a_client_that_gave_up_and_asks_again_has_the_place_that_it_had() {
    let mut story = Story::new(Settings { rate_rpm: 1, urgent_reserve: 0, ..Settings::default() });
    let first = story.queue(Priority::Normal, "first", "m");
    assert_eq!(story.released(), [first]);
    let early = story.candidate(Priority::Normal, "impatient", "m");
    let (id, came) = (early.id, story.now);
    assert!(matches!(story.gate.offer(early.clone(), id, story.now), Offered::Queued));
    story.pass(0.1);
    let others: Vec<_> =
        (0..5).map(|number| story.queue(Priority::Normal, &format!("other {number}"), "m")).collect();
    story.pass(20.0);
    assert_eq!(story.gate.cancel(id, story.now), Some(id));
    story.pass(10.0);
    let again = Candidate { arrived: came, deadline: story.now + Duration::from_secs(600), ..early };
    assert_eq!(story.gate.outlook(&again, false, story.now).position, 1);
    assert!(matches!(story.gate.offer(again, id, story.now), Offered::Queued));
    let served: Vec<_> = story.pass(130.0).into_iter().map(|(job, _)| job).collect();
    assert_eq!(served, [id, others[0]]);
}

fn model_rate(pattern: &str, windows: &[(u32, u64)], in_flight: Option<u32>) -> ModelRate {
    let windows =
        windows.iter().map(|&(requests, secs)| RateWindow { span: Duration::from_secs(secs), requests });
    ModelRate { pattern: ModelPattern::new(pattern), windows: windows.collect(), in_flight }
}

#[test]
fn a_model_that_waits_for_its_window_holds_back_itself_only() {
    let model_rates = vec![model_rate("slow*", &[(4, 60)], None)];
    let mut story = Story::new(Settings { model_rates, urgent_reserve: 0, ..Settings::default() });
    let slow: Vec<_> = (0..6).map(|_| story.queue(Priority::Normal, "a", "slow-one")).collect();
    let good: Vec<_> = (0..6).map(|_| story.queue(Priority::Low, "a", "good")).collect();
    assert_eq!(story.released(), [&slow[..4], &good[..]].concat());
    let later = story.candidate(Priority::Normal, "b", "slow-one");
    let outlook = story.gate.outlook(&later, false, story.now);
    assert!((outlook.eta.as_secs_f64() - 60.2).abs() < 0.1, "{outlook:?}");
    assert_eq!(story.pass(61.0).iter().map(|(job, _)| *job).collect::<Vec<_>>(), slow[4..]);
}

#[test]
fn each_model_has_the_rate_where_it_is_the_models() {
    let settings =
        Settings { rate_scope: RateScope::Model, rate_rpm: 4, urgent_reserve: 0, ..Settings::default() };
    let mut story = Story::new(settings);
    for model in ["a", "b", "c"] {
        for _ in 0..5 {
            story.queue(Priority::Normal, "a", model);
        }
    }
    assert_eq!(story.released().len(), 12);
    let first = story.queue(Priority::Normal, "b", "d");
    assert_eq!(story.released(), [first]);
    story.answer(first, PLAIN);
    let snapshot = story.gate.snapshot(story.now);
    assert_eq!((snapshot.key_paused_until, snapshot.retreat.state), (None, RetreatState::Normal));
}

#[test]
fn without_a_rate_only_what_is_on_its_way_counts() {
    let model_rates = vec![model_rate("*", &[], Some(3))];
    let settings = Settings { rate_rpm: 0, max_in_flight: 5, model_rates, ..Settings::default() };
    let mut story = Story::new(settings);
    let jobs: Vec<_> = (0..200).map(|_| story.queue(Priority::Normal, "a", "m")).collect();
    let other: Vec<_> = (0..3).map(|_| story.queue(Priority::Low, "b", "n")).collect();
    assert_eq!(story.released(), [&jobs[..3], &other[..2]].concat());
    story.pass(0.1);
    story.answer(jobs[0], Verdict::Success);
    assert_eq!(story.released(), jobs[3..4]);
    story.answer(jobs[1], Verdict::Success);
    assert_eq!(story.released(), jobs[4..5]);
}

#[test]
fn a_hog_whose_requests_all_come_back_lets_a_polite_client_wait_two_turns_at_most() {
    let mut story = Story::new(Settings { rate_rpm: 120, bucket_capacity: 1, ..Settings::default() });
    let hog: Vec<_> = (0..30).map(|_| story.queue(Priority::Normal, "hog", "bad")).collect();
    assert_eq!(story.pass(15.0).len(), hog.len());
    for job in hog {
        story.answer(job, OWN);
    }
    for _ in 0..300 {
        story.queue(Priority::Normal, "hog", "good");
    }
    story.pass(0.1);
    let polite = story.queue(Priority::Normal, "polite", "bad");
    let good = story.queue(Priority::Normal, "polite", "good");
    let served: Vec<_> = story.pass(20.0).into_iter().map(|(job, _)| job).collect();
    let turn_of = |job| served.iter().position(|&served| served == job);
    assert!(turn_of(good).is_some_and(|turn| turn <= 1), "{served:?}");
    let probes: Vec<_> = served.iter().filter(|&&job| job <= 30 || job == polite).collect();
    assert!(probes.iter().take(2).any(|&&job| job == polite), "{probes:?}");
}

#[derive(Clone, Debug)]
enum Step {
    Offer { priority: usize, client: u8, model: u8, wait: u64, bytes: usize },
    Cancel(usize),
    Answer { which: usize, verdict: u8, back: bool },
    Unsent { which: usize },
    Pass(u64),
    Queue(usize),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offer = (0usize..4, 0u8..5, 0u8..4, 1u64..700, 0usize..200).prop_map(
        |(priority, client, model, wait, bytes)| Step::Offer { priority, client, model, wait, bytes },
    );
    prop::collection::vec(
        prop_oneof![
            6 => offer,
            1 => any::<usize>().prop_map(Step::Cancel),
            4 => (any::<usize>(), 0u8..6, any::<bool>())
                .prop_map(|(which, verdict, back)| Step::Answer { which, verdict, back }),
            1 => any::<usize>().prop_map(|which| Step::Unsent { which }),
            4 => (0u64..20_000).prop_map(Step::Pass),
            1 => (1usize..60).prop_map(Step::Queue),
            1 => Just(Step::Reset),
        ],
        1..250,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..crate::properties() })]
    #[test]
    fn no_job_is_lost_and_no_minute_holds_too_many(
        policy in 0usize..3, learned in any::<bool>(), steps in steps(),
    ) {
        let queue = QueueSettings {
            max_size: 30, max_bytes: 2_000, full_policy: QueueFullPolicy::ALL[policy], ..QueueSettings::default()
        };
        let adaptive = crate::config::limiter::Adaptive::ALL[usize::from(learned)];
        let mut story = Story::new(Settings { queue, adaptive, max_in_flight: 8, ..Settings::default() });
        let mut alive = std::collections::BTreeSet::new();
        let mut sent = Vec::new();
        for step in steps {
            match step {
                Step::Offer { priority, client, model, wait, bytes } => {
                    let priority = Priority::ALL[priority];
                    let mut candidate = story.candidate(priority, &format!("c{client}"), &format!("m{model}"));
                    candidate.deadline = story.now + Duration::from_secs(wait);
                    candidate.bytes = bytes;
                    let id = candidate.id;
                    match story.gate.offer(candidate, id, story.now) {
                        Offered::Queued | Offered::Overflow => { alive.insert(id); }
                        Offered::Displaced { id: gone, job, .. } => {
                            prop_assert_eq!(gone, job);
                            prop_assert!(alive.remove(&gone));
                            alive.insert(id);
                        }
                        Offered::Refused { outlook, .. } => {
                            prop_assert!((1..=60).contains(&outlook.retry_after.as_secs()));
                        }
                    }
                }
                Step::Cancel(which) if !alive.is_empty() => {
                    let id = *alive.iter().nth(which % alive.len()).unwrap();
                    prop_assert_eq!(story.gate.cancel(id, story.now), Some(id));
                    alive.remove(&id);
                }
                Step::Answer { which, verdict, back } if !story.out.is_empty() => {
                    let mut out: Vec<_> = story.out.keys().copied().collect();
                    out.sort_unstable();
                    let job = out[which % out.len()];
                    let retry_after = back.then_some(Duration::from_secs(u64::from(verdict) * 40));
                    let verdict = match verdict {
                        0 => Verdict::Ignored,
                        1 => Verdict::Refused { scope: Scope::Unknown, retry_after },
                        2 => Verdict::Refused { scope: Scope::Model, retry_after },
                        _ => Verdict::Success,
                    };
                    story.answer(job, verdict);
                    if matches!(verdict, Verdict::Refused { .. }) { alive.insert(job); }
                }
                Step::Unsent { which } if !story.out.is_empty() => {
                    let mut out: Vec<_> = story.out.keys().copied().collect();
                    out.sort_unstable();
                    let (ticket, _) = story.out.remove(&out[which % out.len()]).unwrap();
                    story.gate.done(ticket, story.now);
                }
                Step::Pass(millis) => {
                    for (job, when) in story.pass(millis as f64 / 1000.0) {
                        prop_assert!(alive.remove(&job));
                        sent.push(when);
                    }
                    for (job, _) in std::mem::take(&mut story.expired) { prop_assert!(alive.remove(&job)); }
                }
                Step::Queue(max_size) => {
                    let settings = story.gate.settings().clone();
                    let queue = QueueSettings { max_size, ..settings.queue.clone() };
                    let _ = story.gate.reconfigure(Settings { queue, ..settings }, story.now);
                }
                Step::Reset => story.gate.reset_to_base(story.now),
                _ => {}
            }
            let snapshot = story.gate.snapshot(story.now);
            prop_assert_eq!(snapshot.queue.depth_by_priority.iter().sum::<usize>(), alive.len());
            prop_assert_eq!(story.gate.waiting(usize::MAX, story.now, |_| ClientSide::default()).len(), alive.len());
            prop_assert_eq!(snapshot.in_flight, story.out.len());
            prop_assert!(snapshot.in_flight <= 8);
        }
        for first in &sent {
            prop_assert!(sent.iter().filter(|&&s| s >= *first && s < first + 60.0).count() <= 40);
        }
        // Left alone with working slots, everything leaves the gate.
        let jobs: Vec<_> = story.out.keys().copied().collect();
        for job in jobs { story.answer(job, Verdict::Success); }
        for _ in 0..800 {
            for (job, _) in story.pass(1.0) { alive.remove(&job); story.answer(job, Verdict::Success); }
            for (job, _) in std::mem::take(&mut story.expired) { alive.remove(&job); }
        }
        prop_assert!(alive.is_empty(), "{alive:?} never left");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..crate::properties() })]
    #[test]
    fn each_models_windows_hold_and_nothing_waits_for_longer_than_they_need(
        windows in prop::collection::vec((1u32..6, 2u64..90), 3), in_flight in 1u32..5, by_model in any::<bool>(),
        reserve in 0u32..3,
        arrivals in prop::collection::vec((0u64..9_000, 0usize..4, 0usize..4, 0u8..4), 1..80),
    ) {
        // Three models with a window of their own, the third with a second one and a bound on what is on its way, one without.
        let mut model_rates: Vec<ModelRate> = (0..3)
            .map(|model| model_rate(&format!("m{model}"), &[windows[model]], None))
            .collect();
        model_rates[2].windows.push(RateWindow { span: Duration::from_secs(300), requests: 30 });
        model_rates[2].in_flight = Some(in_flight);
        let rate_scope = if by_model { RateScope::Model } else { RateScope::Key };
        let settings = Settings { model_rates: model_rates.clone(), rate_scope, urgent_reserve: reserve, ..Settings::default() };
        let mut story = Story::new(settings);
        let mut model_of = HashMap::new();
        let mut sent: Vec<(usize, Moment)> = Vec::new();
        let mut step = |story: &mut Story, secs: f64, model_of: &HashMap<u64, usize>| {
            for (job, when) in story.pass(secs) {
                sent.push((model_of[&job], at(when)));
                let out = story.out.keys().filter(|job| model_of[job] == 2).count();
                assert!(out <= in_flight as usize, "{out} on their way");
                if job % 3 > 0 { story.answer(job, Verdict::Success); }
            }
        };
        for (gap, model, priority, client) in arrivals {
            step(&mut story, gap as f64 / 1000.0, &model_of);
            let mut candidate = story.candidate(Priority::ALL[priority], &format!("c{client}"), &format!("m{model}"));
            candidate.deadline = Moment::NEVER;
            let id = candidate.id;
            model_of.insert(id, model);
            prop_assert!(matches!(story.gate.offer(candidate, id, story.now), Offered::Queued));
        }
        // The slowest model needs a window's length for each round, and a reserve or an even spread at most doubles it.
        let rounds = |model: usize| {
            let (requests, secs) = windows[model];
            model_of.values().filter(|&&of| of == model).count() as f64 / f64::from(requests) * (secs as f64 + 0.2)
        };
        let longest = (0..3).map(rounds).fold(0.0, f64::max) * 2.0 + 1300.0;
        let mut waited = 0.0;
        while story.gate.depth() > 0 && waited < longest {
            step(&mut story, 10.0, &model_of);
            waited += 10.0;
            let mut out: Vec<_> = story.out.keys().copied().collect();
            out.sort_unstable();
            for job in out { story.answer(job, Verdict::Success); }
            story.expired.clear();
        }
        prop_assert_eq!(story.gate.depth(), 0, "after {} s, {} allowed", waited, longest);
        for (model, rate) in model_rates.iter().enumerate() {
            let times: Vec<Moment> = sent.iter().filter(|(of, _)| *of == model).map(|(_, when)| *when).collect();
            for window in &rate.windows {
                for &first in &times {
                    let within = times.iter().filter(|&&when| when >= first && when < first + window.span).count();
                    prop_assert!(within <= window.requests as usize, "{within} in {window}");
                }
            }
        }
    }
}
