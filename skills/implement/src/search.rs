//! Searches the view's texts, line by line.

use regex_lite::{Regex, RegexBuilder};

use crate::clip;
use crate::glob::Glob;
use crate::path::FilePath;
use crate::view::View;

/// More hits than this are no answer; a narrower pattern is.
const HITS_MAX: usize = 100;

/// Texts that one search reads: some ten seconds for an expression, less than one for plain text.
const BYTES_MAX: usize = 32 << 20;

/// A pattern's program: an innocent one has a few KiB, and time grows with it.
const PROGRAM_BYTES_MAX: usize = 256 << 10;

/// Searches for a regular expression; where it is none, or none matches, for the pattern as plain text.
///
/// # Errors
/// What is wrong with pattern or glob, for the model.
pub fn search(view: &View, pattern: &str, glob: Option<&str>) -> Result<String, String> {
    if pattern.is_empty() || pattern.len() > 1000 || pattern.contains('\n') {
        return Err(
            "a pattern has from 1 to 1000 bytes and no line break: lines are searched one by one"
                .into(),
        );
    }
    let glob = glob.map(Glob::new).transpose()?;
    let mut paths = view.list().paths;
    paths.retain(|path| glob.as_ref().is_none_or(|glob| glob.matches(path)));
    let plain = pattern == regex_lite::escape(pattern);
    let regex = RegexBuilder::new(pattern)
        .size_limit(PROGRAM_BYTES_MAX)
        .build();
    let (how, hits) = match (regex, plain) {
        (Ok(regex), false) => {
            let hits = all(view, &paths, &Wanted::Regex(&regex));
            if hits.lines.is_empty() {
                (
                    "as plain text, since as a regular expression it matches nothing",
                    all(view, &paths, &Wanted::Plain(pattern)),
                )
            } else {
                ("as a regular expression", hits)
            }
        }
        (Err(_), _) => (
            "as plain text, since it is no regular expression",
            all(view, &paths, &Wanted::Plain(pattern)),
        ),
        (Ok(_), true) => ("as plain text", all(view, &paths, &Wanted::Plain(pattern))),
    };
    Ok(hits.told(how))
}

enum Wanted<'a> {
    Regex(&'a Regex),
    Plain(&'a str),
}

impl Wanted<'_> {
    fn is_in(&self, line: &str) -> bool {
        match self {
            Wanted::Regex(regex) => regex.is_match(line),
            Wanted::Plain(text) => line.contains(text),
        }
    }
}

#[derive(Default)]
struct Hits {
    lines: Vec<String>,
    /// Texts that were read.
    files: usize,
    cut: Option<&'static str>,
}

fn all(view: &View, paths: &[String], wanted: &Wanted<'_>) -> Hits {
    let mut hits = Hits::default();
    let mut read = 0;
    for path in paths {
        // What is large or no text is not searched.
        let Some(text) = FilePath::new(path)
            .ok()
            .and_then(|path| view.read(&path).ok())
        else {
            continue;
        };
        read += text.len();
        hits.files += 1;
        for (at, line) in text
            .lines()
            .enumerate()
            .filter(|(_, line)| wanted.is_in(line))
        {
            if hits.lines.len() == HITS_MAX {
                hits.cut = Some("there are more; narrow the pattern or the glob");
                return hits;
            }
            hits.lines.push(format!(
                "{path}:{}: {}",
                at + 1,
                clip::line(line.trim_end(), 300)
            ));
        }
        if read > BYTES_MAX {
            hits.cut =
                Some("the search stopped after 32 MiB, before the last file; narrow the glob");
            return hits;
        }
    }
    hits
}

impl Hits {
    fn told(&self, how: &str) -> String {
        let mut text = format!(
            "{} lines match in {} texts, searched {how}.",
            self.lines.len(),
            self.files
        );
        for line in &self.lines {
            text.push('\n');
            text.push_str(line);
        }
        if let Some(why) = self.cut {
            text.push_str(&format!("\n[cut: {why}]"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use tempfile::TempDir;

    use super::*;

    fn sample() -> (TempDir, View) {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("src")).unwrap();
        std::fs::write(
            directory.path().join("src/a.py"),
            "def fee(x):\n    return x[0]\n\ndef free(y):\n",
        )
        .unwrap();
        std::fs::write(directory.path().join("b.txt"), "def fee\n").unwrap();
        std::fs::write(directory.path().join("c.bin"), b"def fee\0").unwrap();
        let view = View::new(directory.path());
        (directory, view)
    }

    #[test]
    fn expressions_and_plain_texts_are_found() {
        let (_directory, view) = sample();
        let found = search(&view, "def f(ee|ree)", Some("*.py")).unwrap();
        assert!(found.contains("2 lines match in 1 texts"), "{found}");
        assert!(
            found.contains("\nsrc/a.py:1: def fee(x):\nsrc/a.py:4: def free(y):"),
            "{found}"
        );
        // No expression, and an expression that means something else than it says.
        for (pattern, line) in [
            ("fee(", "src/a.py:1:"),
            ("x[0]", "src/a.py:2:"),
            ("def fee", "b.txt:1:"),
        ] {
            let found = search(&view, pattern, None).unwrap();
            assert!(found.contains(line) && !found.contains("c.bin"), "{found}");
        }
        assert!(
            search(&view, "nowhere", None)
                .unwrap()
                .starts_with("0 lines")
        );
        assert!(search(&view, "", None).is_err() && search(&view, "x", Some("{")).is_err());
    }

    #[test]
    fn too_many_hits_are_cut_and_said_to_be() {
        let (directory, view) = sample();
        std::fs::write(directory.path().join("many"), "hit\n".repeat(500)).unwrap();
        let found = search(&view, "hit", None).unwrap();
        assert_eq!(
            found
                .lines()
                .filter(|line| line.starts_with("many:"))
                .count(),
            HITS_MAX
        );
        assert!(found.contains("[cut: there are more"), "{found}");
    }

    #[test]
    fn an_expression_that_grows_is_taken_as_text() {
        let (_directory, view) = sample();
        let found = search(&view, "(x{1000}){20}", None).unwrap();
        assert!(found.contains("no regular expression"), "{found}");
    }
}
