//! How a run ended, as far as it can be seen from outside, without what differs between any two runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::call::steady;
use crate::house::{git, told};
use crate::subject::World;

/// Events that a run which was interrupted has more of: beginnings, intents, what was used, and calls of a model that were made again.
const MORE: &[&str] = &[
    "step-started",
    "used",
    "reserved",
    "settled",
    "resumed",
    "merge-intended",
];

/// What has to be the same, by its name.
pub type Outcome = BTreeMap<String, String>;

/// The only run, if there is one: its id and its state.
pub fn standing(world: &World) -> Option<(String, String)> {
    let output = world.moat(&["runs", "--json"]).output().unwrap();
    let runs: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
    let word = |name: &str| Some(runs[0][name].as_str()?.to_owned());
    Some((word("run")?, word("state")?))
}

pub fn of(world: &World) -> (Outcome, u64) {
    let mut found = Outcome::new();
    let Some((run, state)) = standing(world) else {
        return (found, 0);
    };
    let output = world
        .moat(&["runs", "show", &run, "--json"])
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    found.insert("state".into(), state);
    found.insert("events".into(), events(&shown, &run));
    repository(world, &mut found);
    mirror(world, &run, &mut found);
    let verified = world.moat(&["audit", "verify"]).output().unwrap();
    found.insert("audit".into(), format!("{:?}", verified.status.code()));
    let mut left = BTreeMap::new();
    files(&world.home(), "", &mut left);
    found.insert("files".into(), format!("{left:#?}"));
    (
        found,
        shown["summary"]["money-micros"].as_u64().unwrap_or(0),
    )
}

fn events(shown: &Value, run: &str) -> String {
    let events = shown["events"].as_array().cloned().unwrap_or_default();
    let kept = events.iter().map(|recorded| &recorded["event"]);
    let kept = kept.filter(|event| !MORE.contains(&event["type"].as_str().unwrap_or_default()));
    let told = kept.map(|event| {
        let mut words = vec![event["type"].as_str().unwrap_or_default().to_owned()];
        // What they decided; times and digests of commits, which hold the run's name, are each run's own.
        for field in ["gate", "finding", "tree", "attempt"] {
            let holders = [event, &event["verdict"], &event["candidate"]];
            words.extend(
                holders
                    .iter()
                    .filter_map(|holder| Some(holder.get(field)?.to_string().replace(run, "RUN"))),
            );
        }
        words.join(" ")
    });
    told.collect::<Vec<_>>().join("\n")
}

fn repository(world: &World, found: &mut Outcome) {
    let repo = world.repo();
    for (name, args) in [
        ("tree", &["rev-parse", "main^{tree}"][..]),
        ("commits", &["rev-list", "--count", "main"]),
        ("refs", &["for-each-ref", "--format=%(refname) %(tree)"]),
        ("status", &["status", "--porcelain"]),
        ("fsck", &["fsck", "--strict", "--no-dangling"]),
    ] {
        found.insert(format!("repository {name}"), git(&repo, args));
    }
    let mut left = BTreeMap::new();
    files(&repo.join(".git"), "", &mut left);
    left.retain(|name, _| !name.starts_with("/objects"));
    found.insert("repository files".into(), format!("{left:#?}"));
}

fn mirror(world: &World, run: &str, found: &mut Outcome) {
    for entry in std::fs::read_dir(world.home().join("repositories"))
        .unwrap()
        .flatten()
    {
        let path = entry.path().join("mirror.git");
        for (name, args) in [
            (
                "refs",
                &["for-each-ref", "--format=%(refname) %(objecttype) %(tree)"][..],
            ),
            ("fsck", &["fsck", "--strict", "--no-dangling"]),
        ] {
            let output = Command::new("git")
                .arg("--git-dir")
                .arg(&path)
                .args(args)
                .output()
                .unwrap();
            found.insert(format!("mirror {name}"), told(&output).replace(run, "RUN"));
        }
    }
}

/// What lies below a directory, by kinds of names, and how many of each. Objects of git lie there in any number.
fn files(below: &Path, name: &str, found: &mut BTreeMap<String, usize>) {
    for entry in std::fs::read_dir(below).unwrap().flatten() {
        let own = entry.file_name().to_string_lossy().into_owned();
        let name = format!("{name}/{}", steady(&own));
        if name.contains("/objects/#") && own.len() <= 38 {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            *found.entry(format!("{name}/")).or_default() += 1;
            files(&entry.path(), &name, found);
        } else {
            *found.entry(name).or_default() += 1;
        }
    }
}

/// What differs, in words.
pub fn differences(expected: &Outcome, found: &Outcome) -> Vec<String> {
    let mut told = Vec::new();
    for (name, expected) in expected {
        let found = found.get(name).map_or("nothing", String::as_str);
        if found == expected {
            continue;
        }
        let (was, is): (Vec<&str>, Vec<&str>) =
            (expected.lines().collect(), found.lines().collect());
        let missing = was
            .iter()
            .filter(|line| !is.contains(line))
            .map(|line| format!("-{line}"));
        let more = is
            .iter()
            .filter(|line| !was.contains(line))
            .map(|line| format!("+{line}"));
        let lines: Vec<String> = missing.chain(more).collect();
        let lines = if lines.is_empty() {
            vec![format!("another order or number: {found}")]
        } else {
            lines
        };
        told.push(format!("{name}: {}", lines.join("; ")));
    }
    told
}
