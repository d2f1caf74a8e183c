//! One run: to its end, through a kill at any moment, and with the user's own things untouched.

use crate::house::{FEES, House, git, told};

#[test]
fn a_run_merges_the_fix_and_the_clean_checkout_follows() {
    let house = House::new();
    let repo = house.meter();
    std::fs::write(repo.join("notes.txt"), "untracked").unwrap();
    std::fs::write(repo.join("meter/fees.py"), "stashed").unwrap();
    git(&repo, &["stash"]);
    git(&repo, &["branch", "mine"]);
    let (stash, mine, base) = (
        git(&repo, &["rev-parse", "stash@{0}"]),
        git(&repo, &["rev-parse", "mine"]),
        git(&repo, &["rev-parse", "main"]),
    );
    let output = house.moat(&[
        "run",
        "--json",
        "--repo",
        "meter",
        "one full hour in meter/fees.py is charged as two",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (summary["state"].as_str(), summary["merged"].as_str()),
        (
            Some("merged"),
            Some(git(&repo, &["rev-parse", "main"]).as_str())
        )
    );
    assert_eq!(git(&repo, &["rev-parse", "main^"]), base);
    assert_eq!(
        git(&repo, &["diff", "--name-only", "main^", "main"]),
        "meter/fees.py"
    );
    assert_eq!(
        git(&repo, &["status", "--porcelain"]),
        "?? notes.txt",
        "files and index follow, nothing else changes"
    );
    assert_eq!(
        (
            git(&repo, &["rev-parse", "stash@{0}"]),
            git(&repo, &["rev-parse", "mine"])
        ),
        (stash, mine)
    );
    git(&repo, &["fsck", "--strict"]);
    let show = told(&house.moat(&["runs", "show", summary["run"].as_str().unwrap()]));
    assert!(
        show.contains("| base-tests | pass |") && show.contains("the branch is at"),
        "{show}"
    );
    let list = told(&house.moat(&["runs"]));
    assert!(list.contains("merged"), "{list}");
}

/// What tests leave behind in the worktree is not the skill's change.
#[test]
fn only_what_the_skill_wrote_is_merged() {
    let house = House::new();
    let repo = house.meter();
    let test = repo.join("tests/test_fees.py");
    let text = std::fs::read_to_string(&test).unwrap();
    std::fs::write(
        &test,
        format!("open('left-behind', 'a').write('x')\n{text}"),
    )
    .unwrap();
    git(
        &repo,
        &["commit", "-qam", "tests that leave something behind"],
    );
    let output = house.moat(&["run", "--repo", "meter", "one full hour is charged as two"]);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(
        git(&repo, &["diff", "--name-only", "main^", "main"]),
        "meter/fees.py"
    );
}

#[test]
fn a_run_without_a_guiding_test_parks_with_a_dossier_and_moves_nothing() {
    let house = House::new();
    let repo = house.meter();
    let fixed = FEES.replace("minutes // 60 + 1", "(minutes + 59) // 60");
    std::fs::write(repo.join("meter/fees.py"), fixed).unwrap();
    git(&repo, &["commit", "-qam", "fixed by hand"]);
    let before = git(&repo, &["rev-parse", "main"]);
    let output = house.moat(&[
        "run",
        "--repo",
        "meter",
        "the page shows the wrong colour somewhere",
    ]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("parked")
            && text.contains("no failing test shows the fault")
            && text.contains("moat runs resume"),
        "{text}"
    );
    assert_eq!(git(&repo, &["rev-parse", "main"]), before);
    let list = told(&house.moat(&["runs", "--json"]));
    assert!(list.contains("\"state\":\"parked\""), "{list}");
}
