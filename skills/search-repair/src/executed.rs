//! Which lines the failing tests execute, where a runner can tell.

use std::collections::{BTreeMap, BTreeSet};

use crate::lexer::Token;

/// Executed lines by path; empty when nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Executed {
    lines: BTreeMap<String, BTreeSet<u32>>,
}

/// No file that is read is longer.
const LINE_MAX: u32 = 400_000;

/// Lines that are kept in all: the output is a test's, and may say anything.
const LINES_MAX: u64 = 1_000_000;

impl Executed {
    /// Reads what the tracer tells: `moat-executed path 1-3,7-7`.
    pub fn read(output: &str) -> Executed {
        let mut executed = Executed::default();
        let mut left = LINES_MAX;
        for told in output
            .lines()
            .filter_map(|line| line.strip_prefix("moat-executed "))
        {
            let Some((path, ranges)) = told.rsplit_once(' ') else {
                continue;
            };
            let lines = executed.lines.entry(path.to_owned()).or_default();
            for range in ranges.split(',') {
                let ends = range.split_once('-');
                let ends = ends.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
                let Some((first, last)) = ends.filter(|(_, last): &(u32, u32)| *last <= LINE_MAX)
                else {
                    continue;
                };
                let many = u64::from(last.saturating_sub(first)) + 1;
                if let Some(rest) = left.checked_sub(many) {
                    left = rest;
                    lines.extend(first..=last);
                }
            }
        }
        executed
    }

    /// Whether anything is known.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether the inside of a function was executed; its first line is, when the function is made.
    pub fn enters(&self, path: &str, first: u32, last: u32) -> bool {
        let from = if last > first { first + 1 } else { first };
        let inside = |lines: &BTreeSet<u32>| lines.range(from..=last.max(from)).next().is_some();
        self.lines.get(path).is_some_and(inside)
    }

    /// Whether any line of a stretch was executed.
    pub fn any(&self, path: &str, (first, last): (u32, u32)) -> bool {
        let within = |lines: &BTreeSet<u32>| lines.range(first..=last.max(first)).next().is_some();
        self.lines.get(path).is_some_and(within)
    }
}

/// The lines of the bracketed expression that each line belongs to; a line that stands in none is missing.
///
/// An interpreter counts the lines of one statement as it likes, so they are taken together.
pub fn statements(tokens: &[Token<'_>]) -> BTreeMap<u32, (u32, u32)> {
    let mut spans = BTreeMap::new();
    let (mut depth, mut first) = (0i32, 0);
    for token in tokens {
        match token.text {
            "(" | "[" | "{" => {
                if depth == 0 {
                    first = token.line;
                }
                depth += 1;
            }
            ")" | "]" | "}" if depth > 0 => {
                depth -= 1;
                if depth == 0 && token.line > first {
                    for line in first..=token.line {
                        spans.insert(line, (first, token.line));
                    }
                }
            }
            _ => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Language;
    use crate::lexer::lex;

    #[test]
    fn what_the_tracer_tells_is_read_and_nothing_else() {
        let executed = Executed::read(
            "1 passed\nmoat-executed m/a b.py 2-3,7-7\nmoat-executed x\nmoat-executed y 1-99999999999,a-b,5\n",
        );
        assert!(executed.any("m/a b.py", (1, 2)) && executed.any("m/a b.py", (7, 9)));
        assert!(!executed.any("m/a b.py", (4, 6)) && !executed.any("y", (1, 1000)));
        assert!(executed.enters("m/a b.py", 2, 5), "line 3 lies inside");
        assert!(
            !executed.enters("m/a b.py", 7, 9),
            "only its first line was executed"
        );
        assert!(Executed::read("no such thing").is_empty());
        let flood: String = (0..50)
            .map(|n| format!("moat-executed f{n} 1-400000\n"))
            .collect();
        let flood = Executed::read(&flood);
        assert!(flood.any("f1", (9, 9)) && !flood.any("f40", (1, 400_000)));
    }

    #[test]
    fn lines_of_one_expression_belong_together() {
        let spans = statements(&lex("a = f(\n    1,\n    2)\nb = 3\n", Language::Python));
        assert_eq!(spans.get(&2), Some(&(1, 3)));
        assert_eq!(spans.get(&4), None);
    }
}
