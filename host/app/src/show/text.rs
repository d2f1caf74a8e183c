//! Untrusted text on its way to a terminal: nothing in it may act.

use capability::config::hides;
use flow::event::Usage;

/// Takes out what a terminal would obey or what would mislead a reader, and keeps line breaks and tabs.
///
/// C0 and C1 controls (with them every escape sequence's introducer), bidirectional controls (Trojan Source, CVE-2021-42574)
/// and zero-width characters become visible as `\u{..}`.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {}
            c if hides(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// The same on one line, cut at `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let joined = clean(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if joined.chars().count() <= max {
        return joined;
    }
    let mut cut: String = joined.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The first line that says something, cut as above: what a longer text is about.
pub fn first_line(text: &str, max: usize) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty());
    one_line(line.unwrap_or(""), max)
}

/// A Markdown code block that its content cannot leave.
pub fn fenced(text: &str) -> String {
    let text = clean(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{}\n{fence}", text.trim_end())
}

/// JSON in which every character that a terminal would obey is escaped; programs read the same.
pub fn json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(inert(&serde_json::to_string(value)?))
}

/// The same over several lines, for people.
pub fn json_lines(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(inert(&serde_json::to_string_pretty(value)?))
}

fn inert(json: &str) -> String {
    let mut out = String::new();
    // What JSON itself is made of is none of these, line breaks apart, so they stand in its strings only.
    for c in json.chars() {
        if hides(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// What calls of a skill used, on one line.
pub fn usage(usage: &Usage) -> String {
    let calls: Vec<String> = usage
        .host_calls
        .iter()
        .filter(|(name, _)| !name.starts_with("moat:host/progress."))
        .map(|(name, times)| {
            let name = name.strip_prefix("moat:host/").unwrap_or(name);
            format!("{} {times}×", one_line(name, 60))
        })
        .collect();
    let calls = match calls.as_slice() {
        [] => "no host call".to_owned(),
        calls => calls.join(", "),
    };
    format!(
        "{calls}; {:.1} MiB of memory at most, {} million units of work",
        usage.peak_memory_bytes as f64 / f64::from(1 << 20),
        usage.fuel.div_ceil(1_000_000)
    )
}

/// A span of time for people: `850 ms`, `12.3 s`, `4 min 05 s`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// Breaks at spaces; a word that is longer than the room is broken.
pub fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(String::new());
            used = 0;
        }
        if used > 0 {
            push(&mut lines, ' ');
            used += 1;
        }
        for c in word.chars() {
            if used == room {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, c);
            used += 1;
        }
    }
    lines
}

fn push(lines: &mut [String], c: char) {
    if let Some(last) = lines.last_mut() {
        last.push(c);
    }
}

/// How long something lasts, in at most six characters: `45s`, `12m`, `3h05m`, `4d`.
pub fn until(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m"),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_stands_for_a_longer_text() {
        assert_eq!(
            first_line("\n  none of 7 edits\n\nRed:\n  a", 80),
            "none of 7 edits"
        );
        assert_eq!(first_line("", 80), "");
    }

    #[test]
    fn terminal_escapes_and_hidden_characters_become_visible() {
        for hostile in [
            "\u{1b}]52;c;aGk=\u{7}",
            "\u{9b}31m",
            "a\u{202e}b",
            "x\u{200b}y",
            "\u{8}\u{8}",
            "\0",
        ] {
            let shown = clean(hostile);
            assert!(!shown.chars().any(hides), "{shown:?}");
        }
        assert_eq!(clean("a\n\tb\r\n"), "a\n\tb\n");
    }

    #[test]
    fn json_shows_what_it_hides_and_means_the_same() {
        for hostile in ["\u{1b}[2J", "\u{9b}31m", "a\u{202e}b", "\u{e0041}", "é\n"] {
            let shown = json(&hostile).unwrap_or_default();
            assert!(!shown.chars().any(hides), "{shown:?}");
            assert_eq!(
                serde_json::from_str::<String>(&shown).ok().as_deref(),
                Some(hostile)
            );
        }
    }

    #[test]
    fn a_code_block_holds_its_content() {
        assert_eq!(fenced("``` ````\n"), "`````\n``` ````\n`````");
    }

    #[test]
    fn words_are_kept_whole_where_they_fit() {
        assert_eq!(lines("one two three", 8), ["one two", "three"]);
        assert_eq!(lines("abcdefghij k", 4), ["abcd", "efgh", "ij k"]);
        assert_eq!(lines("", 4), [""]);
    }

    #[test]
    fn ages_are_shorter() {
        let of = |seconds: u64| until(seconds * 1000);
        assert_eq!(
            [of(0), of(59), of(61), of(3_900), of(86_400 * 400)],
            ["0s", "59s", "1m", "1h05m", "400d"]
        );
    }

    #[test]
    fn spans_are_short() {
        assert_eq!(
            [span(9), span(1234), span(65_000)],
            ["9 ms", "1.2 s", "1 min 05 s"]
        );
    }
}
