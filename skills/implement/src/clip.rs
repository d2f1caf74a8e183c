//! Cuts long texts at their end or in their middle, at characters, and says what is missing.

/// The beginning of a text, at most `bytes_max`, with what was cut stated.
pub fn head(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{}\n[cut: {} more bytes]", &text[..end], text.len() - end)
}

/// Beginning and end of a text, at most `bytes_max` in all: of a command's output both matter, the end more.
pub fn middle(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let first = text.floor_char_boundary(bytes_max / 3);
    let last = text.ceil_char_boundary(text.len() - (bytes_max - bytes_max / 3));
    let left_out = last - first;
    format!(
        "{}\n[cut: {left_out} bytes left out here]\n{}",
        &text[..first],
        &text[last..]
    )
}

/// One line, at most `chars_max`, without control characters.
pub fn line(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut out: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

/// What a model says of its work, for people and commits: no control characters but line breaks, at most `bytes_max`.
pub fn words(text: &str, bytes_max: usize) -> String {
    let clean: String = text
        .trim()
        .chars()
        .filter(|c| *c == '\n' || !c.is_control())
        .collect();
    head(&clean, bytes_max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn cuts_keep_to_their_size_and_lose_nothing_that_fits(text in "\\PC{0,200}", max in 0usize..150) {
            for cut in [head(&text, max), middle(&text, max)] {
                // The note itself has at most 40 bytes and two line breaks.
                prop_assert!(cut.len() <= max + 42, "{cut}");
                prop_assert!(text.len() > max || cut == text);
            }
            let cut = middle(&text, max);
            if text.len() > max {
                let (first, rest) = cut.split_once("\n[cut: ").unwrap_or_default();
                let last = rest.split_once("here]\n").map_or("", |(_, last)| last);
                prop_assert!(text.starts_with(first) && text.ends_with(last));
            }
        }
    }

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(line("a\x1b[2J\nb", 10), "a [2J b");
        assert_eq!(words(" done\x07\n\x1b]0;x ", 100), "done\n]0;x");
    }
}
