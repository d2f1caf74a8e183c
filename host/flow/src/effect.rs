//! Effects outside of a run: what a skill keeps account of itself, and what was interrupted and may have happened.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Parking;
use crate::id::{RunId, SkillName};
use crate::money::Spend;
use crate::run::{InFlight, Run};
use crate::step::Step;

/// Something that a skill does outside and keeps account of, such as one migration of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The skill.
    pub skill: SkillName,
    /// The skill's own name for it; untrusted.
    pub key: String,
    /// What it is, for people; untrusted.
    pub what: String,
}

/// A host call that was asked for and has no answer: it may have happened, and is not done twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// The skill that asked.
    pub skill: SkillName,
    /// The beginning of the step, see [`crate::run::InFlight::began`].
    pub began: u64,
    /// The host call.
    pub number: u64,
    /// What it was, for people; holds the skill's own words.
    pub what: String,
}

/// What a model call, or an entry of a skill's account, is for: the same again when its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Asking {
    /// The beginning of the step.
    pub began: u64,
    /// The host call.
    pub number: u64,
    /// Which try of it, from 1: a provider that fails is asked again.
    pub again: u32,
}

/// Model calls of the step under way and of runs that work on tasks, by what they are for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    pub(crate) open: BTreeMap<u64, For>,
    pub(crate) settled: BTreeMap<For, Spend>,
}

/// What a call is for, and the run of a task, if it is one of that.
pub(crate) type For = (Option<RunId>, Asking);

impl Asked {
    /// The step has ended: its calls do not come again.
    pub(crate) fn forget_own(&mut self) {
        self.retain(|run| run.is_some());
    }

    /// The run of a task has ended.
    pub(crate) fn forget(&mut self, ended: &RunId) {
        self.retain(|run| run != Some(ended));
    }

    fn retain(&mut self, keeps: impl Fn(Option<&RunId>) -> bool) {
        self.open.retain(|_, (run, _)| keeps(run.as_ref()));
        self.settled.retain(|(run, _), _| keeps(run.as_ref()));
    }
}

impl Run {
    /// What nobody knows to have happened or not, if the run waits for a person to say it.
    pub fn interrupted(&self) -> Option<&Interrupted> {
        match &self.parked {
            Some(Parking::EffectUnknown { interrupted }) => Some(interrupted),
            _ => None,
        }
    }
}

/// A step that was taken up again came to something that may have happened: it stays under way, and waits.
pub(crate) fn unknown(
    run: &mut Run,
    step: &Step,
    interrupted: &Interrupted,
    at_ms: u64,
) -> Result<(), String> {
    let under_way = run.in_flight.as_ref();
    let is_it = |one: &InFlight| one.step == *step && one.began == interrupted.began;
    if !under_way.is_some_and(is_it) {
        return Err("this step is not under way".into());
    }
    run.pause(at_ms);
    run.parked = Some(Parking::EffectUnknown {
        interrupted: interrupted.clone(),
    });
    Ok(())
}

/// A person says whether it happened.
pub(crate) fn resolved(run: &mut Run, number: u64, happened: bool) -> Result<(), String> {
    let is_asked = run.interrupted().is_some_and(|one| one.number == number);
    match &mut run.in_flight {
        Some(under_way) if is_asked => {
            under_way.resolved.insert(number, happened);
            run.parked = None;
            Ok(())
        }
        _ => Err("nobody asked".into()),
    }
}
