//! A light lexer for Rust and Python: enough to edit tokens and not strings or comments. Never fails, on any text.

use crate::language::Language;

/// A kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name or a keyword.
    Word,
    /// A number.
    Number,
    /// A string or character literal.
    Text,
    /// An operator or a bracket.
    Sign,
}

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its text.
    pub text: &'a str,
    /// Byte offset.
    pub start: usize,
    /// From 1.
    pub line: u32,
}

impl Token<'_> {
    /// Byte offset of its end.
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

const SIGNS: [&str; 34] = [
    "..=", "...", "<<=", ">>=", "**=", "//=", "==", "!=", "<=", ">=", "&&", "||", "->", "=>", "::",
    "..", "+=", "-=", "*=", "/=", "%=", "|=", "&=", "^=", "**", "//", "<<", ">>", ":=", "@=", "?.",
    "&'", "b'", "r#",
];

/// Splits a text into tokens; white space and comments are left out.
pub fn lex(text: &str, language: Language) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1u32);
    while at < bytes.len() {
        let rest = &text[at..];
        let byte = bytes[at];
        let (kind, length) = if byte == b'\n' {
            line += 1;
            (None, 1)
        } else if byte.is_ascii_whitespace() {
            (None, 1)
        } else if let Some(length) = comment(rest, language) {
            (None, length)
        } else if let Some(length) = literal(rest, language) {
            (Some(Kind::Text), length)
        } else if byte.is_ascii_digit() {
            (Some(Kind::Number), number(rest))
        } else if byte == b'_' || byte.is_ascii_alphabetic() || byte >= 0x80 {
            let length = rest
                .find(|c: char| c != '_' && !c.is_alphanumeric())
                .unwrap_or(rest.len());
            (
                Some(Kind::Word),
                length.max(rest.chars().next().map_or(1, char::len_utf8)),
            )
        } else {
            let sign = SIGNS
                .iter()
                .filter(|sign| !matches!(**sign, "&'" | "b'" | "r#"))
                .find(|sign| rest.starts_with(**sign));
            // `//` is a comment in Rust, and was taken as such above.
            (Some(Kind::Sign), sign.map_or(1, |sign| sign.len()))
        };
        if let Some(kind) = kind {
            tokens.push(Token {
                kind,
                text: &rest[..length],
                start: at,
                line,
            });
        }
        if length > 1 {
            line += rest[..length].matches('\n').count() as u32;
        }
        at += length;
    }
    tokens
}

fn comment(rest: &str, language: Language) -> Option<usize> {
    match language {
        Language::Python if rest.starts_with('#') => Some(rest.find('\n').unwrap_or(rest.len())),
        Language::Rust if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
        Language::Rust if rest.starts_with("/*") => {
            let mut depth = 0;
            let mut at = 0;
            while at < rest.len() {
                if rest[at..].starts_with("/*") {
                    depth += 1;
                    at += 2;
                } else if rest[at..].starts_with("*/") {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return Some(at);
                    }
                } else {
                    at += rest[at..].chars().next().map_or(1, char::len_utf8);
                }
            }
            Some(rest.len())
        }
        _ => None,
    }
}

fn literal(rest: &str, language: Language) -> Option<usize> {
    match language {
        Language::Python => {
            let prefix = rest.find(['"', '\''])?;
            let letters = prefix <= 2
                && rest[..prefix]
                    .chars()
                    .all(|c| matches!(c.to_ascii_lowercase(), 'r' | 'b' | 'f' | 'u'));
            if !letters {
                return None;
            }
            let body = &rest[prefix..];
            let raw = rest[..prefix].to_ascii_lowercase().contains('r');
            let quote = &body[..1];
            let triple = quote.repeat(3);
            let fence = if body.starts_with(&triple) {
                triple.as_str()
            } else {
                quote
            };
            Some(prefix + closed(body, fence, raw))
        }
        Language::Rust => rust_literal(rest),
    }
}

fn rust_literal(rest: &str) -> Option<usize> {
    let skip = usize::from(
        rest.starts_with("b\"")
            || rest.starts_with("b'")
            || rest.starts_with("br")
            || rest.starts_with("c\""),
    );
    let body = &rest[skip..];
    if body.starts_with('"') {
        return Some(skip + closed(body, "\"", false));
    }
    if let Some(hashes) = body
        .strip_prefix('r')
        .map(|raw| raw.len() - raw.trim_start_matches('#').len())
    {
        let open = 1 + hashes;
        if body[open..].starts_with('"') {
            let fence = format!("\"{}", "#".repeat(hashes));
            let end = body[open + 1..]
                .find(&fence)
                .map_or(body.len(), |at| open + 1 + at + fence.len());
            return Some(skip + end);
        }
        return None;
    }
    if let Some(inner) = body.strip_prefix('\'') {
        // A character, or a lifetime.
        let mut chars = inner.char_indices();
        let (_, first) = chars.next()?;
        if first == '\\' {
            let end = body[2..]
                .char_indices()
                .skip(1)
                .find(|(_, c)| *c == '\'')
                .map(|(at, _)| 2 + at + 1)?;
            return Some(skip + end);
        }
        let (after, second) = chars.next()?;
        return (second == '\'').then_some(skip + 1 + after + 1);
    }
    None
}

/// The length of a literal that begins with its fence, with the closing one; to the end when there is none.
fn closed(body: &str, fence: &str, raw: bool) -> usize {
    let mut at = fence.len();
    while at < body.len() {
        if body[at..].starts_with(fence) {
            return at + fence.len();
        }
        let c = body[at..].chars().next().unwrap_or(' ');
        at += c.len_utf8();
        if c == '\\' && !raw {
            at += body[at..].chars().next().map_or(0, char::len_utf8);
        } else if c == '\n' && fence.len() == 1 && fence == "'" {
            return at - 1;
        }
    }
    body.len()
}

fn number(rest: &str) -> usize {
    let mut length = 0;
    let bytes = rest.as_bytes();
    while length < bytes.len() {
        let byte = bytes[length];
        let dot = byte == b'.'
            && bytes.get(length + 1).is_some_and(u8::is_ascii_digit)
            && !rest[..length].contains('.');
        if byte.is_ascii_alphanumeric() || byte == b'_' || dot {
            length += 1;
        } else {
            break;
        }
    }
    length.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, language: Language) -> Vec<&str> {
        lex(text, language)
            .into_iter()
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn python_and_rust_are_split_where_they_should() {
        assert_eq!(
            texts("x //= 1.5 # no\n'a\\'b' f\"c\"", Language::Python),
            ["x", "//=", "1.5", "'a\\'b'", "f\"c\""]
        );
        assert_eq!(
            texts(
                "a..=b /* /* */ */ 'x' 'a: &'a str // c\nr#\"q\"#",
                Language::Rust
            ),
            [
                "a", "..=", "b", "'x'", "'", "a", ":", "&", "'", "a", "str", "r#\"q\"#"
            ]
        );
        assert_eq!(
            texts("\"\"\"a\nb\"\"\" c", Language::Python),
            ["\"\"\"a\nb\"\"\"", "c"]
        );
        assert_eq!(
            lex("a\n\n'''x\n'''\nb", Language::Python)
                .last()
                .map(|token| token.line),
            Some(5)
        );
    }

    #[test]
    fn any_text_is_lexed_and_tokens_are_where_they_say() {
        let odd = "é'\\\"r#\"b'br\"'''\"\"\"/*/**/..=...<<=0x_f1.2.3\u{0}ß\n\\'\\";
        for start in (0..odd.len()).filter(|at| odd.is_char_boundary(*at)) {
            for language in [Language::Rust, Language::Python] {
                let text = &odd[start..];
                for token in lex(text, language) {
                    assert_eq!(&text[token.start..token.end()], token.text);
                }
            }
        }
    }
}
