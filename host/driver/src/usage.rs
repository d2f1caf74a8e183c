//! What a skill did so far: as the audit trail has it, and for calls from before the trail, as the journal has it.

use std::collections::BTreeSet;
use std::path::Path;

use audit::{Entry, Filter, NetworkUse, TrailError, Used};
use catalog::review::Use;
use flow::id::{RunId, SkillName};
use flow::{Event, Recorded};
use journal::JournalError;

use crate::house::House;
use crate::ledger;

/// Why it cannot be told what a skill did.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The audit trail.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// Sums up the calls of a skill, whatever its version; with a repository, those of its runs.
///
/// # Errors
/// [`UsageError`] when trail or journal cannot be read. Runs of a newer moat are left out.
pub fn used_by(
    house: &House,
    skill: &SkillName,
    repository: Option<&Path>,
) -> Result<Use, UsageError> {
    let mut usage = Use::detailed();
    let mut told: BTreeSet<RunId> = BTreeSet::new();
    let mut runs: Vec<(RunId, Vec<Recorded>)> = Vec::new();
    for summary in house.journal.runs()? {
        if let Ok((run, events)) = ledger::load(&house.journal, &summary.run)
            && repository.is_none_or(|path| Path::new(&run.opened.repository) == path)
        {
            runs.push((summary.run, events));
        }
    }
    let is_wanted = |run: Option<&RunId>| match run {
        Some(run) => repository.is_none() || runs.iter().any(|(one, _)| one == run),
        None => repository.is_none(),
    };
    let listing = house.trail.entries(&Filter {
        skill: Some(skill.clone()),
        ..Filter::default()
    })?;
    let mut begun: BTreeSet<u64> = BTreeSet::new();
    for recorded in &listing.entries {
        match &recorded.entry {
            Entry::Call(call) if is_wanted(call.run.as_ref()) => {
                begun.insert(recorded.number);
            }
            Entry::Used(used) if begun.remove(&used.call) => {
                told.extend(used.run.clone());
                seen_at(&mut usage, recorded.at_ms);
                add_told(&mut usage, used);
            }
            _ => {}
        }
    }
    usage.cut_off = begun.len() as u64;
    usage.runs = told.len() as u64;
    for (run, events) in &runs {
        if told.contains(run) {
            add_peak(&mut usage, skill, events);
        } else {
            add_journalled(&mut usage, skill, events);
        }
    }
    Ok(usage)
}

fn seen_at(usage: &mut Use, at_ms: u64) {
    usage.first_at_ms.get_or_insert(at_ms);
    usage.last_at_ms = usage.last_at_ms.max(Some(at_ms));
}

fn add_told(usage: &mut Use, used: &Used) {
    usage.calls += 1;
    for (name, times) in &used.host_calls {
        usage.add_host_call(name.as_str(), *times);
    }
    for one in &used.models {
        *usage.models.entry(one.alias.to_string()).or_insert(0) += one.times;
    }
    if let Some(commands) = &mut usage.commands {
        for one in &used.commands {
            *commands.entry(one.name.to_string()).or_insert(0) += one.times;
        }
    }
    add_network(usage, &used.network);
    for (refused, times) in &used.denied {
        let what = format!("{}: {}", refused.capability, refused.what);
        usage.add_refused(&what, refused.line.as_str(), *times);
    }
    if used.left_out > 0 {
        // A list that was cut proves nothing about what it does not name.
        usage.forget_details();
    }
}

/// Adds requests, for a record that is kept.
pub(crate) fn add_network(usage: &mut Use, network: &[NetworkUse]) {
    for one in network {
        if let Some(requests) = &mut usage.requests {
            let name = format!("{} {}", one.method, one.origin);
            *requests.entry(name).or_insert(0) += one.requests;
        }
        if let Some(credentials) = &mut usage.credentials {
            for secret in &one.credentials {
                *credentials.entry(secret.to_string()).or_insert(0) += one.requests;
            }
        }
    }
}

/// The trail does not tell how much memory a call had.
fn add_peak(usage: &mut Use, skill: &SkillName, events: &[Recorded]) {
    for recorded in events {
        if let Event::Used {
            skill: by,
            usage: used,
            ..
        } = &recorded.event
            && by == skill
        {
            usage.peak_memory_bytes = usage.peak_memory_bytes.max(used.peak_memory_bytes);
        }
    }
}

/// A run from before there was a trail: the journal does not say which commands were run.
fn add_journalled(usage: &mut Use, skill: &SkillName, events: &[Recorded]) {
    let before = usage.calls;
    // A model call names no skill: it is of the step that it stands in.
    let mut aliases: Vec<&str> = Vec::new();
    for recorded in events {
        match &recorded.event {
            Event::StepStarted { .. } => aliases.clear(),
            Event::Reserved { alias, .. } => aliases.push(alias),
            Event::Used {
                skill: by,
                usage: used,
                ..
            } if by == skill => {
                usage.calls += 1;
                seen_at(usage, recorded.at_ms);
                for (name, times) in &used.host_calls {
                    usage.add_host_call(name, *times);
                }
                for alias in aliases.drain(..) {
                    *usage.models.entry(alias.to_owned()).or_insert(0) += 1;
                }
            }
            Event::Denied {
                skill: by,
                what,
                line,
                times,
                ..
            } if by == skill => usage.add_refused(what, line, (*times).into()),
            _ => {}
        }
    }
    add_peak(usage, skill, events);
    if usage.calls > before {
        usage.runs += 1;
        usage.forget_details();
    }
}
