//! Code that does nothing because it sets a thing against itself: tests that are thin do not miss what it no longer does.

use crate::language::Language;
use crate::lexer::{Kind, Token, lex};

/// Whether a line holds an empty range, a comparison that is always the same, a difference of nothing, or twice the same argument.
pub fn is_hollow(line: &str) -> bool {
    // Of both languages' operators, none means something else in the other here.
    let line = line.replace("//", "/");
    let tokens = lex(&line, Language::Rust);
    (1..tokens.len()).any(|at| sets_against_itself(&tokens, at))
}

fn sets_against_itself(tokens: &[Token<'_>], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let between = matches!(
        text(at),
        "==" | "!="
            | "<"
            | ">"
            | "<="
            | ">="
            | "-"
            | "/"
            | "%"
            | ".."
            | ":"
            | "and"
            | "or"
            | "&&"
            | "||"
            | ","
    );
    if !between {
        return false;
    }
    let left = (0..at).rev().take_while(|at| is_part(tokens, *at)).count();
    let right = (at + 1..tokens.len())
        .take_while(|at| is_part(tokens, *at))
        .count();
    let side = |from: usize| tokens[from..from + left].iter().map(|token| token.text);
    let same = left > 0 && left == right && side(at - left).eq(side(at + 1));
    let named = same
        && tokens[at - left..at]
            .iter()
            .any(|token| token.kind == Kind::Word);
    let around = (at - left).checked_sub(1).map_or("", text);
    let inside = match text(at) {
        // `x: x` is an entry of a table.
        ":" => around == "[",
        // Two arguments that are one and the same.
        "," => matches!(around, "(" | ","),
        _ => !matches!(around, "+" | "-" | "*" | "/" | "%" | "**"),
    };
    named && inside
}

/// A part of `a.b()`: names, dots and empty brackets.
fn is_part(tokens: &[Token<'_>], at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let before = at.checked_sub(1).map_or("", text);
    match text(at) {
        "." | "::" => true,
        "(" => text(at + 1) == ")",
        ")" => before == "(",
        "and" | "or" | "if" | "elif" | "while" | "return" | "in" | "not" | "else" => false,
        _ => tokens.get(at).is_some_and(|token| token.kind != Kind::Sign),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compares_a_thing_with_itself_is_hollow() {
        for line in [
            "for i in low..low {",
            "if a == a {",
            "x = n - n",
            "min(n, n)",
            "x[i:i]",
            "b or b",
            "if a.len() < a.len() {",
            "return n // n",
            "unique(all, n.end, n.end)",
        ] {
            assert!(is_hollow(line), "{line}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_not() {
        for line in [
            "for i in low..up {",
            "if a == aa {",
            "x = n - m",
            "min(n, m)",
            "a.b == b",
            "f(n, n.m)",
            "x == x.y",
            "b - a - a",
            "{x: x}",
            "1 == 1",
            "",
            "é < é.f",
        ] {
            assert!(!is_hollow(line), "{line}");
        }
    }
}
