//! Skill calls in real confined workers, tried by what a guest can and cannot do to the world.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod guest;
mod hostile;
mod http;
mod ordinary;
mod place;
mod replay;
mod session;
mod tricks;
mod wasi;
mod web;

use std::process::Command as Program;
use std::time::{Duration, Instant};

use sandbox::{Call, CallError, LoadError};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::place::{MANIFEST, PROBE, Place, grant, without, writing};

#[tokio::test]
async fn a_job_takes_json_and_gives_json() {
    let place = Place::new();
    let value = json!({"a": [1, "ä", null, true, 1.5]});
    assert_eq!(
        place
            .job(grant(MANIFEST), json!({"do": "echo", "value": value}))
            .await,
        value
    );
    let answer = place.call(json!({"do": "echo", "value": 1})).await.unwrap();
    assert!(answer.usage.fuel > 0 && answer.usage.peak_memory_bytes > 0);
    let wrong = place.job(grant(MANIFEST), json!({"do": "dance"})).await;
    assert_eq!(wrong["invalid-input"], "what is \"dance\"?");
}

#[tokio::test]
async fn files_are_those_of_the_view_and_read_only_unless_granted() {
    let place = Place::new();
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("secret"), "CANARY").unwrap();
    std::os::unix::fs::symlink(outside.path(), place.view.path().join("out")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.view.path().join("passwd")).unwrap();
    for path in ["a", "/a", "./a"] {
        assert_eq!(
            place
                .job(grant(MANIFEST), json!({"do": "read", "path": path}))
                .await,
            "content of a",
            "{path}"
        );
    }
    let secret = outside.path().join("secret").display().to_string();
    for path in [
        "../a",
        "src/../../etc/passwd",
        "/../etc/passwd",
        "out/secret",
        "passwd",
        "/proc/self/environ",
        "/view/a",
        secret.as_str(),
    ] {
        let answer = place
            .job(grant(MANIFEST), json!({"do": "read", "path": path}))
            .await;
        assert!(answer["failed"].is_string(), "{path}: {answer}");
    }
    for input in [
        json!({"do": "write", "path": "a", "text": "x"}),
        json!({"do": "write", "path": "new", "text": "x"}),
        json!({"do": "truncate", "path": "a"}),
        json!({"do": "remove", "path": "a"}),
        json!({"do": "rename", "path": "a", "to": "b"}),
        json!({"do": "link", "path": "a", "to": "b"}),
    ] {
        let answer = place.job(grant(MANIFEST), input.clone()).await;
        assert!(answer["failed"].is_string(), "{input}: {answer}");
    }
    assert_eq!(
        std::fs::read_to_string(place.view.path().join("a")).unwrap(),
        "content of a"
    );
    assert_eq!(std::fs::read_dir(place.view.path()).unwrap().count(), 4);
}

#[tokio::test]
async fn only_the_granted_part_can_be_changed() {
    let place = Place::new();
    let src = writing("src");
    // The rest of the worktree is not even granted for reading here; the view, not the guest, decides what exists.
    assert_eq!(
        place
            .job(
                src.clone(),
                json!({"do": "write", "path": "src/new", "text": "x"})
            )
            .await,
        Value::Null
    );
    assert_eq!(
        std::fs::read_to_string(place.view.path().join("src/new")).unwrap(),
        "x"
    );
    for input in [
        json!({"do": "write", "path": "a", "text": "x"}),
        json!({"do": "rename", "path": "src/new", "to": "moved"}),
        json!({"do": "link", "path": "a", "to": "src/a"}),
        json!({"do": "remove", "path": "a"}),
    ] {
        let answer = place.job(src.clone(), input.clone()).await;
        assert!(answer["failed"].is_string(), "{input}: {answer}");
    }
    assert_eq!(
        std::fs::read_to_string(place.view.path().join("a")).unwrap(),
        "content of a"
    );
    assert!(!place.view.path().join("moved").exists());
}

#[tokio::test]
async fn without_files_there_is_no_file_system() {
    let place = Place::new();
    let none = grant(&without("[[files]]"));
    assert!(place.job(none, json!({"do": "list", "path": "/"})).await["failed"].is_string());
}

#[tokio::test]
async fn the_environment_holds_granted_names_only() {
    let place = Place::new();
    assert_eq!(
        place.job(grant(MANIFEST), json!({"do": "env"})).await,
        json!([])
    );
    let shown = grant(&format!(
        "{MANIFEST}\n[[env]]\nname = \"SHOWN\"\nreason = \"test\"\n"
    ));
    assert_eq!(
        place.job(shown, json!({"do": "env"})).await,
        json!([["SHOWN", "value"]])
    );
}

#[tokio::test]
async fn an_undeclared_interface_is_refused_at_load_with_the_line() {
    let place = Place::new();
    let table = [
        ("[[processes]]\nproject", "moat:host/process"),
        ("[[network]]", "wasi:http/"),
        ("[model]", "moat:host/model"),
        ("[release]", "moat:host/release"),
    ];
    for (section, import) in table {
        let mut manifest = without(section);
        if section.starts_with("[[processes]]") {
            let start = manifest.find("[[processes]]").unwrap();
            let end = start + manifest[start..].find("\n[[network]]").unwrap();
            manifest.replace_range(start..end, "");
        }
        match place.sandbox.load(&PROBE, &grant(&manifest)).await {
            Err(LoadError::NotGranted {
                import: named,
                line,
            }) => {
                assert!(
                    named.starts_with(import) && line.starts_with("skill.toml: ["),
                    "{named} {line}"
                );
            }
            other => panic!("{section}: {other:?}"),
        }
    }
    let wrong_role = grant(&MANIFEST.replace("role = \"job\"", "role = \"deploy\""));
    assert!(matches!(
        place.sandbox.load(&PROBE, &wrong_role).await,
        Err(LoadError::WrongRole { .. })
    ));
}

#[tokio::test]
async fn the_terms_of_a_command_are_the_grants_and_what_was_refused_to_it_is_kept() {
    let place = Place::new();
    let input = || json!({"do": "run", "name": "test"});
    place.job(grant(MANIFEST), input()).await;
    let online = MANIFEST.replacen(
        "project = \"test\"",
        "project = \"test\"\nnetwork = true\ntime = \"3s\"\nmemory = \"64MiB\"",
        1,
    );
    assert_ne!(online, MANIFEST);
    let answer = place.call_with(grant(&online), input()).await.unwrap();
    let refused: Vec<_> = answer
        .denials
        .iter()
        .map(|(denial, times)| (denial.line.as_str(), *times))
        .collect();
    assert_eq!(refused, [("a line", 3)]);
    let commands = place.seen.commands.lock().unwrap();
    let terms: Vec<_> = commands
        .iter()
        .map(|(_, terms)| (terms.network, terms.wall_ms, terms.memory_bytes))
        .collect();
    assert_eq!(
        terms,
        [(false, None, None), (true, Some(3000), Some(64 << 20))]
    );
}

#[tokio::test]
async fn commands_are_asked_of_the_grant_before_they_reach_the_host() {
    let place = Place::new();
    let ran = place
        .job(grant(MANIFEST), json!({"do": "run", "name": "test"}))
        .await;
    assert_eq!(ran["stdout"], "ran");
    assert_eq!(
        place
            .job(
                grant(MANIFEST),
                json!({"do": "run", "program": "cargo", "args": ["metadata"]})
            )
            .await["stdout"],
        "ran"
    );
    assert_eq!(place.seen.commands.lock().unwrap().len(), 2);
    for input in [
        json!({"do": "run", "name": "deploy"}),
        json!({"do": "run", "name": "test", "args": ["--evil"]}),
        json!({"do": "run", "program": "cargo", "args": ["metadata", "--config=evil"]}),
        json!({"do": "run", "program": "sh", "args": ["-c", "id"]}),
        json!({"do": "run", "program": "/bin/cargo", "args": ["metadata"]}),
        json!({"do": "run", "name": "test", "directory": "../.."}),
    ] {
        let answer = place.call(input.clone()).await.unwrap();
        let inner = answer.output["ok"].as_str().unwrap_or_default().to_owned();
        assert!(
            inner.contains("Denied") || inner.contains("Invalid"),
            "{input}: {inner}"
        );
        if inner.contains("Denied") {
            assert_eq!(answer.denials.len(), 1);
            assert!(
                answer.denials[0]
                    .0
                    .line
                    .starts_with("skill.toml: [[processes]]")
            );
            assert!(
                !inner.contains("skill.toml"),
                "the line is not for the guest"
            );
        }
    }
    assert_eq!(
        place.seen.commands.lock().unwrap().len(),
        2,
        "nothing more reached the host"
    );
}

#[tokio::test]
async fn models_are_called_by_granted_alias_and_within_the_granted_tokens() {
    let place = Place::new();
    assert!(
        place
            .job(grant(MANIFEST), json!({"do": "chat", "alias": "large"}))
            .await["error"]
            .as_str()
            .unwrap()
            .contains("Denied")
    );
    assert!(place.seen.chats.lock().unwrap().is_empty());
    place
        .job(grant(MANIFEST), json!({"do": "chat", "alias": "small"}))
        .await;
    assert_eq!(place.seen.chats.lock().unwrap()[0].max_tokens, 10);
}

#[tokio::test]
async fn every_limit_ends_the_call_with_its_own_error_and_the_host_lives() {
    let place = Place::new();
    let begun = Instant::now();
    assert!(matches!(
        place.call(json!({"do": "spin"})).await,
        Err(CallError::OutOfTime { wall_ms: 2000 })
    ));
    assert!(matches!(
        place.call(json!({"do": "sleep"})).await,
        Err(CallError::OutOfTime { .. })
    ));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(matches!(
        place.call(json!({"do": "grow"})).await,
        Err(CallError::OutOfMemory { .. })
    ));
    assert!(matches!(
        place.call(json!({"do": "recurse"})).await,
        Err(CallError::Trap { .. })
    ));
    assert!(matches!(
        place.call(json!({"do": "panic"})).await,
        Err(CallError::Trap { .. })
    ));
    let fuel = grant(&format!("{MANIFEST}fuel = 1000000\n"));
    assert!(matches!(
        place.call_with(fuel, json!({"do": "spin"})).await,
        Err(CallError::OutOfFuel)
    ));
    let calls = grant(&format!("{MANIFEST}host-calls = 100\n"));
    assert!(matches!(
        place.call_with(calls, json!({"do": "storm"})).await,
        Err(CallError::TooManyHostCalls { max: 100 })
    ));
    assert!(
        *place.seen.notes.lock().unwrap() < 50,
        "and its words were paced"
    );
    let large = grant(&MANIFEST.replace("64MiB", "256MiB").replace("2s", "20s"));
    assert!(matches!(
        place.call_with(large, json!({"do": "huge"})).await,
        Err(CallError::OutputTooLarge { .. })
    ));
    let handles = grant(&format!("{MANIFEST}handles = 50\n"));
    match place
        .call_with(handles, json!({"do": "open", "path": "a"}))
        .await
    {
        Ok(answer) => assert!(
            answer.output["ok"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                <= 50
        ),
        Err(error) => assert!(matches!(error, CallError::Trap { .. }), "{error}"),
    }
    assert_eq!(
        place
            .job(grant(MANIFEST), json!({"do": "echo", "value": 1}))
            .await,
        1,
        "the next call is none the worse"
    );
}

#[tokio::test]
async fn a_flood_of_output_is_capped() {
    let place = Place::new();
    match place.call(json!({"do": "flood"})).await {
        Ok(answer) => assert!(answer.printed.len() <= 4 << 20),
        Err(error) => assert!(
            matches!(error, CallError::Trap { .. } | CallError::OutOfTime { .. }),
            "{error}"
        ),
    }
}

#[tokio::test]
async fn a_killed_worker_is_an_error_of_its_call_only() {
    let place = Place::new();
    std::fs::write(place.view.path().join("asleep"), "").unwrap();
    let grant = grant(&MANIFEST.replace("2s", "20s"));
    let loaded = place.sandbox.load(&PROBE, &grant).await.unwrap();
    let call = |what: &str| Call {
        role: grant.role(),
        input: json!({"do": what, "value": 1}),
        view: Some(place.view()),
        grant: grant.clone(),
        env: vec![],
        recording: None,
    };
    let sleeping = place
        .sandbox
        .call(&loaded, call("sleep"), place.seen.clone());
    let killing = async {
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "no worker was found"
            );
            if kill_workers("asleep") {
                return;
            }
        }
    };
    let (ended, ()) = tokio::join!(sleeping, killing);
    assert!(
        matches!(ended, Err(CallError::WorkerDied { .. })),
        "{ended:?}"
    );
    assert!(
        place
            .sandbox
            .call(&loaded, call("echo"), place.seen.clone())
            .await
            .is_ok()
    );
}

/// Kills the workers whose view holds a file of this name.
fn kill_workers(mark: &str) -> bool {
    signal_workers(mark, "-KILL")
}

fn signal_workers(mark: &str, signal: &str) -> bool {
    let mut found = false;
    for pid in session::workers_with(mark) {
        let sent = Program::new("kill").args([signal, &pid]).status();
        found |= sent.unwrap().success();
    }
    found
}

#[tokio::test]
async fn a_poisoned_cache_is_compiled_again() {
    let cache = TempDir::new().unwrap();
    let place = Place::with_cache(cache.path());
    place.sandbox.load(&PROBE, &grant(MANIFEST)).await.unwrap();
    let compiled = || {
        let entries = std::fs::read_dir(&place.cache)
            .unwrap()
            .flatten()
            .map(|entry| entry.path());
        entries
            .into_iter()
            .find(|path| path.extension().is_some_and(|ext| ext == "cwasm"))
            .unwrap()
    };
    let mut bytes = std::fs::read(compiled()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(compiled(), &bytes).unwrap();
    assert_eq!(
        place
            .job(grant(MANIFEST), json!({"do": "echo", "value": 7}))
            .await,
        7
    );
    assert_ne!(std::fs::read(compiled()).unwrap(), bytes);
}

#[tokio::test]
async fn what_is_no_component_or_asks_for_the_unknown_is_not_loaded() {
    let place = Place::new();
    let load = |bytes: &'static [u8]| {
        place
            .sandbox
            .load(bytes, Box::leak(Box::new(grant(MANIFEST))))
    };
    assert!(matches!(
        load(b"not wasm").await,
        Err(LoadError::NotAComponent { .. })
    ));
    assert!(matches!(
        load(b"\0asm\x01\0\0\0").await,
        Err(LoadError::NotAComponent { .. })
    ));
}
