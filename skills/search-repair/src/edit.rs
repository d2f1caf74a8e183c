//! Small edits of one place, in the order in which people make the mistakes that they mend.

mod statement;
mod table;

use std::collections::BTreeSet;

use self::table::{OPERATORS, PAIRS};
use crate::language::Language;
use crate::lexer::{Kind, Token, lex};
use crate::localise::Region;

/// One replacement of a stretch of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    /// The file.
    pub path: String,
    /// Byte range that goes.
    pub start: usize,
    /// Its end.
    pub end: usize,
    /// What comes instead.
    pub text: String,
    /// From 1.
    pub line: u32,
    /// How likely such an edit is, whatever the place.
    pub prior: f64,
    /// What it does, in words.
    pub what: String,
}

impl Edit {
    /// The file with this edit.
    pub fn apply(&self, source: &str) -> String {
        let mut out = String::with_capacity(source.len() + self.text.len());
        out.push_str(&source[..self.start]);
        out.push_str(&self.text);
        out.push_str(&source[self.end..]);
        out
    }
}

/// Makes the edits of one region.
pub fn edits(region: &Region, source: &str, language: Language) -> Vec<Edit> {
    let tokens = lex(source, language);
    let inside: Vec<usize> = (0..tokens.len())
        .filter(|at| (region.first..=region.last).contains(&tokens[*at].line))
        .collect();
    let mut made = Making {
        region,
        source,
        language,
        tokens: &tokens,
        edits: Vec::new(),
    };
    let names = made.names(&inside);
    let numbers: BTreeSet<&str> = inside
        .iter()
        .filter(|at| tokens[**at].kind == Kind::Number)
        .map(|at| tokens[*at].text)
        .collect();
    for at in inside {
        made.operator(at);
        made.number(at, &numbers);
        made.off_by_one(at);
        made.other_name(at, &names);
        made.dropped_term(at);
        made.negated(at);
        made.swapped_arguments(at);
        made.wrapped(at);
    }
    made.statements();
    made.edits
}

struct Making<'a> {
    region: &'a Region,
    source: &'a str,
    language: Language,
    tokens: &'a [Token<'a>],
    edits: Vec<Edit>,
}

impl<'a> Making<'a> {
    fn push(
        &mut self,
        start: usize,
        end: usize,
        text: String,
        line: u32,
        prior: f64,
        what: String,
    ) {
        if self
            .source
            .get(start..end)
            .is_some_and(|before| before != text)
        {
            self.edits.push(Edit {
                path: self.region.path.clone(),
                start,
                end,
                text,
                line,
                prior,
                what,
            });
        }
    }

    fn replace(&mut self, at: usize, text: &str, prior: f64) {
        let token = &self.tokens[at];
        let what = format!("`{}` becomes `{text}`", token.text);
        self.push(
            token.start,
            token.end(),
            text.to_owned(),
            token.line,
            prior,
            what,
        );
    }

    fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    fn before(&self, at: usize) -> &'a str {
        at.checked_sub(1).map_or("", |at| self.text(at))
    }

    /// Between two operands, by the white space that formatters put there: not a generic's bracket, a reference or a sign.
    fn is_binary(&self, at: usize) -> bool {
        let token = &self.tokens[at];
        let spaced = self.source[..token.start].ends_with([' ', '\n'])
            && self.source[token.end()..].starts_with([' ', '\n']);
        let operand = self.is_operand_end(at.wrapping_sub(1));
        match self.language {
            Language::Rust => spaced && operand,
            Language::Python => operand && !matches!(self.before(at), "(" | "," | "="),
        }
    }

    fn is_operand_end(&self, at: usize) -> bool {
        self.tokens.get(at).is_some_and(|token| match token.kind {
            Kind::Word => !matches!(
                token.text,
                "return"
                    | "in"
                    | "and"
                    | "or"
                    | "not"
                    | "if"
                    | "else"
                    | "elif"
                    | "while"
                    | "match"
                    | "print"
                    | "lambda"
                    | "yield"
                    | "import"
                    | "from"
            ),
            Kind::Number | Kind::Text => true,
            Kind::Sign => matches!(token.text, ")" | "]" | "}"),
        })
    }

    fn operator(&mut self, at: usize) {
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

    fn number(&mut self, at: usize, near: &BTreeSet<&str>) {
        let token = &self.tokens[at];
        if token.kind != Kind::Number {
            return;
        }
        if let Ok(value) = token.text.replace('_', "").parse::<i64>() {
            // Off by one happens around the ends of things, 0 and 1; a larger number is mostly meant, and one beside it
            // would only fit the tests.
            let prior = if value <= 2 { 0.8 } else { 0.25 };
            self.replace(at, &(value + 1).to_string(), prior);
            if value > 0 {
                self.replace(at, &(value - 1).to_string(), prior);
            }
            for other in ["0", "1", "2", "10", "100"] {
                self.replace(at, other, 0.15);
            }
        }
        for other in near.iter().take(8) {
            self.replace(at, other, 0.2);
        }
    }

    /// `x` becomes `x - 1` or `x + 1`; so do calls of `len`.
    fn off_by_one(&mut self, at: usize) {
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

    /// A name that is read here: not a keyword, not being defined, not a parameter of a signature.
    fn is_value(&self, at: usize) -> bool {
        const KEYWORDS: [&str; 62] = [
            "if", "else", "elif", "for", "while", "in", "is", "not", "and", "or", "return", "def",
            "class", "import", "from", "as", "with", "try", "except", "finally", "raise", "lambda",
            "yield", "pass", "break", "continue", "global", "nonlocal", "assert", "del", "None",
            "True", "False", "fn", "let", "mut", "pub", "use", "mod", "impl", "struct", "enum",
            "trait", "where", "match", "loop", "move", "ref", "self", "Self", "crate", "super",
            "const", "static", "type", "true", "false", "unsafe", "async", "await", "dyn", "print",
        ];
        let token = &self.tokens[at];
        token.kind == Kind::Word
            && !KEYWORDS.contains(&token.text)
            && !matches!(
                self.before(at),
                "def"
                    | "fn"
                    | "class"
                    | "let"
                    | "mut"
                    | "."
                    | "import"
                    | "for"
                    | "as"
                    | "'"
                    | "@"
                    | "::"
            )
            && token.line != self.region.first
    }

    /// Names read in the region, with the parameters of its function.
    fn names(&self, inside: &[usize]) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for at in inside {
            let token = &self.tokens[*at];
            let parameter = token.kind == Kind::Word
                && token.line == self.region.first
                && matches!(self.text(at + 1), ":" | "," | ")" | "=");
            if (self.is_value(*at) || parameter)
                && self.text(at + 1) != "("
                && !names.contains(&token.text)
                && !matches!(token.text, "self" | "cls")
            {
                names.push(token.text);
            }
        }
        names.truncate(14);
        names
    }

    fn other_name(&mut self, at: usize, names: &[&str]) {
        let token = &self.tokens[at];
        if token.kind != Kind::Word || token.line == self.region.first && self.before(at) == "def" {
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
    fn dropped_term(&mut self, at: usize) {
        let token = &self.tokens[at];
        if matches!(token.text, "+" | "-") && self.is_binary(at) {
            if let Some(term) = self.tokens.get(at + 1).filter(|term| {
                matches!(term.kind, Kind::Number | Kind::Word) && term.line == token.line
            }) {
                let start = self.source[..token.start].trim_end().len();
                self.push(
                    start,
                    term.end(),
                    String::new(),
                    token.line,
                    0.6,
                    format!("`{} {}` goes", token.text, term.text),
                );
            }
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

    /// A condition and its opposite; a part of a condition taken out.
    fn negated(&mut self, at: usize) {
        let token = &self.tokens[at];
        if !matches!(token.text, "if" | "while" | "elif") || self.text(at + 1) == "let" {
            return;
        }
        let closing = if self.language == Language::Rust {
            "{"
        } else {
            ":"
        };
        let mut depth = 0i32;
        let end = (at + 1..self.tokens.len().min(at + 60)).find(|other| {
            match self.text(*other) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                _ => {}
            }
            depth == 0 && self.text(*other) == closing
        });
        let Some(end) = end else { return };
        let (start, stop) = (self.tokens[at + 1].start, self.tokens[end - 1].end());
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
                    0.4,
                    "the first part of the condition goes".into(),
                );
                self.push(
                    self.tokens[part - 1].end(),
                    stop,
                    String::new(),
                    token.line,
                    0.4,
                    "the last part of the condition goes".into(),
                );
            }
        }
    }

    fn opening(&self, close: usize) -> Option<usize> {
        let mut depth = 0i32;
        for at in (0..=close).rev() {
            match self.text(at) {
                ")" | "]" | "}" => depth += 1,
                "(" | "[" | "{" => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// `f(a, b)` becomes `f(b, a)`.
    fn swapped_arguments(&mut self, at: usize) {
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
    fn wrapped(&mut self, at: usize) {
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
                "sorted({})",
                "-{}",
            ],
            Language::Rust => &[
                "{}.abs()",
                "{}.trim()",
                "{}.to_lowercase()",
                "{}.len()",
                "-{}",
                "!{}",
            ],
        };
        for wrap in wraps {
            self.replace(at, &wrap.replace("{}", token.text), 0.12);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(source: &str, path: &str) -> Vec<String> {
        let last = source.lines().count() as u32;
        let region = Region {
            path: path.into(),
            name: "f".into(),
            first: 1,
            last,
            score: 1.0,
        };
        let language = Language::of(path).expect("a known ending");
        edits(&region, source, language)
            .iter()
            .map(|edit| edit.apply(source))
            .collect()
    }

    fn makes(path: &str, source: &str, wanted: &str) {
        let made = all(source, path);
        assert!(
            made.iter().any(|one| one == wanted),
            "{wanted:?} is not among {}: {made:#?}",
            made.len()
        );
    }

    #[test]
    fn usual_mistakes_are_within_one_edit() {
        makes(
            "a.py",
            "def f(a, b):\n    return a < b\n",
            "def f(a, b):\n    return a <= b\n",
        );
        makes(
            "a.py",
            "def f(m):\n    return m // 60 + 1\n",
            "def f(m):\n    return (m - 1) // 60 + 1\n",
        );
        makes(
            "a.py",
            "def f(m):\n    return m // 60 + 1\n",
            "def f(m):\n    return m // 60\n",
        );
        makes(
            "a.py",
            "def f(a, b):\n    x = 1\n    return min(x, a)\n",
            "def f(a, b):\n    x = 1\n    return max(x, a)\n",
        );
        makes(
            "a.py",
            "def f(a, b):\n    return g(a, b)\n",
            "def f(a, b):\n    return g(b, a)\n",
        );
        makes(
            "a.py",
            "def f(a, b):\n    return a\n",
            "def f(a, b):\n    return b\n",
        );
        makes(
            "a.py",
            "def f(a):\n    if a and not b:\n        return 1\n",
            "def f(a):\n    if a and b:\n        return 1\n",
        );
        makes(
            "a.rs",
            "fn f(n: usize) -> usize {\n    (0..n).sum()\n}\n",
            "fn f(n: usize) -> usize {\n    (0..=n).sum()\n}\n",
        );
        makes(
            "a.rs",
            "fn f(n: u32) -> bool {\n    n > 3 && n < 9\n}\n",
            "fn f(n: u32) -> bool {\n    n > 3 && n <= 9\n}\n",
        );
    }

    #[test]
    fn generics_and_references_are_not_operators() {
        let made = all("fn f(v: &Vec<u8>) -> Vec<u8> {\n    g(&v)\n}\n", "a.rs");
        assert!(
            made.iter().all(|one| one.contains("&Vec<u8>) -> Vec<u8>")),
            "{made:#?}"
        );
    }

    #[test]
    fn every_edit_lies_within_its_text() {
        let odd = "def f(é, b):\n    '''ß'''\n    if not (é and b) or b:\n        x = [1, é]; y = {\"a\": -b}\n    return f(b, é)[1:] % 2\n";
        for edit in edits(
            &Region {
                path: "a.py".into(),
                name: "f".into(),
                first: 1,
                last: 6,
                score: 1.0,
            },
            odd,
            Language::Python,
        ) {
            assert!(
                odd.is_char_boundary(edit.start)
                    && odd.is_char_boundary(edit.end)
                    && edit.start <= edit.end
            );
            assert_ne!(edit.apply(odd), odd);
        }
    }
}
