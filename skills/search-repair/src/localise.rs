//! Where to look: functions and lines, weighted by what failing tests, stack traces and the report say about them.

use std::collections::{BTreeMap, BTreeSet};

use moat_sdk::report::Case;

use crate::language::{Language, is_off_limits, is_test};
use crate::lexer::{Kind, Token, lex};

/// The project's sources.
pub type Sources = BTreeMap<String, String>;

/// A stretch of code with how suspicious it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// The file.
    pub path: String,
    /// The function's name; empty for code outside of functions.
    pub name: String,
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
pub fn regions(sources: &Sources, red: &[Case], hints: &Hints) -> Vec<Region> {
    let mut found: Vec<Region> = Vec::new();
    let mut tests: Vec<Region> = Vec::new();
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
            found.extend(outside);
        }
    }
    let called = called_by_tests(sources, red, &tests, &found);
    let words: BTreeSet<&str> = hints
        .text
        .split(|c: char| c != '_' && !c.is_alphanumeric())
        .filter(|word| word.len() > 3)
        .collect();
    let frames: Vec<(&str, u32)> = red
        .iter()
        .flat_map(|case| {
            case.frames
                .iter()
                .map(|(path, line)| (path.as_str(), *line))
        })
        .collect();
    for region in &mut found {
        region.score = called.get(region.name.as_str()).copied().unwrap_or(0.0);
        let here = |path: &str| path.ends_with(region.path.as_str());
        if frames
            .iter()
            .any(|(path, line)| here(path) && (region.first..=region.last).contains(line))
        {
            region.score += 8.0;
        }
        if words.contains(region.name.as_str()) {
            region.score += 4.0;
        }
        if hints.suspects.iter().any(|path| here(path)) {
            region.score += 2.0;
        } else if frames.iter().any(|(path, _)| here(path)) {
            region.score += 1.0;
        }
    }
    constants(sources, &mut found);
    found.retain(|region| region.score > 0.0);
    found.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then_with(|| (&a.path, a.first).cmp(&(&b.path, b.first)))
    });
    found
}

/// Names that the failing tests use, and names used by those, each step weighing less.
fn called_by_tests<'a>(
    sources: &'a Sources,
    red: &[Case],
    tests: &[Region],
    found: &[Region],
) -> BTreeMap<&'a str, f64> {
    let failing: BTreeSet<&str> = red.iter().map(|case| last_name(&case.name)).collect();
    let mut weights: BTreeMap<&str, f64> = BTreeMap::new();
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
        let mut next: Vec<&Region> = Vec::new();
        for region in front {
            let Some((text, language)) = sources.get(&region.path).zip(Language::of(&region.path))
            else {
                continue;
            };
            for token in lex(text, language).into_iter().filter(|token| {
                token.kind == Kind::Word && (region.first..=region.last).contains(&token.line)
            }) {
                if weights.contains_key(token.text) {
                    continue;
                }
                let mut named = found.iter().filter(|one| one.name == token.text).peekable();
                if named.peek().is_some() {
                    weights.insert(token.text, weight);
                    next.extend(named);
                }
            }
        }
        front = next;
        weight /= 1.6;
    }
    weights
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
                Language::Python => line
                    .split(['=', ':', ' '])
                    .next()
                    .filter(|_| !line.starts_with([' ', '\t', '#']) && line.contains('=')),
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

/// The functions of a file; an inner one lies within an outer one.
fn functions(path: &str, text: &str, language: Language) -> Vec<Region> {
    let tokens = lex(text, language);
    let keyword = if language == Language::Rust {
        "fn"
    } else {
        "def"
    };
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text == keyword && pair[1].kind == Kind::Word {
            let last = match language {
                Language::Rust => end_of_braces(&tokens[at..]),
                Language::Python => end_of_indent(text, pair[0].line),
            };
            found.push(Region {
                path: path.into(),
                name: pair[1].text.into(),
                first: pair[0].line,
                last,
                score: 0.0,
            });
        }
    }
    found
}

fn end_of_braces(tokens: &[Token<'_>]) -> u32 {
    let mut depth = 0i32;
    for token in tokens {
        match token.text {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return token.line;
                }
            }
            ";" if depth == 0 => return token.line,
            _ => {}
        }
    }
    tokens.last().map_or(0, |token| token.line)
}

fn end_of_indent(text: &str, first: u32) -> u32 {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = lines.get(first as usize - 1).map_or(0, |line| indent(line));
    let mut last = first;
    let mut in_signature = true;
    for (at, line) in lines.iter().enumerate().skip(first as usize) {
        if in_signature
            && lines[..at]
                .last()
                .is_some_and(|before| before.trim_end().ends_with(':'))
        {
            in_signature = false;
        }
        if !line.trim().is_empty()
            && indent(line) <= own
            && !in_signature
            && !line.trim_start().starts_with(['#', ')', ']', '"', '\''])
        {
            break;
        }
        if !line.trim().is_empty() {
            last = at as u32 + 1;
        }
    }
    last
}

/// Rust tests live in the file they test, behind `#[cfg(test)]`.
fn in_test_module(text: &str, region: &Region, language: Language) -> bool {
    if language != Language::Rust {
        return false;
    }
    let lines: Vec<&str> = text.lines().collect();
    let above = region.first as usize;
    let marked = lines[..above.saturating_sub(1).min(lines.len())]
        .iter()
        .rev()
        .take(4)
        .take_while(|line| !line.trim().ends_with('}'));
    let own = marked.into_iter().any(|line| {
        line.contains("#[test]") || line.contains("::test]") || line.contains("#[rstest")
    });
    own || lines
        .iter()
        .position(|line| line.contains("#[cfg(test)]"))
        .is_some_and(|at| above > at)
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
        let ranked = regions(&sources, &[case], &Hints::default());
        let names: Vec<_> = ranked.iter().map(|region| region.name.as_str()).collect();
        assert_eq!(
            names,
            ["bad", "inner", ""],
            "the constant that `inner` uses comes last"
        );
        assert!(ranked.iter().all(|region| region.path == "m/a.py"));
        assert_eq!((ranked[0].first, ranked[0].last), (9, 10));
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
        let ranked = regions(&sources, &[case], &Hints::default());
        assert_eq!(ranked.len(), 1);
        assert_eq!(ranked[0].name, "f");
    }
}
