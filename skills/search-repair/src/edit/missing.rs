//! Edits that put in what was left out: a parameter that nothing reads, a test for nothing, a condition before a statement.

use super::Making;
use crate::language::Language;
use crate::lexer::Kind;

impl<'a> Making<'a> {
    /// Parameters of the function that its body never reads: most likely they were forgotten somewhere.
    pub(super) fn unread(&self, inside: &[usize]) -> Vec<&'a str> {
        let Some(parameters) = self.parameters(inside) else {
            return Vec::new();
        };
        let (names, body) = parameters;
        names
            .into_iter()
            .filter(|name| !name.starts_with('_') && !matches!(*name, "self" | "cls"))
            .filter(|name| {
                inside
                    .iter()
                    .all(|at| *at < body || self.text(*at) != *name)
            })
            .collect()
    }

    /// The names between the first brackets, and the token where the body begins.
    pub(super) fn parameters(&self, inside: &[usize]) -> Option<(Vec<&'a str>, usize)> {
        let keyword = match self.language {
            Language::Python => "def",
            Language::Rust => "fn",
        };
        let open = *inside
            .iter()
            .skip_while(|at| self.text(**at) != keyword)
            .find(|at| self.text(**at) == "(")?;
        let mut depth = 0i32;
        let mut names = Vec::new();
        for at in open..self.tokens.len() {
            match self.text(at) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => {
                    depth -= 1;
                    if depth == 0 {
                        let opens = match self.language {
                            Language::Python => ":",
                            Language::Rust => "{",
                        };
                        let body = (at..self.tokens.len().min(at + 80))
                            .find(|at| self.text(*at) == opens)?;
                        return Some((names, body + 1));
                    }
                }
                name if depth == 1
                    && self.tokens[at].kind == Kind::Word
                    && matches!(self.before(at), "(" | "," | "*" | "mut")
                    && matches!(self.text(at + 1), ":" | "," | ")" | "=") =>
                {
                    names.push(name);
                }
                _ => {}
            }
        }
        None
    }

    /// A literal, a name or the end of a call's arguments gives way to a parameter that is not read yet.
    pub(super) fn forgotten_parameter(&mut self, at: usize, unread: &[&str]) {
        let token = &self.tokens[at];
        if unread.is_empty() || token.line == self.region.first {
            return;
        }
        let default = self.before(at) == "=" && self.before(at.wrapping_sub(1)).is_empty();
        let literal = match token.kind {
            Kind::Number | Kind::Text => !default,
            Kind::Word => matches!(token.text, "None" | "True" | "False" | "true" | "false"),
            Kind::Sign => false,
        };
        for name in unread.iter().take(3) {
            if literal {
                self.replace(at, name, 0.7);
            } else if self.is_value(at) && !matches!(self.text(at + 1), "(" | "=" | ":" | "!") {
                self.replace(at, name, 0.3);
            }
            if token.text == ")" {
                self.one_more_argument(at, name);
            }
        }
    }

    fn one_more_argument(&mut self, close: usize, name: &str) {
        let Some(open) = self.opening(close) else {
            return;
        };
        let called = open.checked_sub(1).is_some_and(|before| {
            self.tokens[before].kind == Kind::Word
                && self.tokens[before].end() == self.tokens[open].start
                && !matches!(self.before(before), "def" | "fn" | "class")
        });
        if !called {
            return;
        }
        let (end, line) = (self.tokens[close].start, self.tokens[close].line);
        let callee = self.text(open - 1);
        let first = if open + 1 == close { "" } else { ", " };
        let mut forms = vec![format!("{first}{name}")];
        if self.language == Language::Python {
            forms.push(format!("{first}{name}={name}"));
        }
        for form in forms {
            let what = format!("`{callee}(…)` is given `{name}` as well");
            self.push(end, end, form, line, 0.5, what);
        }
    }

    /// In Python, 0, "" and [] are as false as None: `if x` becomes `if x is not None`, `if not x` becomes `if x is None`.
    pub(super) fn none_tests(&mut self, at: usize) {
        if self.language != Language::Python || !self.is_value(at) {
            return;
        }
        let asked = matches!(
            self.before(at),
            "if" | "elif" | "while" | "and" | "or" | "not"
        );
        if !asked || !matches!(self.text(at + 1), ":" | "and" | "or" | "else" | ")") {
            return;
        }
        let token = &self.tokens[at];
        let (name, line, end) = (token.text, token.line, token.end());
        if self.before(at) == "not" {
            let start = self.tokens[at - 1].start;
            let what = format!("`not {name}` becomes `{name} is None`");
            self.push(start, end, format!("{name} is None"), line, 0.6, what);
        } else {
            let what = format!("`{name}` becomes `{name} is not None`");
            self.push(
                token.start,
                end,
                format!("{name} is not None"),
                line,
                0.6,
                what,
            );
        }
    }

    /// `self.a` becomes another attribute that the function uses.
    pub(super) fn other_attribute(&mut self, at: usize, attributes: &[&str]) {
        let token = &self.tokens[at];
        let read = token.kind == Kind::Word
            && self.before(at) == "."
            && at
                .checked_sub(2)
                .is_some_and(|own| self.text(own) == "self")
            && self.text(at + 1) != "(";
        if !read {
            return;
        }
        for other in attributes.iter().filter(|other| **other != token.text) {
            self.replace(at, other, 0.25);
        }
    }

    /// The attributes of `self` that are read or set in the region.
    pub(super) fn attributes(&self, inside: &[usize]) -> Vec<&'a str> {
        let mut found = Vec::new();
        for at in inside.iter().copied() {
            let own = self.tokens[at].kind == Kind::Word
                && self.before(at) == "."
                && at
                    .checked_sub(2)
                    .is_some_and(|own| self.text(own) == "self")
                && self.text(at + 1) != "(";
            if own && !found.contains(&self.text(at)) && found.len() < 8 {
                found.push(self.text(at));
            }
        }
        found
    }

    /// A name of the condition must be something as well.
    pub(super) fn one_more_condition(&mut self, at: usize) {
        let Some((start, stop, last)) = self.condition(at) else {
            return;
        };
        let line = self.tokens[at].line;
        let mut names: Vec<&str> = Vec::new();
        for part in at + 1..=last {
            let name = self.text(part);
            if self.is_value(part)
                && !matches!(self.text(part + 1), "(" | "." | "::" | "!")
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        let whole = &self.source[start..stop];
        let loose = (at + 1..=last).any(|part| matches!(self.text(part), "or" | "||"));
        let rest = if loose {
            format!("({whole})")
        } else {
            whole.to_owned()
        };
        for name in names.into_iter().take(4) {
            let forms = match self.language {
                Language::Python => vec![format!("{name} and {rest}")],
                Language::Rust => vec![
                    format!("{name} > 0 && {rest}"),
                    format!("!{name}.is_empty() && {rest}"),
                ],
            };
            for form in forms {
                let what = format!("the condition asks for `{name}` as well");
                self.push(start, stop, form, line, 0.2, what);
            }
        }
    }

    /// A statement happens only if a name in it is something.
    pub(super) fn guarded_statement(&mut self, number: u32, start: usize, line: &str) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let body = line.trim();
        // What is handed out is what there may be nothing of.
        let hands_out = ["yield ", ".append(", ".push(", ".extend(", ".add("];
        let prior = if hands_out.iter().any(|part| body.contains(part)) {
            0.35
        } else {
            0.15
        };
        let mut names: Vec<&str> = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            if token.line == number
                && self.is_value(at)
                && !matches!(self.text(at + 1), "(" | "." | "=" | "::" | "!")
                && !names.contains(&token.text)
            {
                names.push(token.text);
            }
        }
        for name in names.into_iter().take(3) {
            let text = match self.language {
                Language::Python => {
                    format!("{indent}if {name}:\n{indent}    {body}\n")
                }
                Language::Rust => {
                    format!("{indent}if !{name}.is_empty() {{\n{indent}    {body}\n{indent}}}\n")
                }
            };
            let what = format!("`{body}` only if `{name}`");
            self.push(start, start + line.len(), text, number, prior, what);
        }
    }
}
