//! Survey: which runs have something to do.

use flow::Run;
use flow::id::RunId;
use flow::run::{Action, next};
use journal::{Journal, JournalError, Standing};

use crate::ledger::load;

/// How a run stands, for the journal to find it by.
pub(crate) fn standing(run: &Run) -> Standing {
    if run.opened.child.is_some() {
        return Standing::Part;
    }
    match next(run) {
        Action::Perform(_) | Action::Park(_) | Action::Tend { .. } => Standing::Due,
        Action::AwaitResume | Action::Nothing => Standing::Rests,
        // Which gates need a person is a rule, and another moat may have another.
        Action::AwaitAnswer { .. } => Standing::Unknown,
    }
}

/// The runs that have something to do, the oldest first; those of tasks go with their parents.
///
/// Events are read of those runs only of which the journal does not know how they stand: they wait for a person's answer, or were last driven by a
/// moat that did not say. A run that this moat cannot read is left out.
pub(crate) fn due(journal: &Journal) -> Result<Vec<RunId>, JournalError> {
    let (mut due, mut seen) = (Vec::new(), Vec::new());
    for (run, told) in journal.due()? {
        let stands = match told {
            Standing::Unknown => {
                let Ok((state, _)) = load(journal, &run) else {
                    continue;
                };
                let stands = standing(&state);
                seen.push((run.clone(), state.events, stands));
                stands
            }
            told => told,
        };
        if stands == Standing::Due {
            due.push(run);
        }
    }
    seen.retain(|(_, _, stands)| *stands != Standing::Unknown);
    if !seen.is_empty()
        && let Err(error) = journal.stand(seen)
    {
        tracing::debug!(%error, "how runs stand is not kept, and looked for again the next time");
    }
    Ok(due)
}
