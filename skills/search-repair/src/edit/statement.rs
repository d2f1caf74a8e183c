//! Edits of whole lines: statements taken out, changed places, and guards.

use super::Making;
use crate::language::Language;

impl Making<'_> {
    /// Whole lines: taken out, changed places with the next, or guarded.
    pub(super) fn statements(&mut self) {
        let mut offset = 0;
        let lines: Vec<(u32, usize, &str)> = self
            .source
            .split_inclusive('\n')
            .enumerate()
            .map(|(at, line)| {
                let start = offset;
                offset += line.len();
                (at as u32 + 1, start, line)
            })
            .filter(|(number, _, _)| (self.region.first..=self.region.last).contains(number))
            .collect();
        for (at, (number, start, line)) in lines.iter().copied().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            if self.is_statement(line) && number != self.region.first {
                self.taken_out(number, start, line);
                self.guarded_statement(number, start, line);
                let next = lines.get(at + 1).filter(|(_, _, next)| {
                    let same = next.len() - next.trim_start().len() == indent.len();
                    same && self.is_statement(next)
                });
                if let Some((_, next_start, next)) = next {
                    self.push(
                        start,
                        next_start + next.len(),
                        format!("{next}{line}"),
                        number,
                        0.25,
                        "two statements change places".into(),
                    );
                }
            }
        }
        self.guards(&lines);
    }

    /// A statement that only counts on goes. Others stay: what a program no longer does, tests that are thin do not miss, and a check
    /// that is gone passes everything.
    fn taken_out(&mut self, number: u32, start: usize, line: &str) {
        let body = line.trim();
        if !body.contains(" += ") && !body.contains(" -= ") {
            return;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let text = match self.language {
            Language::Python => format!("{indent}pass\n"),
            Language::Rust => String::from("\n"),
        };
        let what = format!("`{body}` goes");
        self.push(start, start + line.len(), text, number, 0.3, what);
    }

    fn is_statement(&self, line: &str) -> bool {
        let line = line.trim();
        let balanced = ["()", "[]", "{}"].iter().all(|pair| {
            let count = |index: usize| line.matches(pair.as_bytes()[index] as char).count();
            count(0) == count(1)
        });
        let closed = match self.language {
            Language::Rust => line.ends_with(';') && !line.starts_with("use "),
            Language::Python => {
                !line.ends_with([':', ',', '\\'])
                    && !line.starts_with(['#', '"', '\'', '@', ')'])
                    && !line.starts_with("import ")
            }
        };
        !line.is_empty() && balanced && closed
    }

    /// `if not x: return …` at the beginning of a function, with what the function returns elsewhere.
    fn guards(&mut self, lines: &[(u32, usize, &str)]) {
        let Some((_, _, signature)) = lines.first().filter(|_| !self.region.name.is_empty()) else {
            return;
        };
        if self.language != Language::Python || !signature.trim_end().ends_with(':') {
            return;
        }
        let Some(inner) = signature
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
            .map(|(inner, _)| inner)
        else {
            return;
        };
        let parameters: Vec<&str> = inner
            .split(',')
            .filter_map(|one| one.split([':', '=']).next())
            .map(str::trim)
            .filter(|name| !matches!(*name, "" | "self" | "cls") && !name.starts_with('*'))
            .collect();
        let body = lines.iter().skip(1).find(|(_, _, line)| {
            !line.trim().is_empty() && !line.trim_start().starts_with(['"', '\'', '#'])
        });
        let Some((number, start, line)) = body.copied() else {
            return;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        for name in parameters.into_iter().take(3) {
            for value in ["None", name, "0", "\"\"", "[]", "False", "True"] {
                for test in [format!("not {name}"), format!("{name} is None")] {
                    let text = format!("{indent}if {test}:\n{indent}    return {value}\n");
                    self.push(
                        start,
                        start,
                        text,
                        number,
                        0.08,
                        format!("`if {test}: return {value}` comes first"),
                    );
                }
            }
        }
    }
}
