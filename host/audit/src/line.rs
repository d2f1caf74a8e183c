//! The form of a line: a JSON object in printable ASCII that ends with its own hash.

use std::fmt::Write as _;

use flow::id::Digest;
use serde::Deserialize;

use crate::TrailError;
use crate::entry::Recorded;

/// A whole line at most; entries are bounded far below.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Between a line's content and its end.
const HASH: &str = ",\"hash\":\"";
const END: &str = "\"}";
const DIGEST_BYTES: usize = "sha256:".len() + 64;
const SUFFIX_BYTES: usize = HASH.len() + DIGEST_BYTES + END.len();

/// The hash before the first line.
pub(crate) fn genesis() -> Digest {
    format!("sha256:{}", "0".repeat(64))
        .parse()
        .unwrap_or_else(|_| Digest::of(b""))
}

/// The line of an entry, with the line break, and its hash.
pub(crate) fn written(recorded: &Recorded) -> Result<(Vec<u8>, Digest), TrailError> {
    // Entries hold text, numbers and lists: they always have a JSON form.
    let json = serde_json::to_string(recorded).unwrap_or_default();
    let plain = ascii(&json);
    if plain.len() > LINE_BYTES_MAX {
        return Err(TrailError::TooLarge { bytes: plain.len() });
    }
    let hash = Digest::of(plain.as_bytes());
    let content = plain.strip_suffix('}').unwrap_or(&plain);
    let line = format!("{content}{HASH}{hash}{END}\n");
    Ok((line.into_bytes(), hash))
}

/// Escapes what a terminal or a reader could take for something else. Outside of strings JSON has nothing but ASCII.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// What the chain needs of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) previous: Digest,
    pub(crate) hash: Digest,
}

#[derive(Deserialize)]
struct Ends {
    number: u64,
    previous: Digest,
}

/// Reads a line, given without its line break, if it is one and its hash is that of its text.
pub(crate) fn link(line: &[u8]) -> Option<Link> {
    let text = std::str::from_utf8(line).ok()?;
    let at = text.len().checked_sub(SUFFIX_BYTES)?;
    let (content, suffix) = (text.get(..at)?, text.get(at..)?);
    let hash: Digest = suffix.strip_prefix(HASH)?.strip_suffix(END)?.parse().ok()?;
    let whole = format!("{content}}}");
    if Digest::of(whole.as_bytes()) != hash {
        return None;
    }
    let ends: Ends = serde_json::from_str(&whole).ok()?;
    Some(Link {
        number: ends.number,
        previous: ends.previous,
        hash,
    })
}

/// Reads an entry of a line.
pub(crate) fn entry(line: &[u8]) -> Option<Recorded> {
    serde_json::from_slice(line).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::entry::{Decided, Decision, Entry};

    fn recorded(by: &str) -> Recorded {
        Recorded {
            number: 7,
            at_ms: 1,
            moat: "0".into(),
            entry: Entry::Decision(Decision {
                by: by.into(),
                run: None,
                decided: Decided::Resume,
            }),
            previous: genesis(),
        }
    }

    #[test]
    fn a_line_is_printable_ascii_and_is_read_as_it_was_meant() {
        let hostile = "a\n\"}\u{1b}[2J\u{7f}\u{9b}\u{202e}é😀\0";
        let (line, hash) = written(&recorded(hostile)).unwrap();
        let (end, text) = line.split_last().unwrap();
        assert_eq!(*end, b'\n');
        assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)));
        assert_eq!(entry(text).unwrap(), recorded(hostile));
        assert_eq!(
            link(text),
            Some(Link {
                number: 7,
                previous: genesis(),
                hash
            })
        );
    }

    #[test]
    fn no_changed_byte_goes_unseen() {
        let (line, _) = written(&recorded("me")).unwrap();
        let text = &line[..line.len() - 1];
        for at in 0..text.len() {
            let mut changed = text.to_vec();
            changed[at] ^= 1;
            assert_eq!(link(&changed), None, "byte {at}");
        }
    }
}
