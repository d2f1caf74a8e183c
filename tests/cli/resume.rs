//! `kill -9` in the middle of a step: it goes on where it was, pays for nothing twice, and does nothing outside twice.

use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::http::{Request, Server, whole};
use support::model::provider;

use crate::house::{House, git, told};
use crate::models::{Modelled, mends};
use crate::network::Asking;

/// A moat that one of the stand-ins kills.
#[derive(Clone, Default)]
struct Victim(Arc<AtomicU32>);

impl Victim {
    /// Starts it; nothing is asked of the stand-in before it is known.
    fn run(&self, command: &mut Command) -> Child {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.0.store(child.id(), Ordering::SeqCst);
        child
    }

    /// Kills it, once.
    fn kill(&self) -> bool {
        let pid = self.0.swap(0, Ordering::SeqCst);
        let Some(pid) = Pid::from_raw(pid as i32) else {
            return false;
        };
        kill_process(pid, Signal::KILL).unwrap();
        true
    }
}

fn only_run(house: &House) -> Value {
    let output = house.moat(&["runs", "--json"]);
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    runs[0].clone()
}

fn resume(house: &House, more: &[&str]) -> Output {
    let run = only_run(house)["run"].as_str().unwrap().to_owned();
    let args: Vec<&str> = ["runs", "resume", &run]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    house.moat(&args)
}

/// When the moat is killed, seen from its model.
#[derive(Clone, Copy, Debug)]
enum When {
    /// The request has come.
    Asked,
    /// So long after the answer was sent.
    Answered(Duration),
}

#[test]
fn a_run_killed_at_any_call_of_its_model_pays_for_none_twice() {
    let honours = |modelled: &Modelled| {
        let file = modelled.house.home().join("models.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("key-file", "charges-once = true\nkey-file");
        std::fs::write(file, text).unwrap();
    };
    // The model charges for a key that it has not seen; and so for each request without one.
    let stand_in = |victim: &Victim, at: usize, when: Option<When>| {
        let (keys, victim) = (Arc::new(Mutex::new(Vec::<String>::new())), victim.clone());
        let charged = keys.clone();
        let server = provider(move |turn| {
            let mut keys = keys.lock().unwrap();
            let known = keys
                .iter()
                .position(|key| key == turn.key && !key.is_empty());
            let number = known.unwrap_or(keys.len());
            if known.is_none() {
                keys.push(turn.key.to_owned());
            }
            if number == at && known.is_none() {
                match when {
                    Some(When::Asked) => drop(victim.kill()),
                    Some(When::Answered(after)) => {
                        let victim = victim.clone();
                        std::thread::spawn(move || {
                            std::thread::sleep(after);
                            victim.kill();
                        });
                    }
                    None => {}
                }
            }
            mends()[number.min(2)].clone()
        });
        (server, charged)
    };
    let (server, charged) = stand_in(&Victim::default(), 0, None);
    let reference = Modelled::new(&server, "anthropic");
    honours(&reference);
    assert!(reference.run().status.success());
    let calls = charged.lock().unwrap().len();
    assert_eq!((calls, server.seen().len()), (3, 3));
    let money = |house: &House| {
        let run = only_run(house);
        (run["money-micros"].clone(), run["tokens"].clone())
    };
    let tree = |modelled: &Modelled| git(&modelled.repo, &["rev-parse", "main^{tree}"]);

    let millis = |ms| When::Answered(Duration::from_millis(ms));
    for (at, when) in
        (0..calls).flat_map(|at| [(at, When::Asked), (at, millis(2)), (at, millis(30))])
    {
        let victim = Victim::default();
        let (server, charged) = stand_in(&victim, at, Some(when));
        let modelled = Modelled::new(&server, "anthropic");
        honours(&modelled);
        let text = "one full hour is charged as two";
        let mut child = victim.run(&mut modelled.house.command(&["run", "--repo", "meter", text]));
        child.wait().unwrap();
        if only_run(&modelled.house)["state"] != "merged" {
            let output = resume(&modelled.house, &[]);
            assert_eq!(
                output.status.code(),
                Some(0),
                "{at} {when:?}: {}",
                told(&output)
            );
        }
        assert_eq!(charged.lock().unwrap().len(), calls, "{at} {when:?}");
        assert!(server.seen().len() <= calls + 1, "{at} {when:?}");
        assert_eq!(
            money(&modelled.house),
            money(&reference.house),
            "{at} {when:?}"
        );
        assert_eq!(tree(&modelled), tree(&reference), "{at} {when:?}");
    }
}

/// A service that does something at each request, and whose answer to the first one nobody is there to hear.
fn service(victim: &Victim) -> Server {
    let victim = victim.clone();
    Server::start(move |request: &Request, stream: &mut TcpStream| {
        assert_eq!(request.method, "POST");
        victim.kill();
        whole(
            stream,
            200,
            &[],
            "one full hour is charged as two\nit answered",
        );
    })
}

/// A repository whose triage asks by POST, interrupted while it waits for the answer.
fn interrupted(idempotency: bool) -> (Server, Asking) {
    let victim = Victim::default();
    let server = service(&victim);
    let asking = Asking::new("triage", server.port, true);
    let edit = Asking::edit;
    let header = match idempotency {
        true => "methods = [\"POST\"]\nidempotency = \"Idempotency-Key\"",
        false => "methods = [\"POST\"]",
    };
    edit(
        asking.repo.join("tools/asker/skill.toml"),
        &[("methods = [\"GET\"]", header)],
    );
    edit(
        asking.repo.join("moat.toml"),
        &[("GET http://localhost", "POST http://localhost")],
    );
    git(&asking.repo, &["commit", "-qam", "it posts"]);
    let report = format!("POST http://localhost:{}/v1/effect", server.port);
    let mut command = asking.house.command(&["run", "--repo", "meter", &report]);
    victim.run(&mut command).wait().unwrap();
    assert_eq!(server.seen().len(), 1);
    assert_eq!(only_run(&asking.house)["state"], "interrupted");
    (server, asking)
}

#[test]
fn what_may_have_happened_is_asked_of_a_person_and_done_once() {
    for (word, times) in [("--happened", 1), ("--did-not-happen", 2)] {
        let (server, asking) = interrupted(false);
        let house = &asking.house;
        let output = resume(house, &[]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert_eq!(server.seen().len(), 1, "nothing is repeated");
        let parked = only_run(house);
        assert_eq!(parked["state"], "unknown");
        let sentence = parked["sentence"].as_str().unwrap();
        let what = format!("POST http://localhost:{}/v1/effect", server.port);
        assert!(sentence.contains(&what), "{sentence}");
        let output = resume(house, &[]);
        assert!(
            told(&output).contains("--did-not-happen"),
            "{}",
            told(&output)
        );
        assert_eq!(only_run(house)["state"], "unknown");
        let run = parked["run"].as_str().unwrap();
        let shown = told(&house.moat(&["runs", "show", run]));
        assert!(shown.contains("--happened"), "{shown}");

        let output = resume(house, &[word]);
        assert_eq!(output.status.code(), Some(0), "{word}: {}", told(&output));
        assert_eq!(server.seen().len(), times, "{word}");
        let trail = told(&house.moat(&["audit", "--json"]));
        assert!(trail.contains("\"what\":\"happened\""), "{trail}");
        // Nobody asks any more.
        assert_ne!(resume(house, &[word]).status.code(), Some(0));
    }
}

#[test]
fn a_service_that_takes_a_key_is_asked_again_with_the_same() {
    let (server, asking) = interrupted(true);
    let output = resume(&asking.house, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let keys: Vec<_> = server
        .seen()
        .iter()
        .map(|request| request.header("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[0], keys[1]);
    // Another run is another request.
    let report = format!("POST http://localhost:{}/v1/effect", server.port);
    asking.house.moat(&["run", "--repo", "meter", &report]);
    let seen = server.seen();
    assert_ne!(seen[2].header("idempotency-key").unwrap(), keys[0]);
}

/// What a run's triage made of the report, and what is open in the repository as a person sees it.
fn told_by(asking: &Asking, report: &str) -> (String, String) {
    asking.house.moat(&["run", "--repo", "meter", report]);
    let output = asking.house.moat(&["runs", "--json"]);
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = runs.as_array().unwrap().last().unwrap()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let shown = asking.house.moat(&["runs", "show", &run, "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let events = shown["events"].as_array().unwrap();
    let body = events
        .iter()
        .find_map(|one| one["event"]["decision"]["accepted"]["body"].as_str());
    let text = told(&asking.house.moat(&["runs", "show", &run]));
    (body.unwrap_or_default().to_owned(), text)
}

#[test]
fn a_migration_that_was_begun_is_known_to_whoever_comes_next() {
    let server = crate::network::server();
    let asking = Asking::new("triage", server.port, true);
    let open = "0042 of skill asker, intended in run";
    let (first, shown) = told_by(&asking, "MIGRATE 0042");
    assert!(first.contains("Standing::Fresh"), "{first} {shown}");
    assert!(shown.contains(open), "{shown}");
    // The next agent, in another run, does not do it again: it is told, and looks.
    let (second, shown) = told_by(&asking, "MIGRATE 0042");
    assert!(
        second.contains("Standing::Unconfirmed(\"adds a column\")"),
        "{second}"
    );
    assert!(shown.contains(open), "{shown}");
    let (third, shown) = told_by(&asking, "MIGRATE 0042 confirm");
    assert!(
        third.contains("Standing::Confirmed(\"the column is there\")"),
        "{third}"
    );
    assert!(!shown.contains(open), "{shown}");
    let (fourth, _) = told_by(&asking, "MIGRATE 0042");
    assert!(
        fourth.contains("Standing::Confirmed(\"the column is there\")"),
        "{fourth}"
    );
    assert!(
        told_by(&asking, "MIGRATE 0042 withdraw").0.is_empty(),
        "it failed"
    );
    let (other, _) = told_by(&asking, "MIGRATE 0043");
    assert!(other.contains("Standing::Fresh"), "{other}");
}
