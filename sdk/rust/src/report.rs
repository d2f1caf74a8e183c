//! Reads what test runners print: libtest (cargo test), unittest, pytest, and TAP (node --test).
//!
//! The output is untrusted: a test can print anything. Only the exit status decides whether a suite passed; what is read here names tests.

use std::collections::BTreeMap;

/// How one test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It ran and did not pass.
    Failed,
    /// It could not run.
    Errored,
    /// It was left out.
    Skipped,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The runner's name of it.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The runner's message.
    pub message: String,
    /// Where it failed: path and line, the innermost last.
    pub frames: Vec<(String, u32)>,
}

/// What a run of tests showed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The tests that could be told apart.
    pub cases: Vec<Case>,
    /// How many ran, where the runner says so.
    pub ran: Option<u64>,
}

/// Tests kept of one report; more are counted only.
const CASES_MAX: usize = 5_000;

impl Report {
    /// Reads the output of any known runner.
    pub fn read(output: &str) -> Report {
        let clean = without_escapes(output);
        let lines: Vec<&str> = clean.lines().collect();
        let mut cases = BTreeMap::new();
        let ran = [
            libtest(&lines, &mut cases),
            unittest(&lines, &mut cases),
            pytest(&lines, &mut cases),
            tap(&lines, &mut cases),
        ];
        let told = ran.into_iter().flatten().max();
        Report {
            ran: told.or((!cases.is_empty()).then_some(cases.len() as u64)),
            cases: cases.into_values().take(CASES_MAX).collect(),
        }
    }

    /// The tests that did not pass.
    pub fn red(&self) -> impl Iterator<Item = &Case> {
        self.cases
            .iter()
            .filter(|case| matches!(case.outcome, Outcome::Failed | Outcome::Errored))
    }
}

type Cases = BTreeMap<String, Case>;

fn add(cases: &mut Cases, name: &str, outcome: Outcome) {
    let name: String = name.trim().chars().take(300).collect();
    if !name.is_empty() && cases.len() < CASES_MAX {
        let case = Case {
            name: name.clone(),
            outcome,
            message: String::new(),
            frames: Vec::new(),
        };
        cases.entry(name).or_insert(case).outcome = outcome;
    }
}

/// Takes out terminal escapes and carriage returns.
pub fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.clone().next() == Some('[') {
                    chars.next();
                    chars
                        .by_ref()
                        .find(|c| c.is_ascii_alphabetic() || *c == '\u{1b}');
                }
            }
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}

/// `test name ... ok`, and blocks `---- name stdout ----` with `panicked at path:line:column` and a backtrace.
fn libtest(lines: &[&str], cases: &mut Cases) -> Option<u64> {
    let mut ran = None;
    let mut block: Option<String> = None;
    let mut backtraces: BTreeMap<String, Vec<(String, u32)>> = BTreeMap::new();
    for line in lines {
        if let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            let outcome = match verdict.trim() {
                "ok" => Some(Outcome::Passed),
                "FAILED" => Some(Outcome::Failed),
                verdict if verdict.starts_with("ignored") => Some(Outcome::Skipped),
                _ => None,
            };
            if let Some(outcome) = outcome {
                add(cases, name, outcome);
            }
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |word: &str| {
                counts
                    .split([';', '.'])
                    .find_map(|part| part.trim().strip_suffix(word)?.trim().parse::<u64>().ok())
            };
            *ran.get_or_insert(0) += count("passed").unwrap_or(0) + count("failed").unwrap_or(0);
            block = None;
        } else if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            block = Some(name.trim().to_owned());
        } else if *line == "failures:" {
            block = None;
        } else if let Some(case) = block.as_ref().and_then(|name| cases.get_mut(name)) {
            if let Some((_, at)) = line.split_once("panicked at ") {
                case.frames.extend(place(at.trim_end_matches(':')));
            }
            if let Some(at) = line.trim_start().strip_prefix("at ") {
                let frames = backtraces.entry(case.name.clone()).or_default();
                frames.extend(place(at).filter(|(path, _)| path.starts_with("./")));
            } else {
                note(case, line);
            }
        }
    }
    for (name, frames) in backtraces {
        if let Some(case) = cases.get_mut(&name) {
            // A backtrace tells the innermost frame first; those of the project alone have relative paths.
            let outer = frames
                .into_iter()
                .rev()
                .map(|(path, line)| (path.trim_start_matches("./").to_owned(), line));
            case.frames.splice(0..0, outer);
        }
    }
    ran
}

/// `path:line[:column]`.
fn place(text: &str) -> Option<(String, u32)> {
    let mut parts = text.split(':');
    let path = parts.next()?.trim();
    let line = parts.next()?.trim().parse().ok()?;
    (!path.is_empty() && path.len() < 300).then(|| (path.to_owned(), line))
}

fn note(case: &mut Case, line: &str) {
    if case.message.len() < 2_000 {
        case.message.push_str(line);
        case.message.push('\n');
    }
}

/// `FAIL: name (module.Class.name)`, a traceback, and `Ran 3 tests in 0.001s`.
fn unittest(lines: &[&str], cases: &mut Cases) -> Option<u64> {
    let mut ran = None;
    let mut block: Option<String> = None;
    for line in lines {
        let head = line
            .strip_prefix("FAIL: ")
            .map(|rest| (rest, Outcome::Failed))
            .or(line
                .strip_prefix("ERROR: ")
                .map(|rest| (rest, Outcome::Errored)));
        if let Some((rest, outcome)) = head {
            let name = unittest_name(rest);
            add(cases, &name, outcome);
            block = Some(name);
        } else if let Some(count) = line
            .strip_prefix("Ran ")
            .and_then(|rest| rest.split_once(" test"))
        {
            ran = count.0.parse().ok().or(ran);
            block = None;
        } else if let Some((name, verdict)) = line
            .rsplit_once(" ... ")
            .filter(|(name, _)| name.contains('(') && !line.starts_with("test "))
        {
            let name = unittest_name(name);
            match verdict.trim() {
                "ok" => add(cases, &name, Outcome::Passed),
                verdict if verdict.starts_with("skipped") => add(cases, &name, Outcome::Skipped),
                _ => {}
            }
        } else if let Some(case) = block.as_ref().and_then(|name| cases.get_mut(name)) {
            case.frames.extend(python_frame(line));
            note(case, line);
        }
    }
    ran
}

/// `test_a (tests.test_x.Case.test_a)` or, before Python 3.11, `test_a (tests.test_x.Case)`.
fn unittest_name(text: &str) -> String {
    let Some((name, rest)) = text.trim().split_once(" (") else {
        return text.trim().to_owned();
    };
    let class = rest.split(')').next().unwrap_or(rest);
    if class.ends_with(&format!(".{name}")) {
        class.to_owned()
    } else {
        format!("{class}.{name}")
    }
}

/// `  File "path", line 12, in f`.
fn python_frame(line: &str) -> Option<(String, u32)> {
    let rest = line.trim().strip_prefix("File \"")?;
    let (path, rest) = rest.split_once("\", line ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((path.to_owned(), digits.parse().ok()?))
}

/// Blocks `____ name ____` with `path:12: Error`, `FAILED path::name - why`, and `1 failed, 2 passed in 0.1s`.
fn pytest(lines: &[&str], cases: &mut Cases) -> Option<u64> {
    let mut ran = None;
    let mut frames: BTreeMap<String, (Vec<(String, u32)>, String)> = BTreeMap::new();
    let mut block: Option<String> = None;
    for line in lines {
        let bare = line.trim_matches(['=', ' ']);
        if let Some(name) = line
            .strip_prefix("__")
            .and_then(|rest| rest.strip_suffix("__"))
            .map(|rest| rest.trim_matches(['_', ' ']))
        {
            block = Some(name.rsplit('.').next().unwrap_or(name).to_owned());
        } else if line.starts_with("===") {
            block = None;
            let count = |word: &str| {
                bare.split([',', ' '])
                    .collect::<Vec<_>>()
                    .windows(2)
                    .find(|pair| pair[1] == word)
                    .and_then(|pair| pair[0].parse::<u64>().ok())
            };
            let counts = (count("passed"), count("failed"));
            if counts != (None, None) {
                ran = Some(counts.0.unwrap_or(0) + counts.1.unwrap_or(0));
            }
        } else if let Some(name) = block.as_ref() {
            let entry = frames.entry(name.clone()).or_default();
            entry.0.extend(
                place(line).filter(|(path, _)| path.ends_with(".py") && !path.contains(' ')),
            );
            if line.starts_with("E ") && entry.1.len() < 2_000 {
                entry.1.push_str(line);
                entry.1.push('\n');
            }
        }
        for (word, outcome) in [("FAILED ", Outcome::Failed), ("ERROR ", Outcome::Errored)] {
            if let Some(rest) = line.strip_prefix(word).filter(|rest| rest.contains(".py")) {
                add(cases, rest.split(" - ").next().unwrap_or(rest), outcome);
            }
        }
        if ran.is_none() && line.ends_with('s') && line.contains(" in ") && !line.starts_with("Ran")
        {
            let passed = line
                .split(" passed")
                .next()
                .filter(|_| line.contains(" passed"))
                .and_then(|part| part.rsplit([' ', ',']).next()?.parse::<u64>().ok());
            let failed = line
                .split(" failed")
                .next()
                .filter(|_| line.contains(" failed"))
                .and_then(|part| part.rsplit([' ', ',']).next()?.parse::<u64>().ok());
            if passed.or(failed).is_some() && !line.contains("test result") {
                ran = Some(passed.unwrap_or(0) + failed.unwrap_or(0));
            }
        }
    }
    for case in cases.values_mut().filter(|case| case.name.contains("::")) {
        let short = case.name.rsplit("::").next().unwrap_or("");
        let short = short.split('[').next().unwrap_or(short);
        if let Some((places, message)) = frames
            .iter()
            .find(|(name, _)| name.split('[').next() == Some(short))
            .map(|(_, found)| found)
        {
            case.frames.clone_from(places);
            case.message.clone_from(message);
        }
    }
    ran
}

/// `ok 1 - name`, `not ok 2 - name`, and `# tests 2`.
fn tap(lines: &[&str], cases: &mut Cases) -> Option<u64> {
    if !lines
        .iter()
        .any(|line| line.starts_with("TAP version") || line.starts_with("# tests "))
    {
        return None;
    }
    for line in lines {
        let line = line.trim();
        for (word, outcome) in [("ok ", Outcome::Passed), ("not ok ", Outcome::Failed)] {
            if let Some((_, name)) = line
                .strip_prefix(word)
                .and_then(|rest| rest.split_once(" - "))
            {
                add(cases, name.split(" # ").next().unwrap_or(name), outcome);
            }
        }
    }
    lines
        .iter()
        .find_map(|line| line.strip_prefix("# tests ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtest_names_places_and_counts() {
        let report = Report::read(
            "running 2 tests\ntest a::good ... ok\ntest a::bad ... FAILED\n\nfailures:\n\n---- a::bad stdout ----\n\nthread 'a::bad' (12) panicked at src/lib.rs:7:9:\nassertion `left == right` failed\n  left: 1\n right: 2\n\nfailures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored\n",
        );
        assert_eq!(report.ran, Some(2));
        let bad: Vec<_> = report.red().collect();
        assert_eq!(
            (bad.len(), bad[0].name.as_str(), bad[0].frames.clone()),
            (1, "a::bad", vec![("src/lib.rs".to_owned(), 7)])
        );
        assert!(bad[0].message.contains("left: 1"));
    }

    #[test]
    fn a_backtrace_gives_the_projects_own_frames() {
        let report = Report::read(
            "test a::bad ... FAILED\n\n---- a::bad stdout ----\nthread 'a::bad' (7) panicked at /rustc/5980/library/core/src/time.rs:201:18:\noverflow\nstack backtrace:\n   0: __rustc::rust_begin_unwind\n             at /rustc/5980/library/std/src/panicking.rs:689:5\n   1: a::inner\n             at ./src/a.rs:30:9\n   2: a::outer\n             at ./src/a.rs:12:5\n\ntest result: FAILED. 0 passed; 1 failed; 0 ignored\n",
        );
        let bad = report.red().next();
        assert_eq!(
            bad.map(|case| case.frames.clone()),
            Some(vec![
                ("src/a.rs".to_owned(), 12),
                ("src/a.rs".to_owned(), 30),
                ("/rustc/5980/library/core/src/time.rs".to_owned(), 201),
            ])
        );
    }

    #[test]
    fn unittest_names_and_frames() {
        let report = Report::read(
            "F.\n======\nFAIL: test_a (tests.test_x.Case.test_a)\n------\nTraceback (most recent call last):\n  File \"/workspace/tests/test_x.py\", line 9, in test_a\n    self.assertEqual(f(1), 2)\nAssertionError: 1 != 2\n\n------\nRan 2 tests in 0.001s\n\nFAILED (failures=1)\n",
        );
        assert_eq!(report.ran, Some(2));
        let bad = report.red().next().cloned();
        assert_eq!(
            bad.map(|case| (case.name, case.frames)),
            Some((
                "tests.test_x.Case.test_a".into(),
                vec![("/workspace/tests/test_x.py".into(), 9)]
            ))
        );
    }

    #[test]
    fn pytest_names_frames_and_counts() {
        let report = Report::read(
            ".F\n=== FAILURES ===\n____ test_b ____\n\n    def test_b():\n>       assert f(1) == 2\nE       assert 1 == 2\n\ntests/test_y.py:5: AssertionError\n=== short test summary info ===\nFAILED tests/test_y.py::test_b - assert 1 == 2\n1 failed, 1 passed in 0.01s\n",
        );
        assert_eq!(report.ran, Some(2));
        let bad = report.red().next().cloned();
        assert_eq!(
            bad.map(|case| (case.name, case.frames)),
            Some((
                "tests/test_y.py::test_b".into(),
                vec![("tests/test_y.py".into(), 5)]
            ))
        );
        assert_eq!(Report::read("3 passed in 0.02s\n").ran, Some(3));
    }

    #[test]
    fn nothing_is_read_into_what_is_no_report() {
        assert_eq!(
            Report::read("hello\nno tests ran in 0.01s\n"),
            Report::default()
        );
        let hostile: String = (0..3000u32)
            .map(|n| char::from_u32(n % 0x300).unwrap_or('x'))
            .collect();
        Report::read(&hostile);
        assert_eq!(without_escapes("\u{1b}[31mred\u{1b}[0m\r\n"), "red\n");
    }
}
