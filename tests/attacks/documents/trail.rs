//! The trail as somebody would like to have it: shorter, older, doubled, forged, or no trail; and ids of runs that are paths.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use serde_json::json;

use super::{Plan, Yard, acts, server, snapshot, within};
use crate::house::{House, told};

/// A trail of a few calls, some of them with refusals.
fn trail() -> (Yard, PathBuf, String) {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    for name in ["a", "b\u{1b}]0;x\u{7}"] {
        yard.call(&json!({"do": "run", "name": name}));
    }
    yard.verifies();
    let file = yard.house.home().join("audit/000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().count() >= 4, "{text}");
    (yard, file, text)
}

fn is_whole(house: &House) -> bool {
    let output = within(house.command(&["audit", "verify"]));
    assert!(!told(&output).contains("panicked"), "{}", told(&output));
    assert_eq!(acts(&told(&output)), None, "{:?}", told(&output));
    assert!(output.status.code().is_some(), "{}", told(&output));
    output.status.code() == Some(0)
}

#[test]
fn a_shorter_older_or_doubled_trail_is_not_whole() {
    let (yard, file, text) = trail();
    let house = &yard.house;
    let lines: Vec<&str> = text.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let mut edits = vec![
        String::new(),
        text.clone() + lines[0] + "\n",
        text.clone() + &text,
        text.clone() + lines[lines.len() - 1] + "\n",
        "\n".to_owned() + &text,
        text.replace('\n', "\r\n"),
        "\u{feff}".to_owned() + &text,
        text.replace("\"kind\"", " \"kind\""),
    ];
    for at in 0..lines.len() {
        edits.push(join(&lines[..at]));
        edits.push(join(&[&lines[..at], &lines[at + 1..]].concat()));
        let mut swapped = lines.clone();
        swapped.swap(at, (at + 1) % lines.len());
        edits.push(join(&swapped));
        let line = lines[at];
        let doubled = line.replacen('{', "{\"kind\":\"used\",", 1);
        let more = line.replacen('{', "{\"note\":\"x\",", 1);
        let escaped = line.replacen("asker", "\\u0061sker", 1);
        for changed in [
            doubled.as_str(),
            &more,
            &escaped,
            &line.replacen("asker", "Asker", 1),
            &line.replacen("sha256:", "sha256:0", 1),
            &line.to_uppercase(),
        ] {
            let mut edited = lines.clone();
            edited[at] = changed;
            if changed != line {
                edits.push(join(&edited));
            }
        }
    }
    for edit in edits {
        std::fs::write(&file, &edit).unwrap();
        assert!(!is_whole(house), "{edit:?}");
    }
    std::fs::write(&file, &text).unwrap();
    assert!(is_whole(house));
    let head = house.home().join("audit.head");
    let kept = std::fs::read(&head).unwrap();
    for bytes in [
        &b""[..],
        b"0",
        b"\xff",
        &[0; 100],
        &kept[..kept.len() / 2],
        &[kept.clone(), kept.clone()].concat(),
    ] {
        std::fs::write(&head, bytes).unwrap();
        assert!(!is_whole(house), "{bytes:?}");
    }
    std::fs::remove_file(&head).unwrap();
    assert!(!is_whole(house), "without its head");
    std::fs::write(&head, &kept).unwrap();
    for name in ["000002.jsonl", "000003.jsonl", "000000.jsonl"] {
        let beside = file.with_file_name(name);
        std::fs::write(&beside, &text).unwrap();
        assert!(!is_whole(house), "{name}");
        std::fs::remove_file(&beside).unwrap();
    }
    std::fs::rename(&file, file.with_file_name("000002.jsonl")).unwrap();
    assert!(!is_whole(house), "moved");
    std::fs::rename(file.with_file_name("000002.jsonl"), &file).unwrap();
    assert!(is_whole(house), "this test can fail");
}

#[test]
fn moats_that_write_to_one_trail_at_one_time_make_one_chain() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let count = || {
        let output = yard.house.moat(&["audit", "verify", "--json"]);
        let whole: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(whole["whole"], true, "{whole}");
        whole["entries"].as_u64().unwrap()
    };
    yard.answered(&json!({"do": "count"}));
    let one = count();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..3 {
                    // Each is the first call of its memory, whoever else is there.
                    assert_eq!(yard.answered(&json!({"do": "count"})), 1);
                }
            });
        }
    });
    assert_eq!(count(), one + 18 * one);
    // Killed at any time, it is whole, and goes on.
    for wait in [1, 5, 20, 40, 80, 160] {
        let mut moat = yard
            .command(&json!({"do": "sleep"}))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        moat.kill().unwrap();
        moat.wait().unwrap();
        yard.verifies();
    }
    yard.answered(&json!({"do": "count"}));
    yard.verifies();
}

#[test]
fn an_id_of_a_run_is_no_path_option_or_pattern() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    yard.call(&json!({"do": "count"}));
    let outside = yard.house.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("canary"), "canary-of-a-run").unwrap();
    let before = (snapshot(&outside), snapshot(&yard.repo));
    let absolute = outside.display().to_string();
    for id in [
        "../outside",
        absolute.as_str(),
        "..",
        ".",
        "",
        "/",
        "../../outside/canary",
        "%2e%2e/outside",
        "*",
        "a' OR '1'='1",
        "1; DROP TABLE runs",
        "\u{202e}",
        "\u{1b}[2J",
        "--help-me",
        "latest",
        "a\nb",
        "~",
    ] {
        for args in [
            &["runs", "show", "--", id][..],
            &["runs", "resume", "--", id],
            &["runs", "cancel", "--", id],
            &["approve", "--", id],
            &["reject", "--", id],
            &["approve", "--", id, "protect"],
        ] {
            let output = within(yard.house.command(args));
            let text = told(&output);
            assert_ne!(output.status.code(), Some(0), "{args:?}: {text}");
            assert!(
                !text.contains("canary-of-a-run") && !text.contains("panicked"),
                "{args:?}: {text}"
            );
            assert_eq!(acts(&text), None, "{text:?}");
        }
        let listed = told(&within(
            yard.house.command(&["audit", &format!("--run={id}")]),
        ));
        assert!(
            acts(&listed).is_none() && !listed.contains("canary-of-a-run"),
            "{listed:?}"
        );
        let listed = told(&within(yard.house.command(&[
            "audit",
            &format!("--skill={id}"),
            "--since=1h",
        ])));
        assert!(
            acts(&listed).is_none() && !listed.contains("canary-of-a-run"),
            "{listed:?}"
        );
    }
    assert_eq!((snapshot(&outside), snapshot(&yard.repo)), before);
    yard.verifies();
}

#[test]
fn bytes_that_are_no_trail_are_not_whole_and_hurt_nobody() {
    let (yard, file, text) = trail();
    let house = &yard.house;
    let lines: Vec<&str> = text.lines().collect();
    for bytes in [
        b"\xff\xfe\xfd".repeat(1000),
        vec![0; 1 << 20],
        "[".repeat(5_000_000).into_bytes(),
        "{\"a\":".repeat(1_000_000).into_bytes(),
        vec![b'x'; 64 << 20],
        format!("{}\n{{\"number\":18446744073709551616}}\n", lines[0]).into_bytes(),
        format!(
            "{}\n{{\"number\":-1,\"kind\":\"\u{1b}]0;x\u{7}\u{202e}\"}}\n",
            lines[0]
        )
        .into_bytes(),
        lines[0]
            .replacen("asker", "\u{1b}]0;x\u{7}\u{202e}", 1)
            .into_bytes(),
    ] {
        std::fs::write(&file, &bytes).unwrap();
        assert!(!is_whole(house));
        let listed = told(&within(house.command(&["audit"])));
        assert_eq!(acts(&listed), None);
    }
    std::fs::remove_file(&file).unwrap();
    for make in [
        &(|path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()))
            as &dyn Fn(&Path),
        &|path: &Path| symlink("/dev/zero", path).unwrap(),
        &|path: &Path| symlink("/etc/passwd", path).unwrap(),
        &|path: &Path| symlink(path, path).unwrap(),
        &|path: &Path| {
            std::fs::File::create(path)
                .unwrap()
                .set_len(1 << 40)
                .unwrap()
        },
    ] {
        make(&file);
        assert!(!is_whole(house));
        // Nor is anything done that could not be recorded.
        let before = std::fs::read("/etc/passwd").unwrap();
        yard.call(&json!({"do": "count"}));
        assert!(std::fs::read("/etc/passwd").unwrap() == before);
        std::fs::remove_file(&file).unwrap();
    }
    std::fs::write(&file, &text).unwrap();
    assert!(is_whole(house), "this test can fail");
}
