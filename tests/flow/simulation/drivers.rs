//! What drivers, skills and gates do in a simulated world: steps, moves of branches, tasks and money.

use flow::event::{Candidate, Cause, Event};
use flow::id::{CommitId, RunId, TaskId};
use flow::money::{Micros, Reservation, Spend};
use flow::role::{Decision, Deployment, Outcome, Rollback};
use flow::run::{Action, End, Run, Stage, next};
use flow::step::Step;
use flow::task::{ChildCall, Task, TaskEnd};
use flow::verdict::{Base, Finding};

use super::choices::Choices;
use super::invariants::Held;
use super::world::{Doing, Tip, World};
use crate::grant::lacking;
use crate::plan::planned;
use crate::script::{evidence, failure, item, report};

/// Paths that tasks claim and skills change.
const PATHS: [&str; 5] = ["a", "b", "c", "d", "**"];

impl World {
    /// The driver of a run does what is due, one notch further.
    pub(super) fn drive(&mut self, id: &RunId, choices: &mut Choices) -> Held {
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
        let event = match choices.pick(28) {
            26 | 27 if Self::is_skills(step) => Some(Event::StepInterrupted {
                step: step.clone(),
                failure: self.some_failure(choices),
            }),
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
    pub(super) fn result(
        &mut self,
        id: &RunId,
        step: &Step,
        choices: &mut Choices,
    ) -> Option<Event> {
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
