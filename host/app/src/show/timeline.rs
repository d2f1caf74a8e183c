//! The timeline of a run: when what happened since it was opened, and how long each step took.

use flow::run::{InFlight, Run, apply};
use flow::{Event, Recorded};
use serde_json::json;

use crate::show::line;
use crate::show::text::{lines, span};

/// One thing that happened.
pub struct Entry {
    /// The event's number.
    pub number: u64,
    /// Since the run was opened.
    pub at_ms: u64,
    /// Of the end of a step: how long it took.
    pub took_ms: Option<u64>,
    /// In words.
    pub text: String,
}

/// What happened, in its order. A step that begins is told when it has no end: when it was interrupted, or is under way.
pub fn of(events: &[Recorded]) -> Vec<Entry> {
    let start = events.first().map_or(0, |first| first.at_ms);
    let mut entries = Vec::new();
    let mut run: Option<Run> = None;
    let mut begun: Option<InFlight> = None;
    let begins = |under_way: &InFlight, number, text| Entry {
        number,
        at_ms: under_way.since_ms.saturating_sub(start),
        took_ms: None,
        text,
    };
    for recorded in events {
        run = match apply(run.take(), recorded) {
            Ok(run) => Some(run),
            // Whoever asks has replayed them already.
            Err(_) => return entries,
        };
        let now = run.as_ref().and_then(|run| run.in_flight.clone());
        if let Event::StepStarted { step } = &recorded.event {
            if let Some(before) = &begun {
                entries.push(begins(
                    before,
                    recorded.number,
                    format!("{step} was interrupted, and begins again"),
                ));
            }
            begun = now;
            continue;
        }
        // Its beginning is told with why it did not go on.
        let is_interrupted = matches!(recorded.event, Event::StepInterrupted { .. });
        let now = now.filter(|_| !is_interrupted);
        let took_ms = match (&begun, &now) {
            (Some(before), None) => Some(recorded.at_ms.saturating_sub(before.since_ms)),
            _ => None,
        };
        begun = now;
        if let Some(text) = line::of(recorded) {
            entries.push(Entry {
                number: recorded.number,
                at_ms: recorded.at_ms.saturating_sub(start),
                took_ms,
                text,
            });
        }
    }
    if let Some(under_way) = &begun {
        let last = events.last().map_or(0, |last| last.number);
        entries.push(begins(under_way, last, format!("{} …", under_way.step)));
    }
    entries
}

/// As a table of so many columns.
pub fn table(entries: &[Entry], width: usize) -> String {
    let mut out = format!("{:>12}  {:>12}\n", "after", "took");
    for entry in entries {
        let took = entry.took_ms.map(span).unwrap_or_default();
        let mut head = format!("{:>12}  {took:>12}  ", span(entry.at_ms));
        for line in lines(&entry.text, width.saturating_sub(28).max(20)) {
            out.push_str(&format!("{head}{line}\n"));
            head = " ".repeat(28);
        }
    }
    out
}

/// For programs.
pub fn json(entries: &[Entry]) -> serde_json::Value {
    let one = |entry: &Entry| json!({"number": entry.number, "at-ms": entry.at_ms, "took-ms": entry.took_ms, "text": entry.text});
    entries.iter().map(one).collect()
}
