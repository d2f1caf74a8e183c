//! The search: candidates in the order of suspicion times likelihood, each judged by the project's own tests.

use std::collections::BTreeSet;

use moat_sdk::report::Report;

use crate::edit::{Edit, edits};
use crate::language::Language;
use crate::localise::{Hints, Sources, regions};

/// Runs the project's tests on the files as they are now.
pub trait Tests {
    /// Exit status and what was read from the output; `None` when time is up.
    fn run(&mut self, timeout_ms: Option<u64>) -> Option<TestRun>;
    /// Replaces a file.
    fn write(&mut self, path: &str, text: &str);
    /// Tells a watching person.
    fn note(&mut self, text: &str);
}

/// One run of the tests.
#[derive(Debug, Clone)]
pub struct TestRun {
    /// Whether the command exited with status 0.
    pub green: bool,
    /// Whether the tests could run at all.
    pub report: Report,
    /// Wall clock.
    pub duration_ms: u64,
}

/// How a search ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// These edits make every test pass; the files hold them.
    Repair {
        /// What was changed.
        edits: Vec<Edit>,
        /// How many candidates were tried.
        tried: u32,
    },
    /// The tests pass already.
    NothingRed,
    /// The tests cannot run, so they cannot guide.
    NoGuide,
    /// Nothing within reach; the files are as they were.
    Nothing {
        /// How many candidates were tried.
        tried: u32,
        /// Whether time ran out before the candidates did.
        out_of_time: bool,
    },
}

/// More candidates than this are guesses.
const CANDIDATES_MAX: usize = 4_000;

/// Edits that are kept one after the other while each of them turns tests green.
const STEPS_MAX: usize = 3;

/// Searches for a repair. `refused` are lines that an earlier attempt added and that were turned down.
pub fn search(
    mut sources: Sources,
    hints: &Hints,
    refused: &BTreeSet<String>,
    tests: &mut impl Tests,
) -> Found {
    let Some(first) = tests.run(None) else {
        return Found::Nothing {
            tried: 0,
            out_of_time: true,
        };
    };
    if first.green {
        return Found::NothingRed;
    }
    let mut red = names(&first.report);
    if red.is_empty() {
        return Found::NoGuide;
    }
    let original = sources.clone();
    let timeout_ms = Some(first.duration_ms * 3 + 5_000);
    let mut report = first.report;
    let mut kept: Vec<Edit> = Vec::new();
    let mut tried = 0;
    for _ in 0..STEPS_MAX {
        match step(
            &sources, &report, &red, hints, refused, tests, timeout_ms, &mut tried,
        ) {
            Step::Green(edit) => {
                kept.push(edit);
                return Found::Repair { edits: kept, tried };
            }
            Step::Better(edit, better) => {
                let text = edit.apply(&sources[&edit.path]);
                sources.insert(edit.path.clone(), text);
                red = names(&better);
                report = better;
                kept.push(edit);
            }
            Step::Nothing { out_of_time } => {
                for edit in &kept {
                    tests.write(&edit.path, &original[&edit.path]);
                }
                return Found::Nothing { tried, out_of_time };
            }
        }
    }
    for edit in &kept {
        tests.write(&edit.path, &original[&edit.path]);
    }
    Found::Nothing {
        tried,
        out_of_time: false,
    }
}

enum Step {
    Green(Edit),
    Better(Edit, Report),
    Nothing { out_of_time: bool },
}

fn names(report: &Report) -> BTreeSet<String> {
    report.red().map(|case| case.name.clone()).collect()
}

/// Tries one edit at a time; the files hold the edit that is returned, and are as before when none is.
#[expect(
    clippy::too_many_arguments,
    reason = "one call, from `search` above, whose state this is"
)]
fn step(
    sources: &Sources,
    report: &Report,
    red: &BTreeSet<String>,
    hints: &Hints,
    refused: &BTreeSet<String>,
    tests: &mut impl Tests,
    timeout_ms: Option<u64>,
    tried: &mut u32,
) -> Step {
    let cases: Vec<_> = report.red().cloned().collect();
    let candidates = candidates(sources, &cases, hints, refused);
    let total = candidates.len();
    let mut better: Option<(Edit, Report)> = None;
    let mut dirty: Option<String> = None;
    for (at, edit) in candidates.into_iter().enumerate() {
        tests.note(&format!(
            "candidate {} of {total}: {}:{} {}",
            at + 1,
            edit.path,
            edit.line,
            edit.what
        ));
        if let Some(path) = dirty
            .replace(edit.path.clone())
            .filter(|path| *path != edit.path)
        {
            tests.write(&path, &sources[&path]);
        }
        tests.write(&edit.path, &edit.apply(&sources[&edit.path]));
        *tried += 1;
        let Some(run) = tests.run(timeout_ms) else {
            restore(tests, sources, dirty.as_deref());
            return better_or(better, tests, sources, true);
        };
        if run.green {
            return Step::Green(edit);
        }
        let now = names(&run.report);
        let improves = !now.is_empty()
            && now.len() < red.len()
            && now.is_subset(red)
            && run.report.ran >= report.ran;
        if improves
            && better
                .as_ref()
                .is_none_or(|(_, best)| now.len() < names(best).len())
        {
            better = Some((edit, run.report));
        }
    }
    restore(tests, sources, dirty.as_deref());
    better_or(better, tests, sources, false)
}

fn restore(tests: &mut impl Tests, sources: &Sources, dirty: Option<&str>) {
    if let Some(path) = dirty {
        tests.write(path, &sources[path]);
    }
}

fn better_or(
    better: Option<(Edit, Report)>,
    tests: &mut impl Tests,
    sources: &Sources,
    out_of_time: bool,
) -> Step {
    match better {
        Some((edit, report)) if !out_of_time => {
            tests.write(&edit.path, &edit.apply(&sources[&edit.path]));
            Step::Better(edit, report)
        }
        _ => Step::Nothing { out_of_time },
    }
}

/// All candidates, the most promising first, each resulting text once.
pub fn candidates(
    sources: &Sources,
    red: &[moat_sdk::report::Case],
    hints: &Hints,
    refused: &BTreeSet<String>,
) -> Vec<Edit> {
    let mut weighted: Vec<(f64, Edit)> = Vec::new();
    for region in regions(sources, red, hints).into_iter().take(40) {
        let Some((text, language)) = sources.get(&region.path).zip(Language::of(&region.path))
        else {
            continue;
        };
        weighted.extend(
            edits(&region, text, language)
                .into_iter()
                .map(|edit| (region.score * edit.prior, edit)),
        );
    }
    // A stable sort: of equal weight, the earlier place comes first, so that a search repeats itself exactly.
    weighted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut seen = BTreeSet::new();
    let fresh = weighted.into_iter().map(|(_, edit)| edit).filter(|edit| {
        let text = edit.apply(&sources[&edit.path]);
        let line = text
            .lines()
            .nth(edit.line as usize - 1)
            .unwrap_or("")
            .trim()
            .to_owned();
        !refused.contains(&line) && seen.insert((edit.path.clone(), text))
    });
    fresh.take(CANDIDATES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use moat_sdk::report::{Case, Outcome};

    use super::*;

    /// Tests that pass when a file has one of some texts.
    struct Scripted {
        files: Sources,
        good: Vec<&'static str>,
        budget: u32,
    }

    impl Tests for Scripted {
        fn run(&mut self, _timeout_ms: Option<u64>) -> Option<TestRun> {
            self.budget = self.budget.checked_sub(1)?;
            let green = self
                .good
                .iter()
                .all(|good| self.files["a.py"].contains(good));
            let missing = self
                .good
                .iter()
                .filter(|good| !self.files["a.py"].contains(**good));
            let cases = missing.map(|good| Case {
                name: format!("{good}"),
                outcome: Outcome::Failed,
                message: String::new(),
                frames: vec![("a.py".into(), 2)],
            });
            Some(TestRun {
                green,
                report: Report {
                    cases: cases.collect(),
                    ran: Some(5),
                },
                duration_ms: 1,
            })
        }
        fn write(&mut self, path: &str, text: &str) {
            self.files.insert(path.into(), text.into());
        }
        fn note(&mut self, _text: &str) {}
    }

    fn scripted(good: &[&'static str], budget: u32) -> (Sources, Scripted) {
        let sources = Sources::from([(
            "a.py".to_owned(),
            "def f(a, b):\n    return a < b or a == 3\n".to_owned(),
        )]);
        (
            sources.clone(),
            Scripted {
                files: sources,
                good: good.to_vec(),
                budget,
            },
        )
    }

    #[test]
    fn one_edit_is_found_and_stays() {
        let (sources, mut tests) = scripted(&["a <= b"], 500);
        let found = search(sources, &Hints::default(), &BTreeSet::new(), &mut tests);
        assert!(
            matches!(found, Found::Repair { ref edits, .. } if edits.len() == 1),
            "{found:?}"
        );
        assert_eq!(
            tests.files["a.py"],
            "def f(a, b):\n    return a <= b or a == 3\n"
        );
    }

    #[test]
    fn two_edits_are_found_when_each_turns_a_test_green() {
        let (sources, mut tests) = scripted(&["a <= b", "a == 4"], 2000);
        let found = search(sources, &Hints::default(), &BTreeSet::new(), &mut tests);
        assert!(
            matches!(found, Found::Repair { ref edits, .. } if edits.len() == 2),
            "{found:?}"
        );
    }

    #[test]
    fn without_a_repair_or_time_the_files_are_as_they_were() {
        for budget in [5, 5000] {
            let (sources, mut tests) = scripted(&["no such thing"], budget);
            let before = sources.clone();
            let found = search(sources, &Hints::default(), &BTreeSet::new(), &mut tests);
            assert!(
                matches!(found, Found::Nothing { out_of_time, .. } if out_of_time == (budget == 5)),
                "{found:?}"
            );
            assert_eq!(tests.files, before);
        }
    }

    #[test]
    fn a_refused_line_is_not_offered_again() {
        let (sources, mut tests) = scripted(&["a <= b"], 500);
        let refused = BTreeSet::from(["return a <= b or a == 3".to_owned()]);
        assert!(matches!(
            search(sources, &Hints::default(), &refused, &mut tests),
            Found::Nothing { .. }
        ));
    }
}
