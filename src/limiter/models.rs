//! What is known of each model: its hold, its quota, and whose fault its refusals are.
//!
//! **Whose refusal?** A plain 429 may be the key's or one model's, and the answer does not say which. It is taken for the model's
//! own when the other models would have been refused too, were it the key's: let `p` be the model's recent share of
//! refusals and `n` the recent answers to the other models that work at all. Were `p` the key's share, about `p × n` of
//! those would be refusals. With at least `EVIDENCE` expected (one, if the model refuses always) and less than a quarter of
//! them seen, it is the model's.
//!
//! At most [`MAX_MODELS`] are known; the least recently used goes, if nothing of it waits, is on its way, is held or counts in a
//! window. Where there is no room the request belongs to [`REST`], whose models are taken for one and never held.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use super::fairness::{Group, Openness};
use super::hold::{Hold, Passage};
use super::lanes::Access;
use super::model_quota::{ModelQuota, Rules};
use super::rate::Rpm;
use crate::clock::Moment;
use crate::priority::Priority;

/// How many models are known at once.
pub const MAX_MODELS: usize = 256;
/// The group of all models that there is no room for.
pub const REST: Group = 0;
/// How many refusals of the others must be expected before their absence says something.
const EVIDENCE: f64 = 3.0;
/// In this time what was seen loses 63 % of its weight.
const MEMORY: Duration = Duration::from_secs(60);
/// What is left of one answer after about three times [`MEMORY`]; less counts as nothing.
const FAINT: f64 = 0.05;

/// A model's name, as requests give it; `None` are the requests that name none.
pub type Name = Option<Arc<str>>;

/// All models that are known. Each has a number, its jobs' group in the lanes.
#[derive(Clone, Debug)]
pub struct Models {
    rules: Rules,
    models: Slab<Model>,
    by_name: HashMap<Name, Group>,
    /// When something changes for a model's waiting jobs without anything being reported.
    wakes: BTreeSet<(Moment, Group)>,
    uses: u64,
}

/// One model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// Its name.
    pub name: Name,
    /// Its hold.
    pub hold: Hold,
    /// What its requests must find.
    pub quota: ModelQuota,
    /// How many jobs of it wait in the lanes.
    pub waiting: usize,
    /// What the lanes were last told; a number that is used again may have been another model's.
    access: Option<Access>,
    wake: Option<Moment>,
    answers: DecayedCounter,
    refusals: DecayedCounter,
    used: u64,
}

/// An exponentially weighted count (EWMA): what it counted fades with time.
#[derive(Clone, Copy, Debug, Default)]
struct DecayedCounter {
    count: f64,
    at: Moment,
}

impl DecayedCounter {
    fn at(self, now: Moment) -> f64 {
        self.count * libm::exp(-now.since(self.at).as_secs_f64() / MEMORY.as_secs_f64())
    }

    fn add(&mut self, now: Moment) {
        *self = DecayedCounter { count: self.at(now) + 1.0, at: now };
    }
}

impl Model {
    /// Counts an answer.
    pub fn count(&mut self, refused: bool, now: Moment) {
        self.answers.add(now);
        if refused {
            self.refusals.add(now);
        }
    }

    /// When the `nth` request of this priority (the next one is 1) may go, by hold and quota.
    #[must_use]
    pub fn nth_at(&self, nth: u32, priority: Priority, now: Moment) -> Moment {
        self.quota.nth_at(nth, priority, now).max(self.hold.held_until().unwrap_or(now))
    }

    /// What of it may go at `now`, and when that may change by itself.
    fn access_at(&self, now: Moment) -> (Access, Moment) {
        let openness = match self.hold.passage(now) {
            Passage::Free => Openness::Open,
            Passage::Probe => Openness::Probe,
            Passage::Wait(until) => {
                return (Access { urgent: Openness::Closed, ordinary: Openness::Closed }, until);
            }
        };
        let [urgent, ordinary] = [Priority::Urgent, Priority::Low].map(|of| self.quota.free_at(of, now));
        let of = |free_at: Moment| if free_at <= now { openness } else { Openness::Closed };
        let access = Access { urgent: of(urgent), ordinary: of(ordinary) };
        let changes = [urgent, ordinary].into_iter().filter(|&at| at > now);
        (access, changes.min().unwrap_or(Moment::NEVER))
    }

    fn is_idle(&self, now: Moment) -> bool {
        self.waiting == 0
            && self.hold.held_until().is_none_or(|until| until <= now)
            && self.quota.is_unused(now)
    }
}

impl Models {
    /// None known yet.
    #[must_use]
    pub fn new(rules: Rules, now: Moment) -> Models {
        let mut models = Slab::new();
        models.insert(Model { quota: rules.quota_of(None, now), ..Model::default() });
        Models { rules, models, by_name: HashMap::new(), wakes: BTreeSet::new(), uses: 0 }
    }

    /// The model of this name, made known if there is room, else [`REST`].
    pub fn group_of(&mut self, name: &Name, now: Moment) -> Group {
        self.uses += 1;
        let group = match self.known(name) {
            Some(group) => group,
            None if self.by_name.len() < MAX_MODELS || self.forget_one(now) => {
                let quota = self.rules.quota_of(name.as_deref(), now);
                let group = self.models.insert(Model { name: name.clone(), quota, ..Model::default() });
                self.by_name.insert(name.clone(), group);
                group
            }
            None => REST,
        };
        self.models[group].used = self.uses;
        group
    }

    fn forget_one(&mut self, now: Moment) -> bool {
        let known = self.by_name.values().map(|&group| (group, &self.models[group]));
        let idle = known.filter(|(_, model)| model.is_idle(now)).min_by_key(|(_, model)| model.used);
        let Some((group, _)) = idle else { return false };
        self.set_wake(group, None);
        let model = self.models.remove(group);
        self.by_name.remove(&model.name);
        true
    }

    /// The number of a model that is known.
    #[must_use]
    pub fn known(&self, name: &Name) -> Option<Group> {
        self.by_name.get(name).copied()
    }

    /// A model.
    #[must_use]
    pub fn get(&self, group: Group) -> Option<&Model> {
        self.models.get(group)
    }

    /// A model.
    pub fn get_mut(&mut self, group: Group) -> Option<&mut Model> {
        self.models.get_mut(group)
    }

    /// All known models, [`REST`] among them.
    pub fn iter(&self) -> impl Iterator<Item = (Group, &Model)> + Clone {
        self.models.iter()
    }

    /// The rules that give models their quotas.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Gives all models their quotas anew; windows of the same length keep what they hold.
    pub fn set_rules(&mut self, rules: Rules, now: Moment) {
        for (_, model) in &mut self.models {
            let before = std::mem::replace(&mut model.quota, rules.quota_of(model.name.as_deref(), now));
            model.quota.inherit(before);
        }
        self.rules = rules;
    }

    /// Ends all holds, and forgets what was seen of refusals.
    pub fn forget_refusals(&mut self) {
        for (_, model) in &mut self.models {
            model.hold = Hold::default();
            (model.answers, model.refusals) = Default::default();
        }
    }

    /// Looks at what of a model may go now, at the key's present rate; gives it if it is not what the lanes were last told.
    pub fn look(&mut self, group: Group, rate: Rpm, now: Moment) -> Option<Access> {
        let model = self.models.get_mut(group)?;
        model.quota.advance(model.waiting > 0, rate, now);
        let (access, changes_at) = model.access_at(now);
        let wake = (model.waiting > 0 && changes_at < Moment::NEVER).then_some(changes_at);
        let news = (model.access != Some(access)).then_some(access);
        model.access = Some(access);
        self.set_wake(group, wake);
        news
    }

    fn set_wake(&mut self, group: Group, wake: Option<Moment>) {
        let Some(model) = self.models.get_mut(group).filter(|model| model.wake != wake) else { return };
        if let Some(before) = std::mem::replace(&mut model.wake, wake) {
            self.wakes.remove(&(before, group));
        }
        if let Some(wake) = wake {
            self.wakes.insert((wake, group));
        }
    }

    /// Whether the model's refusals are its own and say nothing about the key.
    #[must_use]
    pub fn refusals_are_its_own(&self, group: Group, now: Moment) -> bool {
        let Some(model) = self.models.get(group) else { return false };
        let (answers, refusals) = (model.answers.at(now), model.refusals.at(now));
        if answers <= 0.0 {
            return false;
        }
        let (mut others, mut others_refused) = (0.0, 0.0);
        for (_, other) in self.models.iter().filter(|&(other, _)| other != group) {
            let (answers, refusals) = (other.answers.at(now), other.refusals.at(now));
            // A model that refuses everything is not a witness.
            if answers - refusals > FAINT {
                others += answers;
                others_refused += refusals;
            }
        }
        let always = answers - refusals < FAINT;
        let expected = others * refusals / answers;
        expected >= if always { 0.5 } else { EVIDENCE } && others_refused <= expected / 4.0
    }

    /// When something changes next for a model's waiting jobs, and whose.
    #[must_use]
    pub fn wake(&self) -> Option<(Moment, Group)> {
        self.wakes.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::limiter::Settings;

    fn at(secs: f64) -> Moment {
        Moment::from_secs_f64(secs)
    }

    fn name(name: &str) -> Name {
        Some(name.into())
    }

    fn models() -> Models {
        Models::new(Rules::new(&Settings::default()), Moment::ZERO)
    }

    fn is_its_own(models: &mut Models, model: &str, secs: f64) -> bool {
        let group = models.group_of(&name(model), at(secs));
        models.refusals_are_its_own(group, at(secs))
    }

    fn answer(models: &mut Models, model: &str, refused: bool, secs: f64) {
        let group = models.group_of(&name(model), at(secs));
        models.get_mut(group).unwrap().count(refused, at(secs));
    }

    #[test]
    fn a_model_that_refuses_always_beside_one_that_works_refuses_for_itself() {
        let mut models = models();
        answer(&mut models, "good", false, 0.0);
        answer(&mut models, "bad", true, 1.0);
        assert!(is_its_own(&mut models, "bad", 1.0));
    }

    #[test]
    fn a_single_model_in_use_speaks_for_the_key() {
        let mut models = models();
        answer(&mut models, "only", true, 0.0);
        assert!(!is_its_own(&mut models, "only", 0.0));
    }

    #[test]
    fn models_that_are_both_refused_at_times_speak_for_the_key() {
        let mut models = models();
        for secs in 0..20 {
            answer(&mut models, "a", secs % 3 == 0, f64::from(secs));
            answer(&mut models, "b", secs % 4 == 0, f64::from(secs));
        }
        assert!(!is_its_own(&mut models, "a", 20.0));
        assert!(!is_its_own(&mut models, "b", 20.0));
    }

    #[test]
    fn ten_thousand_names_are_known_as_256_and_held_ones_stay() {
        let mut models = models();
        let cap = Duration::from_secs(60);
        let held = models.group_of(&name("held"), at(0.0));
        models.get_mut(held).unwrap().hold.refused(at(0.0), None, cap, at(0.0));
        for number in 0..10_000 {
            models.group_of(&name(&number.to_string()), at(1.0));
        }
        assert_eq!(models.iter().count(), MAX_MODELS + 1, "all of them and the rest");
        assert!(models.known(&name("held")).is_some());
        for number in 0..300 {
            models.group_of(&name(&number.to_string()), at(100.0));
        }
        assert!(models.known(&name("held")).is_none(), "a hold that is over keeps no place");
    }
}
