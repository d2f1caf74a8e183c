//! What a skill did so far, as the journal has it.

use std::path::Path;

use catalog::review::Use;
use flow::id::SkillName;
use flow::{Event, Recorded};

use crate::context::DriveError;
use crate::house::House;
use crate::ledger;

/// Sums up the finished calls of a skill, whatever its version; with a repository, those of its runs.
///
/// The journal counts host calls, and model calls by their aliases. Which commands they were and what was read it does not say.
///
/// # Errors
/// [`DriveError`] when the journal cannot be read. Runs of a newer moat are left out.
pub fn used_by(
    house: &House,
    skill: &SkillName,
    repository: Option<&Path>,
) -> Result<Use, DriveError> {
    let mut usage = Use::default();
    for summary in house.journal.runs()? {
        let Ok((run, events)) = ledger::load(&house.journal, &summary.run) else {
            continue;
        };
        if repository.is_none_or(|path| Path::new(&run.opened.repository) == path) {
            add(&mut usage, skill, &events);
        }
    }
    Ok(usage)
}

fn add(usage: &mut Use, skill: &SkillName, events: &[Recorded]) {
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
                usage.first_at_ms.get_or_insert(recorded.at_ms);
                usage.last_at_ms = usage.last_at_ms.max(Some(recorded.at_ms));
                usage.peak_memory_bytes = usage.peak_memory_bytes.max(used.peak_memory_bytes);
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
    usage.runs += u64::from(usage.calls > before);
}
