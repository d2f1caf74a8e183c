//! The effective grant: never more than any of the three, and every key of the files bites.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use capability::{Grant, Manifest, Policy, ProjectGrant, RawProjectGrant, RelPath, Source};
use proptest::prelude::*;

const MANIFEST: &str = r#"
[skill]
name = "x"
version = "0.1.0"
role = "implement"
description = "d"

[[files]]
path = "src"
access = "write"
except = ["**/*.pem"]
reason = "r"

[[files]]
path = "docs"
access = "read"
reason = "r"

[[env]]
name = "SHOWN"
reason = "r"

[[processes]]
project = "test"
extra-args = true
reason = "r"

[[processes]]
program = "cargo"
args = [["metadata"], ["tree", "*"]]
reason = "r"

[model]
aliases = ["coder"]
max-tokens = 100
reason = "r"

[release]
reason = "r"

[limits]
memory = "64MiB"
time = "60s"
"#;

const PROJECT: &str = r#"{"skill":"x","read":["docs"],"write":["src"],"except":["src/secret/**"],"commands":["test"],"programs":["cargo"],"env":["SHOWN"],"models":["coder"],"max-tokens":50,"release":true,"memory":"32MiB","time":"30s"}"#;

const POLICY: &str = r#"
hidden = ["**/.env"]
[[ceiling]]
role = "implement"
read = ["."]
write = ["."]
commands = ["*"]
programs = ["*"]
env = ["*"]
models = ["*"]
max-tokens = 70
release = true
memory = "1GiB"
time = "20s"
"#;

fn project(text: &str) -> ProjectGrant {
    let raw: RawProjectGrant = serde_json::from_str(text).unwrap();
    raw.check(
        Source {
            file: "moat.toml",
            text: "",
        },
        0..0,
    )
    .unwrap()
}

fn compute(manifest: &str, granted: Option<&str>, policy: &str) -> Grant {
    let manifest = Manifest::parse(manifest, "skill.toml").unwrap();
    Grant::compute(
        &manifest,
        granted.map(project).as_ref(),
        &Policy::parse(policy, "policy.toml").unwrap(),
    )
}

fn path(text: &str) -> RelPath {
    text.parse().unwrap()
}

/// What a grant allows, as a list of words that a test can compare.
fn powers(grant: &Grant) -> Vec<String> {
    let args = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let mut found = Vec::new();
    let mut add = |word: String, allowed: bool| {
        if allowed {
            found.push(word);
        }
    };
    for name in [
        "src/a.rs",
        "src/k.pem",
        "src/.env",
        "src/secret/a",
        "docs/a",
        "other/a",
        "src2/a",
    ] {
        add(format!("read {name}"), grant.may_read(&path(name)).is_ok());
        add(
            format!("write {name}"),
            grant.may_write(&path(name)).is_ok(),
        );
    }
    add("test".into(), grant.may_run_project("test", &[]).is_ok());
    add(
        "test with args".into(),
        grant.may_run_project("test", &args(&["-x"])).is_ok(),
    );
    add(
        "cargo metadata".into(),
        grant.may_run_program("cargo", &args(&["metadata"])).is_ok(),
    );
    add(
        "cargo tree a".into(),
        grant
            .may_run_program("cargo", &args(&["tree", "a"]))
            .is_ok(),
    );
    add(
        "cargo tree --x".into(),
        grant
            .may_run_program("cargo", &args(&["tree", "--x"]))
            .is_ok(),
    );
    add("sh".into(), grant.may_run_program("sh", &[]).is_ok());
    add("coder".into(), grant.may_use_model("coder").is_ok());
    add("release".into(), grant.may_release().is_ok());
    add("SHOWN".into(), grant.env().any(|name| name == "SHOWN"));
    found
}

const ALL: &[&str] = &[
    "read src/a.rs",
    "write src/a.rs",
    "read docs/a",
    "test",
    "test with args",
    "cargo metadata",
    "cargo tree a",
    "coder",
    "release",
    "SHOWN",
];

#[test]
fn what_all_three_hold_is_granted_and_the_lowest_limit_counts() {
    let grant = compute(MANIFEST, Some(PROJECT), POLICY);
    assert_eq!(powers(&grant), ALL);
    assert_eq!(
        (
            grant.limits().memory_bytes,
            grant.limits().wall_ms,
            grant.max_tokens()
        ),
        (32 << 20, 20_000, 50)
    );
    assert!(grant.withheld().is_empty(), "{:?}", grant.withheld());
}

/// Each change of one key takes away just these powers and says which line would give them back.
#[test]
fn every_key_bites() {
    let manifest = |from: &str, to: &str| {
        assert!(MANIFEST.contains(from), "{from}");
        compute(&MANIFEST.replacen(from, to, 1), Some(PROJECT), POLICY)
    };
    let granted = |from: &str, to: &str| {
        assert!(PROJECT.contains(from), "{from}");
        compute(MANIFEST, Some(&PROJECT.replacen(from, to, 1)), POLICY)
    };
    let policy = |from: &str, to: &str| {
        assert!(POLICY.contains(from), "{from}");
        compute(MANIFEST, Some(PROJECT), &POLICY.replacen(from, to, 1))
    };
    let table: Vec<(&str, Grant, &[&str])> = vec![
        (
            "manifest access",
            manifest("access = \"write\"", "access = \"read\""),
            &["write src/a.rs"],
        ),
        (
            "manifest path",
            manifest("path = \"docs\"", "path = \"other\""),
            &["read docs/a"],
        ),
        (
            "manifest extra-args",
            manifest("extra-args = true\n", ""),
            &["test with args"],
        ),
        (
            "manifest args",
            manifest(", [\"tree\", \"*\"]", ""),
            &["cargo tree a"],
        ),
        (
            "manifest alias",
            manifest("\"coder\"", "\"judge\""),
            &["coder"],
        ),
        (
            "manifest release",
            manifest("[release]\nreason = \"r\"\n", ""),
            &["release"],
        ),
        (
            "manifest env",
            manifest("name = \"SHOWN\"", "name = \"OTHER\""),
            &["SHOWN"],
        ),
        (
            "project read",
            granted("[\"docs\"]", "[]"),
            &["read docs/a"],
        ),
        (
            "project write",
            granted("\"write\":[\"src\"]", "\"write\":[]"),
            &["read src/a.rs", "write src/a.rs"],
        ),
        (
            "project commands",
            granted("[\"test\"]", "[]"),
            &["test", "test with args"],
        ),
        (
            "project programs",
            granted("[\"cargo\"]", "[]"),
            &["cargo metadata", "cargo tree a"],
        ),
        ("project models", granted("[\"coder\"]", "[]"), &["coder"]),
        ("project env", granted("[\"SHOWN\"]", "[]"), &["SHOWN"]),
        ("project release", granted("true", "false"), &["release"]),
        (
            "policy write",
            policy("write = [\".\"]", "write = []"),
            &["write src/a.rs"],
        ),
        (
            "policy commands",
            policy("commands = [\"*\"]", "commands = [\"build\"]"),
            &["test", "test with args"],
        ),
        (
            "policy programs",
            policy("programs = [\"*\"]", "programs = []"),
            &["cargo metadata", "cargo tree a"],
        ),
        (
            "policy models",
            policy("models = [\"*\"]", "models = []"),
            &["coder"],
        ),
        (
            "policy env",
            policy("env = [\"*\"]", "env = []"),
            &["SHOWN"],
        ),
        (
            "policy release",
            policy("release = true", "release = false"),
            &["release"],
        ),
        (
            "policy role",
            policy("role = \"implement\"", "role = \"triage\""),
            ALL,
        ),
    ];
    for (what, grant, lost) in table {
        let left: Vec<&str> = ALL
            .iter()
            .copied()
            .filter(|power| !lost.contains(power))
            .collect();
        let mut has = powers(&grant);
        has.retain(|power| ALL.contains(&power.as_str()));
        assert_eq!(has, left, "{what}");
        assert!(
            what.starts_with("manifest") || !grant.withheld().is_empty(),
            "{what} says nothing"
        );
        assert!(
            grant
                .withheld()
                .iter()
                .all(|denial| denial.line.contains("moat.toml")
                    || denial.line.contains("policy.toml")),
            "{what}"
        );
    }
    for (what, wider, power) in [
        (
            "manifest except",
            manifest("except = [\"**/*.pem\"]\n", ""),
            "read src/k.pem",
        ),
        (
            "project except",
            granted("\"except\":[\"src/secret/**\"],", ""),
            "read src/secret/a",
        ),
        (
            "policy hidden",
            policy("[\"**/.env\"]", "[]"),
            "read src/.env",
        ),
    ] {
        assert!(powers(&wider).contains(&power.to_owned()), "{what}");
    }
    assert_eq!(
        granted("\"memory\":\"32MiB\"", "\"memory\":\"16MiB\"")
            .limits()
            .memory_bytes,
        16 << 20
    );
    assert_eq!(
        granted("\"time\":\"30s\"", "\"time\":\"3s\"")
            .limits()
            .wall_ms,
        3_000
    );
    assert_eq!(
        granted("\"max-tokens\":50", "\"max-tokens\":5").max_tokens(),
        5
    );
    assert_eq!(policy("max-tokens = 70", "max-tokens = 7").max_tokens(), 7);
    assert_eq!(
        policy("memory = \"1GiB\"", "memory = \"1MiB\"")
            .limits()
            .memory_bytes,
        1 << 20
    );
    assert_eq!(
        manifest("time = \"60s\"", "time = \"6s\"").limits().wall_ms,
        6_000
    );
}

/// A model that may not say a single token is none.
#[test]
fn without_tokens_there_is_no_model() {
    for (project, policy) in [
        (
            PROJECT.replace("\"max-tokens\":50", "\"max-tokens\":0"),
            POLICY.to_owned(),
        ),
        (PROJECT.to_owned(), POLICY.replace("max-tokens = 70\n", "")),
    ] {
        let grant = compute(MANIFEST, Some(&project), &policy);
        assert!(grant.may_use_model("coder").is_err());
        assert!(
            grant
                .withheld()
                .iter()
                .any(|one| one.line.contains("max-tokens"))
        );
    }
}

#[test]
fn without_a_project_grant_or_a_ceiling_there_is_nothing() {
    assert!(powers(&compute(MANIFEST, None, POLICY)).is_empty());
    let bare = compute(MANIFEST, Some(PROJECT), "hidden = []\n");
    assert!(powers(&bare).is_empty());
    assert_eq!(
        bare.interfaces().into_iter().collect::<Vec<_>>(),
        ["moat:host/effects", "moat:host/progress"]
    );
}

#[test]
fn manifests_that_hide_something_or_ask_for_the_unbuilt_are_refused_with_line_and_mend() {
    for (from, to, message) in [
        ("[release]", "[realease]", "unknown field"),
        ("[release]", "[browser]", "cannot grant `browser`"),
        (
            "project = \"test\"",
            "project = \"test\"\nnetwork = true",
            "no [[network]] says which",
        ),
        (
            "args = [[\"metadata\"], [\"tree\", \"*\"]]",
            "args = [[\"metadata\"], [\"metadata\"]]\ntime = \"-1s\"",
            "no time",
        ),
        ("path = \"docs\"", "path = \"src/inner\"", "overlap"),
        ("path = \"docs\"", "path = \"SRC\"", "overlap"),
        ("path = \"docs\"", "path = \".\"", "overlap"),
        (
            "path = \"docs\"",
            "path = \"../docs\"",
            "no path within a worktree",
        ),
        ("path = \"docs\"", "path = \".git\"", "never granted"),
        ("reason = \"r\"", "reason = \"\"", "from 1 to 200"),
        ("reason = \"r\"", "reason = \"a\u{202e}b\"", "invisible"),
        ("name = \"SHOWN\"", "name = \"LD_PRELOAD\"", "no variable"),
        (
            "program = \"cargo\"",
            "program = \"/bin/sh\"",
            "no command's name",
        ),
        (
            "project = \"test\"",
            "project = \"test\"\nprogram = \"sh\"",
            "either",
        ),
        ("version = \"0.1.0\"", "version = \"../1\"", "no version"),
        ("name = \"x\"", "name = \"ex\u{430}mple\"", "skill name"),
        ("memory = \"64MiB\"", "memory = \"64TiB\"", "no size"),
        (
            "memory = \"64MiB\"",
            "memory = \"18446744073709551615KiB\"",
            "no size",
        ),
        ("memory = \"64MiB\"", "memory = \"5GiB\"", "above the most"),
        ("time = \"60s\"", "", "missing field"),
        (
            "time = \"60s\"",
            "time = \"60s\"\ntime = \"1s\"",
            "duplicate",
        ),
    ] {
        assert!(MANIFEST.contains(from), "{from}");
        let error = Manifest::parse(&MANIFEST.replacen(from, to, 1), "skill.toml").unwrap_err();
        assert!(error.to_string().contains(message), "{to}: {error}");
        assert!(!error.mend.is_empty(), "{to}");
    }
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(vec!["src", "src/deep", "docs", "."], 0..3)
        .prop_map(|list| list.into_iter().map(str::to_owned).collect())
}

proptest! {
    #[test]
    fn paths_that_overlap_are_refused_and_others_are_not(paths in prop::collection::vec("[.]|[aA-]{1,2}(/[abB-]){0,2}", 1..6)) {
        let files: String = paths.iter().map(|path| format!("[[files]]\npath = {path:?}\naccess = \"read\"\nreason = \"r\"\n")).collect();
        let text = format!("[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n{files}[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n");
        let lower: Vec<_> = paths.iter().map(|one| path(&one.to_lowercase())).collect();
        let overlap = lower.iter().enumerate().any(|(at, one)| {
            lower[at + 1..].iter().any(|other| one.holds(other) || other.holds(one))
        });
        prop_assert_eq!(Manifest::parse(&text, "f").is_err(), overlap, "{:?}", paths);
    }

    #[test]
    fn a_grant_never_exceeds_any_of_the_three_and_grows_only_with_them(read in names(), write in names(), ceiling_read in names(), ceiling_write in names(), probe in "(src|docs|src/deep|other)/[ab]") {
        let granted = serde_json::json!({"skill": "x", "read": read, "write": write});
        let policy = format!("hidden = []\n[[ceiling]]\nread = {ceiling_read:?}\nwrite = {ceiling_write:?}\nmemory = \"1GiB\"\ntime = \"1m\"\n");
        let grant = compute(MANIFEST, Some(&granted.to_string()), &policy);
        let probe = path(&probe);
        let holds = |list: &[String]| list.iter().any(|one| path(one).holds(&probe));
        if grant.may_write(&probe).is_ok() {
            prop_assert!(path("src").holds(&probe) && holds(&write) && holds(&ceiling_write));
        }
        if grant.may_read(&probe).is_ok() {
            prop_assert!(path("src").holds(&probe) || path("docs").holds(&probe));
            prop_assert!((holds(&read) || holds(&write)) && (holds(&ceiling_read) || holds(&ceiling_write)));
        }
        // Wider files never take anything away, and the order of entries does not matter.
        let wide = serde_json::json!({"skill": "x", "read": ["."], "write": ["."]});
        let wider = compute(MANIFEST, Some(&wide.to_string()), &policy);
        prop_assert!(grant.may_read(&probe).is_err() || wider.may_read(&probe).is_ok());
        prop_assert!(grant.may_write(&probe).is_err() || wider.may_write(&probe).is_ok());
        let (mut back_read, mut back_write) = (read.clone(), write.clone());
        back_read.reverse();
        back_write.reverse();
        let turned = serde_json::json!({"skill": "x", "read": back_read, "write": back_write});
        prop_assert_eq!(compute(MANIFEST, Some(&turned.to_string()), &policy).digest(), grant.digest());
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Manifest::parse(&text, "skill.toml");
        let _ = Policy::parse(&text, "policy.toml");
    }
}

#[test]
fn what_one_grant_allows_beyond_another_is_named_with_its_line() {
    let manifest = Manifest::parse(MANIFEST, "skill.toml").unwrap();
    let under = |policy: &str| {
        let policy = Policy::parse(policy, "policy.toml").unwrap();
        Grant::compute(&manifest, Some(&project(PROJECT)), &policy)
    };
    let whole = under(POLICY);
    assert!(whole.beyond(&whole).is_empty());
    for (less, more, what) in [
        ("env = [\"*\"]", "env = []", "env: SHOWN"),
        ("write = [\".\"]", "write = []", "files: write src"),
        ("commands = [\"*\"]", "commands = []", "processes: test"),
        ("programs = [\"*\"]", "programs = []", "processes: cargo"),
        ("models = [\"*\"]", "models = []", "model: coder"),
        ("release = true", "release = false", "release: releases"),
        (
            "max-tokens = 70",
            "max-tokens = 7",
            "model: 50 tokens of output",
        ),
        (
            "memory = \"1GiB\"",
            "memory = \"1MiB\"",
            "limits: what one call may take",
        ),
        (
            "time = \"20s\"",
            "time = \"1s\"",
            "limits: what one call may take",
        ),
        ("**/.env", "**/*", "files: what **/* hides"),
    ] {
        let narrow = under(&POLICY.replace(less, more));
        let lost = whole.beyond(&narrow);
        assert!(lost.iter().any(|one| one.what == what), "{what}: {lost:?}");
        if let Some(denial) = narrow.withheld().first() {
            assert_eq!(lost[0].line.as_deref(), Some(denial.line.as_str()));
        }
        // A glob that hides more is another one, and so are both beyond each other.
        assert!(narrow.beyond(&whole).is_empty() || what.ends_with("hides"));
    }
}

#[test]
fn a_refusal_is_laid_to_what_was_withheld() {
    let manifest = Manifest::parse(MANIFEST, "skill.toml").unwrap();
    let policy = Policy::parse(POLICY, "policy.toml").unwrap();
    let bare = project(r#"{"skill":"x"}"#);
    let grant = Grant::compute(&manifest, Some(&bare), &policy);
    let lines = [
        grant.may_run_project("test", &[]).unwrap_err(),
        grant
            .may_run_program("cargo", &["metadata".into()])
            .unwrap_err(),
        grant.may_use_model("coder").unwrap_err(),
        grant.may_release().unwrap_err(),
    ];
    for denial in &lines {
        let withheld = grant.withheld_for(denial).unwrap();
        assert!(
            withheld.line.starts_with("moat.toml, [[grant]]"),
            "{withheld}"
        );
    }
    for undeclared in [
        grant.may_run_project("deploy", &[]).unwrap_err(),
        grant.may_run_program("cargoo", &[]).unwrap_err(),
        grant.may_use_model("large").unwrap_err(),
    ] {
        assert_eq!(grant.withheld_for(&undeclared), None);
    }
}

#[test]
fn a_grant_that_was_kept_is_read_as_the_same() {
    let network = MANIFEST.replace(
        "[release]",
        "[[network]]\nhost = \"*.example.com\"\nmethods = [\"GET\"]\nreason = \"r\"\n\n[release]",
    );
    let asked = PROJECT.replace("\"env\"", "\"network\":[\"GET *.example.com\"],\"env\"");
    let policy = POLICY.replace("env = [\"*\"]", "env = [\"*\"]\nnetwork = [\"*\"]");
    for grant in [
        compute(MANIFEST, Some(PROJECT), POLICY),
        compute(MANIFEST, None, POLICY),
        compute(&network, Some(&asked), &policy),
    ] {
        let read = Grant::read(&grant.canonical()).unwrap();
        assert_eq!(read, grant);
        assert_eq!(powers(&read), powers(&grant));
    }
}

#[test]
fn the_arguments_of_programs_are_in_a_grants_digest() {
    let grant = compute(MANIFEST, Some(PROJECT), POLICY);
    let other = MANIFEST.replace("[\"tree\", \"*\"]", "[\"run\", \"**\"]");
    let other = compute(&other, Some(PROJECT), POLICY);
    assert!(
        grant.canonical().contains("metadata"),
        "{}",
        grant.canonical()
    );
    assert_ne!(grant.digest(), other.digest());
}

#[test]
fn nothing_of_a_grant_that_was_kept_is_left_out() {
    let text = compute(MANIFEST, Some(PROJECT), POLICY).canonical();
    let more = text.replacen('{', "{\"flight\":true,", 1);
    assert!(Grant::read(&more).is_err() && Grant::read("").is_err());
}
