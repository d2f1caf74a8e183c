//! Survey: how all runs of a journal stand, in one pass over it.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use flow::{Recorded, Run, apply};
use journal::{Journal, JournalError};

/// Events that go to a thread at once: fewer wake it more often than it is worth.
const BATCH: usize = 512;

/// Batches that may wait for a thread, or all of the journal would be in memory.
const WAITING: usize = 8;

/// More threads than this wait for the one that reads.
const THREADS_MAX: usize = 8;

/// An event as it lies in the journal, with the place of its run among all.
struct Raw {
    place: usize,
    number: u64,
    at_ms: u64,
    body: Vec<u8>,
}

/// What is looked for in each run, the oldest first. A run that this moat cannot read is left out.
pub(crate) fn of<T: Send>(
    journal: &Journal,
    look: &(impl Fn(&Run) -> Option<T> + Sync),
) -> Result<Vec<T>, JournalError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(THREADS_MAX);
    std::thread::scope(|scope| {
        let (senders, readers): (Vec<_>, Vec<_>) = (0..threads)
            .map(|_| {
                let (sender, receiver) = sync_channel(WAITING);
                (
                    sender,
                    scope.spawn(move || states(&receiver, threads, look)),
                )
            })
            .unzip();
        hand_out(journal, &senders)?;
        drop(senders);
        let mut found: Vec<(usize, T)> = readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap_or_default())
            .collect();
        found.sort_by_key(|(place, _)| *place);
        Ok(found.into_iter().map(|(_, found)| found).collect())
    })
}

/// Reads all events; those of one run go to one thread.
fn hand_out(journal: &Journal, senders: &[SyncSender<Vec<Raw>>]) -> Result<(), JournalError> {
    let mut places = HashMap::<String, usize>::new();
    let mut batches: Vec<Vec<Raw>> = senders.iter().map(|_| Vec::new()).collect();
    // A thread that is gone has panicked, which is told when it is joined.
    let send = |thread: usize, batch: &mut Vec<Raw>| {
        let _ = senders[thread].send(std::mem::take(batch));
    };
    journal.each(0, &mut |placed| {
        let place = match places.get(placed.run) {
            Some(place) => *place,
            None => {
                let place = places.len();
                places.insert(placed.run.to_owned(), place);
                place
            }
        };
        let thread = place % senders.len();
        batches[thread].push(Raw {
            place,
            number: placed.number,
            at_ms: placed.at_ms,
            body: placed.body.to_vec(),
        });
        if batches[thread].len() >= BATCH {
            send(thread, &mut batches[thread]);
        }
    })?;
    for (thread, batch) in batches.iter_mut().enumerate() {
        send(thread, batch);
    }
    Ok(())
}

/// Applies the events of every `threads`-th run, and looks at what they came to.
fn states<T>(
    events: &Receiver<Vec<Raw>>,
    threads: usize,
    look: &impl Fn(&Run) -> Option<T>,
) -> Vec<(usize, T)> {
    // Each with its place; `None` where it could not be read.
    let mut runs = Vec::<(usize, Option<Run>)>::new();
    while let Ok(batch) = events.recv() {
        for raw in batch {
            // First events come in the order of the places.
            match runs.get_mut(raw.place / threads) {
                Some((_, run)) => *run = run.take().and_then(|run| applied(Some(run), &raw)),
                None => runs.push((raw.place, applied(None, &raw))),
            }
        }
    }
    runs.into_iter()
        .filter_map(|(place, run)| Some((place, look(&run?)?)))
        .collect()
}

fn applied(run: Option<Run>, raw: &Raw) -> Option<Run> {
    let recorded = Recorded {
        number: raw.number,
        at_ms: raw.at_ms,
        event: serde_json::from_slice(&raw.body).ok()?,
    };
    apply(run, &recorded).ok()
}
