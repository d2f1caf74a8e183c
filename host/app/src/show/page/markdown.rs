//! A page as Markdown, in which nothing of a stranger's is markup, a link, an image or a mention.

use std::fmt::Write as _;

use super::{Item, Page, Section, parts};
use crate::show::text::{fenced, one_line};

pub(super) fn write(page: &Page) -> String {
    // Writing to a String does not fail.
    let mut out = String::new();
    let _ = writeln!(out, "# {}\n", sentence(&page.title));
    for about in &page.about {
        let _ = writeln!(out, "{}\n", sentence(about));
    }
    let verdict = &page.verdict;
    let _ = writeln!(
        out,
        "**{}:** {}\n",
        words(&verdict.label),
        sentence(&verdict.text)
    );
    page.sections.iter().for_each(|one| section(&mut out, one));
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    out
}

fn section(out: &mut String, section: &Section) {
    let _ = writeln!(out, "## {}\n", sentence(&section.heading));
    if !section.intro.is_empty() {
        let _ = writeln!(out, "{}\n", sentence(&section.intro));
    }
    section.items.iter().for_each(|one| item(out, one));
    if !section.items.is_empty() {
        out.push('\n');
    }
    if !section.code.is_empty() {
        let _ = writeln!(out, "{}\n", fenced(&section.code));
    }
}

fn item(out: &mut String, item: &Item) {
    let label = match words(&item.label) {
        label if label.is_empty() => label,
        label => format!("**{label}** "),
    };
    let _ = writeln!(out, "- {label}{}", sentence(&item.text));
    for (label, text) in &item.notes {
        let _ = writeln!(out, "  - {label}: {}", sentence(text));
    }
}

/// One line of words and code.
fn sentence(text: &str) -> String {
    let text = one_line(text, 2000);
    let mut out = String::new();
    for (at, part) in parts(&text).into_iter().enumerate() {
        if at % 2 == 0 {
            out.push_str(&escaped(part, at == 0));
        } else if !part.is_empty() {
            // It has no backtick in it, so one around it holds it.
            let _ = write!(out, "`{part}`");
        }
    }
    out
}

fn words(text: &str) -> String {
    escaped(text, true)
}

/// Words in which nothing is markup. Entities end autolinks and mentions, which a backslash would leave.
fn escaped(text: &str, begins: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let start = text.trim_start();
    let number = start.len() - start.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    for (at, c) in text.char_indices() {
        let in_start = begins && at <= text.len() - start.len() + number;
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '$' => {
                out.push('\\');
                out.push(c);
            }
            // Block markup counts at the start only.
            '#' | '-' | '+' | '=' | '.' | ')' if in_start => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '#' => out.push_str("&#35;"),
            ':' if text[at..].starts_with("://") => out.push_str("&#58;"),
            '.' if text[..at].to_ascii_lowercase().ends_with("www") => out.push_str("&#46;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_strangers_is_markup() {
        for (text, shown) in [
            ("<b>x</b> & y", "&lt;b&gt;x&lt;/b&gt; &amp; y"),
            (
                "[a](http://b) ![c](d)",
                "\\[a\\](http&#58;//b) \\!\\[c\\](d)",
            ),
            ("- x", "\\- x"),
            ("12. x", "12\\. x"),
            ("# x #1", "\\# x &#35;1"),
            ("www.b.c @me", "www&#46;b.c &#64;me"),
            ("a `b<i>` c", "a `b<i>` c"),
            ("a `b`. c", "a `b`. c"),
            ("a ` b", "a \\` b"),
            ("a\n# b", "a &#35; b"),
        ] {
            assert_eq!(sentence(text), shown);
        }
    }
}
