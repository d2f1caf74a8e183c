//! The timeline of a run: when what happened, since it was opened.

use flow::Recorded;

use crate::show::line;
use crate::show::text::span;

/// One line an event, with the time since the run was opened.
pub fn of(events: &[Recorded]) -> String {
    let start = events.first().map_or(0, |first| first.at_ms);
    let mut out = String::new();
    for recorded in events {
        if let Some(text) = line::of(recorded) {
            let at = span(recorded.at_ms.saturating_sub(start));
            out.push_str(&format!("{at:>12}  {text}\n"));
        }
    }
    out
}
