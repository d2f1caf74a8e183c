//! Updates that ask for more, and who may let them in: by digest, by another name, by a second folder, from inside.

use std::path::Path;

use serde_json::Value;

use super::{Plan, Yard, fetch, network, policy, server, within};
use crate::house::{git, told};

fn digest(yard: &Yard) -> String {
    let output = yard
        .house
        .moat(&["skill", "review", "./meter/tools/asker", "--json"]);
    let page: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
    let text = page.to_string();
    let at = text.find("sha256:").unwrap();
    text[at..at + 71].to_owned()
}

/// The ledgers and everything else that lets a version in.
fn ledgers(home: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all = super::snapshot(home).into_iter();
    all.filter(|(path, _)| path.to_string_lossy().contains("approv"))
        .collect()
}

#[test]
fn an_approval_of_one_version_lets_no_other_in() {
    let (server, other) = (server(), server());
    let yard = Yard::new(&Plan::asking(server.port));
    let first = digest(&yard);
    let mut wider = Plan::asking(server.port);
    wider.manifest += &network(other.port, "http", "\"GET\"");
    yard.skill(&wider);
    yard.commit("an update");
    let second = digest(&yard);
    assert_ne!(first, second, "another manifest is another version");
    let before = ledgers(&yard.house.home());
    for named in [
        first.as_str(),
        &first.to_uppercase(),
        &second[..70],
        &second[7..],
        "sha256:",
        "*",
        "",
        "latest",
        &format!("{second} {first}"),
        &format!("{first},{second}"),
        &format!("sha512:{}", &second[7..]),
    ] {
        let output = yard.house.moat(&[
            "skill", "approve", "asker", "--repo", "meter", "--digest", named,
        ]);
        assert_ne!(
            output.status.code(),
            Some(0),
            "{named:?}: {}",
            told(&output)
        );
    }
    for name in [
        "Asker",
        "asker ",
        "../asker",
        "triage/../asker",
        "asker\0x",
        "\u{430}sker",
        "-asker",
        "",
    ] {
        if name.contains('\0') {
            continue;
        }
        let output = yard.house.moat(&[
            "skill", "approve", "--repo", "meter", "--digest", &second, "--", name,
        ]);
        assert_ne!(output.status.code(), Some(0), "{name:?}: {}", told(&output));
    }
    assert_eq!(ledgers(&yard.house.home()), before);
    let decisions = told(&yard.house.moat(&["audit", "--kind", "decision"]));
    assert!(!decisions.contains("approved skill"), "{decisions}");
}

#[test]
fn what_lies_in_the_files_is_not_what_is_run_after_a_review() {
    let (server, other) = (server(), server());
    let yard = Yard::new(&Plan::asking(server.port));
    yard.policy(&policy(&format!(
        "network = [\"http://localhost:{0}\", \"http://localhost:{1}\"]\nprivate = [\"http://localhost:{0}\", \"http://localhost:{1}\"]\n",
        server.port, other.port
    )));
    let folder = yard.repo.join("tools/asker");
    let good = yard.answered(&fetch(&format!("http://localhost:{}/v1", server.port)));
    assert_eq!(good["status"], 200);
    // After the review, the folder becomes something else: another manifest, no component, a link, a link for the folder.
    let mut wider = Plan::asking(server.port);
    wider.manifest += &network(other.port, "http", "\"GET\"");
    yard.skill(&wider);
    yard.call(&fetch(&format!("http://localhost:{}/v1", other.port)));
    std::fs::write(
        folder.join("component.wasm"),
        crate::bench::command("unreachable"),
    )
    .unwrap();
    let still = yard.call(&fetch(&format!(
        "http://localhost:{}/v1/still",
        server.port
    )));
    assert_eq!(still["status"], 200, "what is committed is what runs");
    std::fs::rename(&folder, yard.repo.join("tools/moved")).unwrap();
    std::os::unix::fs::symlink("moved", &folder).unwrap();
    let still = yard.call(&fetch(&format!(
        "http://localhost:{}/v1/again",
        server.port
    )));
    assert_eq!(still["status"], 200);
    assert!(other.seen().is_empty(), "{:?}", other.seen());
}

#[test]
fn a_skills_folder_on_the_branch_leads_nowhere_else() {
    let server = server();
    let url = format!("http://localhost:{}/v1", server.port);
    let yard = Yard::new(&Plan::asking(server.port));
    let outside = yard.house.path("outside");
    std::fs::create_dir(&outside).unwrap();
    for name in ["skill.toml", "component.wasm"] {
        std::fs::copy(yard.repo.join("tools/asker").join(name), outside.join(name)).unwrap();
    }
    let (path, text) = (
        yard.repo.join("moat.toml"),
        std::fs::read_to_string(yard.repo.join("moat.toml")).unwrap(),
    );
    let absolute = outside.display().to_string();
    for folder in [
        "../outside",
        absolute.as_str(),
        "tools/../../outside",
        "tools/./../../outside",
        ".",
        "",
        "..",
        ".git",
        "tools/link",
        "~/outside",
        "tools\\asker",
        "TOOLS/ASKER",
        "tools/asker/../../../outside",
        "file:///etc",
        "tools/asker\\u0000",
    ] {
        let folder = folder.replace('\\', "\\\\").replace("\\\\u0000", "\\u0000");
        std::fs::write(
            &path,
            text.replace("asker = \"tools/asker\"", &format!("asker = \"{folder}\"")),
        )
        .unwrap();
        let link = yard.repo.join("tools/link");
        let _ = std::os::unix::fs::symlink(&outside, &link);
        yard.commit(&format!("a folder {folder:?}"));
        yard.call(&fetch(&url));
        assert!(server.seen().is_empty(), "{folder}: {:?}", server.seen());
    }
    std::fs::write(&path, &text).unwrap();
    for name in ["skill.toml", "component.wasm"] {
        let file = yard.repo.join("tools/asker").join(name);
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(outside.join(name), &file).unwrap();
        yard.commit("a link for a file");
        yard.call(&fetch(&url));
        assert!(server.seen().is_empty(), "{name}: {:?}", server.seen());
        std::fs::remove_file(&file).unwrap();
        std::fs::copy(outside.join(name), &file).unwrap();
        yard.commit("the file again");
    }
    assert_eq!(
        yard.answered(&fetch(&url))["status"],
        200,
        "this test can fail"
    );
}

#[test]
fn a_skill_of_the_projects_own_does_not_stand_in_for_another() {
    let server = server();
    let url = format!("http://localhost:{}/v1", server.port);
    let yard = Yard::new(&Plan::asking(server.port));
    let path = yard.repo.join("moat.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // Two grants for one skill; one skill under two names; the name of one that comes with moat.
    for (from, to) in [
        ("asker = \"tools/asker\"", "triage = \"tools/asker\""),
        (
            "asker = \"tools/asker\"",
            "asker = \"tools/asker\"\nAsker = \"tools/asker\"",
        ),
        (
            "asker = \"tools/asker\"",
            "asker = \"tools/asker\"\nasker = \"tools/other\"",
        ),
        ("asker = \"tools/asker\"", "other = \"tools/asker\""),
        ("skill = \"asker\"", "skill = \"Asker\""),
        ("skill = \"asker\"", "skill = \"*\""),
        ("skill = \"asker\"", "skill = \"ask\u{435}r\""),
        ("skill = \"asker\"", "skill = \"asker \""),
        ("skill = \"asker\"", "skill = [\"asker\"]"),
    ] {
        assert!(text.contains(from));
        std::fs::write(&path, text.replace(from, to)).unwrap();
        yard.commit("another name");
        for name in ["asker", "other", "triage"] {
            let input = yard.house.path("input.json");
            std::fs::write(&input, fetch(&url).to_string()).unwrap();
            within(yard.house.command(&[
                "skill",
                "run",
                name,
                "--json",
                "--repo",
                "meter",
                "--input",
                input.to_str().unwrap(),
            ]));
        }
        assert!(server.seen().is_empty(), "{to}: {:?}", server.seen());
    }
    let doubled = format!("{text}\n[[grant]]\nskill = \"asker\"\nwrite = [\".\"]\n");
    std::fs::write(&path, doubled).unwrap();
    yard.commit("two grants");
    yard.call(&fetch(&url));
    assert!(server.seen().is_empty());
    std::fs::write(&path, &text).unwrap();
    yard.commit("as before");
    assert_eq!(yard.answered(&fetch(&url))["status"], 200);
    assert_eq!(git(&yard.repo, &["status", "--porcelain"]), "");
}
