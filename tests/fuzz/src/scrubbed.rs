//! Answers that may repeat a secret: found however they are cut, by whoever reads them, and nothing else is changed.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::scrub::{Needles, Scrubber};
use crate::secret::Secret;

/// Short, so that the fuzzer puts it together; with characters that every encoding spells otherwise.
const SECRET: &str = "s3c/\"+&<";

static NEEDLES: LazyLock<Arc<Needles>> =
    LazyLock::new(|| Arc::new(Needles::new([&Secret::of(SECRET)])));

/// The first byte says how long the pieces are; the rest is the answer.
pub(crate) fn scrubbed(data: &[u8]) {
    let Some((piece, answer)) = data.split_first() else {
        return;
    };
    let (whole, found) = pass(&[answer]);
    let pieces: Vec<&[u8]> = answer.chunks(usize::from(*piece).max(1)).collect();
    let (passed, found_in_pieces) = pass(&pieces);
    assert_eq!(found, found_in_pieces, "pieces matter");
    assert_eq!(found, NEEDLES.are_in(answer), "as a request");
    for passed in [&whole, &passed] {
        assert!(answer.starts_with(passed), "it was changed");
        assert!(found || passed.len() == answer.len(), "it was cut");
        assert!(!holds(passed), "a secret passed");
    }
    assert!(found || !holds(answer), "another reader finds one");
    let (whole, replaced) = (replace(&[answer]), replace(&pieces));
    assert_eq!(whole, replaced, "pieces matter to what is put in place");
    assert!(found || whole == answer, "it was changed");
    assert!(!holds(&whole), "a secret passed");
}

/// What is passed on with secrets taken out.
fn replace(pieces: &[&[u8]]) -> Vec<u8> {
    let mut scrubber = Scrubber::new(Arc::clone(&NEEDLES));
    let mut passed = Vec::new();
    for piece in pieces {
        passed.extend_from_slice(&scrubber.replace(Bytes::copy_from_slice(piece)));
    }
    passed.extend_from_slice(&scrubber.finish());
    passed
}

/// What is passed on, and whether a secret ended it.
fn pass(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut scrubber = Scrubber::new(Arc::clone(&NEEDLES));
    let mut passed = Vec::new();
    for piece in pieces {
        match scrubber.pass(Bytes::copy_from_slice(piece)) {
            Ok(bytes) => passed.extend_from_slice(&bytes),
            Err(_) => return (passed, true),
        }
    }
    passed.extend_from_slice(&scrubber.finish());
    (passed, false)
}

/// Whether somebody who decodes the whole text at once finds the secret in it.
fn holds(text: &[u8]) -> bool {
    let is_in = |text: &[u8]| {
        text.windows(SECRET.len())
            .any(|window| window == SECRET.as_bytes())
    };
    let unescaped = serde_json::from_slice::<String>(&[b"\"", text, b"\""].concat());
    is_in(text)
        || is_in(&percent_decoded(text))
        || unescaped.is_ok_and(|text| is_in(text.as_bytes()))
        || (is_one_case(text) && hex::decode(text).is_ok_and(|bytes| is_in(&bytes)))
        || STANDARD.decode(text).is_ok_and(|bytes| is_in(&bytes))
        || utf16(text).is_some_and(|text| is_in(text.as_bytes()))
}

/// Nobody writes hexadecimal digits of both cases in one number.
fn is_one_case(text: &[u8]) -> bool {
    text.to_ascii_lowercase() == text || text.to_ascii_uppercase() == text
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut left = text;
    while let Some((first, rest)) = left.split_first() {
        let digits = rest.get(..2).filter(|_| *first == b'%');
        match digits.and_then(|digits| hex::decode(digits).ok()) {
            Some(byte) => {
                decoded.extend(byte);
                left = &rest[2..];
            }
            None => {
                decoded.push(*first);
                left = rest;
            }
        }
    }
    decoded
}

fn utf16(text: &[u8]) -> Option<String> {
    let (units, rest) = text.as_chunks::<2>();
    let units: Vec<u16> = units.iter().map(|two| u16::from_le_bytes(*two)).collect();
    String::from_utf16(&units).ok().filter(|_| rest.is_empty())
}
