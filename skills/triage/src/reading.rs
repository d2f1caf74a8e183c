//! What a report says: its title, the files it points at, the tests it names. The text is untrusted and only ever quoted.

/// Text of a report that is looked at.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What was read out of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The first meaningful line.
    pub title: String,
    /// The text, without control characters.
    pub body: String,
    /// Its kind.
    pub kind: Kind,
    /// Paths in the order of their weight; not yet checked to exist.
    pub paths: Vec<String>,
    /// Failing tests that it names.
    pub tests: Vec<String>,
}

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something is broken.
    Bug,
    /// Something runs and is broken now.
    Incident,
    /// Something is wanted.
    Feature,
    /// Upkeep.
    Chore,
}

/// Reads a report; `None` when it holds nothing to read.
pub fn read(text: &str) -> Option<Reading> {
    let text = cut(text, TEXT_BYTES_MAX);
    let body: String = text
        .chars()
        .filter(|c| *c == '\n' || *c == '\t' || !c.is_control())
        .collect();
    let words = body
        .split_whitespace()
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .count();
    if words < 2 {
        return None;
    }
    let title = title(&body)?;
    let mut paths = Vec::new();
    // Stack traces name the innermost frame last, and that is the one that matters most.
    for line in body.lines().rev() {
        for word in line.split(|c: char| {
            c.is_whitespace()
                || matches!(
                    c,
                    '"' | '\'' | '(' | ')' | '`' | ',' | '<' | '>' | '[' | ']'
                )
        }) {
            if let Some(path) = path(word) {
                if !paths.contains(&path) && paths.len() < 50 {
                    paths.push(path);
                }
            }
        }
    }
    Some(Reading {
        title,
        kind: kind(&body),
        paths,
        tests: tests(&body),
        body,
    })
}

fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn title(body: &str) -> Option<String> {
    let line = body
        .lines()
        .map(|line| line.trim().trim_start_matches(['#', '*', '-', '>', ' ']))
        .find(|line| line.chars().any(char::is_alphanumeric))?;
    let mut title: String = line.chars().take(120).collect();
    if line.chars().count() > 120 {
        title.push('…');
    }
    Some(title)
}

/// `src/lib.rs:12:5`, `meter/fees.py`, `/workspace/a/b.js:3`.
fn path(word: &str) -> Option<String> {
    const ENDINGS: [&str; 14] = [
        "rs", "py", "js", "ts", "tsx", "jsx", "go", "c", "h", "cpp", "java", "rb", "toml", "html",
    ];
    let mut name = word.trim_end_matches(['.', ';', ':']).split(':').next()?;
    name = name.trim_start_matches("./");
    for root in ["/workspace/", "/app/", "/src/"] {
        name = name.strip_prefix(root).unwrap_or(name);
    }
    let (stem, ending) = name.rsplit_once('.')?;
    let clean = !stem.is_empty()
        && name.len() < 300
        && !name.starts_with('/')
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != ".." && part != ".")
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'));
    (clean && ENDINGS.contains(&ending)).then(|| name.to_owned())
}

fn kind(body: &str) -> Kind {
    let low = body.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| low.contains(word));
    if has(&["outage", "is down", "503", "production", "incident"]) {
        Kind::Incident
    } else if has(&[
        "traceback",
        "panicked",
        "error",
        "fail",
        "wrong",
        "should",
        "broken",
        "crash",
        "instead of",
        "bug",
        "incorrect",
        "expected",
    ]) {
        Kind::Bug
    } else if has(&["upgrade", "bump", "rename", "clean up", "refactor"]) {
        Kind::Chore
    } else if has(&[
        "add ",
        "support",
        "allow",
        "feature",
        "implement",
        "would like",
    ]) {
        Kind::Feature
    } else {
        Kind::Bug
    }
}

/// Tests that runners' output in the report shows as failing.
fn tests(body: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in body.lines().map(str::trim) {
        let name = line
            .strip_prefix("FAIL: ")
            .or(line.strip_prefix("ERROR: "))
            .or(line
                .strip_prefix("FAILED ")
                .filter(|rest| rest.contains("::")))
            .or(line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... FAILED")));
        if let Some(name) = name {
            let name: String = name
                .split(" - ")
                .next()
                .unwrap_or(name)
                .split(" (")
                .next()
                .unwrap_or(name)
                .chars()
                .take(200)
                .collect();
            if !found.contains(&name) && found.len() < 20 {
                found.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests_of_reading {
    use super::*;

    #[test]
    fn a_traceback_gives_title_paths_and_tests() {
        let reading = read(
            "# One hour is charged as two\n\nFAIL: test_full (tests.test_fees.Fees)\nTraceback:\n  File \"tests/test_fees.py\", line 14, in test_full\n  File \"/workspace/meter/fees.py\", line 9\nAssertionError: 2 != 1\n",
        );
        let reading = reading.as_ref();
        assert_eq!(
            reading.map(|r| r.title.as_str()),
            Some("One hour is charged as two")
        );
        assert_eq!(
            reading.map(|r| r.paths.clone()),
            Some(vec!["meter/fees.py".into(), "tests/test_fees.py".into()])
        );
        assert_eq!(
            reading.map(|r| r.tests.clone()),
            Some(vec!["test_full".into()])
        );
        assert_eq!(reading.map(|r| r.kind), Some(Kind::Bug));
    }

    #[test]
    fn paths_that_leave_the_worktree_are_not_taken() {
        for hostile in [
            "../../etc/x.rs",
            "/etc/passwd.py",
            "a//b.py",
            "x",
            ".rs",
            "a/./b.py",
            "http://evil/x.js",
        ] {
            assert_eq!(path(hostile), None, "{hostile}");
        }
        assert_eq!(path("src/lib.rs:12:5"), Some("src/lib.rs".into()));
    }

    #[test]
    fn nothing_is_no_report() {
        for text in ["", "\n\n", "!!!", "hi", "\u{1b}[2J"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert!(read("x y").is_some_and(|reading| !reading.body.contains('\u{1b}')));
    }
}
