//! Small edits of one place, in the order in which people make the mistakes that they mend.

mod alike;
mod expression;
mod missing;
mod statement;
mod table;
mod token;

use std::collections::BTreeSet;

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

    /// What is really replaced, and by what: two edits of which this is the same make the same text.
    pub fn core<'a>(&'a self, source: &'a str) -> (usize, usize, &'a str) {
        let before = &source[self.start..self.end];
        let head = before
            .char_indices()
            .zip(self.text.chars())
            .take_while(|((_, a), b)| a == b)
            .last()
            .map_or(0, |((at, c), _)| at + c.len_utf8());
        let (old, new) = (&before[head..], &self.text[head..]);
        let tail: usize = old
            .chars()
            .rev()
            .zip(new.chars().rev())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        let new = &new[..new.len() - tail];
        (self.start + head, self.end - tail, new)
    }

    /// The first line that the edit leaves in its place.
    pub fn line_after(&self, source: &str) -> String {
        let begin = source[..self.start].rfind('\n').map_or(0, |at| at + 1);
        let end = source[self.end..]
            .find('\n')
            .map_or(source.len(), |at| self.end + at);
        let whole = [
            &source[begin..self.start],
            &self.text,
            &source[self.end..end],
        ]
        .concat();
        whole.lines().next().unwrap_or("").trim().to_owned()
    }

    /// The line that the edit begins in, as it was.
    pub fn line_before(&self, source: &str) -> String {
        let begin = source[..self.start].rfind('\n').map_or(0, |at| at + 1);
        let end = source[self.start..]
            .find('\n')
            .map_or(source.len(), |at| self.start + at);
        source[begin..end].trim().to_owned()
    }

    /// Whether one number takes the place of another.
    pub fn swaps_number(&self, source: &str) -> bool {
        let number = |text: &str| {
            text.starts_with(|c: char| c.is_ascii_digit())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'))
        };
        number(&source[self.start..self.end]) && number(&self.text)
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
        body: 0,
        edits: Vec::new(),
    };
    made.body = made.parameters(&inside).map_or(0, |(_, body)| body);
    let names = made.names(&inside);
    let numbers: BTreeSet<&str> = inside
        .iter()
        .filter(|at| tokens[**at].kind == Kind::Number)
        .map(|at| tokens[*at].text)
        .collect();
    let unread = made.unread(&inside);
    let attributes = made.attributes(&inside);
    for at in inside {
        made.operator(at);
        made.number(at, &numbers);
        made.off_by_one(at);
        made.other_name(at, &names);
        made.dropped_term(at);
        made.negated(at);
        made.swapped_arguments(at);
        made.wrapped(at);
        made.forgotten_parameter(at, &unread);
        made.none_tests(at);
        made.other_attribute(at, &attributes);
        made.one_more_condition(at);
        made.counterpart(at, &names);
        made.every_mention(at, &names);
        made.bounded(at, &names);
        made.saturated(at);
        made.local_for_attribute(at, &names);
    }
    made.statements();
    made.edits
}

struct Making<'a> {
    region: &'a Region,
    source: &'a str,
    language: Language,
    tokens: &'a [Token<'a>],
    /// The first token after the signature: what stands before it names types and parameters, and reads none.
    body: usize,
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
            && at >= self.body
    }

    /// Names read in the region, with the parameters of its function.
    fn names(&self, inside: &[usize]) -> Vec<&'a str> {
        let parameters = self
            .parameters(inside)
            .map_or_else(Vec::new, |(names, _)| names);
        let mut names: Vec<&str> = Vec::new();
        for at in inside {
            let token = &self.tokens[*at];
            let parameter = *at < self.body && parameters.contains(&token.text);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(source: &str, path: &str) -> Vec<String> {
        let last = source.lines().count() as u32;
        let region = Region {
            path: path.into(),
            name: "f".into(),
            owner: String::new(),
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
    fn what_was_left_out_is_within_one_edit() {
        makes(
            "a.py",
            "def f(items, sep=' '):\n    return ' '.join(items)\n",
            "def f(items, sep=' '):\n    return sep.join(items)\n",
        );
        makes(
            "a.py",
            "def f(a, months):\n    return g(a)\n",
            "def f(a, months):\n    return g(a, months)\n",
        );
        makes(
            "a.py",
            "def f(n):\n    if n:\n        return 1\n",
            "def f(n):\n    if n is not None:\n        return 1\n",
        );
        makes(
            "a.py",
            "def f(n):\n    if not n:\n        n = 1\n",
            "def f(n):\n    if n is None:\n        n = 1\n",
        );
        makes(
            "a.py",
            "def f(n):\n    rest = n\n    yield rest\n",
            "def f(n):\n    rest = n\n    if rest:\n        yield rest\n",
        );
        makes(
            "a.rs",
            "fn f(n: u32, w: u32) {\n    if n + w > 3 {\n    }\n}\n",
            "fn f(n: u32, w: u32) {\n    if n > 0 && n + w > 3 {\n    }\n}\n",
        );
        makes(
            "a.py",
            "class A:\n    def f(self):\n        return self.low + self.high\n",
            "class A:\n    def f(self):\n        return self.high + self.high\n",
        );
    }

    #[test]
    fn names_that_are_alike_are_within_one_edit() {
        makes(
            "a.rs",
            "fn f(v: &[u8]) -> Option<&u8> {\n    v.first_mut()\n}\n",
            "fn f(v: &[u8]) -> Option<&u8> {\n    v.last_mut()\n}\n",
        );
        makes(
            "a.rs",
            "fn f(a_in: &[u8], b_in: &[u8]) {\n    let x = g(b_in, a_in.start, a_in.end);\n}\n",
            "fn f(a_in: &[u8], b_in: &[u8]) {\n    let x = g(b_in, b_in.start, b_in.end);\n}\n",
        );
        makes(
            "a.rs",
            "fn f(s: &S) -> u32 {\n    let n = s.end(1)[0] - s.start();\n    n\n}\n",
            "fn f(s: &S) -> u32 {\n    let n = s.end(1)[0].saturating_sub(s.start());\n    n\n}\n",
        );
        makes(
            "a.py",
            "def f(day_a, day_b):\n    return g(day_a, day_b)\n",
            "def f(day_a, day_b):\n    return g(min(day_a, day_b), day_b)\n",
        );
        makes(
            "a.rs",
            "fn f(&self) {\n    let text = 1;\n    g(text, self.all.len());\n}\n",
            "fn f(&self) {\n    let text = 1;\n    g(text, text.len());\n}\n",
        );
    }

    #[test]
    fn behaviour_is_not_taken_out() {
        let made = all(
            "def f(a):\n    check(a)\n    raise Bad()\n    n += 1\n    return a\n",
            "a.py",
        );
        assert!(
            made.iter()
                .all(|one| one.contains("check(a)") || one.contains("check(")),
            "{made:#?}"
        );
        assert!(
            made.iter().all(|one| one.contains("raise Bad()")),
            "{made:#?}"
        );
        assert!(
            made.iter().any(|one| !one.contains("n += 1")),
            "counting may be one too many"
        );
    }

    #[test]
    fn types_of_parameters_are_not_values() {
        let source = "def f(\n    a: float,\n    b: str = 1,\n) -> str:\n    return a\n";
        for made in all(source, "a.py") {
            assert!(
                made.contains("a: float") && made.contains("b: str") && made.contains("-> str"),
                "{made}"
            );
        }
        makes("a.py", source, &source.replace("return a", "return b"));
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
                owner: String::new(),
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
