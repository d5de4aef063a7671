//! Stories of the lanes.

use super::*;
use proptest::prelude::*;

const AGING: Duration = Duration::from_secs(30);

fn at(secs: f64) -> Moment {
    Moment::from_secs_f64(secs)
}

/// Lanes and what stands in them.
struct Story {
    lanes: Lanes,
    jobs: Vec<(Priority, Arc<str>, Order)>,
}

impl Story {
    fn new() -> Story {
        Story { lanes: Lanes::new(AGING), jobs: Vec::new() }
    }

    fn add(&mut self, priority: Priority, client: &str, secs: f64, stand: Stand) -> usize {
        let key = self.jobs.len();
        let order = Order { arrived: at(secs), serial: key as u64 };
        self.lanes.insert(priority, &client.into(), order, key, stand);
        self.jobs.push((priority, client.into(), order));
        key
    }

    fn queue(&mut self, priority: Priority, client: &str, secs: f64) -> usize {
        self.add(priority, client, secs, Stand::Queued)
    }

    fn serve(&mut self, secs: f64) -> Option<usize> {
        let pick = self.lanes.pick(Priority::Low, at(secs))?;
        let (priority, client, order) = self.jobs[pick.key].clone();
        self.lanes.serve(priority, &client, order);
        Some(pick.key)
    }
}

#[test]
fn an_urgent_job_that_arrives_last_goes_first() {
    let mut story = Story::new();
    story.queue(Priority::Low, "a", 0.0);
    story.queue(Priority::Normal, "b", 0.0);
    let urgent = story.queue(Priority::Urgent, "c", 500.0);
    assert_eq!(story.serve(500.0), Some(urgent));
}

#[test]
fn low_work_rises_and_then_goes_before_younger_normal_work() {
    let mut story = Story::new();
    let low: Vec<_> = (0..2).map(|_| story.queue(Priority::Low, "a", 0.0)).collect();
    let normal = story.queue(Priority::Normal, "a", 20.0);
    assert_eq!(story.lanes.pick(Priority::Low, at(29.9)).unwrap().key, normal);
    assert_eq!(story.serve(30.0), Some(low[0]));
    assert_eq!(story.serve(30.0), Some(low[1]), "one client's jobs keep the order of their arrival");
    assert_eq!(story.serve(30.0), Some(normal));
}

#[test]
fn an_urgent_flood_leaves_every_tenth_ticket_to_the_others() {
    let mut story = Story::new();
    let low = story.queue(Priority::Low, "a", 0.0);
    for _ in 0..30 {
        story.queue(Priority::Urgent, "flood", 0.0);
    }
    let served: Vec<_> = (0..10).filter_map(|_| story.serve(1.0)).collect();
    assert_eq!(served[9], low);
}

#[test]
fn an_aged_backlog_does_not_go_before_a_polite_clients_turn() {
    let mut story = Story::new();
    for _ in 0..400 {
        story.queue(Priority::Normal, "hog", 0.0);
    }
    story.serve(100.0);
    let polite = story.queue(Priority::Normal, "polite", 100.0);
    assert!((0..2).filter_map(|_| story.serve(100.0)).any(|key| key == polite));
}

#[test]
fn a_job_that_came_back_is_the_head_of_its_priority() {
    let mut story = Story::new();
    story.queue(Priority::Normal, "a", 0.0);
    let back = story.add(Priority::Normal, "b", 5.0, Stand::Returned);
    let urgent = story.queue(Priority::Urgent, "c", 6.0);
    assert_eq!(story.serve(6.0), Some(urgent));
    assert_eq!(story.serve(6.0), Some(back));
}

#[test]
fn overflow_waits_behind_the_queued_ones_of_its_priority_only() {
    let mut story = Story::new();
    let over = story.add(Priority::High, "a", 0.0, Stand::Overflow);
    let queued = story.queue(Priority::High, "b", 1.0);
    let low = story.queue(Priority::Low, "b", 1.0);
    assert_eq!([story.serve(1.0), story.serve(1.0), story.serve(1.0)], [Some(queued), Some(over), Some(low)]);
}

#[test]
fn only_low_work_with_nothing_above_it_and_not_risen_can_be_shed() {
    let mut story = Story::new();
    story.queue(Priority::Low, "a", 0.0);
    assert!(story.lanes.pick(Priority::Low, at(1.0)).unwrap().sheddable);
    assert!(!story.lanes.pick(Priority::Low, at(31.0)).unwrap().sheddable);
    story.queue(Priority::Normal, "b", 1.0);
    assert!(!story.lanes.pick(Priority::Low, at(1.0)).unwrap().sheddable);
}

/// Turn, client, order and key.
type NaiveFront = (u64, Arc<str>, Order, usize);

/// The rule as one would write it over a list: levels by the lane's oldest job, then turns.
struct Naive {
    jobs: Vec<(usize, Priority, Arc<str>, Order)>,
    turns: Vec<(Priority, Arc<str>, u64)>,
    turn: u64,
    row: u32,
}

impl Naive {
    fn level(&self, priority: Priority, now: Moment) -> usize {
        let oldest = self.jobs.iter().filter(|job| job.1 == priority).map(|job| job.3.arrived).min();
        let mut level = priority;
        let mut waited = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        while level > Priority::High && waited >= AGING {
            level = level.raised().unwrap();
            waited -= AGING;
        }
        level.index()
    }

    fn front(&self, priority: Priority) -> Option<NaiveFront> {
        let clients = self.turns.iter().filter(|(p, _, _)| *p == priority);
        let (_, client, turn) = clients.min_by_key(|(_, _, turn)| *turn)?;
        let own = self.jobs.iter().filter(|job| job.1 == priority && job.2 == *client);
        own.min_by_key(|job| job.3).map(|job| (*turn, client.clone(), job.3, job.0))
    }

    fn pop(&mut self, now: Moment) -> Option<usize> {
        let others = self.jobs.iter().any(|job| job.1 != Priority::Urgent);
        let lanes =
            Priority::ALL.into_iter().filter(|p| !(self.row >= 9 && others && *p == Priority::Urgent));
        let mut best: Option<(usize, Priority, NaiveFront)> = None;
        for priority in lanes {
            let Some(front) = self.front(priority) else { continue };
            let level = self.level(priority, now);
            let better = best.as_ref().is_none_or(|(l, _, b)| {
                level < *l || level == *l && if front.1 == b.1 { front.2 < b.2 } else { front.0 < b.0 }
            });
            if better {
                best = Some((level, priority, front));
            }
        }
        let (_, priority, (_, client, _, key)) = best?;
        self.row = if priority == Priority::Urgent && others { self.row + 1 } else { 0 };
        self.jobs.retain(|job| job.0 != key);
        self.turn += 1;
        self.turns.retain(|(p, c, _)| !(*p == priority && *c == client));
        if self.jobs.iter().any(|job| job.1 == priority && job.2 == client) {
            self.turns.push((priority, client, self.turn));
        }
        Some(key)
    }
}

proptest! {
    #[test]
    fn lanes_agree_with_a_naive_list(steps in prop::collection::vec((0u8..5, 0usize..4, 0u8..4, 0.0f64..9.0), 1..200)) {
        let mut story = Story::new();
        let mut naive = Naive { jobs: Vec::new(), turns: Vec::new(), turn: 0, row: 0 };
        let mut now = 0.0;
        for (action, priority, client, gap) in steps {
            now += gap;
            if action < 3 {
                let (priority, client) = (Priority::ALL[priority], format!("client {client}"));
                let key = story.queue(priority, &client, now);
                let (_, client, order) = story.jobs[key].clone();
                naive.turn += 1;
                if !naive.turns.iter().any(|(p, c, _)| *p == priority && *c == client) {
                    naive.turns.push((priority, client.clone(), naive.turn));
                }
                naive.jobs.push((key, priority, client, order));
            } else {
                prop_assert_eq!(story.serve(now), naive.pop(at(now)));
            }
            prop_assert_eq!(story.lanes.in_order(at(now)).len(), naive.jobs.len());
        }
    }
}
