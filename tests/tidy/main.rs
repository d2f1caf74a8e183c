//! The shape of the house, read from its files: rooms, arrows, doors, sizes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod attacks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Read in one sitting.
const LINES_MAX: usize = 720;

/// Which room may know which, beside itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("flow", &[]),
    ("capability", &["flow"]),
    ("locks", &[]),
    ("journal", &["flow", "locks"]),
    ("audit", &["capability", "flow", "locks"]),
    ("confine", &[]),
    ("egress", &["capability"]),
    ("model", &["capability", "egress", "flow"]),
    ("repo", &["flow", "locks"]),
    ("project", &["capability", "flow"]),
    ("catalog", &["capability", "flow"]),
    ("sandbox", &["capability", "confine", "flow", "locks"]),
    (
        "driver",
        &[
            "audit",
            "capability",
            "catalog",
            "confine",
            "egress",
            "flow",
            "journal",
            "locks",
            "model",
            "project",
            "repo",
            "sandbox",
        ],
    ),
    (
        "app",
        &[
            "audit",
            "capability",
            "catalog",
            "confine",
            "driver",
            "egress",
            "flow",
            "journal",
            "model",
            "project",
            "repo",
            "sandbox",
        ],
    ),
];

/// Words that open a door, and the only room that may say them.
const DOORS: &[(&str, &str)] = &[
    ("process::Command", "confine"),
    ("libc::fork", "confine"),
    // Programs of the machine's owner run unconfined: one place says which.
    ("confine::owner", "driver"),
    ("linux_keyutils", "egress"),
    ("TcpStream::connect", "egress"),
    ("reqwest", "egress"),
    ("hyper::client", "egress"),
    ("tokio_rustls::TlsConnector", "egress"),
    ("wasmtime::", "sandbox"),
    ("git2::", "repo"),
    ("rusqlite::", "journal"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(below).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["host", "sdk", "skills", "tests"] {
        sources(&root().join(folder), &mut found);
    }
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().display().to_string();
    found
        .iter()
        .map(|path| (name(path), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn every_file_says_what_it_owns_and_can_be_read_in_one_sitting() {
    for (name, text) in all() {
        assert!(
            text.starts_with("//! "),
            "{name} does not begin with a `//!` line"
        );
        assert!(
            text.lines().count() <= LINES_MAX,
            "{name} has {} lines",
            text.lines().count()
        );
        for drawer in ["utils.rs", "common.rs", "helpers.rs", "misc.rs"] {
            assert!(!name.ends_with(drawer), "{name} is a drawer, not a room");
        }
    }
}

#[test]
fn arrows_go_one_way() {
    let rooms: BTreeMap<&str, BTreeSet<&str>> = ARROWS
        .iter()
        .map(|(room, known)| (*room, known.iter().copied().collect()))
        .collect();
    for entry in std::fs::read_dir(root().join("host")).unwrap().flatten() {
        let room = entry.file_name().into_string().unwrap();
        let allowed = rooms
            .get(room.as_str())
            .unwrap_or_else(|| panic!("host/{room} is not in the table of rooms"));
        let manifest = std::fs::read_to_string(entry.path().join("Cargo.toml")).unwrap();
        let used = manifest
            .split("[dependencies]")
            .nth(1)
            .unwrap()
            .split("\n[")
            .next()
            .unwrap();
        for known in used
            .lines()
            .filter_map(|line| line.split(['.', ' ']).next())
            .filter(|name| rooms.contains_key(name))
        {
            assert!(allowed.contains(known), "{room} must not know {known}");
        }
    }
}

#[test]
fn every_door_is_in_its_one_room() {
    for (name, text) in all() {
        let Some(room) = name
            .strip_prefix("host/")
            .and_then(|rest| rest.split('/').next())
        else {
            continue;
        };
        if !name.contains("/src/") {
            continue;
        }
        for (word, owner) in DOORS {
            assert!(
                room == *owner || !text.contains(word),
                "{name} opens a second door: {word} belongs to {owner}"
            );
        }
        let pure = matches!(room, "flow" | "capability" | "project");
        assert!(
            !pure
                || ![
                    "std::fs",
                    "TcpStream",
                    "TcpListener",
                    "UdpSocket",
                    "ToSocketAddrs",
                    "SystemTime",
                    "Instant::now",
                    "tokio",
                    "async fn"
                ]
                .iter()
                .any(|word| text.contains(word)),
            "{name} is pure no more"
        );
    }
}

#[test]
fn steps_are_named_alike() {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join(folder)).unwrap().flatten();
        entries
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".rs")
                    .map(str::to_owned)
            })
            .filter(|name| name != "mod")
            .collect()
    };
    let decided = names("host/flow/src/step");
    let proved = names("tests/flow");
    for step in &decided {
        assert!(proved.contains(step), "tests/flow/{step}.rs is missing");
    }
    for done in names("host/driver/src/step")
        .iter()
        .filter(|name| *name != "skill")
    {
        assert!(
            decided.contains(done),
            "host/flow/src/step/{done}.rs is missing"
        );
    }
}

#[test]
fn nothing_is_put_off_or_tied_to_one_machine() {
    let off = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[ign", "ore]"),
    ];
    for (name, text) in all() {
        for word in off {
            assert!(!text.contains(word), "{name} holds {word}");
        }
    }
}
