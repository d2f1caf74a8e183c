//! Bad input gets a clear error with the mend, exit code 2, and nothing half-done.

use crate::house::{House, git, told};

fn refused(house: &House, args: &[&str], says: &[&str]) {
    let output = house.moat(args);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    for words in says {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let runs = told(&house.moat(&["runs", "--json"]));
    assert!(runs.starts_with("[]"), "no run was opened: {runs}");
}

#[test]
fn repositories_that_cannot_be_worked_on() {
    let house = House::new();
    std::fs::create_dir(house.path("plain")).unwrap();
    refused(
        &house,
        &["run", "--repo", "plain", "x y"],
        &["plain", "repository"],
    );
    git(house.path("plain").as_path(), &["init", "-q", "-b", "main"]);
    refused(&house, &["run", "--repo", "plain", "x y"], &["main"]);
    let repo = house.meter();
    std::fs::write(repo.join("meter/fees.py"), "changed").unwrap();
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["meter/fees.py", "commit"],
    );
    git(&repo, &["checkout", "-q", "."]);
    git(&repo, &["checkout", "-q", "--detach"]);
    refused(&house, &["run", "--repo", "meter", "x y"], &["branch"]);
}

#[test]
fn files_that_are_missing_or_wrong() {
    let house = House::new();
    let repo = house.meter();
    let good = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
    let with = |text: &str| {
        std::fs::write(repo.join("moat.toml"), text).unwrap();
        git(&repo, &["commit", "-qam", "change moat.toml"]);
    };
    with(&good.replace("attempts = 3", "attempts = 3\ntokns = 5"));
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["moat.toml:", "unknown field `tokns`", "mend"],
    );
    with(&good.replace("implement = \"search-repair\"", "implement = \"wizard\""));
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["wizard", "moat skill list"],
    );
    with(&good.replace("implement = \"search-repair\"", "implement = \"triage\""));
    refused(&house, &["run", "--repo", "meter", "x y"], &["role triage"]);
    with(&good.replace("test = [\"python3\"", "test = [\"no-such-program\""));
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["no-such-program", "PATH"],
    );
    git(&repo, &["rm", "-q", "moat.toml"]);
    git(&repo, &["commit", "-qm", "away"]);
    refused(&house, &["run", "--repo", "meter", "x y"], &["moat init"]);
}

#[test]
fn words_that_are_no_command() {
    let house = House::new();
    refused(&house, &["run"], &["Usage"]);
    refused(&house, &["runs", "show", "../../etc/passwd"], &["run id"]);
    refused(&house, &["runs", "show", "r1"], &["no run r1"]);
    refused(&house, &["runs", "resume", "r1"], &["no run r1"]);
    let init = house.moat(&["init", "--repo", "."]);
    assert_ne!(init.status.code(), Some(0));
}

#[test]
fn a_state_directory_or_policy_that_cannot_be_used_stops_everything() {
    let house = House::new();
    house.meter();
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::write(
        house.home().join("policy.toml"),
        "hidden = []\nunknown = 1\n",
    )
    .unwrap();
    let output = house.moat(&["run", "--repo", "meter", "x y"]);
    assert!(
        !output.status.success() && told(&output).contains("policy.toml:2"),
        "{}",
        told(&output)
    );
    std::fs::write(house.home().join("policy.toml"), "hidden = []\n").unwrap();
    let output = house.moat(&["run", "--repo", "meter", "one full hour is charged as two"]);
    assert!(
        !output.status.success(),
        "a policy without ceilings grants nothing: {}",
        told(&output)
    );
    let output = house
        .command(&["runs"])
        .env("MOAT_HOME", "/proc/nowhere")
        .output()
        .unwrap();
    assert!(told(&output).contains("MOAT_HOME"), "{}", told(&output));
}
