//! The world around the rules: what drivers, skills, gates, people, strangers and crashes do to a few runs.

use std::collections::{BTreeMap, BTreeSet};

use flow::event::{Answer, Event, Recorded};
use flow::id::{CommitId, RunId, TreeId};
use flow::run::{Action, Run, Stage, apply, next, replay};
use flow::step::Step;
use flow::verdict::Base;

use super::choices::Choices;
use super::invariants::{Before, Held, Memory, hold, world_step};
use crate::grant::regrant;
use crate::script::{Script, deploying, skill};

/// One run with the process that drives it, if one does.
pub(super) struct Actor {
    pub(super) run: Run,
    pub(super) events: Vec<Recorded>,
    pub(super) memory: Memory,
    pub(super) doing: Doing,
    /// Events that a frozen process may still bring, with the number that it thinks is next.
    pub(super) late: Vec<(u64, Event)>,
    /// Model calls under way.
    pub(super) calls: Vec<u64>,
}

/// How far a driver is in what it does. It forgets all of it when it dies.
#[derive(Clone, PartialEq)]
pub(super) enum Doing {
    Nothing,
    Step(Step),
    /// The intent to move is durable.
    Intended,
    /// The branch was moved, and nobody knows.
    Moved,
}

/// A branch, or the joined work of a run's tasks.
#[derive(Clone)]
pub(super) struct Tip {
    pub(super) at: Base,
    /// Commits that are in it.
    pub(super) holds: BTreeSet<CommitId>,
}

pub struct World {
    pub(super) actors: BTreeMap<RunId, Actor>,
    roots: Vec<RunId>,
    pub(super) branch: Tip,
    pub(super) joined: BTreeMap<RunId, Tip>,
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

    pub(super) fn begin(&mut self, opened: flow::event::Opened) {
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

    pub(super) fn fresh_commit(&mut self) -> CommitId {
        self.objects += 1;
        format!("{:040x}", self.objects).parse().unwrap()
    }

    /// A tree: often one that was there before.
    pub(super) fn some_tree(&mut self, choices: &mut Choices) -> TreeId {
        match choices.pick(12) {
            0..6 => {
                self.objects += 1;
                tree(self.objects as usize)
            }
            n => tree(n - 5),
        }
    }

    pub(super) fn note(&mut self, kind: &'static str) {
        *self.seen.entry(kind).or_default() += 1;
    }

    /// Appends as a driver does: what the rules refuse is not written.
    pub(super) fn append(&mut self, id: &RunId, event: Event) -> Result<bool, String> {
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
    pub(super) fn must(&mut self, id: &RunId, event: Event) -> Held {
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
    pub(super) fn crash(&mut self, id: &RunId, choices: &mut Choices) -> Held {
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
