//! A run's state in words.

use flow::event::Parking;
use flow::run::{Action, End, Run, Stage};
use flow::task::{Standing, TaskState};

use crate::show::line::names;
use crate::show::text::{first_line, one_line};

/// One word for tables and `--json`; these words are part of the interface. `driven` says whether a process drives the run now.
pub fn word(run: &Run, driven: bool) -> &'static str {
    if let Stage::Ended(end) = &run.stage {
        return match end {
            End::Merged => "merged",
            End::Deployed => "deployed",
            End::Joined => "joined",
            End::Declined(_) => "declined",
            End::Cancelled => "cancelled",
        };
    }
    if run.blocked().is_some() {
        return "blocked-on-grant";
    }
    if run.parked.is_some() {
        return "parked";
    }
    match flow::next(run) {
        Action::AwaitAnswer { .. } => "waiting-for-human",
        _ if driven => "running",
        Action::Tend { under_way, .. } if !under_way.is_empty() => "waiting-for-tasks",
        _ if run.in_flight.is_some() => "interrupted",
        _ => "pending",
    }
}

/// A sentence that says where the run is and, when it waits, what for.
pub fn sentence(run: &Run) -> String {
    match (&run.stage, &run.parked) {
        (Stage::Ended(End::Merged), _) => "merged: every gate passed on the merged tree".into(),
        (Stage::Ended(End::Deployed), _) => "merged and deployed; the service is healthy".into(),
        (Stage::Ended(End::Joined), _) => {
            "joined: its work is part of the run that planned it".into()
        }
        (Stage::Ended(End::Declined(why)), _) => {
            format!("declined by triage: {}", one_line(why, 300))
        }
        (Stage::Ended(End::Cancelled), _) => "cancelled".into(),
        (_, Some(parking @ Parking::BlockedOnGrant { .. })) => parking_sentence(parking),
        (_, Some(parking)) => format!("parked: {}", parking_sentence(parking)),
        _ => match flow::next(run) {
            Action::AwaitAnswer { gates, .. } => {
                let names: Vec<_> = gates.iter().map(|gate| gate.as_str()).collect();
                format!(
                    "waits for a person to approve or reject: {}",
                    names.join(", ")
                )
            }
            Action::Tend { .. } => tasks_sentence(run),
            Action::Perform(step) if run.in_flight.is_some() => {
                format!("{step} was begun and has not ended")
            }
            Action::Perform(step) => format!("next is {step}"),
            _ => "about to be parked".into(),
        },
    }
}

fn tasks_sentence(run: &Run) -> String {
    let joined = |one: &&TaskState| matches!(one.standing, Standing::Joined { .. });
    let under_way = |one: &&TaskState| matches!(one.standing, Standing::UnderWay { .. });
    format!(
        "{} of {} tasks are joined; under way: {}",
        run.tasks.iter().filter(joined).count(),
        run.tasks.len(),
        names(run.tasks.iter().filter(under_way).map(|one| &one.task.id))
    )
}

/// Why a run is parked.
pub fn parking_sentence(parking: &Parking) -> String {
    match parking {
        Parking::Unclear { questions } => {
            format!("triage asks: {}", one_line(&questions.join(" / "), 400))
        }
        Parking::GaveUp { reason } => format!(
            "the implement skill has no further idea: {}",
            first_line(reason, 400)
        ),
        Parking::ClaimsAlreadyTrue { reason } => {
            format!(
                "the implement skill says it is true already, which no gate can prove: {}",
                one_line(reason, 400)
            )
        }
        Parking::NoProgress => "the same failure came back on the same tree".into(),
        Parking::AttemptsUsed { attempts } => format!("all {attempts} attempts are used"),
        Parking::BudgetUsed { what } => format!("the budget is used up ({})", one_line(what, 100)),
        Parking::StepFailed { step, failure } => {
            format!("{step} failed: {}", one_line(&failure.evidence.title, 300))
        }
        Parking::BlockedOnGrant { blocked } => format!(
            "blocked on a grant: skill {} lacks {} ({})",
            blocked.skill,
            one_line(
                &blocked
                    .needs
                    .iter()
                    .map(|need| need.what.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                200
            ),
            first_line(&blocked.why, 200)
        ),
        Parking::EffectUnknown { interrupted } => format!(
            "whether this of skill {} happened is not known: {}",
            interrupted.skill,
            one_line(&interrupted.what, 300)
        ),
        Parking::Rejected { gate, note } => format!(
            "a person rejected it at gate {gate}: {}",
            one_line(note, 300)
        ),
        Parking::RolledBack { reason } => format!(
            "merged, but the deployment was rolled back: {}",
            one_line(reason, 300)
        ),
        Parking::TasksCancelled { tasks } => format!(
            "tasks were cancelled, and the others can do no more: {}",
            names(tasks.iter())
        ),
        Parking::BranchBusy { rounds } => {
            format!("the branch moved {rounds} times while the gates were answering")
        }
    }
}

/// What a person can do now, as command lines.
pub fn next_steps(run: &Run) -> Vec<String> {
    let id = &run.opened.run;
    match (&run.stage, &run.parked) {
        (Stage::Ended(_), _) => vec![],
        (_, Some(Parking::BlockedOnGrant { blocked })) => {
            let mut steps: Vec<String> = blocked
                .needs
                .iter()
                .map(|need| {
                    format!(
                        "{} would allow {}",
                        one_line(&need.line, 300),
                        one_line(&need.what, 120)
                    )
                })
                .collect();
            if blocked.needs.iter().all(|need| need.declared) {
                steps.push(format!(
                    "moat runs resume {id}    # once that is committed on the protected branch, or in the policy"
                ));
            }
            steps.push(format!("moat runs cancel {id}"));
            steps
        }
        (_, Some(Parking::EffectUnknown { .. })) => vec![
            format!("moat runs resume {id} --happened          # it did: it is passed by"),
            format!("moat runs resume {id} --did-not-happen    # it did not: it is done"),
            format!("moat runs cancel {id}"),
        ],
        // Asked again, triage would ask the same again.
        (_, Some(Parking::Unclear { .. })) => vec![
            format!("moat runs show {id}      # the dossier"),
            "moat run \"TEXT\"    # a new run, of a report that answers it".to_owned(),
            format!("moat runs cancel {id}"),
        ],
        (_, Some(_)) => vec![
            format!("moat runs show {id}      # the dossier"),
            format!(
                "moat runs resume {id}    # go on from here, with one more attempt or the same budget again"
            ),
            format!("moat runs cancel {id}"),
        ],
        _ => match flow::next(run) {
            Action::AwaitAnswer { gates, .. } => gates
                .iter()
                .flat_map(|gate| {
                    [
                        format!("moat approve {id} {gate}"),
                        format!("moat reject {id} {gate} --note \"why\""),
                    ]
                })
                .collect(),
            Action::Tend { under_way, .. } if !under_way.is_empty() => under_way
                .iter()
                .map(|child| format!("moat runs show {child}"))
                .chain([format!("moat runs resume {id}")])
                .collect(),
            _ => vec![format!("moat runs resume {id}")],
        },
    }
}
