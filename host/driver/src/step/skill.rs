//! One skill call of a run: load, call, and the failures of both as the run sees them.

use std::sync::Arc;
use std::time::Duration;

use capability::{Denial, Grant, LeastConfinement};
use confine::Level;
use flow::effect;
use flow::event::{Cause, Divergence};
use flow::id::Role;
use flow::pipeline::Skill;
use flow::role::SkillError;
use flow::step::Step;
use flow::{Event, Run};
use sandbox::{Answer, Call, CallError, LoadError, Note, Recording};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::{Context, DriveError};
use crate::effects::StepAccount;
use crate::grants::{self, Ending};
use crate::keys::Keys;
use crate::models::{StepModels, Trouble};
use crate::network::StepNetwork;
use crate::record::{About, CallRecord};
use crate::releases::Releases;
use crate::services::{StepServices, granted_env};
use crate::step::{Failed, cause_of, cut, failed, interrupted, setup};
use crate::transcript::{self, Transcript};
use crate::view::View;

/// Of a host call, in the journal.
const QUESTION_BYTES_MAX: usize = 2000;

/// Before a list of what is not done twice.
const BEFORE: &str = "Before, it had done or begun:";

/// Calls a skill in a view and gives its answer with the events of what was refused to it.
pub(crate) async fn call<I: Serialize, O: DeserializeOwned>(
    context: &Context,
    step: &Step,
    skill: &Skill,
    role: Role,
    input: &I,
    view: &View,
    releases: Option<Releases>,
) -> Result<(O, Vec<Event>), Failed> {
    let source = skill.name.as_str();
    let (package, grant) = context
        .skills
        .get(&skill.name)
        .ok_or_else(|| setup(source, &"the skill is not at hand"))?;
    let run = context.ledger.run();
    let lacked = |denials: &[(Denial, u32)], ending: &Ending<'_>, cause| {
        grants::lacked(package, &context.project, grant, denials, ending, cause)
    };
    held_as_pinned(context, source, grant)?;
    let (own_ms, left_ms) = (grant.limits().wall_ms, run.remaining_ms().max(1));
    let wall = Duration::from_millis(own_ms.min(left_ms));
    let about = About {
        run: Some((&run.opened.run, step)),
        package,
        grant,
        project: &context.project,
    };
    let record =
        CallRecord::begin(&context.house, &about).map_err(|error| setup("audit", &error))?;
    let loaded = match context.house.sandbox.load(&package.component, grant).await {
        Ok(loaded) => loaded,
        Err(error) => {
            let mut ended = not_loaded(source, &error);
            ended.blocked = lacked(&[], &Ending::NotLoaded(&error), ended.failure.cause);
            record
                .not_loaded(&error)
                .map_err(|error| setup("audit", &error))?;
            return Err(ended);
        }
    };
    let (recording, keys) = recording(context, &run).map_err(|error| setup(source, &error))?;
    let before = recording.as_ref().map(|one| done_once(&one.notes));
    let done_once = before.unwrap_or_default();
    let services = Arc::new(StepServices {
        house: context.house.clone(),
        project: context.project.clone(),
        env: granted_env(&context.project, grant),
        tree: Some(view.tree()),
        scratch: view.scratch(),
        releases,
        models: StepModels::new(
            context.house.models.clone(),
            context.project.clone(),
            context.ledger.clone(),
            keys.clone(),
            context.watcher.clone(),
        ),
        network: StepNetwork::of_run(
            &context.house.outbound,
            grant.clone(),
            context.ledger.held().clone(),
        ),
        wall,
        watcher: context.watcher.clone(),
        account: Some(StepAccount::new(
            context.house.clone(),
            context.ledger.clone(),
            skill.name.clone(),
            step.clone(),
            keys.clone(),
        )),
        keys,
        record,
        party: context.party(),
    });
    let input = serde_json::to_value(input).map_err(|error| setup(source, &error))?;
    let call = Call {
        role,
        input,
        view: Some(sandbox::View {
            tree: view.tree(),
            writable: view.writable(grant),
        }),
        grant: grant.clone(),
        env: services.env.clone().into_iter().collect(),
        recording,
    };
    let answer = tokio::time::timeout(
        wall,
        context.house.sandbox.call(&loaded, call, services.clone()),
    )
    .await;
    let run_is_out_of_time = answer.is_err() && left_ms < own_ms;
    let answer = answer.unwrap_or(Err(CallError::OutOfTime {
        wall_ms: wall.as_millis() as u64,
    }));
    let events = services.record.events(step, &answer);
    services.record.network(services.network.used());
    let recorded = services.record.end(&answer);
    let said = said(&answer);
    let is_recorded = recorded.is_ok();
    let output = match (recorded, answer) {
        // An answer that left no trace is none.
        (Err(error), _) => Err(setup("audit", &error)),
        _ if run_is_out_of_time => {
            let title = format!("time: {} s", run.budget.active_ms / 1000);
            Err(interrupted(Cause::Budget, source, title))
        }
        (Ok(()), Err(error)) => Err(match taken_up(step, skill, &run, &error, &done_once) {
            Some(ended) => ended,
            None => not_answered(source, &error),
        }),
        (Ok(()), Ok(answer)) => result(source, answer, services.models.trouble()),
    };
    match output {
        Ok(output) => Ok((output, events)),
        Err(mut ended) => {
            let ending = said.as_ref().map_or(Ending::Failed, Ending::Said);
            let denials = services.record.denials();
            // Without a record nobody could tell what was missing.
            if is_recorded {
                ended.blocked = lacked(&denials, &ending, ended.failure.cause);
            }
            // Whoever does the work next is told what is done already. It is no part of the failure's signature: it may be another each time.
            if ended.failure.cause == Cause::Skill {
                let text = &mut ended.failure.evidence.text;
                text.push_str(&done_before(context, &run));
            }
            // What waits for a person goes on: it is told of when it has ended.
            if !matches!(ended.instead, Some(Event::EffectUnknown { .. })) {
                ended.before = events;
            }
            Err(ended)
        }
    }
}

/// Where the call of the step under way is recorded, how far it went before, and the keys of its requests.
fn recording(context: &Context, run: &Run) -> Result<(Option<Recording>, Keys), DriveError> {
    let Some(under_way) = &run.in_flight else {
        return Ok((None, Keys::of_call()));
    };
    let journal = &context.house.journal;
    let (transcript, notes) = Transcript::open(journal, &context.ledger, under_way.began)?;
    let recording = Recording {
        recorder: Arc::new(transcript),
        notes,
        resolved: under_way.resolved.clone(),
    };
    let keys = Keys::of_step(&run.opened.run, under_way.began);
    Ok((Some(recording), keys))
}

/// What is recorded as done, or begun, that is not to be done a second time.
fn done_once(notes: &[Note]) -> Vec<String> {
    let once = notes.iter().filter_map(|note| match note {
        Note::Asked(asked) if asked.once => Some(cut(&asked.question.to_string(), 400)),
        _ => None,
    });
    once.collect()
}

/// The end of a step that was taken up again and went otherwise, or came to what nobody knows.
fn taken_up(
    step: &Step,
    skill: &Skill,
    run: &Run,
    error: &CallError,
    done_once: &[String],
) -> Option<Failed> {
    let began = run.in_flight.as_ref()?.began;
    let (cause, instead) = match error {
        CallError::Diverged {
            number,
            recorded,
            asked,
        } => {
            let report = Divergence {
                call: *number,
                recorded: cut(recorded, QUESTION_BYTES_MAX),
                asked: cut(asked, QUESTION_BYTES_MAX),
            };
            let step = step.clone();
            (Cause::Passing, Event::Diverged { step, report })
        }
        CallError::Unknown { number, what } => {
            let interrupted = effect::Interrupted {
                skill: skill.name.clone(),
                began,
                number: *number,
                what: cut(what, QUESTION_BYTES_MAX),
            };
            let step = step.clone();
            (Cause::Setup, Event::EffectUnknown { step, interrupted })
        }
        _ => return None,
    };
    let diverged = matches!(error, CallError::Diverged { .. });
    if diverged && !done_once.is_empty() {
        // Afresh means once more, and that is for a person to say.
        let text = format!("{error}\n\n{BEFORE}\n{}", done_once.join("\n"));
        let title = "a step that was taken up again did otherwise, after it had done what is not done twice; resuming it begins it afresh";
        return Some(failed(Cause::Setup, skill.name.as_str(), title, text));
    }
    let mut ended = failed(cause, skill.name.as_str(), error.to_string(), "");
    ended.instead = Some(instead);
    Some(ended)
}

/// A policy that was loosened meanwhile does not loosen what the run was opened with.
fn held_as_pinned(context: &Context, source: &str, grant: &Grant) -> Result<(), Failed> {
    let attainable = context.house.launcher.attainable();
    if grant.least_confinement() == LeastConfinement::Full && attainable != Level::Full {
        let why = "the run was opened for full confinement, which this machine does not have (no Landlock): open it anew under the policy of today";
        return Err(setup(source, &why));
    }
    Ok(())
}

/// The skill's own error, if it ended with one.
fn said(answer: &Result<Answer, CallError>) -> Option<SkillError> {
    let error = answer.as_ref().ok()?.output.get("err")?;
    serde_json::from_value(error.clone()).ok()
}

/// Reads the role function's result.
fn result<O: DeserializeOwned>(
    source: &str,
    answer: Answer,
    trouble: Option<Trouble>,
) -> Result<O, Failed> {
    let mut output = answer.output;
    if let Some(value) = output.get_mut("ok").map(serde_json::Value::take) {
        let output = serde_json::from_value(value);
        return output.map_err(|error| {
            failed(
                Cause::Skill,
                source,
                format!("its answer does not fit its role: {error}"),
                "",
            )
        });
    }
    let error: Result<SkillError, _> = serde_json::from_value(output["err"].take());
    let error = match (error, trouble) {
        // The host knows better than the skill what went wrong at a model, and who must act on it.
        (Ok(error), Some(trouble)) => {
            return Err(failed(
                trouble.cause,
                source,
                trouble.what,
                error.to_string(),
            ));
        }
        (error, _) => error,
    };
    Err(match error {
        Ok(error) => {
            let cause = match &error {
                SkillError::Retryable(_) => Cause::Passing,
                SkillError::OutOfBudget(_) => Cause::Budget,
                SkillError::Denied(_) | SkillError::InvalidInput(_) | SkillError::Failed(_) => {
                    Cause::Skill
                }
            };
            let lines: Vec<&str> = answer
                .denials
                .iter()
                .map(|(denial, _)| denial.line.as_str())
                .collect();
            failed(cause, source, error.to_string(), lines.join("\n"))
        }
        Err(error) => failed(
            Cause::Skill,
            source,
            format!("its error does not fit its role: {error}"),
            "",
        ),
    })
}

fn not_loaded(source: &str, error: &LoadError) -> Failed {
    let cause = match error {
        LoadError::WorkerDied { .. } => Cause::Passing,
        LoadError::Confine(error) => cause_of(error),
        _ => Cause::Setup,
    };
    interrupted(
        cause,
        source,
        format!("the skill cannot be loaded: {error}"),
    )
}

/// What is none of the guest's own deed leaves the step under way; what it did itself ends it.
fn not_answered(source: &str, error: &CallError) -> Failed {
    let cause = match error {
        CallError::WorkerDied { .. } => Cause::Passing,
        CallError::Confine(error) => cause_of(error),
        CallError::Unrecorded { .. } | CallError::Unreadable => Cause::Setup,
        _ => return failed(Cause::Skill, source, error.to_string(), ""),
    };
    interrupted(cause, source, error.to_string())
}

/// What the call of the step under way has done outside, or begun, that is not done twice; empty where that is nothing.
fn done_before(context: &Context, run: &Run) -> String {
    let Some(under_way) = &run.in_flight else {
        return String::new();
    };
    let notes = transcript::read(&context.house.journal, &run.opened.run, under_way.began);
    match notes.map(|notes| done_once(&notes)) {
        Ok(done) if done.is_empty() => String::new(),
        Ok(done) => format!("\n{BEFORE}\n{}", done.join("\n")),
        Err(error) => format!("\nWhat it had done outside before cannot be told: {error}"),
    }
}
