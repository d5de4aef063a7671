//! The share of refusals among the upstream's answers over the last while.
//!
//! Answers are counted in slots of time, so memory and cost are bounded whatever the rate: `share = refused / answers`
//! over the slots that lie within the span asked for.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;

/// An answer of the upstream, as the retreat sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Whether it was a refusal.
    pub refused: bool,
    /// When its request was sent.
    pub sent_at: Moment,
    /// How many requests were sent in the last minute and not refused.
    pub granted: u32,
}

/// Into how many slots the longest span is cut.
const SLOTS: u32 = 120;

/// Answers over the last while.
#[derive(Clone, Debug)]
pub struct Share {
    slot: Duration,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    starts: Moment,
    tally: Tally,
}

/// How many answers, and how many of them were refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All answers that teach something.
    pub answers: u32,
    /// The refusals among them.
    pub refused: u32,
}

impl Tally {
    /// The share of refusals, 0 to 1; 0 without answers.
    #[must_use]
    pub fn share(self) -> f64 {
        if self.answers == 0 { 0.0 } else { f64::from(self.refused) / f64::from(self.answers) }
    }
}

impl Share {
    /// Remembers answers for `longest`.
    #[must_use]
    pub fn new(longest: Duration) -> Share {
        Share { slot: (longest / SLOTS).max(Duration::from_millis(1)), slots: VecDeque::new() }
    }

    /// Counts an answer.
    pub fn add(&mut self, refused: bool, now: Moment) {
        let starts = match self.slots.back() {
            Some(last) if now < last.starts + self.slot => last.starts,
            _ => {
                self.slots.push_back(Slot { starts: now, tally: Tally::default() });
                if self.slots.len() > SLOTS as usize + 1 {
                    self.slots.pop_front();
                }
                now
            }
        };
        if let Some(last) = self.slots.back_mut().filter(|last| last.starts == starts) {
            last.tally.answers = last.tally.answers.saturating_add(1);
            last.tally.refused = last.tally.refused.saturating_add(u32::from(refused));
        }
    }

    /// Answers of the last `span`, none of them from before `since`.
    #[must_use]
    pub fn over(&self, span: Duration, since: Moment, now: Moment) -> Tally {
        let recent = |slot: &&Slot| slot.starts + span > now && slot.starts >= since;
        self.slots.iter().rev().take_while(recent).fold(Tally::default(), |sum, slot| Tally {
            answers: sum.answers.saturating_add(slot.tally.answers),
            refused: sum.refused.saturating_add(slot.tally.refused),
        })
    }

    /// Closes the present slot, so that what comes next can be told from what was.
    pub fn cut(&mut self, now: Moment) {
        if self.slots.back().is_some_and(|last| last.starts < now) {
            self.slots.push_back(Slot { starts: now, tally: Tally::default() });
            if self.slots.len() > SLOTS as usize + 1 {
                self.slots.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_leave_the_share_when_they_are_older_than_its_span() {
        let mut share = Share::new(Duration::from_secs(120));
        share.add(true, Moment::from_secs_f64(0.0));
        share.add(false, Moment::from_secs_f64(50.0));
        let over =
            |secs, now| share.over(Duration::from_secs(secs), Moment::ZERO, Moment::from_secs_f64(now));
        assert_eq!(over(60, 59.0), Tally { answers: 2, refused: 1 });
        assert_eq!(over(60, 61.0), Tally { answers: 1, refused: 0 });
        assert_eq!(over(120, 61.0), Tally { answers: 2, refused: 1 });
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn it_agrees_with_a_naive_count_up_to_one_slot(
            answers in prop::collection::vec((0u64..5_000, any::<bool>()), 1..300),
        ) {
            let span = Duration::from_secs(60);
            let mut share = Share::new(span);
            let (mut now, mut naive) = (Moment::ZERO, Vec::new());
            for (gap, refused) in answers {
                now = now + Duration::from_millis(gap);
                share.add(refused, now);
                naive.push((now, refused));
                let since = |span: Duration| naive.iter().filter(|(at, _)| *at + span > now).count();
                let tally = share.over(span, Moment::ZERO, now);
                let counted = tally.answers as usize;
                prop_assert!(counted <= since(span));
                prop_assert!(counted >= since(span - Duration::from_millis(500)));
                prop_assert!(share.slots.len() <= SLOTS as usize + 1);
            }
        }
    }
}
