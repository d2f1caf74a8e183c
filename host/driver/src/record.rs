//! What one skill call does, told to the audit trail: before it begins, at its first refusals, and when it has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use audit::{
    Call, CommandUse, Confinement, Denied, Entry as Told, ModelUse, NetworkUse, Outcome, Refused,
    Text, Trail, TrailError, Used,
};
use capability::{Capability, Denial, Grant};
use catalog::Package;
use catalog::review::Use;
use confine::Level;
use flow::Event;
use flow::event::Usage;
use flow::id::{Digest, RunId, SkillName};
use flow::step::Step;
use project::Project;
use sandbox::{Answer, CallError, Entry, LoadError};

use crate::clock::now_ms;
use crate::house::House;
use crate::usage::add_network;

/// Refusals of one call that are told at once; from then on they are counted, and told at the end.
const AT_ONCE_MAX: u32 = 16;

/// Different refusals of one call that are told apart.
const DENIALS_MAX: usize = 1000;

/// What is called, and for whom.
pub struct About<'a> {
    /// The run and the step; absent for a call by hand.
    pub run: Option<(&'a RunId, &'a Step)>,
    /// The skill.
    pub package: &'a Package,
    /// What it may do.
    pub grant: &'a Grant,
    /// The project's, for what its model aliases stand for.
    pub project: &'a Project,
}

/// The record of one call. It exists once the call is in the trail, so that nothing is called without being there.
pub struct CallRecord {
    trail: Arc<Trail>,
    call: u64,
    run: Option<RunId>,
    skill: SkillName,
    begun: Instant,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    host_calls: BTreeMap<String, u64>,
    denials: BTreeMap<Denial, u32>,
    told_at_once: u32,
    commands: BTreeMap<String, (Confinement, u64)>,
    models: BTreeMap<String, u64>,
    network: Vec<NetworkUse>,
}

/// The level as the trail has it.
pub(crate) fn confinement(level: Level) -> Confinement {
    match level {
        Level::Full => Confinement::Full,
        Level::Namespaces => Confinement::Namespaces,
    }
}

impl CallRecord {
    /// Puts a call into the trail.
    ///
    /// # Errors
    /// [`TrailError`]: the skill must not be called then.
    pub fn begin(house: &House, about: &About<'_>) -> Result<CallRecord, TrailError> {
        let skill = &about.package.manifest.name;
        let model = |alias: &str| {
            let name = about.project.models.get(alias)?;
            let spec = house.models.find(name)?;
            Some(format!("{} of {}", spec.id, spec.provider))
        };
        let models = about
            .grant
            .models()
            .filter_map(|alias| Some((alias.into(), model(alias)?.into())));
        let call = Call {
            run: about.run.map(|(run, _)| run.clone()),
            step: about.run.map(|(_, step)| step.to_string().into()),
            skill: skill.clone(),
            digest: about.package.digest.clone(),
            grant: about.grant.digest(),
            policy: Digest::of(house.policy_text().as_bytes()),
            role: about.grant.role(),
            confinement: confinement(house.launcher.attainable()),
            models: models.collect(),
        };
        let number = house.trail.append(now_ms(), Told::Call(call))?;
        Ok(CallRecord {
            trail: house.trail.clone(),
            call: number,
            run: about.run.map(|(run, _)| run.clone()),
            skill: skill.clone(),
            begun: Instant::now(),
            seen: Mutex::default(),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a host call. The first refusals of their kind are in the trail when this returns.
    pub(crate) async fn heard(&self, call: &Entry, denial: Option<&Denial>) -> Result<(), String> {
        let is_news = {
            let mut seen = self.seen();
            let name = format!("{}.{}", call.interface, call.function);
            *seen.host_calls.entry(name).or_insert(0) += 1;
            denial.filter(|denial| seen.refuse(denial, 1))
        };
        match is_news {
            Some(denial) => self.tell(denial).await,
            None => Ok(()),
        }
    }

    /// Notes what was refused to a command of the call, as [`CallRecord::heard`] does for the call itself.
    pub(crate) async fn refused(&self, denial: &Denial, times: u32) -> Result<(), String> {
        let is_news = self.seen().refuse(denial, times);
        match is_news {
            true => self.tell(denial).await,
            false => Ok(()),
        }
    }

    /// The same where nobody can wait: it is told at the end of the call.
    pub(crate) fn count_refused(&self, denial: &Denial, times: u32) {
        self.seen().refuse(denial, times);
    }

    async fn tell(&self, denial: &Denial) -> Result<(), String> {
        let told = Told::Denied(Denied {
            call: self.call,
            run: self.run.clone(),
            skill: self.skill.clone(),
            refused: refused(denial),
        });
        let trail = self.trail.clone();
        // It waits for the disk, and this thread answers other workers.
        let appended = tokio::task::spawn_blocking(move || trail.append(now_ms(), told)).await;
        match appended {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(error) => Err(format!("the audit trail: {error}")),
        }
    }

    /// Notes a command that is about to be run, at the level that is expected to hold it.
    pub(crate) fn command(&self, name: &str, level: Level) {
        let confinement = confinement(level);
        let mut seen = self.seen();
        let (weakest, times) = seen
            .commands
            .entry(name.to_owned())
            .or_insert((confinement, 0));
        *weakest = (*weakest).max(confinement);
        *times += 1;
    }

    /// Notes what did hold a command.
    pub(crate) fn held(&self, name: &str, level: Level) {
        if let Some((weakest, _)) = self.seen().commands.get_mut(name) {
            *weakest = (*weakest).max(confinement(level));
        }
    }

    /// Notes a model call that is about to be made.
    pub(crate) fn model(&self, alias: &str) {
        *self.seen().models.entry(alias.to_owned()).or_insert(0) += 1;
    }

    /// Notes what the call used of the network, as the door's account has it. Give it the account before the call's end is told.
    pub fn network(&self, used: Vec<egress::Use>) {
        let line = |one: egress::Use| NetworkUse {
            origin: one.origin.to_string().into(),
            method: one.method.into(),
            path: one.path.into(),
            credentials: one.credentials.into_iter().map(Text::from).collect(),
            requests: one.requests,
            sent: one.sent,
            received: one.received,
        };
        self.seen().network = used.into_iter().map(line).collect();
    }

    /// What the call used so far, as a review has it; `peak_memory_bytes` is told by its answer.
    pub fn usage(&self, peak_memory_bytes: u64) -> Use {
        let mut usage = Use {
            calls: 1,
            peak_memory_bytes,
            ..Use::detailed()
        };
        let seen = self.seen();
        usage.host_calls.clone_from(&seen.host_calls);
        usage.models.clone_from(&seen.models);
        let commands = seen.commands.iter();
        usage.commands = Some(
            commands
                .map(|(name, (_, times))| (name.clone(), *times))
                .collect(),
        );
        add_network(&mut usage, &seen.network);
        for (denial, times) in &seen.denials {
            let what = format!("{}: {}", denial.capability, denial.what);
            usage.add_refused(&what, &denial.line, u64::from(*times));
        }
        usage
    }

    /// What was refused so far, and how often.
    pub fn denials(&self) -> Vec<(Denial, u32)> {
        let seen = self.seen();
        let denials = seen.denials.iter();
        denials.map(|(one, times)| (one.clone(), *times)).collect()
    }

    /// Puts the end of the call into the trail.
    ///
    /// # Errors
    /// [`TrailError`]: the answer must not be used then.
    pub fn end(&self, ended: &Result<Answer, CallError>) -> Result<(), TrailError> {
        let fuel = ended.as_ref().map_or(0, |answer| answer.usage.fuel);
        self.close(outcome(ended), fuel)
    }

    /// Puts into the trail that the skill was not even loaded.
    ///
    /// # Errors
    /// [`TrailError`].
    pub fn not_loaded(&self, error: &LoadError) -> Result<(), TrailError> {
        if let LoadError::NotGranted { import, line } = error {
            let denial = Denial::new(Capability::Interface, import, line);
            self.seen().refuse(&denial, 1);
        }
        self.close(Outcome::Ended(error.to_string().into()), 0)
    }

    fn close(&self, outcome: Outcome, fuel: u64) -> Result<(), TrailError> {
        let seen = std::mem::take(&mut *self.seen());
        let used = Used {
            call: self.call,
            run: self.run.clone(),
            skill: self.skill.clone(),
            outcome,
            host_calls: texts(&seen.host_calls),
            commands: seen
                .commands
                .iter()
                .map(|(name, (confinement, times))| CommandUse {
                    name: name.as_str().into(),
                    confinement: *confinement,
                    times: *times,
                })
                .collect(),
            models: seen
                .models
                .iter()
                .map(|(alias, times)| ModelUse {
                    alias: alias.as_str().into(),
                    times: *times,
                })
                .collect(),
            network: seen.network.clone(),
            denied: seen
                .denials
                .iter()
                .map(|(denial, times)| (refused(denial), u64::from(*times)))
                .collect(),
            fuel,
            wall_ms: self.begun.elapsed().as_millis() as u64,
            left_out: 0,
        };
        *self.seen() = seen;
        self.trail.append(now_ms(), Told::Used(used))?;
        Ok(())
    }

    /// The same for the run's journal.
    pub(crate) fn events(&self, step: &Step, ended: &Result<Answer, CallError>) -> Vec<Event> {
        let usage = ended.as_ref().ok().map(|answer| answer.usage);
        let used = Event::Used {
            step: step.clone(),
            skill: self.skill.clone(),
            usage: Usage {
                host_calls: self.seen().host_calls.clone(),
                fuel: usage.map_or(0, |usage| usage.fuel),
                peak_memory_bytes: usage.map_or(0, |usage| usage.peak_memory_bytes),
            },
        };
        let denied = self
            .denials()
            .into_iter()
            .map(|(denial, times)| Event::Denied {
                step: step.clone(),
                skill: self.skill.clone(),
                what: format!("{}: {}", denial.capability, denial.what),
                line: denial.line,
                times,
            });
        std::iter::once(used).chain(denied).collect()
    }
}

impl Seen {
    /// Counts a refusal; true when it is to be told at once.
    fn refuse(&mut self, denial: &Denial, more: u32) -> bool {
        if let Some(times) = self.denials.get_mut(denial) {
            *times = times.saturating_add(more);
            return false;
        }
        let is_full = self.denials.len() >= DENIALS_MAX;
        let counted = if is_full {
            // A guest that makes up ever new ones is told of as one that asked for much.
            Denial::new(
                denial.capability,
                "more of the kind",
                "as many lines as there are different ones",
            )
        } else {
            denial.clone()
        };
        let times = self.denials.entry(counted).or_insert(0);
        *times = times.saturating_add(more);
        let at_once = !is_full && self.told_at_once < AT_ONCE_MAX;
        self.told_at_once += u32::from(at_once);
        at_once
    }
}

fn refused(denial: &Denial) -> Refused {
    Refused {
        capability: denial.capability,
        what: denial.what.as_str().into(),
        line: denial.line.as_str().into(),
    }
}

fn outcome(ended: &Result<Answer, CallError>) -> Outcome {
    match ended {
        Ok(answer) => match answer.output.get("err") {
            Some(error) => {
                let kind = error.as_object().and_then(|kinds| kinds.keys().next());
                Outcome::Refused(kind.map_or("unknown", String::as_str).into())
            }
            None => Outcome::Answered,
        },
        Err(error) => Outcome::Ended(error.to_string().into()),
    }
}

fn texts(counts: &BTreeMap<String, u64>) -> BTreeMap<Text, u64> {
    counts
        .iter()
        .map(|(name, times)| (name.as_str().into(), *times))
        .collect()
}
