//! What must be so at the end: the work of every agent is on the branch or kept where it is said to be, and nothing else is left.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::agents::Agent;
use crate::chaos::Form;
use crate::house::{git, told};
use crate::place::Place;
use crate::procs;

pub fn of(place: &Place, form: Form, agents: &[Agent]) {
    let complaints = place.complaints();
    println!("  complaints: {complaints:#?}");
    match form {
        Form::Tasks => tasks(place, agents),
        _ => each(place, agents),
    }
    nothing_is_paid_twice(place, agents);
    tell_bases(place);
    the_repository_is_sound(place);
    the_journal_is_sound(place);
    nothing_is_left(place);
}

fn word<'a>(run: &'a Value, key: &str) -> &'a str {
    run[key].as_str().unwrap_or_default()
}

/// Runs by what they are about.
fn by_title(place: &Place) -> BTreeMap<String, Value> {
    let runs = place.runs();
    let count = runs.len();
    let by_title: BTreeMap<String, Value> = runs
        .into_iter()
        .map(|run| (word(&run, "title").to_owned(), run))
        .collect();
    assert_eq!(by_title.len(), count, "two runs of one name");
    by_title
}

/// Each agent is a run.
fn each(place: &Place, agents: &[Agent]) {
    let runs = by_title(place);
    let mut ends = BTreeMap::<&str, usize>::new();
    for agent in agents {
        let run = &runs[&agent.name()];
        let state = word(run, "state");
        *ends.entry(state).or_default() += 1;
        match state {
            "merged" => assert!(
                agent.is_done(&place.repo),
                "{} is merged and not there: {run:#}",
                agent.name()
            ),
            _ => its_work_is_kept(place, run),
        }
        if state != agent.ends() {
            println!("  {}: {state}: {}", agent.name(), word(run, "sentence"));
        }
    }
    println!("  ends: {ends:?}");
    let merged = agents.iter().filter(|agent| agent.ends() == "merged");
    let done = merged.filter(|agent| agent.is_done(&place.repo)).count();
    assert!(done > 0, "none has merged anything");
}

/// Agents are tasks: merged are the runs that planned them.
fn tasks(place: &Place, agents: &[Agent]) {
    let mut ends = BTreeMap::<String, usize>::new();
    let runs = place.runs();
    for run in &runs {
        let state = word(run, "state");
        *ends.entry(state.to_owned()).or_default() += 1;
        if !matches!(state, "merged" | "joined") {
            println!(
                "  {}: {state}: {}",
                word(run, "title"),
                word(run, "sentence")
            );
            its_work_is_kept(place, run);
        }
    }
    println!("  ends: {ends:?}");
    let all = runs
        .iter()
        .all(|run| matches!(word(run, "state"), "merged" | "joined"));
    for agent in agents.iter().filter(|_| all) {
        assert!(agent.is_done(&place.repo), "{} is not there", agent.name());
    }
}

/// What a run that is not merged has made is an object of the mirror, under the name that people are told.
fn its_work_is_kept(place: &Place, run: &Value) {
    let shown = place.shown(word(run, "run"));
    let kept = &shown["where"];
    let refs = kept["refs"].as_object().cloned().unwrap_or_default();
    assert!(!refs.is_empty(), "nothing of it is kept: {run:#} {kept:#}");
    for name in refs.keys() {
        git(Path::new(word(kept, "git-dir")), &["cat-file", "-e", name]);
    }
}

/// There are none where worktrees are plain checkouts.
fn tell_bases(place: &Place) {
    let entries = std::fs::read_dir(place.home().join("bases"));
    let directories = entries.into_iter().flatten().flatten();
    let directories = directories.filter(|entry| entry.path().is_dir());
    let is_layer = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().contains('+');
    let (layers, whole): (Vec<_>, Vec<_>) = directories.partition(is_layer);
    println!("  bases: {} whole, {} layers", whole.len(), layers.len());
}

/// A question is asked once in each attempt, and one that was under way when its moat was killed is asked with the same key.
fn nothing_is_paid_twice(place: &Place, agents: &[Agent]) {
    let paid: usize = agents.iter().map(|agent| place.paid(*agent)).sum();
    let of_run = |run: &Value| run["attempts"].as_u64().unwrap_or(0) as usize;
    let attempts: usize = place.runs().iter().map(of_run).sum();
    println!("  paid calls: {paid}, attempts: {attempts}");
}

fn the_repository_is_sound(place: &Place) {
    let repo = &place.repo;
    git(repo, &["fsck", "--strict", "--no-dangling"]);
    git(repo, &["merge-base", "--is-ancestor", &place.base, "main"]);
    assert_eq!(git(repo, &["status", "--porcelain"]), "");
    assert_eq!(git(repo, &["worktree", "list"]).lines().count(), 1);
    assert_eq!(git(repo, &["for-each-ref"]).lines().count(), 1);
}

fn the_journal_is_sound(place: &Place) {
    let journal = rusqlite::Connection::open(place.home().join("journal.sqlite")).unwrap();
    let said: String = journal
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(said, "ok");
    drop(journal);
    let verified = place.moat(&["audit", "verify"]).output().unwrap();
    assert!(verified.status.success(), "{}", told(&verified));
}

fn nothing_is_left(place: &Place) {
    let living = procs::left();
    assert!(living.is_empty(), "processes are left: {living:#?}");
    let mounts = procs::mounts_below(&place.home());
    assert!(mounts.is_empty(), "mounts are left: {mounts:?}");
    let views = entries(&place.home().join("runs"));
    assert!(views.is_empty(), "views are left: {views:?}");
    for file in files(&place.home()) {
        let name = file.display().to_string();
        assert!(is_free(&file), "{name} is held by nobody that lives");
        assert!(
            !name.ends_with(".lock") || !name.contains("/mirror.git/refs/"),
            "{name} is left"
        );
    }
    let own = files(&place.repo.join(".git"));
    let locks: Vec<&PathBuf> = own
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "lock"))
        .collect();
    assert!(locks.is_empty(), "locks of git are left: {locks:?}");
    let mirrors = entries(&place.home().join("repositories"));
    for mirror in mirrors {
        let mut fsck = Command::new("git");
        fsck.arg("--git-dir").arg(mirror.join("mirror.git"));
        let said = fsck
            .args(["fsck", "--strict", "--no-dangling"])
            .output()
            .unwrap();
        assert!(said.status.success(), "{}", told(&said));
    }
    println!(
        "  lock files of runs: {}",
        entries(&place.home().join("locks")).len()
    );
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in entries(directory) {
        match path.is_dir() && !path.is_symlink() {
            true => found.extend(files(&path)),
            // What says in a layer that a name is gone cannot be opened.
            false if path.is_file() => found.push(path),
            false => {}
        }
    }
    found
}

/// Nobody has it locked.
fn is_free(file: &Path) -> bool {
    File::open(file).is_ok_and(|file| file.try_lock().is_ok())
}
