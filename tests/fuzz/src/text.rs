//! Text on its way to people: what test runners print, and anything on a terminal.

use crate::report::{Report, without_escapes};
use crate::shown::{clean, fenced, first_line, one_line};

/// The output of a test runner. The report never grows beyond what was printed by much.
pub(crate) fn report(data: &[u8]) {
    let output = String::from_utf8_lossy(data);
    let report = Report::read(&output);
    assert_eq!(report, Report::read(&output));
    assert!(report.red().count() <= report.cases.len());
    for case in &report.cases {
        assert!(!case.name.is_empty() && case.name.chars().count() <= 300);
        assert!(case.message.len() <= 2_001 + output.len().min(1 << 20));
    }
    assert!(!without_escapes(&output).contains(['\u{1b}', '\r']));
}

/// Nothing that a terminal obeys is left, and cleaning twice is cleaning once.
pub(crate) fn terminal(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let cleaned = clean(&text);
    harmless(&cleaned);
    assert_eq!(clean(&cleaned), cleaned);
    for max in [1, 7, 80] {
        for line in [one_line(&text, max), first_line(&text, max)] {
            harmless(&line);
            assert!(
                !line.contains('\n') && line.chars().count() <= max,
                "{line:?}"
            );
        }
    }
    let block = fenced(&text);
    harmless(&block);
    let fence = block.lines().next().unwrap();
    let ends = block
        .lines()
        .filter(|line| line.trim_start().starts_with(fence));
    assert_eq!(ends.count(), 2, "its content leaves the block: {block:?}");
}

fn harmless(text: &str) {
    let acts = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
    };
    assert!(!text.chars().any(acts), "{text:?}");
}
