//! What people read: help, reviews and errors, as snapshots. `INSTA_UPDATE=always` writes them anew.

use insta::assert_snapshot;

use crate::house::{House, git, told};

/// Paths, ids and digests differ from run to run.
fn plain(house: &House, text: &str) -> String {
    let place = house.home().parent().unwrap().display().to_string();
    let text = text.replace(&place, "[PLACE]");
    let mut out = String::new();
    for line in text.lines() {
        match line.split_once("sha256:") {
            Some((before, _)) => out.push_str(&format!("{before}sha256:[DIGEST]")),
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[test]
fn help_says_what_there_is() {
    let house = House::new();
    for (name, args) in [
        ("help", &["--help"][..]),
        ("help-run", &["run", "--help"]),
        ("help-runs", &["runs", "--help"]),
        ("help-skill", &["skill", "--help"]),
        ("help-gate", &["gate", "--help"]),
        ("help-secret", &["secret", "--help"]),
    ] {
        let mut command = house.command(args);
        let output = command
            .env("COLUMNS", "100")
            .env_remove("MOAT_HOME")
            .output()
            .unwrap();
        assert_snapshot!(name, plain(&house, &told(&output)));
    }
}

#[test]
fn a_review_says_what_a_skill_asks_for() {
    let house = House::new();
    for skill in ["triage", "implement", "search-repair", "test", "deploy"] {
        let output = house.moat(&["skill", "inspect", skill]);
        assert_snapshot!(format!("inspect-{skill}"), plain(&house, &told(&output)));
    }
}

#[test]
fn errors_say_what_happened_where_and_what_to_do() {
    let house = House::new();
    let repo = house.meter();
    let output = house.moat(&["run", "--repo", "nowhere", "x y"]);
    assert_snapshot!("no-directory", plain(&house, &told(&output)));
    let good = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
    for (name, from, to) in [
        ("unknown-key", "attempts = 3", "atempts = 3"),
        (
            "unknown-skill",
            "implement = \"search-repair\"",
            "implement = \"wizard\"",
        ),
        (
            "no-such-command",
            "command = \"test\"",
            "command = \"tests\"",
        ),
        (
            "no-such-model",
            "[budget]",
            "[models]\ncoder = \"large\"\n\n[budget]\ntokens = 1000\nmoney = 1",
        ),
        (
            "no-such-program",
            "test = [\"python3\"",
            "test = [\"python9\"",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(repo.join("moat.toml"), good.replacen(from, to, 1)).unwrap();
        git(&repo, &["commit", "-qam", name]);
        let output = house.moat(&["run", "--repo", "meter", "x y"]);
        assert_eq!(output.status.code(), Some(2), "{name}: {}", told(&output));
        assert_snapshot!(name, plain(&house, &told(&output)));
    }
}
