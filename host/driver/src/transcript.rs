//! The record of a step's skill call in the journal: written under the run's lease, read when the step is taken up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flow::id::{Digest, RunId};
use journal::{Journal, JournalError};
use sandbox::{Note, Recorder};
use serde::{Deserialize, Serialize};

use crate::context::DriveError;
use crate::lease::Held;
use crate::ledger::Ledger;

/// A longer entry lies among the blobs, and a reference to it in its place: the table of notes stays one that is quick to read.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// How long after the end of its run a transcript is kept, for people: nothing needs it any more.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The transcript of the step that began with this event.
pub(crate) struct Transcript {
    journal: Journal,
    held: Arc<Held>,
    began: u64,
    next: AtomicU64,
}

/// An entry that lies among the blobs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Elsewhere {
    blob: Digest,
}

impl Transcript {
    /// Opens the transcript of the step under way, and reads what it has.
    pub(crate) fn open(
        journal: &Journal,
        ledger: &Ledger,
        began: u64,
    ) -> Result<(Transcript, Vec<Note>), DriveError> {
        let held = ledger.held().clone();
        let run = held.lease().run().clone();
        let notes = read(journal, &run, began)?;
        let transcript = Transcript {
            journal: journal.clone(),
            held,
            began,
            next: AtomicU64::new(notes.len() as u64 + 1),
        };
        Ok((transcript, notes))
    }
}

/// A note as it lies in the table; a long one is pushed to the blobs.
fn body(note: &Note, blobs: &mut Vec<Vec<u8>>) -> Result<Vec<u8>, String> {
    let body = serde_json::to_vec(note).map_err(|error| error.to_string())?;
    if body.len() <= INLINE_BYTES_MAX {
        return Ok(body);
    }
    let elsewhere = Elsewhere {
        blob: Digest::of(&body),
    };
    blobs.push(body);
    serde_json::to_vec(&elsewhere).map_err(|error| error.to_string())
}

#[async_trait]
impl Recorder for Transcript {
    async fn record(&self, notes: Vec<Note>) -> Result<(), String> {
        let mut blobs = Vec::new();
        let bodies = notes.iter().map(|note| body(note, &mut blobs));
        let bodies = bodies.collect::<Result<Vec<_>, String>>()?;
        let first = self.next.fetch_add(bodies.len() as u64, Ordering::Relaxed);
        let noted = self
            .journal
            .note_soon(self.held.lease(), self.began, first, bodies, blobs);
        noted.await.map_err(|error| error.to_string())
    }
}

/// Takes away the transcripts of a run that has ended.
pub(crate) fn forget(journal: &Journal, run: &RunId) -> Result<(), JournalError> {
    let notes = journal.notes_of(run)?.into_iter();
    let elsewhere = notes.filter_map(|note| {
        let named = serde_json::from_slice::<Elsewhere>(&note.body).ok()?;
        Some((named.blob, note.body))
    });
    journal.forget_notes(run, elsewhere.collect())
}

/// What is recorded of the step that began with this event.
pub(crate) fn read(journal: &Journal, run: &RunId, began: u64) -> Result<Vec<Note>, DriveError> {
    let kept = journal.notes(run, began)?;
    let note = |kept: journal::Note| entry(journal, run, &kept.body);
    kept.into_iter().map(note).collect()
}

fn entry(journal: &Journal, run: &RunId, body: &[u8]) -> Result<Note, DriveError> {
    let unreadable = |why: String| DriveError::Unreadable {
        run: run.to_string(),
        why,
    };
    let Ok(elsewhere) = serde_json::from_slice::<Elsewhere>(body) else {
        return serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()));
    };
    let bytes = journal.get_blob(&elsewhere.blob)?;
    let bytes = bytes.ok_or_else(|| unreadable(format!("blob {} is gone", elsewhere.blob)))?;
    serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))
}
