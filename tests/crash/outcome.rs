//! How a run ended, as far as it can be seen from outside, without what differs between any two runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use journal::Journal;
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
    "effect-unknown",
    "effect-resolved",
];

/// Events of which there are more or fewer, by the order in which tasks are joined.
const BY_ORDER: &[&str] = &["gate-decided", "merge-prepared", "merge-lost"];

/// What has to be the same, by its name.
pub type Outcome = BTreeMap<String, String>;

/// What a run cost, as moat knows it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub money_micros: u64,
    pub tokens: u64,
}

/// How a run stands.
pub struct Standing {
    pub run: String,
    pub state: String,
    pub sentence: String,
}

fn runs(world: &World) -> Vec<Value> {
    let output = world.moat(&["runs", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(&output)))
}

fn word(run: &Value, name: &str) -> String {
    run[name].as_str().unwrap_or_default().to_owned()
}

/// The run that was asked for, if it was opened. Those of its tasks come after it.
pub fn standing(world: &World) -> Option<Standing> {
    let runs = runs(world);
    let run = runs.first()?;
    Some(Standing {
        run: word(run, "run"),
        state: word(run, "state"),
        sentence: word(run, "sentence"),
    })
}

/// `ordered` where a run's events follow one order.
pub fn of(world: &World, ordered: bool) -> (Outcome, Spent) {
    let mut found = Outcome::new();
    let runs = runs(world);
    let Some(first) = runs.first() else {
        return (found, Spent::default());
    };
    let run = word(first, "run");
    let mut told: Vec<String> = runs.iter().map(|run| one(world, run, ordered)).collect();
    // By task, not by when it was begun.
    told.sort();
    found.insert("runs".into(), told.join("\n"));
    found.insert("due".into(), format!("{:?}", due(world).len()));
    repository(world, &mut found);
    mirror(world, &run, ordered, &mut found);
    let verified = world.moat(&["audit", "verify"]).output().unwrap();
    found.insert("audit".into(), format!("{:?}", verified.status.code()));
    let mut left = BTreeMap::new();
    files(&world.home(), "", &mut left);
    // Of a lease whose process died right after its run had ended: empty, and nobody waits for them. As many slots are made as were taken at once;
    // and a baseline that was taken from its record built nothing to keep.
    let by_chance = ["/locks/", "/slots/", "/builds"];
    left.retain(|name, _| !by_chance.iter().any(|place| name.starts_with(place)));
    if !ordered {
        // Joined in another order, the same work makes other trees, bases of their views, and more or less has to be said of them.
        let by_order = ["/blobs/", "/bases/"];
        left.retain(|name, _| !by_order.iter().any(|place| name.contains(place)));
    }
    found.insert("files".into(), format!("{left:#?}"));
    let spent = Spent {
        money_micros: first["money-micros"].as_u64().unwrap_or(0),
        tokens: first["tokens"].as_u64().unwrap_or(0),
    };
    (found, spent)
}

/// The runs that would be taken up again, by what the journal keeps of how they stand.
pub fn due(world: &World) -> Vec<String> {
    let journal = Journal::open(&world.home()).unwrap();
    let due = journal.due().unwrap();
    due.into_iter().map(|(run, _)| run.to_string()).collect()
}

/// A run's task, if it is that of one, its state, and its events.
fn one(world: &World, run: &Value, ordered: bool) -> String {
    let id = word(run, "run");
    let output = world
        .moat(&["runs", "show", &id, "--json"])
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let events = shown["events"].as_array().cloned().unwrap_or_default();
    let task = word(&events[0]["event"]["child"]["task"], "id");
    let kept = events.iter().map(|recorded| &recorded["event"]);
    let kept = kept.filter(|event| {
        let kind = event["type"].as_str().unwrap_or_default();
        let by_order = !ordered && BY_ORDER.contains(&kind);
        !MORE.contains(&kind) && !by_order
    });
    let mut lines: Vec<String> = kept.map(|event| line(event, &id, ordered)).collect();
    if !ordered {
        lines.sort();
    }
    format!("{task} {}\n{}", word(run, "state"), lines.join("\n"))
}

fn line(event: &Value, run: &str, ordered: bool) -> String {
    let mut words = vec![word(event, "type")];
    // What they decided; times and digests of commits, which hold the run's name, are each run's own.
    let fields: &[&str] = match ordered {
        true => &["gate", "finding", "tree", "attempt"],
        false => &["task", "attempt"],
    };
    for field in fields {
        let holders = [event, &event["verdict"], &event["candidate"]];
        words.extend(
            holders
                .iter()
                .filter_map(|holder| Some(holder.get(field)?.to_string().replace(run, "RUN"))),
        );
    }
    words.join(" ")
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

fn mirror(world: &World, run: &str, ordered: bool, found: &mut Outcome) {
    let format = match ordered {
        true => "--format=%(refname) %(objecttype) %(tree)",
        false => "--format=%(refname) %(objecttype)",
    };
    for entry in std::fs::read_dir(world.home().join("repositories"))
        .unwrap()
        .flatten()
    {
        let path = entry.path().join("mirror.git");
        for (name, args) in [
            ("refs", &["for-each-ref", format][..]),
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
