//! A page as HTML: one file that loads nothing and runs nothing.

use std::fmt::Write as _;

use super::{Item, Page, Section, Tone, parts};
use crate::show::text::{clean, one_line};

/// Nothing but the page's own style; no script, image, frame, form or base.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2024;--soft:#5c646d;--line:#d9dde1;--paper:#fff;--code:#f2f4f6;--good:#1a7f4b;--moderate:#8a5a00;--high:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa3ac;--line:#343a40;--paper:#16191c;--code:#22272c;--good:#5cc88f;--moderate:#e0b050;--high:#ff8a80}}
body{margin:0 auto;max-width:52rem;padding:2rem 1.25rem 4rem;background:var(--paper);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line);padding-bottom:.25rem}
p{margin:.25rem 0}.about{color:var(--soft)}.verdict{margin:1.25rem 0;padding:.75rem 1rem;border-left:.3rem solid var(--line);background:var(--code)}
ul{list-style:none;margin:.5rem 0;padding:0}li{margin:.6rem 0}dl{display:grid;grid-template-columns:max-content 1fr;gap:0 .75rem;margin:.25rem 0 0;padding-left:.75rem;border-left:2px solid var(--line);color:var(--soft);font-size:.92rem}dt,dd{margin:0}dt::after{content:':'}
code,pre{font-family:ui-monospace,monospace;font-size:.9em;background:var(--code);border-radius:.2rem}code{padding:.05rem .25rem;-webkit-box-decoration-break:clone;box-decoration-break:clone}.verdict code{background:var(--paper)}pre{padding:.75rem 1rem;overflow-x:auto}
b{font-weight:600;margin-right:.4rem}.good b{color:var(--good)}.moderate b{color:var(--moderate)}.high b{color:var(--high)}.verdict.good{border-color:var(--good)}.verdict.moderate{border-color:var(--moderate)}.verdict.high{border-color:var(--high)}
@media(max-width:30rem){body{padding:1.25rem 1rem 3rem}dl{display:block}dt{float:left;clear:left;margin-right:.5rem}}";

pub(super) fn write(page: &Page) -> String {
    // Writing to a String does not fail.
    let mut out = String::new();
    let title = escaped(&one_line(&page.title, 200));
    let _ = writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>"
    );
    for about in &page.about {
        let _ = writeln!(out, "<p class=\"about\">{}</p>", sentence(about));
    }
    let verdict = &page.verdict;
    let _ = writeln!(
        out,
        "<p class=\"verdict {}\"><b>{}:</b>{}</p>",
        class(verdict.tone),
        sentence(&verdict.label),
        sentence(&verdict.text)
    );
    page.sections.iter().for_each(|one| section(&mut out, one));
    out.push_str("</body>\n</html>\n");
    out
}

fn section(out: &mut String, section: &Section) {
    let _ = writeln!(out, "<h2>{}</h2>", sentence(&section.heading));
    if !section.intro.is_empty() {
        let _ = writeln!(out, "<p>{}</p>", sentence(&section.intro));
    }
    if !section.items.is_empty() {
        out.push_str("<ul>\n");
        section.items.iter().for_each(|one| item(out, one));
        out.push_str("</ul>\n");
    }
    if !section.code.is_empty() {
        let _ = writeln!(out, "<pre>{}</pre>", escaped(&clean(&section.code)));
    }
}

fn item(out: &mut String, item: &Item) {
    let label = match sentence(&item.label) {
        label if label.is_empty() => label,
        label => format!("<b>{label}</b>"),
    };
    let _ = write!(
        out,
        "<li class=\"{}\">{label}{}",
        class(item.tone),
        sentence(&item.text)
    );
    if !item.notes.is_empty() {
        out.push_str("<dl>");
        for (label, text) in &item.notes {
            let _ = write!(out, "<dt>{label}</dt><dd>{}</dd>", sentence(text));
        }
        out.push_str("</dl>");
    }
    out.push_str("</li>\n");
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Moderate => "moderate",
        Tone::High => "high",
    }
}

/// One line of words and code.
fn sentence(text: &str) -> String {
    let text = one_line(text, 2000);
    let mut out = String::new();
    for (at, part) in parts(&text).into_iter().enumerate() {
        if at % 2 == 0 {
            out.push_str(&escaped(part));
        } else {
            let _ = write!(out, "<code>{}</code>", escaped(part));
        }
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
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
        assert_eq!(
            sentence("<script>`<img src=x onerror=\"a\">` '&"),
            "&lt;script&gt;<code>&lt;img src=x onerror=&quot;a&quot;&gt;</code> &#39;&amp;"
        );
        assert_eq!(sentence("` </code><b>"), "` &lt;/code&gt;&lt;b&gt;");
    }
}
