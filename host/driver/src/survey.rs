//! Survey: which runs have something to do.

use flow::Run;
use flow::id::RunId;
use flow::run::{Action, next};
use journal::{Journal, JournalError, Standing};

use crate::context::DriveError;
use crate::ledger::load;

/// How a run stands, for the journal to find it by.
pub(crate) fn standing(run: &Run) -> Standing {
    if run.opened.child.is_some() {
        return Standing::Part;
    }
    match next(run) {
        Action::Perform(_) | Action::Park(_) | Action::Tend { .. } => Standing::Due,
        Action::AwaitAnswer { .. } | Action::AwaitResume | Action::Nothing => Standing::Rests,
    }
}

/// The runs that have something to do, the oldest first; those of tasks go with their parents.
///
/// Events are read of those runs only of which the journal does not know how they stand: a moat that did not say, or that had other rules, was the
/// last to drive them. Of these, one that this moat does not understand is left out.
pub(crate) fn due(journal: &Journal) -> Result<Vec<RunId>, DriveError> {
    let (mut due, mut seen) = (Vec::new(), Vec::new());
    for (run, told) in journal.due()? {
        let stands = match told {
            Standing::Unknown => {
                let state = match load(journal, &run) {
                    Ok((state, _)) => state,
                    Err(DriveError::Unknown { .. } | DriveError::Illegal(_)) => continue,
                    // One that has lost an event is no reason to leave the others.
                    Err(
                        error @ (DriveError::NoSuchRun { .. }
                        | DriveError::Journal(JournalError::Damaged { .. })),
                    ) => {
                        tracing::warn!(%run, %error, "a run is left out");
                        continue;
                    }
                    Err(error) => return Err(error),
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
    if !seen.is_empty()
        && let Err(error) = journal.stand(seen)
    {
        tracing::debug!(%error, "how runs stand is not kept, and looked for again the next time");
    }
    Ok(due)
}
