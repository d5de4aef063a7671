//! Stories of the retreat.

use super::*;
use proptest::prelude::*;

fn at(secs: f64) -> Moment {
    Moment::from_secs_f64(secs)
}

/// A retreat at 40 rpm in this mode, and the hand that feeds it one answer every 1.5 s.
struct Story {
    retreat: Retreat,
    now: Moment,
    changes: Vec<Change>,
}

impl Story {
    fn new(adaptive: Adaptive) -> Story {
        let retreat = Retreat::new(RetreatSettings::default(), adaptive, Rpm::from(40), at(0.0));
        Story { retreat, now: at(0.0), changes: Vec::new() }
    }

    fn answers(&mut self, count: u32, refused: bool, granted: u32) -> &mut Story {
        for _ in 0..count {
            self.wait(1.5);
            let sample = Sample { refused, sent_at: self.now, granted };
            self.changes.extend(self.retreat.observe(sample, self.now));
        }
        self
    }

    fn wait(&mut self, secs: f64) -> &mut Story {
        let until = self.now + crate::clock::duration_from_secs_f64(secs);
        while let Some(due) = self.retreat.control_at().filter(|&due| due <= until) {
            self.now = self.now.max(due);
            self.changes.extend(self.retreat.control(self.now));
        }
        self.now = until;
        self
    }

    fn rate(&self) -> f64 {
        self.retreat.effective().per_minute()
    }
}

#[test]
fn one_refusal_among_many_answers_changes_nothing() {
    let mut story = Story::new(Adaptive::Specified);
    story.answers(12, false, 12).answers(1, true, 12).answers(40, false, 40);
    assert!(story.changes.is_empty());
}

#[test]
fn a_share_of_five_percent_takes_one_step_down() {
    let mut story = Story::new(Adaptive::Specified);
    story.answers(36, false, 36).answers(2, true, 36);
    assert_eq!(story.retreat.state(), RetreatState::Retreat);
    assert!((story.rate() - 30.0).abs() < 1e-9);
}

#[test]
fn a_step_is_judged_by_its_own_effect_and_the_floor_is_an_alert() {
    let mut story = Story::new(Adaptive::Specified);
    story.answers(36, false, 36).answers(2, true, 36);
    story.answers(8, false, 30).answers(2, true, 30);
    assert!((story.rate() - 22.5).abs() < 1e-9, "{}", story.rate());
    story.answers(40, true, 10);
    assert!((story.rate() - 5.0).abs() < 1e-9);
    assert!(story.changes.last().unwrap().floor);
    let changes = story.changes.len();
    story.answers(40, true, 0);
    assert_eq!(story.changes.len(), changes, "below the floor there is nothing");
}

#[test]
fn specified_recovers_after_two_quiet_minutes_two_rpm_a_step() {
    let mut story = Story::new(Adaptive::Specified);
    story.answers(36, false, 36).answers(2, true, 36);
    story.wait(119.0);
    assert_eq!(story.retreat.state(), RetreatState::Retreat);
    story.wait(2.0);
    assert_eq!(story.retreat.state(), RetreatState::Recover);
    story.wait(10.0);
    assert!((story.rate() - 32.0).abs() < 1e-9);
    story.wait(40.0);
    assert_eq!(story.retreat.state(), RetreatState::Normal);
}

#[test]
fn learned_goes_just_under_what_is_granted_and_probes_above_it() {
    let mut story = Story::new(Adaptive::Learned);
    story.answers(36, false, 40).answers(2, true, 38);
    assert!((story.rate() - 30.0).abs() < 1e-9, "down as specified");
    story.answers(3, true, 24).answers(1, false, 20);
    story.wait(11.0);
    assert_eq!(story.retreat.state(), RetreatState::Recover);
    story.answers(20, false, 20).answers(2, true, 20).answers(1, false, 20).wait(11.0);
    assert!((story.rate() - 19.0).abs() < 1e-9);
    story.wait(60.0);
    assert!((story.rate() - 21.0).abs() < 1e-9);
    story.answers(1, true, 20);
    assert!((story.rate() - 19.0).abs() < 1e-9, "one refusal ends a climb");
    story.wait(50.0);
    assert!((story.rate() - 19.0).abs() < 1e-9, "a rest comes first");
    story.wait(100.0);
    assert!(story.rate() < 30.0, "nobody uses the higher rate: the next step waits");
    for _ in 0..8 {
        story.retreat.filled_by(true);
        story.wait(10.0);
    }
    assert_eq!(story.retreat.state(), RetreatState::Normal, "at {} rpm", story.rate());
}

#[test]
fn a_new_base_is_taken_over_and_an_operators_reset_goes_back_to_it() {
    let mut story = Story::new(Adaptive::Specified);
    story.retreat.reconfigure(&RetreatSettings::default(), Adaptive::Specified, Rpm::from(100), at(0.0));
    assert!((story.rate() - 100.0).abs() < 1e-9);
    story.answers(36, false, 36).answers(2, true, 36);
    assert!((story.rate() - 75.0).abs() < 1e-9);
    story.retreat.reconfigure(&RetreatSettings::default(), Adaptive::Specified, Rpm::from(50), story.now);
    assert!((story.rate() - 50.0).abs() < 1e-9);
    let now = story.now;
    assert!(story.retreat.reset(now).is_some());
    assert_eq!(story.retreat.state(), RetreatState::Normal);
}

proptest! {
    #![proptest_config(crate::properties())]
    #[test]
    fn the_rate_stays_between_floor_and_base_and_steps_keep_their_distance(
        learned in any::<bool>(), answers in prop::collection::vec((0.0f64..40.0, 0u8..4, 0u32..45), 1..400),
    ) {
        let mut story = Story::new(if learned { Adaptive::Learned } else { Adaptive::Specified });
        for (gap, luck, granted) in answers {
            story.wait(gap);
            let sample = Sample { refused: luck == 0, sent_at: story.now, granted };
            let before = story.retreat.state();
            let change = story.retreat.observe(sample, story.now);
            let rate = story.rate();
            prop_assert!((5.0..=40.0).contains(&rate), "{rate}");
            prop_assert_eq!(story.retreat.state() == RetreatState::Normal, rate >= 40.0);
            if let Some(change) = change {
                prop_assert_eq!(change.from, before);
                prop_assert!(change.to != RetreatState::Normal);
            }
            story.wait(0.0);
            prop_assert!(story.retreat.control_at().is_none_or(|due| due > story.now), "asks to be called forever");
        }
    }
}
