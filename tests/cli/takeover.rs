//! A moat that stands still loses its run to another, and changes nothing when it wakes; who has a run is said to whoever else wants it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use journal::Journal;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::house::{House, git, told};
use crate::worker::{Told, When, sleep};

const REPORT: &str = "one full hour is charged as two";

/// Types of the events of the only run.
fn events(home: &Path) -> Vec<String> {
    let journal = Journal::open(home).unwrap();
    let Some(run) = journal.runs().unwrap().first().map(|run| run.run.clone()) else {
        return vec![];
    };
    let kind = |body: &[u8]| {
        let event: Value = serde_json::from_slice(body).unwrap();
        match event["step"]["name"].as_str() {
            Some(step) => format!("{} {step}", event["type"].as_str().unwrap()),
            None => event["type"].as_str().unwrap().to_owned(),
        }
    };
    let stored = journal.read(&run, 0).unwrap();
    stored.iter().map(|one| kind(&one.body)).collect()
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Starts a run and stops its moat soon after this event.
fn frozen_after(house: &House, event: &str, lease: &str) -> Child {
    std::fs::create_dir_all(house.home()).unwrap();
    let child = house
        .command(&["run", "--repo", "meter", REPORT])
        .env("MOAT_LEASE", lease)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while !events(&house.home()).iter().any(|one| one == event) {
        std::thread::sleep(Duration::from_millis(2));
    }
    // Not in the midst of a transaction: that would stop the whole journal, which is another test.
    std::thread::sleep(Duration::from_millis(150));
    signal(&child, Signal::STOP);
    child
}

/// Tries to go on with the run until its lease has expired.
fn taken_over(house: &House, run: &str) -> Output {
    let begun = Instant::now();
    loop {
        let output = house
            .command(&["runs", "resume", run])
            .env("MOAT_LEASE", "2s")
            .output()
            .unwrap();
        let refused = told(&output).contains("being driven by another moat (process ");
        if !refused || begun.elapsed() > Duration::from_secs(60) {
            return output;
        }
    }
}

fn only_run(house: &House) -> String {
    let output = house.moat(&["runs", "--json"]);
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    runs[0]["run"].as_str().unwrap().to_owned()
}

#[test]
fn a_frozen_moat_that_wakes_changes_nothing_of_the_run_that_another_has_ended() {
    let reference = House::new();
    let repo = reference.meter();
    let output = reference.moat(&["run", "--repo", "meter", REPORT]);
    assert!(output.status.success(), "{}", told(&output));
    let tree = git(&repo, &["rev-parse", "main^{tree}"]);
    let uninterrupted = events(&reference.home());

    for step in ["baseline", "implement"] {
        let house = House::new();
        let repo = house.meter();
        let base = git(&repo, &["rev-parse", "main"]);
        let first = frozen_after(&house, &format!("step-started {step}"), "2s");
        let run = only_run(&house);
        let output = taken_over(&house, &run);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));

        // As of a run that nothing happened to, but for the step that was begun twice.
        let mut events_of = events(&house.home());
        let again = format!("step-started {step}");
        let at = events_of.iter().position(|one| *one == again).unwrap();
        assert_eq!(events_of.remove(at + 1), again);
        assert_eq!(events_of, uninterrupted);
        assert_eq!(git(&repo, &["rev-parse", "main^{tree}"]), tree);
        let tip = git(&repo, &["rev-parse", "main"]);
        let refs = git(&mirror(&house), &["for-each-ref"]);

        signal(&first, Signal::CONT);
        let woken = first.wait_with_output().unwrap();
        let text = told(&woken);
        assert_eq!(woken.status.code(), Some(1), "{text}");
        assert!(
            text.contains("was taken over by another moat (process "),
            "{text}"
        );
        assert_eq!(events(&house.home()).len(), uninterrupted.len() + 1);
        assert_eq!(git(&repo, &["rev-parse", "main"]), tip);
        assert_eq!(git(&mirror(&house), &["for-each-ref"]), refs);
        let commits = git(&repo, &["rev-list", "--count", &format!("{base}..main")]);
        assert_eq!(commits, "1");
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");
        let left: Vec<_> = std::fs::read_dir(house.home().join("runs"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "views are left: {left:?}");
    }
}

/// The only mirror.
fn mirror(house: &House) -> PathBuf {
    let repositories = std::fs::read_dir(house.home().join("repositories")).unwrap();
    let one = repositories.map(|entry| entry.unwrap().path()).next();
    one.unwrap().join("mirror.git")
}

#[test]
fn a_frozen_moat_that_wakes_sends_nothing_for_the_run_that_another_has_ended() {
    let frozen = Told::new(When::Never);
    let house = &frozen.asking.house;
    let [late, _] = frozen.late();
    let report = frozen.report(&[sleep(1500), late, json!({"do": "chat"})]);
    let first = house
        .command(&["run", "--repo", "meter", &report])
        .env("MOAT_LEASE", "2s")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while frozen.asked("/v1/look") == 0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    // The guest sleeps, and asks for more while nobody hears it.
    std::thread::sleep(Duration::from_millis(300));
    signal(&first, Signal::STOP);
    let output = taken_over(house, &only_run(house));
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let sent = || {
        let asked = ["/v1/effect", "/v1/late"].map(|path| frozen.asked(path));
        (asked, frozen.asked("/v1/look"), frozen.model.seen().len())
    };
    let before = sent();
    assert_eq!((before.0, before.2), ([1, 1], 2));

    signal(&first, Signal::CONT);
    let woken = first.wait_with_output().unwrap();
    assert_eq!(woken.status.code(), Some(1), "{}", told(&woken));
    assert!(told(&woken).contains("was taken over by another moat"));
    assert_eq!(sent(), before);
}

#[test]
fn who_wants_a_run_that_is_driven_hears_who_has_it() {
    let house = House::new();
    house.meter();
    let first = frozen_after(&house, "step-started baseline", "1m");
    let run = only_run(&house);
    let refused = house.moat(&["runs", "resume", &run]);
    let held = format!(
        "being driven by another moat (process {}, since 2",
        first.id()
    );
    assert!(
        !refused.status.success() && told(&refused).contains(&held),
        "{}",
        told(&refused)
    );
    signal(&first, Signal::CONT);
    let finished = first.wait_with_output().unwrap();
    assert!(finished.status.success(), "{}", told(&finished));
}

/// A process that has locked a file and was stopped: what a moat is that was stopped there.
struct FrozenKeeper(Child);

impl Drop for FrozenKeeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn frozen_keeper(locked: &Path) -> FrozenKeeper {
    let keeper = Command::new("flock")
        .arg("--no-fork")
        .arg(locked)
        .args(["sleep", "300"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("flock, of util-linux");
    let keeper = FrozenKeeper(keeper);
    let file = std::fs::File::open(locked).unwrap();
    while file.try_lock().is_ok() {
        file.unlock().unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&keeper.0, Signal::STOP);
    keeper
}

#[test]
fn who_waits_for_what_a_frozen_moat_keeps_hears_which_one_it_is_and_loses_nothing() {
    let stands_still = |locked: fn(&House) -> PathBuf| {
        let house = House::new();
        let repo = house.meter();
        let sound = house.moat(&["run", "--repo", "meter", REPORT]);
        assert!(sound.status.success(), "{}", told(&sound));
        // Something that the mirror does not have yet.
        git(&repo, &["reset", "--hard", "--quiet", "HEAD~1"]);
        git(
            &repo,
            &["commit", "--allow-empty", "--quiet", "--message=more"],
        );
        let base = git(&repo, &["rev-parse", "main"]);
        let keeper = frozen_keeper(&locked(&house));
        let refused = house.moat(&["run", "--repo", "meter", REPORT]);
        let text = told(&refused);
        assert!(!refused.status.success(), "{text}");
        let mend = format!("kill -KILL {}", keeper.0.id());
        assert!(
            text.contains("stands still") && text.contains(&mend),
            "{text}"
        );
        assert_eq!(git(&repo, &["rev-parse", "main"]), base);
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");

        drop(keeper);
        (house, repo, text)
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (house, ..) = stands_still(|house| mirror(house).join("moat.lock"));
            let again = house.moat(&["run", "--repo", "meter", REPORT]);
            assert!(again.status.success(), "{}", told(&again));
        });
        scope.spawn(|| {
            let (house, repo, text) = stands_still(|house| house.path("meter/.git"));
            assert!(text.contains("moat runs resume"), "{text}");
            let resumed = house.moat(&["runs", "resume", "--all"]);
            assert!(resumed.status.success(), "{}", told(&resumed));
            let commits = git(&repo, &["rev-list", "--count", "main"]);
            assert_eq!(commits, "3");
            assert_eq!(git(&repo, &["status", "--porcelain"]), "");
        });
    });
}

#[test]
fn two_state_directories_on_one_repository_leave_one_sound_branch() {
    let house = House::new();
    let repo = house.meter();
    let base = git(&repo, &["rev-parse", "main"]);
    let children: Vec<Child> = ["home", "other-home"]
        .map(|home| {
            house
                .command(&["run", "--repo", "meter", REPORT])
                .env("MOAT_HOME", house.path(home))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .into();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    }
    git(&repo, &["fsck", "--strict"]);
    git(&repo, &["merge-base", "--is-ancestor", &base, "main"]);
    assert_eq!(
        git(&repo, &["diff", "--name-only", &base, "main"]),
        "meter/fees.py"
    );
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
}
