//! What is known of each model: its hold, the jobs parked behind it, and whose fault its refusals are.
//!
//! **Whose refusal?** A plain 429 may be the key's or one model's, and the answer does not tell. It is taken for the model's
//! own when the other models would have been refused too, were it the key's: let `p` be the model's recent share of
//! refusals and `n` the recent answers to the other models that work at all. Were `p` the key's share, about `p × n` of
//! those would be refusals. With at least `EVIDENCE` expected (one, if the model refuses always) and less than a quarter of
//! them seen, it is the model's.
//!
//! At most [`MAX_MODELS`] are known; the least recently used goes, if it is neither held nor has parked jobs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::fairness::Key;
use super::hold::{Hold, Passage};
use crate::clock::Moment;

/// How many models are known at once.
pub const MAX_MODELS: usize = 256;
/// How many refusals of the others must be expected before their absence says something.
const EVIDENCE: f64 = 3.0;
/// In this time what was seen loses 63 % of its weight.
const MEMORY: Duration = Duration::from_secs(60);
/// What is left of one answer after about three times [`MEMORY`]; less counts as nothing.
const FAINT: f64 = 0.05;

/// A model's name, as requests give it; `None` are the requests that name none.
pub type Name = Option<Arc<str>>;

/// All models that are known.
#[derive(Clone, Debug, Default)]
pub struct Models {
    by_name: HashMap<Name, Model>,
    uses: u64,
    /// No hold ends and no probe is presumed before this moment.
    wake: Option<Moment>,
}

/// One model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Its hold.
    pub hold: Hold,
    /// The job that is to be its probe and waits for a ticket.
    pub trying: Option<Key>,
    /// Jobs that wait for its hold to end, by their serial: the one refused longest ago is tried first, so that no job
    /// spends all its attempts as the probe of a long hold while others wait beside it.
    pub parked: BTreeMap<u64, Key>,
    answers: Fading,
    refusals: Fading,
    used: u64,
}

/// A count that fades.
#[derive(Clone, Copy, Debug, Default)]
struct Fading {
    count: f64,
    at: Moment,
}

impl Fading {
    fn at(self, now: Moment) -> f64 {
        self.count * libm::exp(-now.since(self.at).as_secs_f64() / MEMORY.as_secs_f64())
    }

    fn add(&mut self, now: Moment) {
        *self = Fading { count: self.at(now) + 1.0, at: now };
    }
}

impl Model {
    /// Whether a job of this model may stand in the lanes.
    #[must_use]
    pub fn passage(&self, now: Moment) -> Passage {
        match self.hold.passage(now) {
            Passage::Probe if self.trying.is_some() => Passage::Wait(Moment::NEVER),
            passage => passage,
        }
    }

    /// Counts an answer.
    pub fn count(&mut self, refused: bool, now: Moment) {
        self.answers.add(now);
        if refused {
            self.refusals.add(now);
        }
    }

    fn idle(&self, now: Moment) -> bool {
        self.parked.is_empty()
            && self.trying.is_none()
            && self.hold.held_until().is_none_or(|until| until <= now)
    }
}

impl Models {
    /// The model of this name, made known if there is room.
    pub fn get_or_insert(&mut self, name: &Name, now: Moment) -> Option<&mut Model> {
        self.uses += 1;
        if !self.by_name.contains_key(name) {
            if self.by_name.len() >= MAX_MODELS {
                let idle = self.by_name.iter().filter(|(_, model)| model.idle(now));
                let least = idle.min_by_key(|(_, model)| model.used).map(|(name, _)| name.clone())?;
                self.by_name.remove(&least);
            }
            self.by_name.insert(name.clone(), Model::default());
        }
        let model = self.by_name.get_mut(name)?;
        model.used = self.uses;
        Some(model)
    }

    /// The model of this name, if it is known.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Model> {
        self.by_name.get(name)
    }

    /// The model of this name, if it is known.
    pub fn get_mut(&mut self, name: &Name) -> Option<&mut Model> {
        self.by_name.get_mut(name)
    }

    /// All known models.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Model)> {
        self.by_name.iter()
    }

    /// Forgets everything but parked jobs, which it hands out.
    pub fn clear(&mut self) -> Vec<Key> {
        let models = std::mem::take(&mut self.by_name);
        self.wake = None;
        models.into_values().flat_map(|model| model.parked.into_values()).collect()
    }

    /// Whether the model's refusals are its own and say nothing about the key.
    #[must_use]
    pub fn refusals_are_its_own(&self, name: &Name, now: Moment) -> bool {
        let Some(model) = self.by_name.get(name) else { return false };
        let (answers, refusals) = (model.answers.at(now), model.refusals.at(now));
        if answers <= 0.0 {
            return false;
        }
        let (mut others, mut others_refused) = (0.0, 0.0);
        for (_, other) in self.by_name.iter().filter(|(other, _)| *other != name) {
            let (answers, refusals) = (other.answers.at(now), other.refusals.at(now));
            // A model that refuses everything is no witness.
            if answers - refusals > FAINT {
                others += answers;
                others_refused += refusals;
            }
        }
        let always = answers - refusals < FAINT;
        let expected = others * refusals / answers;
        expected >= if always { 0.5 } else { EVIDENCE } && others_refused <= expected / 4.0
    }

    /// The moment at which the next hold ends for which jobs are parked, or the next probe may be presumed to have been taken.
    #[must_use]
    pub fn wake(&self) -> Option<Moment> {
        self.wake
    }

    /// Finds that moment anew; to be called when a hold or what is parked has changed.
    pub fn find_wake(&mut self) {
        let held = self.by_name.values().filter(|model| !model.parked.is_empty() && model.trying.is_none());
        self.wake = held.filter_map(|model| model.hold.held_until()).min();
    }

    /// Names of the models whose moment has come.
    #[must_use]
    pub fn due(&self, now: Moment) -> Vec<Name> {
        let mut due: Vec<_> = self
            .by_name
            .iter()
            .filter(|(_, model)| !model.parked.is_empty() && model.trying.is_none())
            .filter_map(|(name, model)| {
                Some((model.hold.held_until().filter(|&until| until <= now)?, name.clone()))
            })
            .collect();
        due.sort();
        due.into_iter().map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    fn name(name: &str) -> Name {
        Some(name.into())
    }

    fn answer(models: &mut Models, model: &str, refused: bool, secs: f64) {
        models.get_or_insert(&name(model), at(secs)).unwrap().count(refused, at(secs));
    }

    #[test]
    fn a_model_that_refuses_always_beside_one_that_works_refuses_for_itself() {
        let mut models = Models::default();
        answer(&mut models, "good", false, 0.0);
        answer(&mut models, "bad", true, 1.0);
        assert!(models.refusals_are_its_own(&name("bad"), at(1.0)));
    }

    #[test]
    fn a_single_model_in_use_speaks_for_the_key() {
        let mut models = Models::default();
        answer(&mut models, "only", true, 0.0);
        assert!(!models.refusals_are_its_own(&name("only"), at(0.0)));
    }

    #[test]
    fn models_that_are_both_refused_at_times_speak_for_the_key() {
        let mut models = Models::default();
        for secs in 0..20 {
            answer(&mut models, "a", secs % 3 == 0, f64::from(secs));
            answer(&mut models, "b", secs % 4 == 0, f64::from(secs));
        }
        assert!(!models.refusals_are_its_own(&name("a"), at(20.0)));
        assert!(!models.refusals_are_its_own(&name("b"), at(20.0)));
    }

    #[test]
    fn ten_thousand_names_are_known_as_256_and_held_ones_stay() {
        let mut models = Models::default();
        let cap = Duration::from_secs(60);
        models.get_or_insert(&name("held"), at(0.0)).unwrap().hold.refused(at(0.0), None, cap, at(0.0));
        for number in 0..10_000 {
            models.get_or_insert(&name(&number.to_string()), at(1.0));
        }
        assert_eq!(models.iter().count(), MAX_MODELS);
        assert!(models.get(&name("held")).is_some());
        for number in 0..300 {
            models.get_or_insert(&name(&number.to_string()), at(100.0));
        }
        assert!(models.get(&name("held")).is_none(), "a hold that is over keeps no place");
    }
}
