//! The candidates: all edits of all suspicious places, the most promising first.

use std::collections::BTreeSet;

use moat_sdk::report::Case;

use crate::edit::{Edit, edits};
use crate::executed::{Executed, statements};
use crate::hollow::is_hollow;
use crate::language::Language;
use crate::lexer::lex;
use crate::localise::{Region, Sources, frames};

/// More candidates than this are guesses.
const CANDIDATES_MAX: usize = 6_000;

/// Functions that are searched.
const REGIONS_MAX: usize = 200;

/// What is left of the weight of an edit on a line that the failing tests do not execute.
const NOT_EXECUTED: f64 = 0.05;

/// How much more an edit weighs on a line that stands on a trace.
const ON_TRACE: f64 = 2.0;

/// All candidates, the most promising first, each resulting text once.
pub fn candidates(
    sources: &Sources,
    regions: &[Region],
    red: &[Case],
    executed: &Executed,
    refused: &BTreeSet<String>,
) -> Vec<Edit> {
    let frames = frames(red, regions);
    let mut weighted: Vec<(f64, Edit)> = Vec::new();
    for region in regions.iter().take(REGIONS_MAX) {
        let Some((text, language)) = sources.get(&region.path).zip(Language::of(&region.path))
        else {
            continue;
        };
        let spans = statements(&lex(text, language));
        weighted.extend(edits(region, text, language).into_iter().map(|edit| {
            let span = spans
                .get(&edit.line)
                .copied()
                .unwrap_or((edit.line, edit.line));
            // Constants are not executed, they are used.
            let constant = region.name.is_empty();
            let runs = executed.is_empty() || constant || executed.any(&region.path, span);
            let on_trace = frames.iter().any(|(path, line, _)| {
                path.ends_with(region.path.as_str()) && (span.0..=span.1).contains(line)
            });
            let here = match (on_trace, runs) {
                (true, _) => ON_TRACE,
                (false, true) => 1.0,
                (false, false) => NOT_EXECUTED,
            };
            (region.score * edit.prior * here, edit)
        }));
    }
    // A stable sort: of equal weight, the earlier place comes first, so that a search repeats itself exactly.
    weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut seen = BTreeSet::new();
    let fresh = weighted.into_iter().map(|(_, edit)| edit).filter(|edit| {
        let source = &sources[&edit.path];
        let (start, end, text) = edit.core(source);
        let new = seen.insert((edit.path.clone(), start, end, text.to_owned()));
        let line = edit.line_after(source);
        let emptied = is_hollow(&line) && !is_hollow(&edit.line_before(source));
        new && !refused.contains(&line) && !emptied
    });
    fresh.take(CANDIDATES_MAX).collect()
}
