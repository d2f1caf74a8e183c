//! A project's own skill: from a folder on the protected branch into the pipeline, without a rebuild of the host.

use std::path::Path;

use catalog::{Catalog, Package};

use crate::house::{House, git, told};

/// The search under another name stands in for a skill that a team wrote.
fn own_skill(repo: &Path, name: &str) {
    let catalog = Catalog::bundled().unwrap();
    let bundled: &Package = catalog.find(&"search-repair".parse().unwrap()).unwrap();
    let folder = repo.join("tools/own");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = bundled
        .manifest_text
        .replace("name = \"search-repair\"", &format!("name = \"{name}\""));
    std::fs::write(folder.join("skill.toml"), manifest).unwrap();
    std::fs::write(folder.join("component.wasm"), &bundled.component).unwrap();
}

fn in_pipeline(repo: &Path, name: &str) {
    let path = repo.join("moat.toml");
    let file = std::fs::read_to_string(&path).unwrap();
    let file = file
        .replace(
            "implement = \"search-repair\"",
            &format!("implement = \"{name}\"\n\n[skills]\n{name} = \"tools/own\""),
        )
        .replace("skill = \"search-repair\"", &format!("skill = \"{name}\""));
    std::fs::write(path, file).unwrap();
}

fn commit(repo: &Path) {
    git(repo, &["add", "-Af"]);
    git(repo, &["commit", "-qm", "a skill of our own"]);
}

#[test]
fn a_skill_of_the_projects_own_does_the_work() {
    let house = House::new();
    let repo = house.meter();
    own_skill(&repo, "fixer");
    in_pipeline(&repo, "fixer");
    commit(&repo);
    let output = house.moat(&["run", "--repo", "meter", "one full hour is charged as two"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(
        git(&repo, &["diff", "--name-only", "main^", "main"]),
        "meter/fees.py"
    );
}

#[test]
fn what_is_not_committed_or_goes_by_a_false_name_is_refused() {
    let house = House::new();
    let repo = house.meter();
    let refused = |says: &str| {
        let output = house.moat(&["run", "--repo", "meter", "x y"]);
        let text = told(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(says), "{says:?} is not in: {text}");
    };
    in_pipeline(&repo, "fixer");
    commit(&repo);
    own_skill(&repo, "fixer");
    git(&repo, &["stash", "-uq"]);
    refused("the branch has no tools/own/skill.toml");
    own_skill(&repo, "other");
    commit(&repo);
    refused("says that its name is other");
    let file = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
    std::fs::write(
        repo.join("moat.toml"),
        file.replace("fixer", "search-repair"),
    )
    .unwrap();
    commit(&repo);
    refused("comes with moat");
}
