//! A page in a terminal: wrapped, indented, and coloured where colours are wanted.

use super::{Item, Page, Section, Tone};
use crate::show::text::{clean, lines, one_line};

/// What the terminal is like.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Its columns.
    pub width: usize,
    /// Whether it takes colours.
    pub colour: bool,
}

impl Look {
    /// The terminal that standard output goes to; a pipe has 100 columns unless `COLUMNS` says otherwise, and no colours.
    pub fn of_stdout() -> Look {
        let stdout = std::io::stdout();
        let is_terminal = std::io::IsTerminal::is_terminal(&stdout);
        let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
        let size = rustix::termios::tcgetwinsize(&stdout).ok();
        let width = match size {
            Some(size) if is_terminal && size.ws_col > 0 => usize::from(size.ws_col),
            _ => columns().unwrap_or(100),
        };
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Look {
            width: width.clamp(40, 120),
            colour: is_terminal && wanted,
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn tone(self, tone: Tone, text: &str) -> String {
        match tone {
            Tone::Plain => text.to_owned(),
            Tone::Good => self.paint("32", text),
            Tone::Moderate => self.paint("33", text),
            Tone::High => self.paint("1;31", text),
        }
    }
}

/// Room for a label before its item.
const LABEL: usize = 12;

pub(super) fn write(page: &Page, look: Look) -> String {
    let mut out = String::new();
    line(&mut out, &look.paint("1", &one_line(&page.title, 200)));
    for about in &page.about {
        wrapped(&mut out, look, 0, "", about);
    }
    out.push('\n');
    verdict(&mut out, look, &page.verdict);
    for one in &page.sections {
        section(&mut out, look, one);
    }
    out
}

fn verdict(out: &mut String, look: Look, verdict: &Item) {
    let label = format!("{}: ", one_line(&verdict.label, 40));
    let text = format!("{label}{}", verdict.text);
    let mut lines = lines(&one_line(&text, 2000), look.width).into_iter();
    let first = lines.next().unwrap_or_default();
    match first.strip_prefix(&label) {
        Some(rest) => line(out, &format!("{}{rest}", look.tone(verdict.tone, &label))),
        None => line(out, &first),
    }
    lines.for_each(|rest| line(out, &rest));
}

fn section(out: &mut String, look: Look, section: &Section) {
    out.push('\n');
    line(out, &look.paint("1", &one_line(&section.heading, 200)));
    if !section.intro.is_empty() {
        wrapped(out, look, 2, "", &section.intro);
    }
    for one in &section.items {
        item(out, look, 2, one);
    }
    for text in clean(&section.code).lines() {
        line(out, format!("  {text}").trim_end());
    }
}

fn item(out: &mut String, look: Look, indent: usize, item: &Item) {
    let label = one_line(&item.label, 20);
    let (label, deeper) = if label.is_empty() {
        (String::from("- "), indent + 2)
    } else {
        (format!("{label:<LABEL$}"), indent + LABEL)
    };
    let painted = look.tone(item.tone, &label);
    let first = format!("{}{painted}", " ".repeat(indent));
    wrapped(out, look, deeper, &first, &item.text);
    for (label, text) in &item.notes {
        wrapped(out, look, deeper, "", &format!("{label}: {text}"));
    }
}

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push('\n');
}

/// Writes words at an indent, `first` taking the indent's place on the first line.
fn wrapped(out: &mut String, look: Look, indent: usize, first: &str, text: &str) {
    let room = look.width.saturating_sub(indent).max(20);
    let margin = " ".repeat(indent);
    for (at, text) in lines(&one_line(text, 2000), room).iter().enumerate() {
        let before = if at == 0 && !first.is_empty() {
            first
        } else {
            &margin
        };
        line(out, format!("{before}{text}").trim_end());
    }
}
