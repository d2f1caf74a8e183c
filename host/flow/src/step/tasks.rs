//! Tasks: each is done by a run of its own; what they made is joined, and is then the candidate of the whole.

use crate::event::{Candidate, Child, Opened, Parking};
use crate::id::{RunId, TaskId};
use crate::pipeline::{Budget, Pipeline};
use crate::role::{Evidence, Outcome};
use crate::run::{Action, Attempt, Red, Run, Stage};
use crate::step::{Step, gate, plan, repair};
use crate::task::{self, Standing, TaskEnd, TaskState};
use crate::verdict::Base;

/// The tasks that can be begun and those under way; when all are joined, their tree.
pub(crate) fn next(run: &Run) -> Action {
    let is_joined = |one: &TaskState| matches!(one.standing, Standing::Joined { .. });
    if run.tasks.iter().all(is_joined) {
        return Action::Perform(Step::Integrate);
    }
    let under_way: Vec<RunId> = run.runs_under_way().cloned().collect();
    let mut ready = task::ready(&run.tasks);
    if run.remaining_ms() == 0 {
        ready.clear();
    }
    if ready.is_empty() && under_way.is_empty() {
        let cancelled = |one: &&TaskState| matches!(one.standing, Standing::Cancelled { .. });
        let tasks = run.tasks.iter().filter(cancelled);
        return Action::Park(Parking::TasksCancelled {
            tasks: tasks.map(|one| one.task.id.clone()).collect(),
        });
    }
    Action::Tend {
        ready: ready.into_iter().map(|task| task.id.clone()).collect(),
        under_way,
    }
}

/// Where the run of a task begins: its item is known, and often the tests of its base.
pub(crate) fn first_stage(opened: &Opened, child: &Child) -> Stage {
    if opened.pipeline.test.is_some() && child.baseline.is_none() {
        Stage::Baseline
    } else {
        Stage::Implement
    }
}

/// A run works on a task from now on.
pub(crate) fn opened(run: &mut Run, id: &TaskId, child: &RunId, base: &Base) -> Result<(), String> {
    let Action::Tend { ready, .. } = crate::run::next(run) else {
        return Err("no task is due".into());
    };
    if !ready.contains(id) {
        return Err(format!("task {id} cannot begin now"));
    }
    if run.children.contains(child) || *child == run.opened.run {
        return Err(format!("run {child} works on something else"));
    }
    run.children.push(child.clone());
    let standing = Standing::UnderWay {
        run: child.clone(),
        base: base.clone(),
    };
    state_of(run, id)?.standing = standing;
    Ok(())
}

/// The run of a task has ended: what it spent of its time is the parent's.
pub(crate) fn ended(
    run: &mut Run,
    id: &TaskId,
    child: &RunId,
    end: &TaskEnd,
    active_ms: u64,
) -> Result<(), String> {
    let state = state_of(run, id)?;
    match &state.standing {
        Standing::UnderWay { run, .. } if run == child => {}
        _ => return Err(format!("run {child} does not work on task {id}")),
    }
    state.standing = match end {
        TaskEnd::Joined { commit } => Standing::Joined {
            run: child.clone(),
            commit: commit.clone(),
        },
        TaskEnd::Cancelled => Standing::Cancelled { run: child.clone() },
    };
    run.asked.forget(child);
    run.active_ms = run.active_ms.saturating_add(active_ms);
    Ok(())
}

/// Takes the joined tree over as an attempt, which takes none away from the budget: no attempt at the whole was made yet.
pub(crate) fn integrated(run: &mut Run, candidate: &Candidate) -> Result<(), String> {
    if candidate.base != run.base {
        return Err("the candidate has another base than the run".into());
    }
    run.failures.clear();
    run.budget.attempts = run.budget.attempts.saturating_add(1);
    run.start = Some(candidate.tree.clone());
    run.attempts.push(Attempt {
        number: run.attempts.len() as u32 + 1,
        outcome: Some(Outcome::Changed(claim(run))),
        candidate: Some(candidate.clone()),
        failure: None,
        red: None,
    });
    if candidate.tree == candidate.base.tree {
        let evidence = Evidence {
            source: "host".into(),
            title: "the tasks together change nothing".into(),
            text: String::new(),
        };
        let signature = repair::signature(&candidate.tree, ["nothing-changed"]);
        repair::red(
            run,
            Red {
                evidence: vec![evidence],
                signature,
            },
        );
        return Ok(());
    }
    run.stage = Stage::Gates;
    gate::settle(run, &candidate.subject());
    Ok(())
}

fn claim(run: &Run) -> String {
    let titles: Vec<&str> = (run.tasks.iter())
        .map(|one| one.task.title.as_str())
        .collect();
    format!("{} tasks: {}", titles.len(), titles.join("; "))
}

/// The same budget again, for the tasks to go on with.
pub(crate) fn budget_given(run: &mut Run) -> Result<(), String> {
    if run.stage != Stage::Tasks || run.parked.is_some() {
        return Err("no task waits for money".into());
    }
    run.give_budget();
    Ok(())
}

/// Tasks that were cancelled are waiting again.
pub(crate) fn begin_again(run: &mut Run) {
    for one in &mut run.tasks {
        if matches!(one.standing, Standing::Cancelled { .. }) {
            one.standing = Standing::Waiting;
        }
    }
}

/// Why a candidate of a task's run is red before any gate has looked: it changes what the task does not claim.
pub(crate) fn unclaimed(run: &Run, candidate: &Candidate) -> Option<Red> {
    let task = &run.opened.child.as_ref()?.task;
    let outside: Vec<&str> = (candidate.changed.iter())
        .map(String::as_str)
        .filter(|path| !task.claims(path))
        .collect();
    if outside.is_empty() {
        return None;
    }
    let claims: Vec<String> = task.claims.iter().map(ToString::to_string).collect();
    Some(Red {
        evidence: vec![Evidence {
            source: "claims".into(),
            title: format!(
                "{} changed paths are outside the claims of task {}",
                outside.len(),
                task.id
            ),
            text: format!(
                "Other tasks change other paths at the same time.\nChanged, and not claimed:\n{}\nClaimed:\n{}",
                outside.join("\n"),
                claims.join("\n")
            ),
        }],
        signature: repair::signature(
            &candidate.tree,
            std::iter::once("claims").chain(outside.iter().copied()),
        ),
    })
}

fn state_of<'a>(run: &'a mut Run, id: &TaskId) -> Result<&'a mut TaskState, String> {
    let found = run.tasks.iter_mut().find(|one| one.task.id == *id);
    found.ok_or_else(|| format!("there is no task {id}"))
}

impl Run {
    /// Runs that work on tasks of this one.
    pub fn runs_under_way(&self) -> impl Iterator<Item = &RunId> {
        self.tasks.iter().filter_map(|one| match &one.standing {
            Standing::UnderWay { run, .. } => Some(run),
            _ => None,
        })
    }

    /// The task that a run works on now.
    pub fn under_way(&self, child: &RunId) -> Option<&TaskState> {
        let works = |one: &&TaskState| matches!(&one.standing, Standing::UnderWay { run, .. } if run == child);
        self.tasks.iter().find(works)
    }

    /// The first event of the run of a task that is under way: known from the parent's events alone, so that it can be written after a crash.
    pub fn child(&self, child: &RunId) -> Option<Opened> {
        let state = self.under_way(child)?;
        let Standing::UnderWay { base, .. } = &state.standing else {
            return None;
        };
        let item = plan::item_of(self.item.as_ref()?, &state.task);
        let whole = &self.opened.pipeline;
        Some(Opened {
            run: child.clone(),
            repository: self.opened.repository.clone(),
            report: self.opened.report.clone(),
            base: base.clone(),
            pipeline: Pipeline {
                triage: None,
                plan: None,
                deploy: None,
                budget: Budget {
                    attempts: whole.budget.attempts,
                    active_ms: self.remaining_ms().max(1),
                    ..self.budget
                },
                ..whole.clone()
            },
            project: self.opened.project.clone(),
            policy: self.opened.policy.clone(),
            child: Some(Box::new(Child {
                parent: self.opened.run.clone(),
                task: state.task.clone(),
                item,
                baseline: (self.baseline.clone()).filter(|_| base.tree == self.base.tree),
                regrant: self.regrant.clone(),
            })),
        })
    }
}
