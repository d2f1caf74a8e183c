//! Looks for a secret in what should not hold it, in every spelling that somebody might have given it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The spelling in which `bytes` hold the secret, if they do.
pub fn spelling_in(bytes: &[u8], secret: &str) -> Option<&'static str> {
    spellings(secret)
        .into_iter()
        .find(|(_, spelling)| bytes.windows(spelling.len()).any(|part| part == spelling))
        .map(|(name, _)| name)
}

/// Fails when `bytes` hold the secret.
#[track_caller]
pub fn assert_free(what: &str, bytes: &[u8], secret: &str) {
    if let Some(spelling) = spelling_in(bytes, secret) {
        panic!("{what} holds the secret as {spelling}");
    }
}

fn spellings(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let each = |spell: &dyn Fn(&u8) -> String| bytes.iter().map(spell).collect::<String>();
    let wide: Vec<u16> = secret.encode_utf16().collect();
    let mut all = vec![
        ("plain text", bytes.to_vec()),
        (
            "plain text backwards",
            bytes.iter().rev().copied().collect(),
        ),
        ("hexadecimal", hex::encode(bytes).into_bytes()),
        (
            "hexadecimal in capitals",
            hex::encode_upper(bytes).into_bytes(),
        ),
        ("percent signs", each(&|b| format!("%{b:02X}")).into_bytes()),
        (
            "JSON escapes",
            each(&|b| format!("\\u{b:04x}")).into_bytes(),
        ),
        (
            "a list of numbers",
            format!("{bytes:?}")
                .trim_matches(['[', ']'])
                .to_owned()
                .into_bytes(),
        ),
        (
            "UTF-16, little end first",
            wide.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
        ),
        (
            "UTF-16, big end first",
            wide.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        ),
    ];
    // In the middle of something else, base64 has one of three forms.
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend_from_slice(bytes);
        padded.truncate(padded.len() / 3 * 3);
        for (name, engine) in [
            ("base64", &STANDARD_NO_PAD),
            ("base64 for URLs", &URL_SAFE_NO_PAD),
        ] {
            // The first group is not the secret's alone.
            let first = if before == 0 { 0 } else { 4 };
            all.push((name, engine.encode(&padded).into_bytes().split_off(first)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_found_and_nothing_else() {
        let secret = "sk-canary/value+17";
        for text in [
            "key=sk-canary/value+17;".to_owned(),
            STANDARD_NO_PAD.encode(secret),
            STANDARD_NO_PAD.encode(format!("Bearer {secret}")),
            URL_SAFE_NO_PAD.encode(format!("ab{secret}c")),
            format!("{:?}", secret.as_bytes()),
        ] {
            assert!(spelling_in(text.as_bytes(), secret).is_some(), "{text}");
        }
        assert_eq!(spelling_in(b"sk-canary/value-17 and more", secret), None);
    }
}
