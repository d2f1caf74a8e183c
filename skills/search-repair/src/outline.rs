//! The outline of a file: its functions, what they belong to, and which of them are tests.

use crate::language::Language;
use crate::lexer::{Kind, Token, lex};
use crate::localise::Region;

/// The functions of a file; an inner one lies within an outer one.
pub fn functions(path: &str, text: &str, language: Language) -> Vec<Region> {
    let tokens = lex(text, language);
    let keyword = if language == Language::Rust {
        "fn"
    } else {
        "def"
    };
    let owners = owners(text, &tokens, language);
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        if pair[0].text == keyword && pair[1].kind == Kind::Word {
            let last = match language {
                Language::Rust => end_of_braces(&tokens[at..]),
                Language::Python => end_of_indent(text, pair[0].line),
            };
            let owner = owners
                .iter()
                .rfind(|(_, first, end)| *first <= pair[0].line && last <= *end)
                .map_or(String::new(), |(name, _, _)| name.clone());
            found.push(Region {
                path: path.into(),
                name: pair[1].text.into(),
                owner,
                first: pair[0].line,
                last,
                score: 0.0,
            });
        }
    }
    found
}

/// Classes, or the types of `impl` blocks, with their first and last lines.
fn owners(text: &str, tokens: &[Token<'_>], language: Language) -> Vec<(String, u32, u32)> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let named = match (language, token.text) {
            (Language::Python, "class") => tokens
                .get(at + 1)
                .map(|name| (name.text, end_of_indent(text, token.line))),
            // `impl` stands in signatures too: there, no type follows that has a block of its own.
            (Language::Rust, "impl") => {
                implemented(&tokens[at + 1..]).map(|name| (name, end_of_braces(&tokens[at..])))
            }
            _ => None,
        };
        if let Some((name, last)) = named {
            found.push((name.to_owned(), token.line, last));
        }
    }
    found
}

/// `<T> Trait<T> for Type<T> {` names `Type`; without `for`, the first name outside of brackets.
fn implemented<'a>(tokens: &[Token<'a>]) -> Option<&'a str> {
    let mut depth = 0i32;
    let mut name = None;
    for token in tokens.iter().take(80) {
        match token.text {
            "<" => depth += 1,
            ">" => depth -= 1,
            ">>" => depth -= 2,
            "{" | "where" => return name,
            ")" | ";" => return None,
            "for" if depth == 0 => name = None,
            "dyn" | "mut" => {}
            // The last part of a path is its name.
            text if depth == 0 && token.kind == Kind::Word => name = Some(text),
            _ => {}
        }
    }
    None
}

fn end_of_braces(tokens: &[Token<'_>]) -> u32 {
    let mut depth = 0i32;
    for token in tokens {
        match token.text {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return token.line;
                }
            }
            ";" if depth == 0 => return token.line,
            _ => {}
        }
    }
    tokens.last().map_or(0, |token| token.line)
}

fn end_of_indent(text: &str, first: u32) -> u32 {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = lines.get(first as usize - 1).map_or(0, |line| indent(line));
    let mut last = first;
    let mut in_signature = true;
    for (at, line) in lines.iter().enumerate().skip(first as usize) {
        if in_signature
            && lines[..at]
                .last()
                .is_some_and(|before| before.trim_end().ends_with(':'))
        {
            in_signature = false;
        }
        if !line.trim().is_empty()
            && indent(line) <= own
            && !in_signature
            && !line.trim_start().starts_with(['#', ')', ']', '"', '\''])
        {
            break;
        }
        if !line.trim().is_empty() {
            last = at as u32 + 1;
        }
    }
    last
}

/// Rust tests live in the file they test, behind `#[cfg(test)]`.
pub fn in_test_module(text: &str, region: &Region, language: Language) -> bool {
    if language != Language::Rust {
        return false;
    }
    let lines: Vec<&str> = text.lines().collect();
    let above = region.first as usize;
    let marked = lines[..above.saturating_sub(1).min(lines.len())]
        .iter()
        .rev()
        .take(4)
        .take_while(|line| !line.trim().ends_with('}'));
    let own = marked.into_iter().any(|line| {
        line.contains("#[test]") || line.contains("::test]") || line.contains("#[rstest")
    });
    own || lines
        .iter()
        .position(|line| line.contains("#[cfg(test)]"))
        .is_some_and(|at| above > at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_know_the_type_they_belong_to() {
        let text = "impl<T: Clone> Extend<T> for my::Small<T> where T: Copy {\n    fn extend(&mut self) {\n    }\n}\nfn free(x: impl Fn() -> u8) {\n}\nimpl Small<u8> {\n    fn two() {}\n}\n";
        let owners: Vec<_> = functions("a.rs", text, Language::Rust)
            .into_iter()
            .map(|one| (one.name, one.owner))
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(
            owners,
            [
                pair("extend", "Small"),
                pair("free", ""),
                pair("two", "Small")
            ]
        );
    }
}
