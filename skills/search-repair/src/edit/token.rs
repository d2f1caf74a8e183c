//! Edits of one token: operators, numbers, names, terms.

use std::collections::BTreeSet;

use super::Making;
use super::table::{OPERATORS, PAIRS};
use crate::language::Language;
use crate::lexer::Kind;

impl Making<'_> {
    pub(super) fn operator(&mut self, at: usize) {
        let token = &self.tokens[at];
        let Some((_, others)) = OPERATORS.iter().find(|(one, _)| *one == token.text) else {
            return;
        };
        if token.kind == Kind::Sign && !self.is_binary(at) && !matches!(token.text, ".." | "..=") {
            return;
        }
        for (rank, other) in others.iter().enumerate() {
            if self.language == Language::Rust && *other == "//" {
                continue;
            }
            self.replace(at, other, if rank == 0 { 1.0 } else { 0.6 });
        }
    }

    pub(super) fn number(&mut self, at: usize, near: &BTreeSet<&str>) {
        let token = &self.tokens[at];
        if token.kind != Kind::Number {
            return;
        }
        // `x - 0` is said better by taking the term out.
        let summand = matches!(self.before(at), "+" | "-");
        if let Ok(value) = token.text.replace('_', "").parse::<i64>() {
            // Off by one happens around the ends of things, 0 and 1; a larger number is mostly meant, and one beside it
            // would only fit the tests.
            let prior = if value <= 2 { 0.8 } else { 0.25 };
            self.replace(at, &(value + 1).to_string(), prior);
            if value > 1 || value == 1 && !summand {
                self.replace(at, &(value - 1).to_string(), prior);
            }
            for other in ["0", "1", "2", "10", "100"] {
                if other != "0" || !summand {
                    self.replace(at, other, 0.15);
                }
            }
        }
        for other in near
            .iter()
            .take(8)
            .filter(|other| **other != "0" || !summand)
        {
            self.replace(at, other, 0.2);
        }
    }

    /// `x` becomes `x - 1` or `x + 1`; so do calls of `len`.
    pub(super) fn off_by_one(&mut self, at: usize) {
        let token = &self.tokens[at];
        let (next, before) = (self.text(at + 1), self.before(at));
        let line_begins = at == 0 || self.tokens[at - 1].line != token.line;
        if token.kind == Kind::Word
            && self.is_value(at)
            && !matches!(next, "(" | "." | ":" | "=" | "::" | "!" | "[" | "{" | "as")
            && !line_begins
        {
            let tight = matches!(next, "*" | "/" | "//" | "%" | "**")
                || matches!(
                    before,
                    "*" | "/" | "//" | "%" | "**" | "-" | "not" | "!" | "&"
                );
            for sign in ["-", "+"] {
                let text = if tight {
                    format!("({} {sign} 1)", token.text)
                } else {
                    format!("{} {sign} 1", token.text)
                };
                self.replace(at, &text, if tight { 0.55 } else { 0.5 });
            }
        }
        if token.text == ")" {
            let Some(open) = self.opening(at) else { return };
            if matches!(self.before(open), "len") && !matches!(next, "." | "[") {
                for sign in ["-", "+"] {
                    let what = format!("`{sign} 1` after `{}()`", self.before(open));
                    self.push(
                        token.end(),
                        token.end(),
                        format!(" {sign} 1"),
                        token.line,
                        0.5,
                        what,
                    );
                }
            }
        }
    }

    pub(super) fn other_name(&mut self, at: usize, names: &[&str]) {
        let token = &self.tokens[at];
        if token.kind != Kind::Word || at < self.body {
            return;
        }
        for (one, other) in PAIRS {
            if token.text == *one {
                self.replace(at, other, 0.7);
            } else if token.text == *other {
                self.replace(at, one, 0.7);
            }
        }
        if self.is_value(at)
            && self.text(at + 1) != "("
            && self.text(at + 1) != "="
            && names.contains(&token.text)
        {
            for name in names.iter().filter(|name| **name != token.text) {
                self.replace(at, name, 0.3);
            }
        }
    }

    /// `x + 1` becomes `x`.
    pub(super) fn dropped_term(&mut self, at: usize) {
        let token = &self.tokens[at];
        let term = self.tokens.get(at + 1).filter(|term| {
            matches!(term.kind, Kind::Number | Kind::Word) && term.line == token.line
        });
        if let Some(term) = term.filter(|_| matches!(token.text, "+" | "-") && self.is_binary(at)) {
            let start = self.source[..token.start].trim_end().len();
            let what = format!("`{} {}` goes", token.text, term.text);
            self.push(start, term.end(), String::new(), token.line, 0.6, what);
        }
        if matches!(token.text, "not" | "!")
            && !self.is_operand_end(at.wrapping_sub(1))
            && self.text(at + 1) != "in"
        {
            let end = self
                .tokens
                .get(at + 1)
                .map_or(token.end(), |next| next.start);
            self.push(
                token.start,
                end,
                String::new(),
                token.line,
                0.7,
                format!("`{}` goes", token.text),
            );
        }
    }
}
