//! Claims: what they cover, and that two which can meet are known to.

use flow::claim::Claim;
use proptest::prelude::*;

fn claim(text: &str) -> Claim {
    Claim::try_from(text.to_owned()).unwrap()
}

#[test]
fn a_claim_covers_what_it_says_and_all_below() {
    for (text, paths, others) in [
        (
            "src/a.rs",
            &["src/a.rs", "SRC/A.rs", "src/a.rs/below"][..],
            &["src/a.rsx", "src", "a.rs"][..],
        ),
        ("src", &["src", "src/a/b"], &["srcs/a", "lib/src"]),
        ("src/", &["src/a/b"], &["srcs/a"]),
        ("src/**", &["src/a", "src/a/b"], &["src", "srcs/a"]),
        (
            "src/*.rs",
            &["src/a.rs", "src/.rs"],
            &["src/a/b.rs", "src/a.py"],
        ),
        (
            "**/test_?.py",
            &["test_a.py", "x/y/test_b.py"],
            &["test_ab.py", "x/test_.py"],
        ),
        ("a/**/b", &["a/b", "a/x/y/b", "a/b/c"], &["a", "b", "a/bc"]),
        (".", &["anything", "a/b"], &[]),
        ("*a*b*", &["ab", "xaybz", "b-a-b"], &["ba", "a", "x/ab"]),
    ] {
        let claim = claim(text);
        for path in paths {
            assert!(claim.covers(path), "{text} covers {path}");
        }
        for path in others {
            assert!(!claim.covers(path), "{text} does not cover {path}");
        }
    }
}

#[test]
fn what_has_no_one_meaning_is_no_claim() {
    for text in [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "./a",
        "a/**b",
        "***",
        "[ab]",
        "{a,b}",
        "!a",
        "a\\b",
        "a\nb",
        "\0",
    ] {
        assert!(Claim::try_from(text.to_owned()).is_err(), "{text:?}");
    }
    assert!(Claim::try_from("x".repeat(301)).is_err());
}

#[test]
fn claims_that_meet_are_told_from_those_that_cannot() {
    for (a, b, meet) in [
        ("src/a.rs", "src/b.rs", false),
        ("src/a.rs", "SRC/A.RS", true),
        ("src", "src/a/b", true),
        ("src/*.rs", "src/*.py", false),
        ("src/*.rs", "src/a*", true),
        ("**/a", "b/c", true),
        ("*/a", "b/c", false),
        ("a/**", "b/**", false),
        ("a*c", "ab*", true),
        ("a?", "b?", false),
        (".", "x", true),
    ] {
        assert_eq!(claim(a).overlaps(&claim(b)), meet, "{a} and {b}");
        assert_eq!(claim(b).overlaps(&claim(a)), meet, "{b} and {a}");
    }
}

#[test]
fn a_pattern_made_to_be_slow_is_not() {
    let slow = claim(&format!("**/{}", "*a".repeat(100)));
    let deep = claim(&["**"; 90].join("/"));
    let path = vec!["a".repeat(200); 100].join("/");
    assert!(!slow.covers(&path.replace('a', "b")));
    assert!(deep.covers(&path) && deep.overlaps(&slow));
}

/// Every path of at most three parts over a small alphabet.
fn all_paths() -> Vec<String> {
    let names = ["a", "b", "ab", "ba", "aa", "bb"];
    let mut paths: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for _ in 0..2 {
        let deeper: Vec<String> = paths
            .iter()
            .flat_map(|path| names.iter().map(move |name| format!("{path}/{name}")))
            .collect();
        paths.extend(deeper);
    }
    paths
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Over all paths: claims that cover one path are known to meet, and those that are said to meet do.
    #[test]
    fn claims_meet_exactly_where_a_path_is_covered_by_both(
        a in "(a|b|[ab*?]{1,2}|\\*\\*)(/(a|b|[ab*?]{1,2}|\\*\\*)){0,1}",
        b in "(a|b|[ab*?]{1,2}|\\*\\*)(/(a|b|[ab*?]{1,2}|\\*\\*)){0,1}",
    ) {
        let parsed = (Claim::try_from(a), Claim::try_from(b));
        let (Ok(a), Ok(b)) = parsed else { return Ok(()) };
        let common = all_paths().into_iter().find(|path| a.covers(path) && b.covers(path));
        prop_assert_eq!(common.is_some(), a.overlaps(&b), "{} and {}: {:?}", a, b, common);
    }
}
