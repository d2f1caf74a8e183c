//! Every spelling of a secret, cut anywhere, is found; everything else passes as it is.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const CANARY: &str = "s3cr3t/canary+\"42\"&<x>=%41\\";

/// Characters of base64 that hold bits of what stands before the secret are not the secret's.
const SHARED: usize = 3;

fn needles(secret: &str) -> Arc<Needles> {
    Arc::new(Needles::new([&Secret::new(secret.into(), "test").unwrap()]))
}

/// Everything that is passed on before a secret is found, and whether one was.
fn pass(needles: &Arc<Needles>, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut scrubber = Scrubber::new(Arc::clone(needles));
    let mut passed = Vec::new();
    for piece in pieces {
        match scrubber.pass(Bytes::copy_from_slice(piece)) {
            Ok(bytes) => passed.extend_from_slice(&bytes),
            Err(Found) => return (passed, true),
        }
    }
    passed.extend_from_slice(&scrubber.finish());
    (passed, false)
}

fn each(secret: &str, spell: impl Fn(u8) -> String) -> Vec<u8> {
    secret.bytes().map(spell).collect::<String>().into_bytes()
}

fn only_special(byte: u8, spell: impl Fn(u8) -> String) -> String {
    match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => spell(byte),
    }
}

fn html(byte: u8) -> String {
    match byte {
        b'&' => "&amp;".into(),
        b'<' => "&lt;".into(),
        b'>' => "&gt;".into(),
        b'"' => "&quot;".into(),
        other => char::from(other).to_string(),
    }
}

/// A secret as servers are known to give it back.
fn spelt(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let base64 = |before: &str, engine: &base64::engine::GeneralPurpose| {
        engine.encode(format!("{before}{secret}:tail")).into_bytes()
    };
    let wrapped = STANDARD
        .encode(secret)
        .as_bytes()
        .chunks(5)
        .collect::<Vec<_>>()
        .join(&b"\r\n"[..]);
    let json = serde_json_like(secret);
    let percent = |upper: bool| {
        each(secret, |byte| {
            only_special(byte, |b| match upper {
                true => format!("%{b:02X}"),
                false => format!("%{b:02x}"),
            })
        })
    };
    vec![
        ("raw", secret.as_bytes().to_vec()),
        ("percent, upper case", percent(true)),
        ("percent, lower case", percent(false)),
        ("percent, all of it", each(secret, |b| format!("%{b:02x}"))),
        ("hex", hex::encode(secret).into_bytes()),
        ("hex, upper case", hex::encode_upper(secret).into_bytes()),
        ("base64", base64("", &STANDARD)),
        ("base64, second alignment", base64("u", &STANDARD)),
        ("base64, third alignment", base64("us", &STANDARD)),
        ("base64 for URLs", base64("", &URL_SAFE_NO_PAD)),
        ("base64 for URLs, second", base64("u", &URL_SAFE_NO_PAD)),
        ("base64 for URLs, third", base64("us", &URL_SAFE_NO_PAD)),
        ("base64 in lines", wrapped),
        ("base64 in a URL", percent_all(&base64("", &STANDARD))),
        ("JSON", json),
        ("JSON, all of it", each(secret, |b| format!("\\u{b:04x}"))),
        (
            "JSON, special characters",
            each(secret, |b| only_special(b, |b| format!("\\u{b:04X}"))),
        ),
        ("HTML", each(secret, html)),
        ("HTML, numbers", each(secret, |b| format!("&#{b};"))),
        ("HTML, hex", each(secret, |b| format!("&#x{b:02X};"))),
        (
            "UTF-16LE",
            secret.bytes().flat_map(|b| [b, 0]).collect::<Vec<u8>>(),
        ),
        (
            "UTF-16BE",
            secret.bytes().flat_map(|b| [0, b]).collect::<Vec<u8>>(),
        ),
    ]
}

fn serde_json_like(secret: &str) -> Vec<u8> {
    each(secret, |b| match b {
        b'"' | b'\\' | b'/' => format!("\\{}", char::from(b)),
        other => char::from(other).to_string(),
    })
}

fn percent_all(text: &[u8]) -> Vec<u8> {
    let each = text
        .iter()
        .map(|b| only_special(*b, |b| format!("%{b:02X}")));
    each.collect::<String>().into_bytes()
}

#[test]
fn every_spelling_is_found_at_every_cut_and_nothing_of_it_passes() {
    for secret in [CANARY, "ghp_0123456789abcdefghijABCDEFGHIJ", "aaaaaaaa"] {
        let needles = needles(secret);
        for (name, spelling) in spelt(secret) {
            // A beginning that looks like the secret's must not make the scan lose its place.
            let text = [&secret.as_bytes()[..5], b"<", &spelling, b"> and more"].concat();
            for cut in 0..=text.len() {
                let (passed, found) = pass(&needles, &[&text[..cut], &text[cut..]]);
                assert!(found, "{name} of {secret} cut at {cut}");
                assert!(
                    passed.len() <= 6 + SHARED,
                    "{name} of {secret} cut at {cut}: {:?} passed",
                    String::from_utf8_lossy(&passed)
                );
            }
            for size in 1..8 {
                let pieces: Vec<&[u8]> = text.chunks(size).collect();
                let (passed, found) = pass(&needles, &pieces);
                assert!(
                    found && passed.len() <= 6 + SHARED,
                    "{name} in pieces of {size}"
                );
            }
            assert!(needles.are_in(&text), "{name} of {secret} as a whole");
        }
    }
}

#[test]
fn a_secret_that_is_not_whole_passes_unchanged() {
    for secret in [CANARY, "ghp_0123456789abcdefghijABCDEFGHIJ"] {
        let needles = needles(secret);
        let text = &secret.as_bytes()[..secret.len() - 1];
        for cut in 0..=text.len() {
            let (passed, found) = pass(&needles, &[&text[..cut], &text[cut..]]);
            assert_eq!((passed.as_slice(), found), (text, false));
        }
    }
}

#[test]
fn a_stream_without_a_secret_is_hardly_held_up() {
    let needles = needles("ghp_0123456789abcdefghij");
    let mut scrubber = Scrubber::new(needles);
    let event = Bytes::from_static(b"data: {\"delta\":\"hello\"}\n\n");
    let passed = scrubber.pass(event.clone()).unwrap();
    assert!(event.len() - passed.len() <= 20, "{passed:?}");
    assert_eq!([passed, scrubber.finish()].concat(), event);
}

#[test]
fn several_secrets_are_found_in_one_pass() {
    let (one, two) = ("abcabcabd-one", "bcabcabx-two");
    let secrets = [one, two].map(|text| Secret::new(text.into(), "test").unwrap());
    let needles = Needles::new(&secrets);
    for text in ["xxabcabcabcabd-onexx", "abcabcabcabx-two"] {
        assert!(needles.are_in(text.as_bytes()), "{text}");
    }
    assert!(!needles.are_in(b"abcabcabd-two bcabcabx-one"));
    assert!(Needles::new([]).is_empty());
}

/// A stream with a mark in place of each secret.
fn replaced(needles: &Arc<Needles>, pieces: &[&[u8]]) -> String {
    let mut scrubber = Scrubber::new(Arc::clone(needles));
    let mut passed = Vec::new();
    for piece in pieces {
        passed.extend_from_slice(&scrubber.replace(Bytes::copy_from_slice(piece)));
    }
    passed.extend_from_slice(&scrubber.finish());
    String::from_utf8(passed).unwrap()
}

#[test]
fn every_spelling_is_replaced_at_every_cut_and_nothing_else_is() {
    for secret in [CANARY, "ghp_0123456789abcdefghijABCDEFGHIJ", "aaaaaaaa"] {
        let needles = needles(secret);
        for (name, spelling) in spelt(secret) {
            let text = ["über ".as_bytes(), &spelling, b" and ", &spelling, b" more"].concat();
            for cut in 0..=text.len() {
                let replaced = replaced(&needles, &[&text[..cut], &text[cut..]]);
                let told = format!("{name} of {secret} cut at {cut}: {replaced:?}");
                let between: Vec<&str> = replaced.split(SCRUBBED).collect();
                assert_eq!(between.len(), 3, "{told}");
                // What stands beside it stays, and at most the characters of base64 that are shared with it: `:tail` begins there.
                assert!(
                    between[0].starts_with("über ") && between[0].len() <= 6 + SHARED,
                    "{told}"
                );
                assert!(
                    between[1].contains(" and ") && between[2].ends_with(" more"),
                    "{told}"
                );
                assert!(
                    between[1].len() <= 5 + SHARED + 20 && between[2].len() <= 5 + 20,
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn a_text_without_a_secret_stays_and_one_of_nothing_else_becomes_marks() {
    let secret = "sk-canary-1";
    let needles = needles(secret);
    for text in ["", "sk-canary-2 sk-canary-", "größer als &amp; %2"] {
        assert_eq!(needles.scrub(text), text);
    }
    assert_eq!(
        needles.scrub("your key sk-canary-1 is bad"),
        "your key [secret] is bad"
    );
    assert_eq!(needles.scrub(&secret.repeat(3)), SCRUBBED);
    assert_eq!(
        needles.scrub(&format!("{secret} ").repeat(3)),
        "[secret] ".repeat(3)
    );
    let many = format!("{secret} ").repeat(100_000);
    assert!(!needles.scrub(&many).contains("canary"));
    assert_eq!(Needles::nothing().scrub(secret), secret);
}

proptest! {
    #[test]
    fn what_is_found_does_not_depend_on_the_pieces(
        secret in "[!-~]{8,40}",
        before in "[%&\\\\a-f0-9u;#x]{0,20}",
        after in "[ -~]{0,20}",
        which in 0..22_usize,
        size in 1..50_usize,
    ) {
        let needles = needles(&secret);
        let (name, spelling) = spelt(&secret).swap_remove(which);
        // A dangling escape before it may swallow its first byte, as it would for any reader.
        let text = [before.as_bytes(), b" ; ", &spelling, after.as_bytes()].concat();
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        let (passed, found) = pass(&needles, &pieces);
        prop_assert!(found, "{} of {}", name, secret);
        prop_assert!(passed.len() <= before.len() + 3 + SHARED, "{} of {}", name, secret);
    }

    #[test]
    fn what_is_replaced_does_not_depend_on_the_pieces(
        secret in "[!-~]{8,40}",
        before in "[%&\\\\a-f0-9u;#x]{0,20}",
        after in "[ -~]{0,20}",
        which in 0..22_usize,
        size in 1..50_usize,
    ) {
        let needles = needles(&secret);
        let (name, spelling) = spelt(&secret).swap_remove(which);
        let text = [before.as_bytes(), b" ; ", &spelling, b" ", after.as_bytes()].concat();
        let pieces: Vec<&[u8]> = text.chunks(size).collect();
        let in_pieces = replaced(&needles, &pieces);
        prop_assert!(in_pieces.contains(SCRUBBED), "{} of {}: {}", name, secret, in_pieces);
        prop_assert_eq!(in_pieces, replaced(&needles, &[&text]));
    }

    #[test]
    fn everything_else_passes_as_it_is(
        pieces in prop::collection::vec("[%&;#xu0-9a-f\\\\\r\n\0]{0,12}", 0..12),
    ) {
        let needles = needles("0123456789-abcdef-zz");
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        prop_assert_eq!(pass(&needles, &pieces), (pieces.concat(), false));
    }
}
