//! The world around the rules: what drivers, skills, gates, people, strangers and crashes do to a few runs.

use std::collections::{BTreeMap, BTreeSet};

use flow::event::{Answer, Candidate, Cause, Event, Recorded};
use flow::id::{CommitId, RunId, TaskId, TreeId};
use flow::money::{Micros, Reservation, Spend};
use flow::role::{Decision, Deployment, Outcome, Rollback};
use flow::run::{Action, End, Run, Stage, apply, next, replay};
use flow::step::Step;
use flow::task::{ChildCall, Task, TaskEnd};
use flow::verdict::{Base, Finding};

use super::choices::Choices;
use super::invariants::{Before, Held, Memory, hold, world_step};
use crate::grant::{lacking, regrant};
use crate::plan::planned;
use crate::script::{Script, deploying, evidence, failure, item, report, skill};

/// Paths that tasks claim and skills change.
const PATHS: [&str; 5] = ["a", "b", "c", "d", "**"];

/// One run with the process that drives it, if one does.
struct Actor {
    run: Run,
    events: Vec<Recorded>,
    memory: Memory,
    doing: Doing,
    /// Events that a frozen process may still bring, with the number that it thinks is next.
    late: Vec<(u64, Event)>,
    /// Model calls under way.
    calls: Vec<u64>,
}

/// How far a driver is in what it does. It forgets all of it when it dies.
#[derive(Clone, PartialEq)]
enum Doing {
    Nothing,
    Step(Step),
    /// The intent to move is durable.
    Intended,
    /// The branch was moved, and nobody knows.
    Moved,
}

/// A branch, or the joined work of a run's tasks.
#[derive(Clone)]
struct Tip {
    at: Base,
    /// Commits that are in it.
    holds: BTreeSet<CommitId>,
}

pub struct World {
    actors: BTreeMap<RunId, Actor>,
    roots: Vec<RunId>,
    branch: Tip,
    joined: BTreeMap<RunId, Tip>,
    objects: u32,
    now_ms: u64,
    events: u64,
    seen: BTreeMap<&'static str, u64>,
}

/// What happened in all worlds, by kind.
#[derive(Debug, Default)]
pub struct Seen {
    pub events: u64,
    kinds: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub fn add(&mut self, world: &World) {
        self.events += world.events;
        for (kind, times) in &world.seen {
            *self.kinds.entry(kind).or_default() += times;
        }
    }

    /// Whether all that can happen did, often.
    pub fn is_enough(&self) {
        for kind in [
            "step-failed",
            "blocked",
            "regranted",
            "planned",
            "task-opened",
            "task-ended",
            "integrated",
            "merge-lost",
            "merge-conflicted",
            "merged",
            "deployed",
            "reserved",
            "settled",
            "parked",
            "resumed",
            "cancelled",
            "answered",
            "budget-given",
            "a crash",
            "late and refused",
            "late and taken",
            "joined",
            "merged or deployed",
            "a crash after the move",
        ] {
            let times = self.kinds.get(kind).copied().unwrap_or(0);
            assert!(
                times >= 100,
                "{kind} happened {times} times: {:?}",
                self.kinds
            );
        }
    }
}

fn tree(n: usize) -> TreeId {
    format!("{n:040x}").parse().unwrap()
}

impl World {
    pub fn new(choices: &mut Choices) -> World {
        let at = Base {
            commit: format!("{:040x}", 1).parse().unwrap(),
            tree: tree(1),
        };
        let mut world = World {
            actors: BTreeMap::new(),
            roots: vec![],
            branch: Tip {
                holds: [at.commit.clone()].into(),
                at: at.clone(),
            },
            joined: BTreeMap::new(),
            objects: 100,
            now_ms: 0,
            events: 0,
            seen: BTreeMap::new(),
        };
        for n in 0..=choices.pick(2) {
            let mut pipeline = deploying();
            pipeline.plan = (choices.pick(4) != 3).then(|| skill("plan"));
            pipeline.deploy = pipeline.deploy.filter(|_| choices.pick(2) == 0);
            pipeline.budget.active_ms = if choices.rarely(6) { 1_500 } else { 1_000_000 };
            let mut opened = Script::open(pipeline).run.opened;
            opened.run = format!("r-{n}").parse().unwrap();
            opened.base = at.clone();
            world.roots.push(opened.run.clone());
            world.begin(opened);
        }
        world
    }

    fn begin(&mut self, opened: flow::event::Opened) {
        let script = Script::of(opened);
        self.actors.insert(
            script.run.opened.run.clone(),
            Actor {
                run: script.run,
                events: script.events,
                memory: Memory::default(),
                doing: Doing::Nothing,
                late: vec![],
                calls: vec![],
            },
        );
        self.events += 1;
    }

    pub fn is_over(&self) -> bool {
        let ended = |actor: &Actor| matches!(actor.run.stage, Stage::Ended(_));
        self.events > 3_000 || self.actors.values().all(ended)
    }

    fn fresh_commit(&mut self) -> CommitId {
        self.objects += 1;
        format!("{:040x}", self.objects).parse().unwrap()
    }

    /// A tree: often one that was there before.
    fn some_tree(&mut self, choices: &mut Choices) -> TreeId {
        match choices.pick(12) {
            0..6 => {
                self.objects += 1;
                tree(self.objects as usize)
            }
            n => tree(n - 5),
        }
    }

    fn note(&mut self, kind: &'static str) {
        *self.seen.entry(kind).or_default() += 1;
    }

    /// Appends as a driver does: what the rules refuse is not written.
    fn append(&mut self, id: &RunId, event: Event) -> Result<bool, String> {
        let number = self.actors[id].run.events + 1;
        self.append_as(id, number, event)
    }

    fn append_as(&mut self, id: &RunId, number: u64, event: Event) -> Result<bool, String> {
        self.now_ms += 10;
        let Some(actor) = self.actors.get_mut(id) else {
            return Ok(false);
        };
        let recorded = Recorded {
            number,
            at_ms: self.now_ms,
            event,
        };
        let before = Before::of(&actor.run);
        let expected = actor.run.events + 1;
        let Ok(after) = apply(Some(actor.run.clone()), &recorded) else {
            return Ok(false);
        };
        if number != expected {
            return Err(format!("a_stale_writer_is_refused: {recorded:?}"));
        }
        actor.memory.hear(&recorded.event);
        actor.run = after;
        let kind = recorded.event.name();
        let held = hold(&before, &recorded.event, &actor.run, &mut actor.memory)
            .map_err(|broken| format!("{broken} (run {id})"));
        if let (Event::Planned { .. }, Stage::Tasks) = (&recorded.event, &actor.run.stage) {
            // It was kept before the plan was recorded.
            let at = actor.run.base.clone();
            let holds = [at.commit.clone()].into();
            self.joined.insert(id.clone(), Tip { at, holds });
        }
        actor.events.push(recorded);
        self.events += 1;
        self.note(kind);
        held?;
        self.children_spend_within_their_parent(id)?;
        Ok(true)
    }

    /// An event that the rules have to take.
    fn must(&mut self, id: &RunId, event: Event) -> Held {
        let told = format!("{event:?}");
        match self.append(id, event)? {
            true => Ok(()),
            false => Err(format!("what_is_due_is_taken: {told} of {id} was refused")),
        }
    }

    /// Rule 8, over runs: what tasks set aside or spent, their parent has set aside or spent.
    fn children_spend_within_their_parent(&self, id: &RunId) -> Held {
        let parent = match &self.actors[id].run.opened.child {
            Some(child) => &child.parent,
            None => id,
        };
        let children = self.actors.values().filter(|one| {
            let child = one.run.opened.child.as_ref();
            child.is_some_and(|child| child.parent == *parent)
        });
        let sum: u64 = children.map(|one| one.run.committed().money.0).sum();
        let theirs = self.actors[parent].run.committed().money.0;
        match sum <= theirs {
            true => Ok(()),
            false => Err(format!(
                "children_spend_within_their_parent: {sum} of {theirs}"
            )),
        }
    }

    /// One thing happens.
    pub fn notch(&mut self, choices: &mut Choices) -> Held {
        let ids: Vec<RunId> = self.actors.keys().cloned().collect();
        let id = ids[choices.pick(ids.len())].clone();
        match choices.pick(40) {
            0..32 => self.drive(&id, choices),
            32 | 33 => self.crash(&id, choices),
            34 => self.comes_late(&id, choices),
            35 => self.comes_twice(&id, choices),
            36 if choices.rarely(3) => {
                // A stranger moves the branch.
                let commit = self.fresh_commit();
                self.branch.at = Base {
                    tree: self.some_tree(choices),
                    commit: commit.clone(),
                };
                self.branch.holds.insert(commit);
                Ok(())
            }
            36 => Ok(()),
            _ => self.person(&id, choices),
        }
    }

    /// The process of one run dies, or that of all; it may have been frozen only, and bring what it was about to write later.
    fn crash(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let all = choices.pick(2) == 1;
        let frozen = choices.pick(3) == 2;
        let ids: Vec<RunId> = match all {
            true => self.actors.keys().cloned().collect(),
            false => vec![id.clone()],
        };
        for id in ids {
            self.note("a crash");
            if self.actors[&id].doing == Doing::Moved {
                self.note("a crash after the move");
            }
            let due = world_step(&self.actors[&id].run);
            if let (true, Some(step)) = (frozen, due) {
                let event = self.result(&id, &step, choices);
                let actor = &self.actors[&id];
                let number = actor.run.events + 1;
                self.actors
                    .get_mut(&id)
                    .unwrap()
                    .late
                    .extend(event.map(|event| (number, event)));
            }
            let actor = self.actors.get_mut(&id).unwrap();
            actor.doing = Doing::Nothing;
            actor.calls.clear();
        }
        Ok(())
    }

    /// A frozen process wakes and appends what it had in hand: under its own number, or worse, under the right one.
    fn comes_late(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let Some((number, event)) = self.actors.get_mut(id).unwrap().late.pop() else {
            return Ok(());
        };
        let number = match choices.pick(2) {
            0 => number,
            _ => self.actors[id].run.events + 1,
        };
        // Its driver finds that somebody else has written, and stops.
        if self.append_as(id, number, event)? {
            self.note("late and taken");
            self.actors.get_mut(id).unwrap().doing = Doing::Nothing;
        } else {
            self.note("late and refused");
        }
        Ok(())
    }

    /// Something that was recorded is recorded again.
    fn comes_twice(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let events = &self.actors[id].events;
        let back = choices.pick(events.len().min(8));
        let event = events[events.len() - 1 - back].event.clone();
        // Only whoever holds the money writes of it, and only a person what a person says; a word that is said twice is theirs.
        let is_outside = matches!(
            event,
            Event::Reserved { .. } | Event::Settled { .. } | Event::Parked { .. }
        );
        if !is_outside && self.append(id, event)? {
            self.actors.get_mut(id).unwrap().doing = Doing::Nothing;
        }
        Ok(())
    }

    /// A person says something, whether it fits or not.
    fn person(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let run = &self.actors[id].run;
        let by = || "me".to_owned();
        let event = match choices.pick(8) {
            0..3 => Event::Resumed { by: by() },
            3 | 4 => match next(run) {
                Action::AwaitAnswer { subject, gates } => Event::Answered {
                    gate: gates[choices.pick(gates.len())].clone(),
                    tree: subject.tree,
                    answer: if choices.rarely(3) {
                        Answer::Reject
                    } else {
                        Answer::Approve
                    },
                    by: by(),
                    note: String::new(),
                },
                _ => {
                    let gates = &run.opened.pipeline.gates;
                    let gate = gates[choices.pick(gates.len())].name.clone();
                    let candidate = run.candidate().map(|one| one.tree.clone());
                    let tree = candidate.unwrap_or_else(|| tree(1 + choices.pick(6)));
                    Event::Answered {
                        gate,
                        tree,
                        answer: Answer::Approve,
                        by: by(),
                        note: String::new(),
                    }
                }
            },
            5 => regrant(run, &choices.pick(9).to_string()),
            6 => Event::BudgetGiven { by: by() },
            _ if choices.rarely(30) => Event::Cancelled { by: by() },
            _ => return Ok(()),
        };
        self.append(id, event).map(|_| ())
    }

    /// The driver of a run does what is due, one notch further.
    fn drive(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let actor = &self.actors[id];
        match next(&actor.run) {
            Action::Nothing | Action::AwaitResume | Action::AwaitAnswer { .. } => Ok(()),
            Action::Park(reason) => self.must(id, Event::Parked { reason }),
            Action::Tend { ready, under_way } => self.tend(id, &ready, &under_way, choices),
            Action::Perform(step) => match actor.doing.clone() {
                Doing::Nothing => {
                    self.must(id, Event::StepStarted { step: step.clone() })?;
                    self.actors.get_mut(id).unwrap().doing = Doing::Step(step);
                    Ok(())
                }
                // What it did was taken from it by somebody else's word.
                Doing::Step(begun) if begun != step => {
                    self.actors.get_mut(id).unwrap().doing = Doing::Nothing;
                    Ok(())
                }
                doing => self.act(id, &step, &doing, choices),
            },
        }
    }

    fn is_skills(step: &Step) -> bool {
        matches!(
            step,
            Step::Intake
                | Step::Baseline
                | Step::Plan
                | Step::Implement { .. }
                | Step::Deploy { .. }
        )
    }

    fn act(&mut self, id: &RunId, step: &Step, doing: &Doing, choices: &mut Choices) -> Held {
        if Self::is_skills(step) {
            match choices.pick(8) {
                6 => return self.call_model(id, choices),
                7 => return self.settle(id, choices),
                _ => {}
            }
        }
        if let Step::MoveBranch { from, to } = step {
            return self.move_branch(id, from, to, doing, choices);
        }
        let event = match choices.pick(26) {
            24 => Some(Event::StepFailed {
                step: step.clone(),
                failure: self.some_failure(choices),
            }),
            25 if Self::is_skills(step) => Some(Event::Blocked {
                step: step.clone(),
                blocked: lacking("x"),
            }),
            _ => self.result(id, step, choices),
        };
        let Some(event) = event else { return Ok(()) };
        self.must(id, event)?;
        self.actors.get_mut(id).unwrap().doing = Doing::Nothing;
        Ok(())
    }

    fn some_failure(&mut self, choices: &mut Choices) -> flow::event::Failure {
        let causes = [
            Cause::Skill,
            Cause::Passing,
            Cause::Passing,
            Cause::Budget,
            Cause::Setup,
            Cause::Checkout,
        ];
        let cause = causes[choices.pick(causes.len())];
        failure(cause, &choices.pick(3).to_string())
    }

    /// What a step comes to, as an event.
    fn result(&mut self, id: &RunId, step: &Step, choices: &mut Choices) -> Option<Event> {
        let run = self.actors[id].run.clone();
        Some(match step {
            Step::Intake => Event::Triaged {
                decision: match choices.pick(20) {
                    18 => Decision::Declined("no".into()),
                    19 => Decision::Unclear(vec!["?".into()]),
                    _ => Decision::Accepted(item()),
                },
            },
            Step::Baseline => Event::BaselineTaken { report: report() },
            Step::Plan => Event::Planned {
                tasks: some_plan(choices),
            },
            Step::Implement { attempt } => {
                let claimed = run
                    .opened
                    .child
                    .as_ref()
                    .map(|child| child.task.claims[0].to_string());
                let path = match claimed {
                    Some(claim) if choices.pick(8) != 7 => claim,
                    _ => PATHS[choices.pick(4)].to_owned(),
                };
                Event::Attempted {
                    attempt: *attempt,
                    outcome: match choices.pick(16) {
                        14 => Outcome::GaveUp("?".into()),
                        15 => Outcome::AlreadyTrue("!".into()),
                        _ => Outcome::Changed("!".into()),
                    },
                    candidate: Candidate {
                        tree: self.some_tree(choices),
                        base: run.base.clone(),
                        changed: vec![path.replace("**", "a")],
                        refused: vec![],
                    },
                }
            }
            Step::Gate { gate, subject } => {
                let finding = match choices.pick(10) {
                    8 => Finding::Fail,
                    9 => Finding::NeedsHuman,
                    _ => Finding::Pass,
                };
                let one = run
                    .opened
                    .pipeline
                    .gates
                    .iter()
                    .find(|one| one.name == *gate)?;
                let why = choices.pick(3).to_string();
                Event::GateDecided {
                    verdict: flow::verdict::Verdict {
                        gate: gate.clone(),
                        gate_digest: one.digest.clone(),
                        subject: subject.clone(),
                        finding,
                        evidence: evidence(&why),
                        signature: flow::id::Digest::of(why.as_bytes()),
                    },
                }
            }
            Step::PrepareMerge => {
                let onto = self.target(&run).at.clone();
                if choices.pick(10) == 9 {
                    return Some(Event::MergeConflicted {
                        onto,
                        paths: vec!["a".into()],
                    });
                }
                let candidate = run.candidate()?;
                let tree = match onto == candidate.base {
                    true => candidate.tree.clone(),
                    false => self.some_tree(choices),
                };
                let commit = self.fresh_commit();
                Event::MergePrepared { onto, commit, tree }
            }
            // Nobody says that it was moved who has not moved it.
            Step::MoveBranch { to, .. } => {
                let moved = self.target(&run).holds.contains(to);
                return moved.then(|| Event::Merged { commit: to.clone() });
            }
            Step::Deploy { .. } => Event::Deployed {
                deployment: match choices.pick(4) {
                    3 => Deployment::RolledBack(Rollback {
                        from: "r".into(),
                        to: None,
                        reason: "500".into(),
                    }),
                    _ => Deployment::Healthy("r".into()),
                },
            },
            Step::Integrate => {
                let tip = self.joined.get(id)?.at.clone();
                Event::Integrated {
                    candidate: Candidate {
                        tree: tip.tree,
                        base: run.base.clone(),
                        changed: vec!["a".into()],
                        refused: vec![],
                    },
                }
            }
        })
    }

    /// What a run's merge goes onto.
    fn target(&mut self, run: &Run) -> &mut Tip {
        match &run.opened.child {
            Some(child) => self.joined.get_mut(&child.parent).unwrap(),
            None => &mut self.branch,
        }
    }

    /// Intent, move and record: a crash may come between any two of them.
    fn move_branch(
        &mut self,
        id: &RunId,
        from: &CommitId,
        to: &CommitId,
        doing: &Doing,
        choices: &mut Choices,
    ) -> Held {
        let run = self.actors[id].run.clone();
        let Stage::MoveBranch(prepared) = &run.stage else {
            return Ok(());
        };
        let tip = self.target(&run).clone();
        let doing = match doing {
            Doing::Step(_) => {
                let tree = prepared.tree.clone();
                self.must(
                    id,
                    Event::MergeIntended {
                        from: from.clone(),
                        to: to.clone(),
                        tree,
                    },
                )?;
                Doing::Intended
            }
            Doing::Intended if tip.at.commit == *from => {
                let intended = self.actors[id].events.iter().any(|one| {
                    matches!(&one.event, Event::MergeIntended { from: f, to: t, .. } if f == from && t == to)
                });
                if !intended {
                    return Err(format!("an_effect_is_journalled_before: {from} to {to}"));
                }
                let tip = self.target(&run);
                tip.at = Base {
                    commit: to.clone(),
                    tree: prepared.tree.clone(),
                };
                if !tip.holds.insert(to.clone()) {
                    return Err(format!("an_effect_is_done_once: {to}"));
                }
                Doing::Moved
            }
            _ if tip.holds.contains(to) => {
                self.must(id, Event::Merged { commit: to.clone() })?;
                self.note(if run.opened.child.is_some() {
                    "joined"
                } else {
                    "merged or deployed"
                });
                Doing::Nothing
            }
            _ if choices.pick(20) == 19 => {
                let step = Step::MoveBranch {
                    from: from.clone(),
                    to: to.clone(),
                };
                let failure = failure(Cause::Checkout, "dirty");
                self.must(id, Event::StepFailed { step, failure })?;
                Doing::Nothing
            }
            _ => {
                self.must(
                    id,
                    Event::MergeLost {
                        actual: tip.at.commit.clone(),
                    },
                )?;
                Doing::Nothing
            }
        };
        self.actors.get_mut(id).unwrap().doing = doing;
        Ok(())
    }

    /// A parent opens a run, begins one that a crash left without an event, notes an end, or mends its books.
    fn tend(
        &mut self,
        id: &RunId,
        ready: &[TaskId],
        under_way: &[RunId],
        choices: &mut Choices,
    ) -> Held {
        if !ready.is_empty() && choices.pick(3) == 0 {
            let parent = &self.actors[id].run;
            let run: RunId = format!("{id}-{}", parent.children.len() + 1)
                .parse()
                .unwrap();
            let base = self.joined[id].at.clone();
            let task = ready[choices.pick(ready.len())].clone();
            return self.must(id, Event::TaskOpened { task, run, base });
        }
        if under_way.is_empty() {
            return Ok(());
        }
        let child = &under_way[choices.pick(under_way.len())];
        let Some(actor) = self.actors.get(child) else {
            let opened = self.actors[id].run.child(child);
            let opened =
                opened.ok_or_else(|| format!("a_task_can_be_begun_after_a_crash: {child}"))?;
            self.begin(opened);
            return Ok(());
        };
        let Stage::Ended(end) = &actor.run.stage else {
            return self.settle_money(id);
        };
        let end = match (end, &actor.run.merged) {
            (End::Joined, Some(commit)) => TaskEnd::Joined {
                commit: commit.clone(),
            },
            _ => TaskEnd::Cancelled,
        };
        if let TaskEnd::Joined { commit } = &end
            && !self.joined[id].holds.contains(commit)
        {
            return Err(format!("joined_work_is_in_the_joined_tree: {commit}"));
        }
        let active_ms = actor.run.active_ms;
        let state = self.actors[id].run.under_way(child);
        let task = state.map(|one| one.task.id.clone()).unwrap();
        self.must(
            id,
            Event::TaskEnded {
                task,
                run: child.clone(),
                end,
                active_ms,
            },
        )
    }

    /// As `driver` does when a parent is driven again.
    fn settle_money(&mut self, id: &RunId) -> Held {
        let lent = self.actors[id].run.lent.clone();
        for (call, of) in lent {
            let Some(child) = self.actors.get(&of.run) else {
                continue;
            };
            let under_way = child.run.reserved.contains_key(&of.call);
            if under_way || child.run.calls >= of.call && child.calls.contains(&of.call) {
                continue;
            }
            let spent = child.events.iter().find_map(|one| match &one.event {
                Event::Settled { call, spend } if *call == of.call => Some(*spend),
                _ => None,
            });
            // Its driver may be about to set it aside: it is asked for anew when it is not there any more.
            if spent.is_none() && child.doing != Doing::Nothing {
                continue;
            }
            self.must(
                id,
                Event::Settled {
                    call,
                    spend: spent.unwrap_or_default(),
                },
            )?;
        }
        Ok(())
    }

    /// Money is set aside, in the parent first; a crash may come in between.
    fn call_model(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let run = &self.actors[id].run;
        let call = run.calls + 1;
        let reservation = Reservation {
            money: Micros(50_000 * (1 + choices.pick(8) as u64)),
            tokens: 10 * (1 + choices.pick(8) as u64),
        };
        let event = |call, of| Event::Reserved {
            asking: None,
            call,
            alias: "m".into(),
            model: "p/m".into(),
            reservation,
            of,
        };
        if let Some(child) = run.opened.child.clone() {
            let theirs = ChildCall {
                run: id.clone(),
                call,
            };
            let parents = self.actors[&child.parent].run.calls + 1;
            if !self.append(&child.parent, event(parents, Some(theirs)))? {
                return Ok(());
            }
            if choices.rarely(12) {
                return self.crash(id, choices);
            }
        }
        if self.append(id, event(call, None))? {
            self.actors.get_mut(id).unwrap().calls.push(call);
        }
        Ok(())
    }

    /// A call ends: it took at most what was set aside.
    fn settle(&mut self, id: &RunId, choices: &mut Choices) -> Held {
        let Some(call) = self.actors.get_mut(id).unwrap().calls.pop() else {
            return Ok(());
        };
        let run = &self.actors[id].run;
        let most = run.reserved.get(&call).copied().unwrap_or_default();
        let spend = Spend {
            money: Micros(most.money.0 / (1 + choices.pick(3) as u64)),
            tokens: most.tokens,
            calls: 1,
        };
        let child = run.opened.child.clone();
        self.must(id, Event::Settled { call, spend })?;
        let Some(child) = child else { return Ok(()) };
        if choices.rarely(12) {
            return self.crash(id, choices);
        }
        let theirs = ChildCall {
            run: id.clone(),
            call,
        };
        let lent = &self.actors[&child.parent].run.lent;
        let found = lent
            .iter()
            .find(|(_, of)| **of == theirs)
            .map(|(call, _)| *call);
        match found {
            Some(call) => self.must(&child.parent, Event::Settled { call, spend }),
            None => Ok(()),
        }
    }

    /// Rule 5: the events alone give the same state, and survive their own form in the journal.
    pub fn replays(&self) -> Held {
        for (id, actor) in &self.actors {
            let read = |one: &Recorded| {
                let text = serde_json::to_vec(one).unwrap();
                serde_json::from_slice::<Recorded>(&text).unwrap()
            };
            let events: Vec<Recorded> = actor.events.iter().map(read).collect();
            let replayed =
                replay(&events).map_err(|error| format!("replay_is_the_state: {id}: {error}"))?;
            if replayed.as_ref() != Some(&actor.run) {
                return Err(format!("replay_is_the_state: {id}"));
            }
        }
        Ok(())
    }

    /// All events, for people.
    pub fn story(&self) -> String {
        let mut all: Vec<(u64, String)> = Vec::new();
        for (id, actor) in &self.actors {
            for one in &actor.events {
                let text = format!("{:?}", one.event);
                let short: String = text.chars().take(300).collect();
                all.push((one.at_ms, format!("{id} #{} {short}", one.number)));
            }
        }
        all.sort_by_key(|(at_ms, _)| *at_ms);
        all.into_iter()
            .map(|(_, line)| line)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn some_plan(choices: &mut Choices) -> Vec<Task> {
    let count = [0, 1, 2, 3, 4, 5][choices.pick(6)];
    let ids: Vec<String> = (0..count).map(|n| format!("t{n}")).collect();
    let tasks = (0..count).map(|n| {
        let claim = PATHS[choices.pick(PATHS.len())];
        let after: Vec<&str> = (0..n)
            .filter(|_| choices.pick(4) == 3)
            .map(|m| ids[m].as_str())
            .collect();
        planned(&ids[n], &[claim], &after)
    });
    flow::task::check(tasks.collect()).unwrap()
}
