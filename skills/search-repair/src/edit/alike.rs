//! Edits between names that are alike: `old_start` for `new_start`, `first_mut` for `last_mut`, the lesser of two.

use super::Making;
use super::table::COUNTERPARTS;
use crate::language::Language;
use crate::lexer::Kind;

/// The name with one of its words replaced by that word's counterpart; one result for each such word.
pub(super) fn counterparts(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words: Vec<&str> = name.split('_').collect();
    for (at, word) in words.iter().enumerate() {
        for (one, other) in COUNTERPARTS {
            let instead = match *word {
                word if word == *one => other,
                word if word == *other => one,
                _ => continue,
            };
            let mut words = words.clone();
            words[at] = instead;
            found.push(words.join("_"));
        }
    }
    found
}

/// Whether two names share a word of some length, such as `day_start` and `day_end`.
pub(super) fn alike(one: &str, other: &str) -> bool {
    one != other
        && one
            .split('_')
            .any(|word| word.len() > 2 && other.split('_').any(|own| own == word))
}

impl Making<'_> {
    /// A name becomes its counterpart: one that stands in the region as well, or a method, which may be anybody's.
    pub(super) fn counterpart(&mut self, at: usize, names: &[&str]) {
        let token = &self.tokens[at];
        if token.kind != Kind::Word || matches!(self.before(at), "def" | "fn" | "let" | "mut") {
            return;
        }
        let method = self.before(at) == "." && self.text(at + 1) == "(";
        for other in counterparts(token.text) {
            if method || names.contains(&other.as_str()) {
                self.replace(at, &other, 0.65);
            }
        }
    }

    /// A name that stands twice in a line becomes another one in both places.
    pub(super) fn every_mention(&mut self, at: usize, names: &[&str]) {
        let token = &self.tokens[at];
        if !self.is_value(at) || self.text(at + 1) == "(" {
            return;
        }
        let same = |other: usize| self.text(other) == token.text && self.is_value(other);
        let line = |other: usize| {
            self.tokens
                .get(other)
                .is_some_and(|one| one.line == token.line)
        };
        let earlier = (0..at).rev().take_while(|other| line(*other)).any(same);
        let later: Vec<usize> = (at + 1..)
            .take_while(|other| line(*other))
            .filter(|other| same(*other))
            .collect();
        if earlier || later.is_empty() {
            return;
        }
        let (start, number, before) = (token.start, token.line, token.text);
        for name in names.iter().filter(|name| **name != before) {
            let (mut text, mut from, mut end) = (String::from(*name), token.end(), token.end());
            for other in &later {
                let other = &self.tokens[*other];
                text.push_str(&self.source[from..other.start]);
                text.push_str(name);
                (from, end) = (other.end(), other.end());
            }
            let prior = if counterparts(before).iter().any(|other| other == name) {
                0.65
            } else if alike(before, name) {
                0.35
            } else {
                0.12
            };
            let what = format!("`{before}` becomes `{name}` in the whole line");
            self.push(start, end, text, number, prior, what);
        }
    }

    /// A value becomes the lesser or the greater of itself and one with a similar name.
    pub(super) fn bounded(&mut self, at: usize, names: &[&str]) {
        let token = &self.tokens[at];
        let plain = !matches!(
            self.text(at + 1),
            "(" | "." | "=" | ":" | "::" | "!" | "[" | "{" | "as"
        );
        let line_begins = at == 0 || self.tokens[at - 1].line != token.line;
        if !self.is_value(at) || !plain || line_begins {
            return;
        }
        for name in names.iter().filter(|name| alike(token.text, name)) {
            for bound in ["min", "max"] {
                let text = match self.language {
                    Language::Python => format!("{bound}({}, {name})", token.text),
                    Language::Rust => format!("{}.{bound}({name})", token.text),
                };
                self.replace(at, &text, 0.15);
            }
        }
    }

    /// `a - b` of unsigned numbers stops at zero.
    pub(super) fn saturated(&mut self, at: usize) {
        if self.language != Language::Rust || self.text(at) != "-" || !self.is_binary(at) {
            return;
        }
        let Some((first, last)) = self.operand_before(at).zip(self.operand_after(at)) else {
            return;
        };
        let (start, end) = (self.tokens[first].start, self.tokens[last].end());
        let left = &self.source[start..self.tokens[at - 1].end()];
        let right = &self.source[self.tokens[at + 1].start..end];
        let text = format!("{left}.saturating_sub({right})");
        let line = self.tokens[at].line;
        self.push(
            start,
            end,
            text,
            line,
            0.3,
            "the subtraction stops at zero".into(),
        );
    }

    /// `self.a` becomes a name of the function.
    pub(super) fn local_for_attribute(&mut self, at: usize, names: &[&str]) {
        let attribute = self.tokens[at].kind == Kind::Word
            && self.text(at) == "self"
            && self.text(at + 1) == "."
            && self
                .tokens
                .get(at + 2)
                .is_some_and(|one| one.kind == Kind::Word)
            && !matches!(self.text(at + 3), "(" | "=" | "+=" | "-=");
        if !attribute {
            return;
        }
        let (start, end) = (self.tokens[at].start, self.tokens[at + 2].end());
        let line = self.tokens[at].line;
        for name in names {
            let what = format!("`self.{}` becomes `{name}`", self.text(at + 2));
            self.push(start, end, (*name).to_owned(), line, 0.15, what);
        }
    }

    /// The first token of `a.b(c)[d]` that ends before a token.
    fn operand_before(&self, at: usize) -> Option<usize> {
        let mut first = at.checked_sub(1)?;
        loop {
            if matches!(self.text(first), ")" | "]") {
                first = self.opening(first)?;
                let called = first.checked_sub(1).filter(|before| {
                    self.tokens[*before].kind == Kind::Word && self.is_operand_end(*before)
                });
                let Some(called) = called else {
                    return Some(first);
                };
                first = called;
            }
            if !matches!(self.before(first), "." | "::") {
                let unary = matches!(self.before(first), "*" | "&" | "!")
                    && !self.is_operand_end(first.wrapping_sub(2));
                return (!unary && self.tokens[first].kind != Kind::Sign).then_some(first);
            }
            first = first.checked_sub(2)?;
        }
    }

    /// The last token of the like that begins after a token.
    fn operand_after(&self, at: usize) -> Option<usize> {
        let mut last = at + 1;
        if self.tokens.get(last)?.kind == Kind::Sign {
            return None;
        }
        loop {
            match self.text(last + 1) {
                "." | "::" => last += 2,
                "(" | "[" => last = self.closing(last + 1)?,
                _ => return self.tokens.get(last).map(|_| last),
            }
        }
    }

    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0i32;
        (open..self.tokens.len()).find(|at| {
            match self.text(*at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            depth == 0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_names_counterpart_differs_in_one_word() {
        assert_eq!(counterparts("first_mut"), ["last_mut"]);
        assert_eq!(counterparts("old_start"), ["new_start", "old_end"]);
        assert!(counterparts("restart").is_empty());
        assert!(alike("day_start", "day_end") && !alike("day", "day") && !alike("a_b", "c_b"));
    }
}
