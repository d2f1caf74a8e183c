//! One line an event: what a pipe, a log and `runs watch` get.

use flow::event::{Answer, Event, Recorded};
use flow::id::TaskId;
use flow::role::{Decision, Deployment, Outcome, SuiteOutcome, TestOutcome};
use flow::task::TaskEnd;
use flow::verdict::Finding;

use crate::show::state::parking_sentence;
use crate::show::text::{first_line, one_line};

/// Ids of tasks, for people.
pub fn names<'a>(tasks: impl Iterator<Item = &'a TaskId>) -> String {
    tasks.map(TaskId::as_str).collect::<Vec<_>>().join(", ")
}

/// Tells an event; `None` for those that only the books need.
pub fn of(recorded: &Recorded) -> Option<String> {
    Some(match &recorded.event {
        Event::Opened(opened) => {
            format!(
                "opened {} on {} at {}",
                opened.run,
                one_line(&opened.pipeline.branch, 80),
                opened.base.commit.short()
            )
        }
        Event::StepStarted { step } => format!("{step} …"),
        Event::StepFailed { step, failure } => {
            format!("{step} failed: {}", one_line(&failure.evidence.title, 200))
        }
        Event::Triaged { decision } => match decision {
            Decision::Accepted(item) => {
                format!("triage: accepted as “{}”", one_line(&item.title, 120))
            }
            Decision::Declined(why) => format!("triage: declined, {}", one_line(why, 200)),
            Decision::Unclear(questions) => {
                format!("triage: unclear, {}", one_line(&questions.join(" / "), 200))
            }
        },
        Event::BaselineTaken { report } => {
            let count = |outcome| {
                report
                    .tests
                    .iter()
                    .filter(|test| test.outcome == outcome)
                    .count()
            };
            let red = count(TestOutcome::Failed) + count(TestOutcome::Errored);
            let green = match count(TestOutcome::Passed) {
                // Some runners name only the tests that fail.
                0 => String::new(),
                green => format!(", {green} green"),
            };
            match report.outcome {
                SuiteOutcome::Passed => format!("baseline: all tests pass{green}"),
                SuiteOutcome::Failed => format!("baseline: {red} red{green}"),
                SuiteOutcome::Errored => "baseline: the tests could not run".into(),
                SuiteOutcome::Empty => "baseline: no test ran".into(),
            }
        }
        Event::Attempted {
            attempt,
            outcome,
            candidate,
        } => match outcome {
            Outcome::Changed(claim) => format!(
                "attempt {attempt}: {} changed, {}",
                one_line(&candidate.changed.join(", "), 120),
                one_line(claim, 200)
            ),
            Outcome::AlreadyTrue(claim) => format!(
                "attempt {attempt}: says it is true already, {}",
                one_line(claim, 200)
            ),
            Outcome::GaveUp(why) => {
                format!("attempt {attempt}: gave up, {}", first_line(why, 200))
            }
        },
        Event::Denied {
            skill, what, times, ..
        } => format!("denied to {skill}: {} ({times}×)", one_line(what, 160)),
        Event::GateDecided { verdict } => {
            let word = match verdict.finding {
                Finding::Pass => "pass",
                Finding::Fail => "FAIL",
                Finding::NeedsHuman => "needs a human",
            };
            format!(
                "gate {}: {word}, {}",
                verdict.gate,
                one_line(&verdict.evidence.title, 160)
            )
        }
        Event::Answered {
            gate, answer, by, ..
        } => {
            let word = if *answer == Answer::Approve {
                "approved"
            } else {
                "rejected"
            };
            format!("gate {gate}: {word} by {}", one_line(by, 80))
        }
        Event::MergePrepared { onto, tree, .. } => {
            format!(
                "merged onto {} in the mirror: tree {}",
                onto.commit.short(),
                tree.short()
            )
        }
        Event::MergeConflicted { paths, .. } => format!(
            "conflicts with the branch in {}",
            one_line(&paths.join(", "), 160)
        ),
        Event::Merged { commit } => format!("the branch is at {}", commit.short()),
        Event::MergeLost { actual } => format!(
            "the branch moved meanwhile to {}: merging again",
            actual.short()
        ),
        Event::Deployed { deployment } => match deployment {
            Deployment::Healthy(release) => {
                format!("deployed: {} is healthy", one_line(release, 80))
            }
            Deployment::RolledBack(back) => format!("rolled back: {}", one_line(&back.reason, 160)),
        },
        Event::Blocked { step, blocked } => {
            format!("{step} lacks a grant: {}", one_line(&blocked.why, 200))
        }
        Event::Regranted { by, regrant } => format!(
            "resumed by {} with the grants of moat.toml {} and policy {}",
            one_line(by, 80),
            regrant.project.short(),
            regrant.policy.text.short()
        ),
        Event::Parked { reason } => format!("parked: {}", parking_sentence(reason)),
        Event::Resumed { by } => format!("resumed by {}", one_line(by, 80)),
        Event::Cancelled { by } => format!("cancelled by {}", one_line(by, 80)),
        Event::Planned { tasks } => match tasks.len() {
            0 | 1 => "plan: one piece of work".into(),
            _ => format!(
                "plan: {} tasks, {}",
                tasks.len(),
                one_line(&names(tasks.iter().map(|task| &task.id)), 200)
            ),
        },
        Event::TaskOpened { task, run, base } => {
            format!("task {task}: run {run}, from {}", base.commit.short())
        }
        Event::TaskEnded { task, end, .. } => match end {
            TaskEnd::Joined { commit } => format!("task {task}: joined at {}", commit.short()),
            TaskEnd::Cancelled => format!("task {task}: cancelled"),
        },
        Event::Integrated { candidate } => format!(
            "all tasks joined: {} changed",
            one_line(&candidate.changed.join(", "), 120)
        ),
        Event::BudgetGiven { by } => format!("the same budget again, by {}", one_line(by, 80)),
        Event::Diverged { step, report } => format!(
            "{step} did otherwise than its record at host call {}: it begins afresh",
            report.call
        ),
        Event::StepInterrupted { step, failure } => format!(
            "{step} was interrupted, and stays under way: {}",
            one_line(&failure.evidence.title, 200)
        ),
        Event::EffectUnknown { interrupted, .. } => format!(
            "not known whether it happened: {}",
            one_line(&interrupted.what, 200)
        ),
        Event::EffectResolved { happened, by, .. } => format!(
            "{} says that it {}",
            one_line(by, 80),
            if *happened {
                "happened"
            } else {
                "did not happen"
            }
        ),
        Event::EffectIntended { effect, .. } => format!(
            "{} intends {}: {}",
            effect.skill,
            one_line(&effect.key, 80),
            one_line(&effect.what, 160)
        ),
        Event::EffectConfirmed {
            skill,
            key,
            outcome,
        } => format!(
            "{skill} confirms {}: {}",
            one_line(key, 80),
            one_line(outcome, 160)
        ),
        Event::EffectWithdrawn { skill, key } => {
            format!("{skill} withdraws {}: it did not happen", one_line(key, 80))
        }
        Event::Used { .. }
        | Event::MergeIntended { .. }
        | Event::Reserved { .. }
        | Event::Settled { .. } => {
            return None;
        }
    })
}
