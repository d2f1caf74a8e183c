//! Edits of expressions: conditions, arguments, values passed through something.

use super::Making;
use crate::language::Language;
use crate::lexer::Kind;

impl Making<'_> {
    /// The condition after an `if`, `elif` or `while`: where it begins and ends in the text, and its last token.
    pub(super) fn condition(&self, at: usize) -> Option<(usize, usize, usize)> {
        if !matches!(self.text(at), "if" | "while" | "elif") || self.text(at + 1) == "let" {
            return None;
        }
        let closing = match self.language {
            Language::Rust => "{",
            Language::Python => ":",
        };
        let mut depth = 0i32;
        let end = (at + 1..self.tokens.len().min(at + 60)).find(|other| {
            match self.text(*other) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                _ => {}
            }
            depth == 0 && self.text(*other) == closing
        })?;
        let last = end.checked_sub(1).filter(|last| *last > at)?;
        Some((self.tokens[at + 1].start, self.tokens[last].end(), last))
    }

    /// A condition and its opposite; a part of a condition taken out.
    pub(super) fn negated(&mut self, at: usize) {
        let Some((start, stop, last)) = self.condition(at) else {
            return;
        };
        let (token, end) = (&self.tokens[at], last + 1);
        let condition = &self.source[start..stop];
        let text = if self.language == Language::Rust {
            format!("!({condition})")
        } else {
            format!("not ({condition})")
        };
        self.push(
            start,
            stop,
            text,
            token.line,
            0.5,
            "the condition is negated".into(),
        );
        for part in at + 2..end {
            if matches!(self.text(part), "and" | "or" | "&&" | "||") {
                self.push(
                    start,
                    self.tokens[part + 1].start,
                    String::new(),
                    token.line,
                    0.2,
                    "the first part of the condition goes".into(),
                );
                self.push(
                    self.tokens[part - 1].end(),
                    stop,
                    String::new(),
                    token.line,
                    0.2,
                    "the last part of the condition goes".into(),
                );
            }
        }
    }

    /// `f(a, b)` becomes `f(b, a)`.
    pub(super) fn swapped_arguments(&mut self, at: usize) {
        let simple = |at: usize| {
            self.tokens
                .get(at)
                .is_some_and(|token| token.kind != Kind::Sign)
        };
        let call = self.text(at) == "("
            && self
                .tokens
                .get(at.wrapping_sub(1))
                .is_some_and(|token| token.kind == Kind::Word)
            && !matches!(self.before(at.wrapping_sub(1)), "def" | "fn");
        if call
            && simple(at + 1)
            && self.text(at + 2) == ","
            && simple(at + 3)
            && matches!(self.text(at + 4), ")" | ",")
        {
            let (a, b) = (&self.tokens[at + 1], &self.tokens[at + 3]);
            self.push(
                a.start,
                b.end(),
                format!("{}, {}", b.text, a.text),
                a.line,
                0.5,
                "two arguments change places".into(),
            );
        }
    }

    /// A value passed through a small function.
    pub(super) fn wrapped(&mut self, at: usize) {
        let token = &self.tokens[at];
        if !self.is_value(at)
            || matches!(self.text(at + 1), "(" | "=" | ":" | "." | "::" | "!" | "{")
            || matches!(self.before(at), "," | "") && self.text(at + 1) == "in"
        {
            return;
        }
        let line_begins = at == 0 || self.tokens[at - 1].line != token.line;
        if line_begins {
            return;
        }
        let wraps: &[&str] = match self.language {
            Language::Python => &[
                "{}.lower()",
                "{}.strip()",
                "abs({})",
                "str({})",
                "int({})",
                "len({})",
                "list({})",
                "{}.copy()",
                "max({}, 0)",
                "sorted({})",
                "-{}",
            ],
            Language::Rust => &[
                "{}.abs()",
                "{}.trim()",
                "{}.to_lowercase()",
                "{}.len()",
                "{}.clone()",
                "{}.max(0)",
                "-{}",
                "!{}",
            ],
        };
        for wrap in wraps {
            self.replace(at, &wrap.replace("{}", token.text), 0.12);
        }
    }
}
