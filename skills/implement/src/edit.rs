//! Exact replacement in a text, with errors that tell a model what to do about them.

use std::collections::BTreeSet;

use crate::clip;

/// Lines shown as near misses.
const NEAR_MAX: usize = 3;

/// Replaces the one place where `old` stands. Where the whole text has CRLF line ends and `old` has none, both get them.
///
/// # Errors
/// Why not, with how often it matches, where, or what comes near.
pub fn replace(text: &str, old: &str, new: &str) -> Result<String, String> {
    if old.is_empty() {
        return Err("`old` is empty: give the text to replace, or use write_file".into());
    }
    if old == new {
        return Err("`old` and `new` are the same: that changes nothing".into());
    }
    let (old, new) = if has_crlf(text) && !old.contains('\r') {
        (crlf(old), crlf(new))
    } else {
        (old.to_owned(), new.to_owned())
    };
    let mut places = starts(text, &old);
    let Some(at) = places.next() else {
        return Err(format!(
            "`old` does not stand in the file, so nothing was changed.{}",
            near(text, &old)
        ));
    };
    let more: Vec<usize> = places.collect();
    if !more.is_empty() {
        let lines: Vec<String> = std::iter::once(at)
            .chain(more.iter().copied())
            .take(10)
            .map(|at| line_of(text, at).to_string())
            .collect();
        return Err(format!(
            "`old` matches {} times, at lines {}, so nothing was changed: give more of the text around it, until it matches once",
            more.len() + 1,
            lines.join(", ")
        ));
    }
    Ok(format!("{}{new}{}", &text[..at], &text[at + old.len()..]))
}

/// A text that takes the place of an existing one keeps its line ends.
pub fn like(existing: &str, text: &str) -> String {
    if has_crlf(existing) && !text.contains('\r') {
        crlf(text)
    } else {
        text.to_owned()
    }
}

/// Whether every line of a text ends in CRLF.
pub fn has_crlf(text: &str) -> bool {
    let breaks = text.matches('\n').count();
    breaks > 0 && text.matches("\r\n").count() == breaks
}

fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// Where a text begins to match, overlapping matches too: two that overlap are as ambiguous as two that do not.
fn starts<'a>(text: &'a str, old: &'a str) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + text.get(from..)?.find(old)?;
        from = at + text[at..].chars().next().map_or(1, char::len_utf8);
        Some(at)
    })
}

/// From 1.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Lines that come near the first of `old` that says something.
fn near(text: &str, old: &str) -> String {
    let wanted = old.lines().map(str::trim).find(|line| !line.is_empty());
    let Some(wanted) = wanted else {
        return " It is white space only; the file has other white space.".into();
    };
    let words = words(wanted);
    let mut scored: Vec<(usize, usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (likeness(line.trim(), wanted, &words), at + 1, line))
        .filter(|(score, _, _)| *score >= 50)
        .collect();
    scored.sort_by_key(|(score, at, _)| (usize::MAX - score, *at));
    if scored.is_empty() {
        return " No line comes near its first; read the file again.".into();
    }
    let same = scored.iter().any(|(score, _, _)| *score == 100);
    let mut told = String::from(if same {
        " Its first line stands there, but white space or the lines after it differ:"
    } else {
        " These lines come near its first:"
    });
    for (_, at, line) in scored.into_iter().take(NEAR_MAX) {
        told.push_str(&format!("\n{at}\t{}", clip::line(line, 200)));
    }
    told
}

fn words(line: &str) -> BTreeSet<&str> {
    line.split(|c: char| c != '_' && !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect()
}

/// From 0 to 100: the words that two lines share.
fn likeness(line: &str, wanted: &str, wanted_words: &BTreeSet<&str>) -> usize {
    if line == wanted {
        return 100;
    }
    let own = words(line);
    let most = own.len().max(wanted_words.len());
    match own.intersection(wanted_words).count() {
        0 => 0,
        shared => (shared * 99) / most,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_match_is_replaced_and_all_else_is_told() {
        let text = "fn a() {\n    one();\n}\nfn b() {\n    one();\n    two(x, y);\n}\n";
        assert_eq!(
            replace(text, "two(x, y)", "two(y, x)").unwrap(),
            text.replace("two(x, y)", "two(y, x)")
        );
        let twice = replace(text, "one();", "three();").unwrap_err();
        assert!(twice.contains("2 times, at lines 2, 5"), "{twice}");
        let near = replace(text, "two(x, z)", "").unwrap_err();
        assert!(near.contains("\n6\t    two(x, y);"), "{near}");
        let space = replace(text, "  fn b() {\n  one();", "").unwrap_err();
        assert!(
            space.contains("white space") && space.contains("\n4\t"),
            "{space}"
        );
        assert!(replace(text, "", "x").is_err() && replace(text, "one", "one").is_err());
        assert!(replace("aaa", "aa", "b").unwrap_err().contains("2 times"));
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        assert_eq!(
            replace("a\r\nb\r\nc\r\n", "a\nb", "x\ny").unwrap(),
            "x\r\ny\r\nc\r\n"
        );
        assert!(
            replace("a\r\nb\n", "a\nb", "x").is_err(),
            "mixed ends are not guessed at"
        );
        assert_eq!(like("a\r\n", "b\nc\n"), "b\r\nc\r\n");
        assert_eq!(like("a\n", "b\n"), "b\n");
    }

    proptest! {
        #[test]
        fn only_the_one_place_changes(before in "[ab\n]{0,20}", after in "[ab\n]{0,20}", old in "[c-e]{1,5}", new in "[ab\n]{0,9}") {
            let text = format!("{before}{old}{after}");
            prop_assert_eq!(replace(&text, &old, &new), Ok(format!("{before}{new}{after}")));
            let twice = format!("{text}{old}");
            prop_assert!(replace(&twice, &old, &new).is_err());
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}", old in "\\PC{0,6}", new in "\\PC{0,6}") {
            let _ = replace(&text, &old, &new);
        }
    }
}
