//! A run's state: one word for tables and programs, and what it means in a sentence. Derived from its events and its lease, and from nothing else.

use flow::event::Parking;
use flow::id::RunId;
use flow::run::{Action, End, Run, Stage};
use flow::task::{Standing, TaskState};
use journal::{Journal, JournalError, Owner, monotonic_ms};
use serde_json::json;

use crate::show::line::names;
use crate::show::text::{first_line, one_line};

/// How a run stands. The words are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A person must approve or reject.
    WaitingForHuman,
    /// A skill lacks a grant.
    BlockedOnGrant,
    /// A step failed for good, or a release was taken back: nothing goes on by itself.
    Failed,
    /// Something outside may have happened or not, and nobody can ask: a person must look.
    Unknown,
    /// It can do no more without a person: budget, attempts, ideas or answers are missing.
    Parked,
    /// It cannot be read: a newer moat wrote it, or something else than moat.
    Error,
    /// Whoever drives it is there and stands still for longer than its lease.
    Frozen,
    /// Runs work on its tasks, and nobody drives it: those that wait for a person say so themselves.
    WaitingForTasks,
    /// A step was begun, and nobody is there any more.
    Interrupted,
    /// The next step is not begun, and nobody is there to begin it.
    Pending,
    /// A process drives it.
    Running,
    /// There is no such run.
    Absent,
    /// Triage found no work in the report.
    Declined,
    /// A person ended it.
    Cancelled,
    /// Its change is on the protected branch.
    Merged,
    /// That, and in service.
    Deployed,
    /// The work of a task: it is part of the run that planned it.
    Joined,
}

/// What a state asks of whoever looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// A person's word or work.
    NeedsPerson,
    /// Somebody to drive it again.
    Stands,
    /// Nothing.
    Goes,
    /// Nothing, ever.
    Ended,
}

impl State {
    /// All of them, in the order in which people want to see them.
    pub const ALL: [State; 17] = [
        State::WaitingForHuman,
        State::BlockedOnGrant,
        State::Failed,
        State::Unknown,
        State::Parked,
        State::Error,
        State::Frozen,
        State::WaitingForTasks,
        State::Interrupted,
        State::Pending,
        State::Running,
        State::Absent,
        State::Declined,
        State::Cancelled,
        State::Merged,
        State::Deployed,
        State::Joined,
    ];

    /// The state of a run that could be read.
    pub fn of(run: &Run, driving: &Driving) -> State {
        if let Stage::Ended(end) = &run.stage {
            return match end {
                End::Merged => State::Merged,
                End::Deployed => State::Deployed,
                End::Joined => State::Joined,
                End::Declined(_) => State::Declined,
                End::Cancelled => State::Cancelled,
            };
        }
        if let Some(parking) = &run.parked {
            return State::of_parked(parking);
        }
        match (flow::next(run), driving) {
            (Action::AwaitAnswer { .. }, _) => State::WaitingForHuman,
            (_, Driving::By(_) | Driving::Older) => State::Running,
            (_, Driving::StandsStill(_)) => State::Frozen,
            (_, Driving::Then(state)) => *state,
            (Action::Tend { under_way, .. }, _) if !under_way.is_empty() => State::WaitingForTasks,
            (_, Driving::Nobody) if run.in_flight.is_some() => State::Interrupted,
            (_, Driving::Nobody) => State::Pending,
        }
    }

    fn of_parked(parking: &Parking) -> State {
        match parking {
            Parking::BlockedOnGrant { .. } => State::BlockedOnGrant,
            Parking::StepFailed { .. } | Parking::RolledBack { .. } => State::Failed,
            Parking::EffectUnknown { .. } => State::Unknown,
            Parking::Unclear { .. }
            | Parking::GaveUp { .. }
            | Parking::ClaimsAlreadyTrue { .. }
            | Parking::NoProgress
            | Parking::AttemptsUsed { .. }
            | Parking::BudgetUsed { .. }
            | Parking::Rejected { .. }
            | Parking::TasksCancelled { .. }
            | Parking::BranchBusy { .. } => State::Parked,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            State::WaitingForHuman => "waiting-for-human",
            State::BlockedOnGrant => "blocked-on-grant",
            State::Failed => "failed",
            State::Unknown => "unknown",
            State::Parked => "parked",
            State::Error => "error",
            State::Frozen => "frozen",
            State::WaitingForTasks => "waiting-for-tasks",
            State::Interrupted => "interrupted",
            State::Pending => "pending",
            State::Running => "running",
            State::Absent => "absent",
            State::Declined => "declined",
            State::Cancelled => "cancelled",
            State::Merged => "merged",
            State::Deployed => "deployed",
            State::Joined => "joined",
        }
    }

    /// The state of a word.
    pub fn named(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.word() == word)
    }

    /// What it asks of whoever looks.
    pub fn group(self) -> Group {
        match self {
            State::WaitingForHuman
            | State::BlockedOnGrant
            | State::Failed
            | State::Unknown
            | State::Parked
            | State::Error => Group::NeedsPerson,
            State::Frozen | State::WaitingForTasks | State::Interrupted | State::Pending => {
                Group::Stands
            }
            State::Running => Group::Goes,
            State::Absent
            | State::Declined
            | State::Cancelled
            | State::Merged
            | State::Deployed
            | State::Joined => Group::Ended,
        }
    }
}

/// Who drives a run now, by its lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driving {
    /// Nobody who lives.
    Nobody,
    /// A process that goes on.
    By(Owner),
    /// A process that is there, and has not renewed its lease in time.
    StandsStill(Owner),
    /// A moat of an older version, which says no more than that.
    Older,
    /// Nobody can tell here: this is a copy, of a run that stood so when it was made.
    Then(State),
}

impl Driving {
    /// Asks the journal.
    pub fn of(journal: &Journal, run: &RunId) -> Result<Driving, JournalError> {
        Ok(match journal.holder(run)? {
            Some(holder) if holder.drives(monotonic_ms()) => Driving::By(holder.by),
            Some(holder) if holder.alive => Driving::StandsStill(holder.by),
            _ if journal.is_driven(run) => Driving::Older,
            _ => Driving::Nobody,
        })
    }

    /// Who, for programs.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Driving::By(by) | Driving::StandsStill(by) => {
                json!({"pid": by.pid, "since-ms": by.since_ms})
            }
            Driving::Nobody | Driving::Older | Driving::Then(_) => serde_json::Value::Null,
        }
    }
}

/// A sentence that says where the run is and, when it waits, what for; and who drives it.
pub fn sentence(run: &Run, driving: &Driving) -> String {
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
        (_, Some(parking)) => match State::of_parked(parking) {
            State::BlockedOnGrant => parking_sentence(parking),
            State::Failed => format!("failed, and parked: {}", parking_sentence(parking)),
            _ => format!("parked: {}", parking_sentence(parking)),
        },
        _ => under_way(run, driving),
    }
}

fn under_way(run: &Run, driving: &Driving) -> String {
    let step = match flow::next(run) {
        Action::AwaitAnswer { gates, .. } => {
            let names: Vec<_> = gates.iter().map(|gate| gate.as_str()).collect();
            return format!(
                "waits for a person to approve or reject: {}",
                names.join(", ")
            );
        }
        Action::Tend { .. } => return format!("{}{}", tasks_sentence(run), driven_by(driving)),
        Action::Perform(step) => step,
        _ => return "about to be parked".into(),
    };
    let begun = run.in_flight.is_some();
    match driving {
        Driving::By(by) if begun => format!("{step} is under way ({by})"),
        Driving::By(by) => format!("{step} is about to begin ({by})"),
        Driving::Older => format!("{step} is under way (a moat of an older version drives it)"),
        Driving::StandsStill(by) => {
            format!("{step}: whoever drives it stands still for longer than its lease ({by})")
        }
        Driving::Then(state) if begun => {
            format!(
                "{step} was under way when this copy was made ({})",
                state.word()
            )
        }
        Driving::Then(state) => {
            format!("{step} was next when this copy was made ({})", state.word())
        }
        Driving::Nobody if begun => {
            format!("{step} was begun and has not ended, and nobody drives the run")
        }
        Driving::Nobody => format!("next is {step}, and nobody drives the run"),
    }
}

/// The end of a sentence about what goes on without a step.
fn driven_by(driving: &Driving) -> String {
    match driving {
        Driving::By(by) => format!(" ({by})"),
        Driving::Older => " (a moat of an older version drives it)".into(),
        Driving::StandsStill(by) => {
            format!("; whoever drives it stands still for longer than its lease ({by})")
        }
        Driving::Then(state) => format!(", when this copy was made ({})", state.word()),
        Driving::Nobody => ", and nobody drives the run".into(),
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
pub fn next_steps(run: &Run, driving: &Driving) -> Vec<String> {
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
                .chain(going(run, driving))
                .collect(),
            _ => going(run, driving),
        },
    }
}

/// What a person can do about a run that nothing keeps from going on.
fn going(run: &Run, driving: &Driving) -> Vec<String> {
    let id = &run.opened.run;
    match driving {
        Driving::By(_) | Driving::Older => vec![
            "moat runs watch".to_owned(),
            format!("moat runs cancel {id}    # also while it is driven"),
        ],
        Driving::StandsStill(by) => vec![
            format!("moat runs resume {id}    # takes it over"),
            format!(
                "kill -CONT {}    # lets it go on, if it was stopped",
                by.pid
            ),
            format!("moat runs cancel {id}"),
        ],
        Driving::Nobody | Driving::Then(_) => vec![
            format!("moat runs resume {id}"),
            format!("moat runs cancel {id}"),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scripts act on these words: one may be added, none changed.
    #[test]
    fn the_words_stay_as_they_are() {
        let words = State::ALL.map(State::word);
        assert_eq!(
            words.join(" "),
            "waiting-for-human blocked-on-grant failed unknown parked error frozen waiting-for-tasks interrupted pending running absent declined cancelled merged deployed joined"
        );
        for state in State::ALL {
            assert_eq!(State::named(state.word()), Some(state));
        }
    }
}
