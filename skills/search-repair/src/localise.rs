//! Where to look: functions and lines, weighted by what failing tests, stack traces and the report say about them.

use std::collections::{BTreeMap, BTreeSet};

use moat_sdk::report::Case;

use crate::executed::Executed;
use crate::language::{Language, is_off_limits, is_test};
use crate::lexer::{Kind, lex};
use crate::outline::{functions, in_test_module};

/// The project's sources.
pub type Sources = BTreeMap<String, String>;

/// A stretch of code with how suspicious it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// The file.
    pub path: String,
    /// The function's name; empty for code outside of functions.
    pub name: String,
    /// The class, or the type of the `impl`, that it belongs to; empty for none.
    pub owner: String,
    /// First line, from 1.
    pub first: u32,
    /// Last line.
    pub last: u32,
    /// Higher is more suspicious.
    pub score: f64,
}

/// What the report says beside the tests.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Paths that it points at.
    pub suspects: Vec<String>,
    /// Its text.
    pub text: String,
}

/// Ranks the functions of the project, the most suspicious first.
pub fn regions(sources: &Sources, red: &[Case], hints: &Hints, executed: &Executed) -> Vec<Region> {
    let (mut found, tests) = code_and_tests(sources);
    let called = called_by_tests(sources, red, &tests, &found);
    for (region, called) in found.iter_mut().zip(called) {
        region.score = called;
    }
    let words: BTreeSet<&str> = hints
        .text
        .split(|c: char| c != '_' && !c.is_alphanumeric())
        .filter(|word| word.len() > 3)
        .collect();
    let frames = frames(red, &found);
    for region in &mut found {
        told(region, &words, &frames, hints);
        if !executed.is_empty() {
            if executed.enters(&region.path, region.first, region.last) {
                region.score += 3.0;
            } else {
                // The tracer may miss what runs in another process, so that it is not impossible.
                region.score *= 0.02;
            }
        }
    }
    constants(sources, &mut found);
    the_rest(&mut found);
    found.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (&a.path, a.first).cmp(&(&b.path, b.first)))
    });
    found
}

/// The functions that may be edited, and those that test.
pub(crate) fn code_and_tests(sources: &Sources) -> (Vec<Region>, Vec<Region>) {
    let (mut code, mut tests) = (Vec::new(), Vec::new());
    for (path, text) in sources {
        let Some(language) = Language::of(path) else {
            continue;
        };
        let functions = functions(path, text, language);
        let (inside, outside): (Vec<_>, Vec<_>) = functions
            .into_iter()
            .partition(|region| is_test(path) || in_test_module(text, region, language));
        tests.extend(inside);
        if !is_off_limits(path) {
            code.extend(outside);
        }
    }
    (code, tests)
}

/// The places of the code, without the tests, on the traces of the red tests, with how much each says: the innermost says most.
pub fn frames<'a>(red: &'a [Case], code: &[Region]) -> Vec<(&'a str, u32, f64)> {
    let of_code = |path: &str, line: u32| {
        code.iter().any(|region| {
            path.ends_with(region.path.as_str()) && (region.first..=region.last).contains(&line)
        })
    };
    let mut found = Vec::new();
    for case in red {
        let inner = case.frames.iter().rev();
        let mut weight = 10.0;
        for (path, line) in inner.filter(|(path, line)| of_code(path, *line)) {
            found.push((path.as_str(), *line, weight));
            weight = f64::max(weight * 0.6, 3.0);
        }
    }
    found
}

/// What traces and the report say of a function.
fn told(region: &mut Region, words: &BTreeSet<&str>, frames: &[(&str, u32, f64)], hints: &Hints) {
    let here = |path: &str| path.ends_with(region.path.as_str());
    region.score += frames
        .iter()
        .filter(|(path, line, _)| here(path) && (region.first..=region.last).contains(line))
        .map(|(_, _, weight)| *weight)
        .fold(0.0, f64::max);
    if words.contains(region.name.as_str()) {
        region.score += 4.0;
    }
    if words.contains(region.owner.as_str()) {
        region.score += 2.0;
    }
    // A file alone is no reason to look at every function of it.
    if hints.suspects.iter().any(|path| here(path)) {
        region.score += 2.0;
    } else if frames.iter().any(|(path, _, _)| here(path)) {
        region.score += 1.0;
    }
}

/// When what is suspicious was searched in vain, time that is left goes to the files around it, and then to all others.
fn the_rest(found: &mut [Region]) {
    let files: BTreeSet<String> = found
        .iter()
        .filter(|region| region.score > 0.0)
        .map(|region| region.path.clone())
        .collect();
    for region in found.iter_mut().filter(|region| region.score <= 0.0) {
        region.score = if files.contains(&region.path) {
            0.05
        } else {
            0.01
        };
    }
}

/// How much each function is called by the failing tests, each step away from them weighing less.
fn called_by_tests(
    sources: &Sources,
    red: &[Case],
    tests: &[Region],
    found: &[Region],
) -> Vec<f64> {
    let failing: BTreeSet<&str> = red.iter().map(|case| last_name(&case.name)).collect();
    let mut weights = vec![0.0; found.len()];
    let mut front: Vec<&Region> = tests
        .iter()
        .filter(|test| failing.contains(test.name.as_str()))
        .collect();
    // No test by that name in the sources: all tests of the files that the traces name.
    if front.is_empty() {
        let named = |test: &&Region| {
            red.iter().any(|case| {
                case.frames
                    .iter()
                    .any(|(path, _)| path.ends_with(&test.path))
            })
        };
        front = tests.iter().filter(named).collect();
    }
    let mut weight = 10.0;
    for _ in 0..4 {
        let words: BTreeSet<&str> = front
            .iter()
            .flat_map(|region| words_of(sources, region))
            .collect();
        front = Vec::new();
        for (at, region) in found.iter().enumerate() {
            let named = words.contains(region.name.as_str());
            let made = words.contains(region.owner.as_str()) && is_implicit(&region.name);
            if weights[at] == 0.0 && (named || made) {
                weights[at] = if named { weight } else { weight * 0.8 };
                front.push(region);
            }
        }
        weight /= 1.6;
    }
    weights
}

/// The names in a region.
fn words_of<'a>(sources: &'a Sources, region: &Region) -> Vec<&'a str> {
    let Some((text, language)) = sources.get(&region.path).zip(Language::of(&region.path)) else {
        return Vec::new();
    };
    let tokens = lex(text, language);
    let mut words = Vec::new();
    let mut before = "";
    for token in tokens {
        let inside = (region.first..=region.last).contains(&token.line);
        // What is defined here is not called by that.
        if inside && token.kind == Kind::Word && !matches!(before, "def" | "fn" | "class") {
            words.push(token.text);
        }
        before = token.text;
    }
    words
}

/// Whether a method runs without being named: making a value, operators, loops, printing.
fn is_implicit(name: &str) -> bool {
    name.starts_with("__") && name.ends_with("__")
        || matches!(
            name,
            "fmt"
                | "next"
                | "drop"
                | "deref"
                | "index"
                | "eq"
                | "cmp"
                | "partial_cmp"
                | "from"
                | "from_str"
                | "from_iter"
                | "into_iter"
                | "add"
                | "sub"
                | "mul"
                | "div"
                | "hash"
        )
}

fn last_name(name: &str) -> &str {
    let name = name.split('[').next().unwrap_or(name);
    name.rsplit([':', '.']).next().unwrap_or(name)
}

/// Top-level constants that suspicious functions use.
fn constants(sources: &Sources, found: &mut Vec<Region>) {
    let mut extra = Vec::new();
    for region in found.iter().filter(|region| region.score > 0.0) {
        let Some((text, language)) = sources.get(&region.path).zip(Language::of(&region.path))
        else {
            continue;
        };
        let tokens = lex(text, language);
        let used: BTreeSet<&str> = tokens
            .iter()
            .filter(|token| {
                token.kind == Kind::Word && (region.first..=region.last).contains(&token.line)
            })
            .map(|token| token.text)
            .collect();
        for (number, line) in text
            .lines()
            .enumerate()
            .map(|(at, line)| (at as u32 + 1, line))
        {
            let name = match language {
                Language::Python => assigned(line),
                Language::Rust => line
                    .trim_start()
                    .strip_prefix("pub ")
                    .unwrap_or(line.trim_start())
                    .strip_prefix("const ")
                    .and_then(|rest| rest.split(':').next()),
            };
            if name.is_some_and(|name| used.contains(name.trim())) {
                extra.push(Region {
                    path: region.path.clone(),
                    name: String::new(),
                    owner: String::new(),
                    first: number,
                    last: number,
                    score: region.score * 0.4,
                });
            }
        }
    }
    for region in extra {
        if !found
            .iter()
            .any(|one| one.path == region.path && one.name.is_empty() && one.first == region.first)
        {
            found.push(region);
        }
    }
}

/// The name that a line at the outermost level gives a value to: `NAME = 1`, `NAME: int = 1`.
fn assigned(line: &str) -> Option<&str> {
    let end = line.find(|c: char| c != '_' && !c.is_alphanumeric())?;
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let given = rest.starts_with('=') && !rest.starts_with("==")
        || rest.starts_with(':') && rest.contains('=');
    (given && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failing_tests_call_comes_first() {
        let sources = Sources::from([
            ("m/a.py".into(), "LIMIT = 3\n\ndef good(x):\n    return x\n\ndef inner(x):\n    return x + LIMIT\n\ndef bad(x):\n    return inner(x)\n".into()),
            ("tests/test_a.py".into(), "from m.a import bad\n\ndef test_bad():\n    assert bad(1) == 2\n".into()),
        ]);
        let case = Case {
            name: "tests/test_a.py::test_bad".into(),
            outcome: moat_sdk::report::Outcome::Failed,
            message: String::new(),
            frames: vec![],
        };
        let ranked = regions(&sources, &[case], &Hints::default(), &Executed::default());
        let names: Vec<_> = ranked.iter().map(|region| region.name.as_str()).collect();
        assert_eq!(
            names,
            ["bad", "inner", "", "good"],
            "the constant that `inner` uses, and then what nothing points at"
        );
        assert!(ranked.iter().all(|region| region.path == "m/a.py"));
        assert_eq!((ranked[0].first, ranked[0].last), (9, 10));
    }

    #[test]
    fn making_a_value_calls_its_class() {
        let sources = Sources::from([
            ("m/a.py".into(), "class Other:\n    def __init__(self, x):\n        self.x = x\n\nclass Bits:\n    def __init__(self, x):\n        self.x = x\n\n    def also(self):\n        return 1\n".into()),
            ("tests/test_a.py".into(), "def test_bad():\n    assert Bits(1)\n".into()),
        ]);
        let case = Case {
            name: "tests/test_a.py::test_bad".into(),
            outcome: moat_sdk::report::Outcome::Failed,
            message: String::new(),
            frames: vec![],
        };
        let ranked = regions(&sources, &[case], &Hints::default(), &Executed::default());
        let places: Vec<_> = ranked
            .iter()
            .map(|one| (one.owner.as_str(), one.name.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                ("Bits", "__init__"),
                ("Other", "__init__"),
                ("Bits", "also")
            ]
        );
        assert!(ranked[0].score > 10.0 * ranked[1].score);
    }

    #[test]
    fn what_was_executed_goes_before_what_was_only_named() {
        let sources = Sources::from([
            (
                "a.py".into(),
                "def named(x):\n    return x\n\ndef run(x):\n    return x\n".into(),
            ),
            (
                "test_a.py".into(),
                "def test_bad():\n    assert table[named](1)\n".into(),
            ),
        ]);
        let case = Case {
            name: "test_a.py::test_bad".into(),
            outcome: moat_sdk::report::Outcome::Failed,
            message: String::new(),
            frames: vec![],
        };
        let executed = Executed::read("moat-executed a.py 1-1,4-5\n");
        let first = |executed: &Executed| {
            regions(
                &sources,
                std::slice::from_ref(&case),
                &Hints::default(),
                executed,
            )[0]
            .name
            .clone()
        };
        assert_eq!(first(&Executed::default()), "named");
        assert_eq!(first(&executed), "run");
    }

    #[test]
    fn a_definition_is_no_constant() {
        assert_eq!(assigned("LIMIT = 3"), Some("LIMIT"));
        assert_eq!(assigned("_limit: int = 3"), Some("_limit"));
        for other in [
            "def f(x=1):",
            "    x = 1",
            "if x == 1:",
            "x == 1",
            "# x = 1",
            "",
            "x",
        ] {
            assert_eq!(assigned(other), None, "{other}");
        }
    }

    #[test]
    fn rust_tests_in_the_same_file_are_not_suspects() {
        let text = "pub fn f() -> i32 {\n    1\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {\n        assert_eq!(super::f(), 2);\n    }\n}\n";
        let sources = Sources::from([("src/lib.rs".to_owned(), text.to_owned())]);
        let case = Case {
            name: "tests::t".into(),
            outcome: moat_sdk::report::Outcome::Failed,
            message: String::new(),
            frames: vec![("src/lib.rs".into(), 9)],
        };
        let ranked = regions(&sources, &[case], &Hints::default(), &Executed::default());
        assert_eq!(ranked.len(), 1);
        assert_eq!(ranked[0].name, "f");
    }
}
