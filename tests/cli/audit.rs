//! The audit trail of real runs: what is in it, that a change of it is found, and that nothing is done without it.

use std::path::PathBuf;

use serde_json::Value;

use crate::house::{House, git, told};

const REPORT: &str = "one full hour is charged as two";

fn file(house: &House) -> PathBuf {
    house.home().join("audit/000001.jsonl")
}

/// Entries by `moat audit --json` with more arguments.
fn entries(house: &House, args: &[&str]) -> Vec<Value> {
    let args = [&["audit", "--json"], args].concat();
    let output = house.moat(&args);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

fn of<'a>(entries: &'a [Value], kind: &str) -> Vec<&'a Value> {
    entries.iter().filter(|one| one["kind"] == kind).collect()
}

#[test]
fn every_call_and_every_verdict_of_a_run_is_in_the_trail_which_is_whole() {
    let house = House::new();
    house.meter();
    let output = house.moat(&["run", "--json", "--repo", "meter", REPORT]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = summary["run"].as_str().unwrap();

    let all = entries(&house, &["--run", run]);
    let (calls, used) = (of(&all, "call"), of(&all, "used"));
    let skills: Vec<_> = calls
        .iter()
        .map(|one| one["skill"].as_str().unwrap())
        .collect();
    assert_eq!(skills, ["triage", "test", "search-repair"]);
    for (call, used) in calls.iter().zip(&used) {
        assert_eq!(used["call"], call["number"]);
        assert_eq!(used["outcome"]["how"], "answered");
        assert_eq!(call["confinement"], "full");
    }
    let repair = used[2];
    assert_eq!(repair["commands"][0]["name"], "test");
    assert_eq!(
        repair["commands"][0]["times"], repair["host-calls"]["moat:host/process.run"],
        "{repair}"
    );
    let gates = of(&all, "verdict");
    assert!(gates.len() >= 3 && gates.iter().all(|one| one["finding"] == "pass"));
    let only = entries(
        &house,
        &["--skill", "triage", "--kind", "call", "--since", "1h"],
    );
    assert_eq!(only.len(), 1);
    let text = told(&house.moat(&["audit"]));
    assert!(text.contains("gate base-tests: pass"), "{text}");

    let verify = house.moat(&["audit", "verify", "--json"]);
    assert_eq!(verify.status.code(), Some(0), "{}", told(&verify));
    let whole: Value = serde_json::from_slice(&verify.stdout).unwrap();
    assert_eq!(whole["entries"], all.len());

    // A line that would say less than happened.
    let text = std::fs::read_to_string(file(&house)).unwrap();
    let at = text
        .lines()
        .position(|line| line.contains("\"used\""))
        .unwrap();
    let changed = text.replacen("\"times\":", "\"times\":1", 1);
    let changed = if changed == text {
        text.replacen("\"answered\"", "\"Answered\"", 1)
    } else {
        changed
    };
    std::fs::write(file(&house), &changed).unwrap();
    let verify = house.moat(&["audit", "verify"]);
    assert_eq!(verify.status.code(), Some(1), "{}", told(&verify));
    let said = told(&verify);
    let first = changed
        .lines()
        .zip(text.lines())
        .position(|(a, b)| a != b)
        .unwrap();
    assert!(
        first >= at && said.contains(&format!("000001.jsonl:{}", first + 1)),
        "{said}"
    );
    std::fs::write(file(&house), &text).unwrap();

    // A place that was kept shows that the trail was written anew.
    let kept = whole["last"].as_str().unwrap();
    let again = ["audit", "verify", "--through", kept];
    assert_eq!(house.moat(&again).status.code(), Some(0));
    std::fs::remove_dir_all(house.home().join("audit")).unwrap();
    std::fs::remove_file(house.home().join("audit.head")).unwrap();
    assert_eq!(house.moat(&["audit", "verify"]).status.code(), Some(0));
    assert_eq!(house.moat(&again).status.code(), Some(1));
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let house = House::new();
    let repo = house.meter();
    let base = git(&repo, &["rev-parse", "main"]);
    // A directory in the place of the file stops root as well.
    std::fs::create_dir_all(file(&house)).unwrap();
    let output = house.moat(&["run", "--repo", "meter", REPORT]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("nothing is done that it cannot record"),
        "{text}"
    );
    assert_eq!(git(&repo, &["rev-parse", "main"]), base);
    let runs: Value = serde_json::from_slice(&house.moat(&["runs", "--json"]).stdout).unwrap();
    let run = runs[0]["run"].as_str().unwrap();
    let show = told(&house.moat(&["runs", "show", run]));
    assert!(!show.contains("accepted"), "no skill was called: {show}");

    let cancel = house.moat(&["runs", "cancel", run]);
    assert_eq!(cancel.status.code(), Some(1), "{}", told(&cancel));

    std::fs::remove_dir(file(&house)).unwrap();
    let output = house.moat(&["runs", "resume", run]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let decisions = entries(&house, &["--kind", "decision"]);
    assert_eq!(decisions[0]["decided"]["what"], "resume");
    assert_eq!(decisions[0]["by"], "tester");
}

#[test]
fn a_call_by_hand_is_in_the_trail_too() {
    let house = House::new();
    house.meter();
    let input = house.path("input.json");
    std::fs::write(&input, r#"{"origin": "text", "text": "broken"}"#).unwrap();
    let args = ["skill", "run", "triage", "--repo", "meter", "--input"];
    let output = house.moat(&[&args[..], &[input.to_str().unwrap()]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let all = entries(&house, &["--skill", "triage"]);
    let kinds: Vec<_> = all
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["call", "used"]);
    assert!(all[0]["run"].is_null());
}
