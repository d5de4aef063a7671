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
        let job = Standing { priority, client: &client.into(), group: 0, order };
        self.lanes.insert(job, key, stand, at(secs));
        self.jobs.push((priority, client.into(), order));
        key
    }

    fn queue(&mut self, priority: Priority, client: &str, secs: f64) -> usize {
        self.add(priority, client, secs, Stand::Queued)
    }

    fn serve(&mut self, secs: f64) -> Option<usize> {
        let pick = self.lanes.pick(Priority::Low, at(secs))?;
        let (priority, client, order) = self.jobs[pick.key].clone();
        self.lanes.serve(Standing { priority, client: &client, group: 0, order }, at(secs));
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
    story.queue(Priority::Normal, "a", 1.0);
    let back = story.queue(Priority::Normal, "b", 0.0);
    let urgent = story.queue(Priority::Urgent, "c", 6.0);
    assert_eq!(story.serve(6.0), Some(urgent));
    assert_eq!(story.serve(6.0), Some(back));
}

#[test]
fn a_group_that_is_closed_to_all_but_urgent_lets_urgent_go() {
    let mut story = Story::new();
    story.queue(Priority::High, "a", 0.0);
    let urgent = story.queue(Priority::Urgent, "a", 1.0);
    story.lanes.set_access(0, Access { urgent: Openness::Open, ordinary: Openness::Closed });
    assert_eq!([story.serve(1.0), story.serve(1.0)], [Some(urgent), None]);
    assert!(story.lanes.is_empty());
    story.lanes.set_access(0, Access::OPEN);
    assert!(story.serve(1.0).is_some());
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
type NaiveFront = (Turn, Arc<str>, Order, usize);

/// The rule as one would write it over a list: levels by the lane's oldest job, then turns.
struct Naive {
    jobs: Vec<(usize, Priority, Arc<str>, Order)>,
    /// Of each client that waits: its turn, and whether it was served while it waited.
    turns: Vec<(Priority, Arc<str>, Turn, bool)>,
    serial: u64,
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
        let clients = self.turns.iter().filter(|(p, ..)| *p == priority);
        let (_, client, turn, _) = clients.min_by_key(|(_, _, turn, _)| *turn)?;
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
        self.serial += 1;
        self.turns.retain(|(p, c, ..)| !(*p == priority && *c == client));
        if self.jobs.iter().any(|job| job.1 == priority && job.2 == client) {
            self.turns.push((priority, client, Turn { since: now, serial: self.serial }, true));
        }
        Some(key)
    }

    fn push(&mut self, key: usize, priority: Priority, client: &Arc<str>, order: Order) {
        self.serial += 1;
        let turn = Turn { since: order.arrived, serial: self.serial };
        match self.turns.iter_mut().find(|(p, c, ..)| *p == priority && c == client) {
            None => self.turns.push((priority, client.clone(), turn, false)),
            Some((_, _, before, served)) if !*served && turn < *before => *before = turn,
            Some(_) => {}
        }
        self.jobs.push((key, priority, client.clone(), order));
    }
}

proptest! {
    #![proptest_config(crate::properties())]
    #[test]
    fn lanes_agree_with_a_naive_list(
        steps in prop::collection::vec((0u8..6, 0usize..4, 0u8..4, 0.0f64..9.0), 1..200),
    ) {
        let mut story = Story::new();
        let mut naive = Naive { jobs: Vec::new(), turns: Vec::new(), serial: 0, row: 0 };
        let mut now = 0.0;
        for (action, priority, client, gap) in steps {
            now += gap;
            if action < 4 {
                let (priority, client) = (Priority::ALL[priority], format!("client {client}"));
                // One of four comes again, after it first came up to a minute ago.
                let arrived = if action == 3 { now - 6.0 * gap } else { now };
                let key = story.queue(priority, &client, arrived);
                let (_, client, order) = story.jobs[key].clone();
                naive.push(key, priority, &client, order);
            } else {
                prop_assert_eq!(story.serve(now), naive.pop(at(now)));
            }
            prop_assert_eq!(story.lanes.in_order(at(now)).len(), naive.jobs.len());
        }
    }

    #[test]
    fn a_job_that_leaves_and_comes_again_stands_where_it_would_had_it_stayed(
        clients in prop::collection::vec((0usize..4, 1usize..4), 2..12), leaves in any::<prop::sample::Index>(),
        gone_for in 0.0f64..120.0,
    ) {
        let (mut stayed, mut left) = (Story::new(), Story::new());
        let mut secs = 0.0;
        for (number, &(priority, jobs)) in clients.iter().enumerate() {
            for _ in 0..jobs {
                secs += 1.0;
                for story in [&mut stayed, &mut left] {
                    story.queue(Priority::ALL[priority], &format!("client {number}"), secs);
                }
            }
        }
        let again = leaves.index(left.jobs.len());
        let (priority, client, order) = left.jobs[again].clone();
        let job = Standing { priority, client: &client, group: 0, order };
        prop_assert!(left.lanes.remove(job));
        let ahead = left.lanes.ahead_of(job, Stand::Queued, order.arrived, at(secs)).all;
        left.lanes.insert(job, again, Stand::Queued, order.arrived);
        let (all, until) = (left.jobs.len(), secs + gone_for);
        let served = |story: &mut Story| (0..all).filter_map(|_| story.serve(until)).collect::<Vec<_>>();
        let (stayed, left) = (served(&mut stayed), served(&mut left));
        prop_assert_eq!(&stayed, &left);
        if gone_for < 1.0 && clients.iter().all(|(lane, _)| *lane == clients[0].0) && clients[0].0 < 2 {
            // In one lane that does not rise the place that it is told is the one that it gets.
            let alone = clients.iter().all(|(_, jobs)| *jobs == 1);
            let place = left.iter().position(|&key| key == again).unwrap();
            prop_assert!(!alone || place == ahead, "told {ahead}, got {place}");
        }
    }
}
