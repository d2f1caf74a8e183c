//! The search: candidates in the order of suspicion times likelihood, each judged by the project's own tests.

use std::collections::BTreeSet;

use moat_sdk::report::Report;

use crate::candidate::candidates;
use crate::edit::Edit;
use crate::executed::Executed;
use crate::localise::{Hints, Sources, regions};

/// Runs the project's tests on the files as they are now.
pub trait Tests {
    /// Exit status and what was read from the output, with arguments appended to the command; `None` when time is up.
    fn run(&mut self, args: &[String], timeout_ms: Option<u64>) -> Option<TestRun>;
    /// The lines that the tests chosen by these arguments execute; empty where that cannot be known.
    fn executed(&mut self, sources: &Sources, focus: &[String]) -> Executed;
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
    /// Arguments that make the command repeat only what was red, if such are known.
    pub focus: Option<Vec<String>>,
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
    Nothing(Vain),
}

/// What a search in vain looked at, for a person who goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vain {
    /// How many candidates were tried.
    pub tried: u32,
    /// How many there were.
    pub of: usize,
    /// Whether time ran out before the candidates did.
    pub out_of_time: bool,
    /// Whether edits were found that make the tests pass, and the tests do not say which of them is right.
    pub open: bool,
    /// The tests that were red.
    pub red: Vec<String>,
    /// The functions that were searched first, with their places.
    pub looked: Vec<String>,
    /// Edits that helped some tests but not all, or that others could stand for.
    pub near: Vec<String>,
}

/// Edits that are kept one after the other while each of them turns tests green.
const STEPS_MAX: usize = 3;

/// How many more candidates are tried for one that helps all, when one was found that helps some tests.
const AFTER_BETTER: usize = 60;

/// How many more candidates are tried after one that makes all tests pass: another place that does, too, makes it a guess.
const AFTER_GREEN: usize = 40;

/// Other numbers that are tried where one was found.
const SIBLINGS_MAX: usize = 6;

/// Searches for a repair. `refused` are lines that an earlier attempt added and that were turned down.
pub fn search(
    mut sources: Sources,
    hints: &Hints,
    refused: &BTreeSet<String>,
    tests: &mut impl Tests,
) -> Found {
    let Some(first) = tests.run(&[], None) else {
        return Found::Nothing(Vain {
            out_of_time: true,
            ..Vain::default()
        });
    };
    if first.green {
        return Found::NothingRed;
    }
    if names(&first.report).is_empty() {
        return Found::NoGuide;
    }
    let original = sources.clone();
    let mut kept: Vec<Edit> = Vec::new();
    let mut vain = Vain {
        red: names(&first.report).into_iter().take(10).collect(),
        ..Vain::default()
    };
    let mut base = first;
    for _ in 0..STEPS_MAX {
        let mut step = Step::begin(&sources, base, hints, refused, tests);
        let end = step.search(tests, &mut vain);
        match end {
            End::Green(edit) => {
                kept.push(edit);
                let tried = vain.tried;
                return Found::Repair { edits: kept, tried };
            }
            End::Better(edit, better) => {
                vain.near
                    .push(format!("{} turns some tests green", told(&edit)));
                let text = edit.apply(&sources[&edit.path]);
                sources.insert(edit.path.clone(), text);
                base = better;
                kept.push(edit);
            }
            End::Nothing => break,
        }
    }
    for edit in &kept {
        tests.write(&edit.path, &original[&edit.path]);
    }
    Found::Nothing(vain)
}

enum End {
    Green(Edit),
    Better(Edit, TestRun),
    Nothing,
}

/// What one candidate comes to.
enum Judged {
    Green,
    Better(TestRun),
    Worse,
    OutOfTime,
}

fn names(report: &Report) -> BTreeSet<String> {
    report.red().map(|case| case.name.clone()).collect()
}

fn told(edit: &Edit) -> String {
    format!("{}:{}: {}", edit.path, edit.line, edit.what)
}

/// The search for one edit. Candidates are tried one at a time; the files hold the edit that is returned, and are as before when none is.
struct Step<'a> {
    sources: &'a Sources,
    /// The whole suite on the sources as they are.
    base: TestRun,
    red: BTreeSet<String>,
    /// Arguments that run the red tests alone, and how long they may take.
    focus: Option<(Vec<String>, u64)>,
    candidates: Vec<Edit>,
    looked: Vec<String>,
    dirty: Option<String>,
}

impl<'a> Step<'a> {
    fn begin(
        sources: &'a Sources,
        base: TestRun,
        hints: &Hints,
        refused: &BTreeSet<String>,
        tests: &mut impl Tests,
    ) -> Step<'a> {
        let red = names(&base.report);
        let focus = focused(&base, &red, tests);
        let executed = match &focus {
            Some((args, _)) => tests.executed(sources, args),
            None => Executed::default(),
        };
        let cases: Vec<_> = base.report.red().cloned().collect();
        let regions = regions(sources, &cases, hints, &executed);
        let looked = regions.iter().filter(|region| region.score >= 1.0);
        let looked = looked
            .filter(|region| !region.name.is_empty())
            .take(8)
            .map(|region| {
                format!(
                    "{} ({}:{}-{})",
                    region.name, region.path, region.first, region.last
                )
            })
            .collect();
        Step {
            sources,
            candidates: candidates(sources, &regions, &cases, &executed, refused),
            base,
            red,
            focus,
            looked,
            dirty: None,
        }
    }

    fn search(&mut self, tests: &mut impl Tests, vain: &mut Vain) -> End {
        if vain.looked.is_empty() {
            vain.looked.clone_from(&self.looked);
        }
        let candidates = std::mem::take(&mut self.candidates);
        vain.of += candidates.len();
        let mut best: Option<(&Edit, TestRun)> = None;
        let mut patience = usize::MAX;
        let mut open_numbers: BTreeSet<(&str, usize)> = BTreeSet::new();
        for (at, edit) in candidates.iter().enumerate() {
            if open_numbers.contains(&(edit.path.as_str(), edit.start))
                && edit.swaps_number(&self.sources[&edit.path])
            {
                continue;
            }
            if patience == 0 {
                break;
            }
            patience -= 1;
            tests.note(&format!(
                "candidate {} of {}: {}",
                at + 1,
                candidates.len(),
                told(edit)
            ));
            vain.tried += 1;
            match self.judge(edit, tests) {
                Judged::Green => {
                    let later = &candidates[at + 1..];
                    let meant = match self.determined(edit, later, tests, vain) {
                        Some(true) => self.alone(edit, later, tests, vain),
                        other => other,
                    };
                    match meant {
                        Some(true) => return End::Green(edit.clone()),
                        Some(false) if edit.swaps_number(&self.sources[&edit.path]) => {
                            open_numbers.insert((edit.path.as_str(), edit.start));
                        }
                        Some(false) => {
                            self.restore(tests);
                            return End::Nothing;
                        }
                        None => {
                            vain.out_of_time = true;
                            break;
                        }
                    }
                }
                Judged::Better(run) => {
                    let fewer =
                        |best: &TestRun| names(&run.report).len() < names(&best.report).len();
                    if best.as_ref().is_none_or(|(_, best)| fewer(best)) {
                        best = Some((edit, run));
                        patience = patience.min(AFTER_BETTER);
                    }
                }
                Judged::Worse => {}
                Judged::OutOfTime => {
                    vain.out_of_time = true;
                    break;
                }
            }
        }
        self.restore(tests);
        match best {
            Some((edit, run)) if !vain.out_of_time => {
                tests.write(&edit.path, &edit.apply(&self.sources[&edit.path]));
                End::Better(edit.clone(), run)
            }
            Some((edit, _)) => {
                vain.near
                    .push(format!("{} turns some tests green", told(edit)));
                End::Nothing
            }
            None => End::Nothing,
        }
    }

    /// Tries one edit: on the red tests first, on the whole suite when they look better.
    fn judge(&mut self, edit: &Edit, tests: &mut impl Tests) -> Judged {
        self.put(edit, tests);
        if let Some((args, timeout_ms)) = &self.focus {
            let Some(run) = tests.run(args, Some(*timeout_ms)) else {
                return Judged::OutOfTime;
            };
            let now = names(&run.report);
            let fewer = !now.is_empty() && now.len() < self.red.len() && now.is_subset(&self.red);
            if !run.green && !fewer {
                return Judged::Worse;
            }
        }
        let Some(run) = tests.run(&[], Some(patience(self.base.duration_ms))) else {
            return Judged::OutOfTime;
        };
        if run.green {
            return Judged::Green;
        }
        let now = names(&run.report);
        let improves = !now.is_empty()
            && now.len() < self.red.len()
            && now.is_subset(&self.red)
            && run.report.ran >= self.base.report.ran;
        if improves {
            Judged::Better(run)
        } else {
            Judged::Worse
        }
    }

    /// Whether the tests really ask for this edit: where another number would do as well, they do not say which is right.
    /// Leaves the edit in the files; `None` when time is up.
    fn determined(
        &mut self,
        edit: &Edit,
        later: &[Edit],
        tests: &mut impl Tests,
        vain: &mut Vain,
    ) -> Option<bool> {
        let source = &self.sources[&edit.path];
        if !edit.swaps_number(source) {
            return Some(true);
        }
        let siblings = later.iter().filter(|other| {
            (&other.path, other.start, other.end) == (&edit.path, edit.start, edit.end)
                && other.swaps_number(source)
        });
        for other in siblings.take(SIBLINGS_MAX) {
            vain.tried += 1;
            match self.judge(other, tests) {
                Judged::Green => {
                    vain.open = true;
                    vain.near.push(format!(
                        "{} makes the tests pass, but so does `{}`: they do not say which number is right",
                        told(edit),
                        other.text
                    ));
                    return Some(false);
                }
                Judged::OutOfTime => return None,
                Judged::Better(_) | Judged::Worse => {}
            }
        }
        self.put(edit, tests);
        Some(true)
    }

    /// Whether no other place could be edited as well: where one can, the tests do not say which of the two is at fault.
    /// Leaves the edit in the files; `None` when time is up.
    fn alone(
        &mut self,
        edit: &Edit,
        later: &[Edit],
        tests: &mut impl Tests,
        vain: &mut Vain,
    ) -> Option<bool> {
        tests.note(&format!(
            "{} makes the tests pass; looking for others that do",
            told(edit)
        ));
        let elsewhere = later
            .iter()
            .filter(|other| (&other.path, other.line) != (&edit.path, edit.line));
        for other in elsewhere.take(AFTER_GREEN) {
            vain.tried += 1;
            match self.judge(other, tests) {
                Judged::Green => {
                    vain.open = true;
                    vain.near.push(format!(
                        "{} makes the tests pass, but so does {}: they do not say which is right",
                        told(edit),
                        told(other)
                    ));
                    return Some(false);
                }
                Judged::OutOfTime => return None,
                Judged::Better(_) | Judged::Worse => {}
            }
        }
        self.put(edit, tests);
        Some(true)
    }

    /// Writes an edit, and puts back the file that the last one was in.
    fn put(&mut self, edit: &Edit, tests: &mut impl Tests) {
        let path = self.dirty.replace(edit.path.clone());
        if let Some(path) = path.filter(|path| *path != edit.path) {
            tests.write(&path, &self.sources[&path]);
        }
        tests.write(&edit.path, &edit.apply(&self.sources[&edit.path]));
    }

    fn restore(&mut self, tests: &mut impl Tests) {
        if let Some(path) = self.dirty.take() {
            tests.write(&path, &self.sources[&path]);
        }
    }
}

/// What a run may take when it took so long before: an edit can make a loop endless.
fn patience(duration_ms: u64) -> u64 {
    duration_ms * 3 + 3_000
}

/// The red tests alone, when their runner can be told so and they are just as red then.
fn focused(
    base: &TestRun,
    red: &BTreeSet<String>,
    tests: &mut impl Tests,
) -> Option<(Vec<String>, u64)> {
    let args = base.focus.clone()?;
    tests.note("running the failing tests alone");
    // What was built for the whole suite is there; twice, because the first such run may have to build for itself.
    tests.run(&args, Some(patience(base.duration_ms)))?;
    let alone = tests.run(&args, Some(patience(base.duration_ms)))?;
    let same = !alone.green && names(&alone.report) == *red;
    same.then(|| (args, patience(alone.duration_ms)))
}

#[cfg(test)]
mod tests {
    use moat_sdk::report::{Case, Outcome};

    use super::*;

    /// Tests that pass when a file has one of some texts.
    struct Scripted {
        files: Sources,
        good: Vec<&'static str>,
        bad: Option<&'static str>,
        budget: u32,
        whole: u32,
        focus: Option<Vec<String>>,
        executed: Executed,
    }

    impl Tests for Scripted {
        fn run(&mut self, args: &[String], _timeout_ms: Option<u64>) -> Option<TestRun> {
            self.budget = self.budget.checked_sub(1)?;
            if args.is_empty() {
                self.whole += 1;
            }
            let bad = self.bad.filter(|bad| self.files["a.py"].contains(bad));
            let green = bad.is_none()
                && self
                    .good
                    .iter()
                    .all(|good| self.files["a.py"].contains(good));
            let missing = self
                .good
                .iter()
                .filter(|good| !self.files["a.py"].contains(**good));
            let cases = missing.copied().chain(bad).map(|good| Case {
                name: good.to_string(),
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
                focus: self.focus.clone(),
                duration_ms: 1,
            })
        }
        fn executed(&mut self, _sources: &Sources, _focus: &[String]) -> Executed {
            self.executed.clone()
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
                bad: None,
                budget,
                whole: 0,
                focus: None,
                executed: Executed::default(),
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
                matches!(found, Found::Nothing(Vain { out_of_time, .. }) if out_of_time == (budget == 5)),
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
            Found::Nothing(_)
        ));
    }

    #[test]
    fn the_whole_suite_runs_only_when_the_red_tests_look_better() {
        let (sources, mut tests) = scripted(&["a <= b"], 500);
        tests.focus = Some(vec!["only".into()]);
        let found = search(sources, &Hints::default(), &BTreeSet::new(), &mut tests);
        assert!(matches!(found, Found::Repair { .. }), "{found:?}");
        assert_eq!(tests.whole, 2, "at the beginning and at the end");
    }

    #[test]
    fn a_number_that_could_be_another_one_is_no_repair() {
        // `a == 3` has to go, and any other number does.
        let (sources, mut tests) = scripted(&[""], 500);
        tests.good = vec![];
        tests.bad = Some("a == 3");
        let before = sources.clone();
        let found = search(sources, &Hints::default(), &BTreeSet::new(), &mut tests);
        let Found::Repair { edits, .. } = &found else {
            panic!("another kind of edit takes it away as well: {found:?}");
        };
        assert!(!edits[0].swaps_number(&before["a.py"]), "{edits:?}");
    }

    #[test]
    fn two_places_that_do_as_well_are_no_repair() {
        let sources = Sources::from([(
            "a.py".to_owned(),
            "def f(a, b):\n    c = a < b\n    return c or a > b\n".to_owned(),
        )]);
        let (_, mut tests) = scripted(&[], 5000);
        tests.files = sources.clone();
        tests.bad = Some("c = a < b\n    return c or a > b");
        let found = search(
            sources.clone(),
            &Hints::default(),
            &BTreeSet::new(),
            &mut tests,
        );
        assert!(
            matches!(&found, Found::Nothing(vain) if vain.open &&  vain.near.iter().any(|one| one.contains("but so does"))),
            "{found:?}"
        );
        assert_eq!(tests.files, sources);
    }

    #[test]
    fn the_innermost_place_on_a_trace_comes_first() {
        let sources = Sources::from([(
            "a.py".to_owned(),
            "def f(a):\n    b = a < 1\n    return g(b < a)\n\ndef g(a):\n    b = a < 2\n    return b < 3\n".to_owned(),
        )]);
        let case = Case {
            name: "t.py::t".into(),
            outcome: Outcome::Failed,
            message: String::new(),
            frames: vec![
                ("t.py".into(), 1),
                ("/workspace/a.py".into(), 3),
                ("/workspace/a.py".into(), 7),
            ],
        };
        let red = [case];
        let regions = regions(&sources, &red, &Hints::default(), &Executed::default());
        assert_eq!(regions[0].name, "g");
        let made = candidates(
            &sources,
            &regions,
            &red,
            &Executed::default(),
            &BTreeSet::new(),
        );
        assert_eq!(made[0].line, 7, "{:?}", made[0]);
    }

    #[test]
    fn lines_that_were_not_executed_come_last() {
        let sources = Sources::from([(
            "a.py".to_owned(),
            "def f(a, b):\n    if a < b:\n        return a < 1\n    return a < 2\n".to_owned(),
        )]);
        let executed = Executed::read("moat-executed a.py 1-2,4-4\n");
        let regions = regions(&sources, &[], &Hints::default(), &executed);
        let made = candidates(&sources, &regions, &[], &executed, &BTreeSet::new());
        let first_dead = made.iter().position(|edit| edit.line == 3);
        let last_alive = made.iter().rposition(|edit| edit.line == 4);
        assert!(
            first_dead
                > made
                    .iter()
                    .position(|edit| edit.line == 4 && edit.what.contains("<="))
        );
        assert!(last_alive.is_some() && made[0].line != 3);
    }
}
