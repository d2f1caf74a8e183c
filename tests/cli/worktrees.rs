//! Worktrees by every means that a machine may have: guest, commands and host see the same files, and the same comes of them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::house::{House, MOAT, git, guest, told};

/// The guest that does what its input says; built once, as the catalog builds skills.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| guest("guests", "probe.wasm"));

/// As `MOAT_WORKTREES` takes them. Which copies it makes is the file system's to say.
const MEANS: [&str; 2] = ["copies", "layers"];

/// Nobody's on any machine.
const USER: u32 = 54_327;

#[test]
fn everything_here_holds_for_an_ordinary_user() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let place = TempDir::new().unwrap();
    let open_to_all = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open_to_all(place.path());
    let at = |name: &str| place.path().join(name);
    for (from, to) in [
        (std::env::current_exe().unwrap(), at("tests")),
        (MOAT.into(), at("moat")),
    ] {
        std::fs::copy(from, &to).unwrap();
        open_to_all(&to);
    }
    std::fs::write(at("guest.wasm"), GUEST.as_slice()).unwrap();
    open_to_all(&at("guest.wasm"));
    let home = at("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let output = Command::new(at("tests"))
        .args(["worktrees::", "--skip", "ordinary_user"])
        .env_clear()
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("MOAT_TEST_PROGRAM", at("moat"))
        .env("MOAT_TEST_GUEST", at("guest.wasm"))
        .current_dir(&home)
        .gid(USER)
        .uid(USER)
        .output()
        .unwrap();
    let said = told(&output);
    assert!(output.status.success(), "{said}");
    let one = "guest_command_and_host_see_the_same_whatever_the_means ... ok";
    assert!(said.contains(one), "they did run: {said}");
}

fn moat(house: &House, means: &str, args: &[&str]) -> Output {
    let mut command = house.command(args);
    command.env("MOAT_WORKTREES", means).output().unwrap()
}

fn entries(directory: &Path) -> usize {
    std::fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn a_run_ends_in_the_same_tree_whatever_the_means() {
    let mut trees = vec![];
    for means in MEANS {
        let house = House::new();
        let repo = house.meter();
        let report = "one full hour is charged as two";
        let output = moat(&house, means, &["run", "--repo", "meter", report]);
        assert_eq!(output.status.code(), Some(0), "{means}: {}", told(&output));
        trees.push(git(&repo, &["rev-parse", "main^{tree}"]));
        assert_eq!(entries(&house.home().join("runs")), 0, "views are left");
        let doctor = moat(&house, means, &["doctor", "--json"]);
        let doctor: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let how = doctor["worktrees"]["detail"].as_str().unwrap().to_owned();
        let bases = entries(&house.home().join("bases"));
        match means {
            "layers" => assert!(how.starts_with("layers over a base") && bases > 0, "{how}"),
            _ => assert!(how.starts_with("copies"), "{how}"),
        }
    }
    assert_eq!(trees[0], trees[1]);
}

const MANIFEST: &str = r#"
[skill]
name = "prober"
version = "0.1.0"
role = "job"
description = "Does what its input says."

[[files]]
path = "meter"
access = "read"
reason = "r"

[[files]]
path = "src"
access = "write"
except = ["**/*.pem"]
reason = "r"

[[files]]
path = "note.txt"
access = "write"
reason = "r"

[[processes]]
project = "look"
reason = "r"

[[network]]
host = "x.example.com"
methods = ["GET"]
reason = "r"

[model]
aliases = ["small"]
max-tokens = 10
reason = "r"

[release]
reason = "r"

[limits]
memory = "64MiB"
time = "60s"
"#;

const POLICY: &str = "hidden = [\"**/.env\"]\n[[ceiling]]\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nnetwork = [\"GET *.example.com\"]\n\
    models = [\"*\"]\nmax-tokens = 10000\nrelease = true\nmemory = \"1GiB\"\ntime = \"10m\"\n";

/// What a command sees; and it leaves its own marks.
const LOOK: &str = "find . ! -name . -printf '%P %y %l\\n' | grep -v ^meter/ | sort; cat src/* src/*/* note.txt 2>/dev/null; \
    echo poison > src/a; rm -rf src/deep note.txt; mkdir src/litter; echo x > litter";

/// A repository with a skill that may change part of it, and must not see another.
fn prepared(house: &House) {
    let repo = house.meter();
    for (path, text) in [
        ("src/a", "one\n"),
        ("src/b", "two\n"),
        ("src/key.pem", "SECRET\n"),
        ("src/deep/c", "three\n"),
        ("src/deep/.env", "SECRET\n"),
        ("note.txt", "note\n"),
        ("other/d", "four\n"),
        (".env", "SECRET\n"),
    ] {
        let path = repo.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let toml = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
    let look = format!("[commands]\nlook = [\"sh\", \"-c\", {LOOK:?}]\n");
    std::fs::write(repo.join("moat.toml"), toml.replace("[commands]\n", &look)).unwrap();
    git(&repo, &["add", "-A", "-f"]);
    git(&repo, &["commit", "-q", "-m", "more"]);
    std::fs::create_dir_all(house.path("prober")).unwrap();
    std::fs::write(house.path("prober/component.wasm"), GUEST.as_slice()).unwrap();
    std::fs::write(house.path("prober/skill.toml"), MANIFEST).unwrap();
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::write(house.home().join("policy.toml"), POLICY).unwrap();
}

fn asked(house: &House, means: &str, steps: &Value) -> Value {
    let input = json!({"do": "story", "steps": steps});
    std::fs::write(house.path("input.json"), input.to_string()).unwrap();
    let call = [
        "skill",
        "run",
        "./prober",
        "--repo",
        "meter",
        "--input",
        "input.json",
        "--record",
        "--json",
    ];
    let output = moat(house, means, &call);
    let value: Result<Value, _> = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|error| panic!("{means}: {error}: {}", told(&output)));
    assert_eq!(output.status.code(), Some(0), "{means}: {value}");
    value
}

#[test]
fn guest_command_and_host_see_the_same_whatever_the_means() {
    let look = json!({"do": "run", "name": "look"});
    let steps = json!([
        look,
        {"do": "write", "path": "src/a", "text": "changed\n"}, look,
        {"do": "write", "path": "src/new", "text": "new\n"}, {"do": "remove", "path": "src/b"}, look,
        {"do": "rename", "path": "src/a", "to": "src/renamed"}, {"do": "rename", "path": "src/deep/c", "to": "src/b"}, look,
        {"do": "clear", "path": "src/deep"}, {"do": "make", "path": "src/deep"}, look,
        {"do": "write", "path": "src/deep/again", "text": "again\n"}, {"do": "remove", "path": "src/new"}, look,
        {"do": "write", "path": "note.txt", "text": "noted\n"}, {"do": "read", "path": "note.txt"}, look,
        {"do": "read", "path": "src/a"}, {"do": "read", "path": "src/renamed"},
    ]);
    let mut came = vec![];
    for means in MEANS {
        let house = House::new();
        prepared(&house);
        let value = asked(&house, means, &steps);
        let output: Value = serde_json::from_str(value["output"]["ok"].as_str().unwrap()).unwrap();
        came.push((output, value["diff"].as_str().unwrap().to_owned()));
        assert_eq!(entries(&house.home().join("calls")), 0, "a view is left");
    }
    let (output, diff) = &came[0];
    let seen: Vec<&str> = output
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(seen.len(), 7, "{output}");
    for (at, there, gone) in [
        (0, "one\ntwo\nthree", "changed"),
        (1, "changed\ntwo\nthree", "one"),
        (2, "changed\nnew\nthree", "src/b f"),
        (3, "src/renamed f", "src/a f"),
        (4, "src/deep d", "src/deep/"),
        (5, "src/deep/again f", "src/new f"),
        (6, "noted", "note\n"),
    ] {
        assert!(seen[at].contains(there), "{at} {there}: {}", seen[at]);
        assert!(!seen[at].contains(gone), "{at} {gone}: {}", seen[at]);
        for never in ["poison", "litter", "SECRET", ".env", "pem", "other"] {
            assert!(!seen[at].contains(never), "{at} {never}: {}", seen[at]);
        }
    }
    for line in ["+noted", "+again", "+changed"] {
        assert!(diff.contains(line), "{line}: {diff}");
    }
    assert!(
        !diff.contains("SECRET"),
        "what is hidden is as it was: {diff}"
    );
    assert_eq!(came[0], came[1]);
}

#[test]
fn what_is_hidden_or_not_granted_is_so_whatever_the_means() {
    let mut steps = vec![];
    for path in [
        "src/key.pem",
        "src/deep/.env",
        ".env",
        "other/d",
        "moat.toml",
    ] {
        steps.push(json!({"do": "read", "path": path}));
    }
    for path in ["meter/fees.py", "new", "other/d", "meter/new", ".env"] {
        steps.push(json!({"do": "write", "path": path, "text": "planted"}));
    }
    for path in ["meter/fees.py", "src/key.pem"] {
        steps.push(json!({"do": "remove", "path": path}));
        steps.push(json!({"do": "rename", "path": path, "to": "src/taken"}));
    }
    steps.push(json!({"do": "clear", "path": "meter"}));
    for means in MEANS {
        let house = House::new();
        prepared(&house);
        let value = asked(&house, means, &json!(steps));
        let output: Value = serde_json::from_str(value["output"]["ok"].as_str().unwrap()).unwrap();
        for (step, came) in steps.iter().zip(output.as_array().unwrap()) {
            assert!(came["err"].is_string(), "{means} {step}: {came}");
        }
        assert_eq!(value["diff"], "", "{means}");

        // What is put where something is hidden does not come out.
        let planted = json!([
            {"do": "write", "path": "src/key.pem", "text": "planted"},
            {"do": "write", "path": "src/deep/.env", "text": "planted"},
            {"do": "clear", "path": "src/deep"},
        ]);
        let value = asked(&house, means, &planted);
        let diff = value["diff"].as_str().unwrap();
        assert!(
            !diff.contains("planted") && !diff.contains("SECRET"),
            "{means}: {diff}"
        );
        assert!(diff.contains("src/deep/c"), "{means}: {diff}");
    }
}

/// As in a container whose state directory lies on an overlay.
#[test]
fn where_layers_do_not_work_copies_are_made_and_the_doctor_says_why() {
    let house = House::new();
    house.meter();
    let at = |name: &str| house.path(name).display().to_string();
    for name in ["lower", "upper", "work", "seen"] {
        std::fs::create_dir(house.path(name)).unwrap();
    }
    let program = std::env::var("MOAT_TEST_PROGRAM").unwrap_or_else(|_| MOAT.into());
    let within = |means: &str, args: &str| {
        let script = format!(
            "mount -t overlay o -o userxattr,lowerdir={},upperdir={},workdir={} {seen} && export MOAT_HOME={seen}/home && exec {program} {args}",
            at("lower"),
            at("upper"),
            at("work"),
            seen = at("seen")
        );
        Command::new("unshare")
            .args(["-Urm", "sh", "-c", &script])
            .env("MOAT_WORKTREES", means)
            // No package caches: those need overlays.
            .env("HOME", house.path("nowhere"))
            .env("CARGO_HOME", house.path("nowhere"))
            .current_dir(house.path("."))
            .output()
            .unwrap()
    };
    let doctor = within("cheapest", "doctor");
    let text = told(&doctor);
    // On some file systems they share their blocks.
    let (_, said) = text.split_once("ok       worktrees: copies").unwrap();
    let (_, why) = said.split_once("; ").unwrap();
    assert!(
        why.starts_with("layers do not work here: a file cannot be marked as gone"),
        "{text}"
    );
    let gates = within("cheapest", "gate run tests --repo meter");
    assert!(told(&gates).contains("Fail"), "{}", told(&gates));

    // Whoever asks for layers gets nothing else.
    let doctor = within("layers", "doctor");
    let text = told(&doctor);
    assert_eq!(doctor.status.code(), Some(3), "{text}");
    assert!(
        text.contains("MISSING  worktrees: MOAT_WORKTREES asks for layers"),
        "{text}"
    );
    let gates = within("layers", "gate run tests --repo meter");
    let text = told(&gates);
    assert!(
        text.contains("could not run") && text.contains("asks for layers"),
        "{text}"
    );
    let unknown = moat(&house, "anyhow", &["doctor"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", told(&unknown));
    confine::remove_tree(&house.path("work")).unwrap();
}
