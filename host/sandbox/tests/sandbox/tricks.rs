//! Links, times, names and crowds: what a guest tries that no honest one needs, and what may happen to its worker meanwhile.

use std::os::unix::fs::symlink;
use std::process::Command as Program;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sandbox::{Call, CallError, View};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guest::digest;
use crate::place::{MANIFEST, PROBE, Place, grant, writing};
use crate::signal_workers;

fn outside() -> TempDir {
    let outside = TempDir::new().unwrap();
    std::fs::create_dir(outside.path().join("dir")).unwrap();
    std::fs::write(outside.path().join("canary"), "CANARY").unwrap();
    outside
}

#[tokio::test]
async fn links_of_the_guests_own_lead_nowhere() {
    let (place, outside) = (Place::new(), outside());
    let before = digest(outside.path());
    let absolute = outside.path().display().to_string();
    let may = writing(".");
    for target in [
        absolute.clone(),
        format!("{absolute}/canary"),
        format!("../../../../../../..{absolute}"),
        "/proc/self/root".into(),
        "/proc/1/cwd".into(),
        "..".into(),
        "../view".into(),
    ] {
        let _ = std::fs::remove_file(place.view.path().join("src/l"));
        let make = json!({"do": "symlink", "path": target, "to": "src/l"});
        place.job(may.clone(), make).await;
        for path in [
            "src/l".to_owned(),
            "src/l/canary".into(),
            "src/l/.".into(),
            format!("src/l{absolute}/canary"),
        ] {
            for verb in [
                "read", "list", "write", "truncate", "times", "make", "remove",
            ] {
                let input = json!({"do": verb, "path": path, "text": "x"});
                let answer = place.job(may.clone(), input).await;
                assert!(!answer.to_string().contains("CANARY"), "{target} {path}");
            }
            let _ = std::fs::remove_file(place.view.path().join("src/l"));
            let again = json!({"do": "symlink", "path": target, "to": "src/l"});
            place.job(may.clone(), again).await;
        }
        assert_eq!(digest(outside.path()), before, "{target}");
    }
    // A chain that ends in the outside, longer than anything follows.
    for at in 0..50 {
        let name = |at: usize| place.view.path().join(format!("src/c{at}"));
        let _ = match at {
            0 => symlink(outside.path().join("canary"), name(0)),
            _ => symlink(format!("c{}", at - 1), name(at)),
        };
    }
    for at in [1, 39, 41, 49] {
        let read = json!({"do": "read", "path": format!("src/c{at}")});
        assert!(
            place.job(may.clone(), read).await["failed"].is_string(),
            "{at}"
        );
    }
}

#[tokio::test]
async fn a_directory_that_becomes_a_link_while_it_is_opened_leads_nowhere() {
    let (place, outside) = (Place::new(), outside());
    let view = place.view.path().to_owned();
    std::fs::create_dir(view.join("src/d")).unwrap();
    std::fs::write(view.join("src/d/canary"), "mine").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let racer = {
        let (stop, outside) = (stop.clone(), outside.path().to_owned());
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = std::fs::rename(view.join("src/d"), view.join("src/e"));
                let _ = symlink(&outside, view.join("src/d"));
                let _ = std::fs::remove_file(view.join("src/d"));
                let _ = std::fs::rename(view.join("src/e"), view.join("src/d"));
                // Long enough that the guest meets the directory as well as the link.
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        })
    };
    let patient = grant(&MANIFEST.replace("time = \"2s\"", "time = \"20s\""));
    let input = json!({"do": "same", "path": "src/d/canary", "text": "mine", "times": 20_000});
    let answer = place.job(patient, input).await;
    stop.store(true, Ordering::Relaxed);
    racer.join().unwrap();
    assert!(answer["other"].is_null(), "{answer}");
    assert!(
        answer["read"].as_u64().unwrap() > 0,
        "both went on at once: {answer}"
    );
}

#[tokio::test]
async fn a_reader_changes_neither_size_nor_times_nor_content() {
    let place = Place::new();
    let before = digest(place.view.path());
    let touch = json!({"do": "touch", "path": "a"});
    assert_eq!(place.job(grant(MANIFEST), touch.clone()).await, json!([]));
    // Beside a part that may be changed, and by a handle for reading in that part.
    assert_eq!(place.job(writing("src"), touch).await, json!([]));
    assert_eq!(digest(place.view.path()), before);
}

#[tokio::test]
async fn odd_times_are_errors_or_times_and_no_harm() {
    let place = Place::new();
    let may = writing("src");
    std::fs::write(place.view.path().join("src/t"), "content").unwrap();
    for seconds in [
        0,
        1,
        u64::from(u32::MAX),
        1 << 34,
        1 << 40,
        i64::MAX as u64 - 1,
        i64::MAX as u64,
        u64::MAX,
    ] {
        let stamp = json!({"do": "stamp", "path": "src/t", "seconds": seconds});
        let answer = place.call_with(may.clone(), stamp).await;
        assert!(
            matches!(answer, Ok(_) | Err(CallError::Trap { .. })),
            "{seconds}: {answer:?}"
        );
        place
            .job(may.clone(), json!({"do": "stat", "path": "src/t"}))
            .await;
    }
    // From before there were times, set by the machine.
    for date in ["1901-12-14", "1969-12-31", "2500-01-01"] {
        let set = Program::new("touch")
            .args(["-d", date])
            .arg(place.view.path().join("a"))
            .status();
        assert!(set.unwrap().success());
        for verb in ["stat", "read", "list"] {
            let path = if verb == "list" { "/" } else { "a" };
            place
                .call_with(may.clone(), json!({"do": verb, "path": path}))
                .await
                .unwrap();
        }
    }
    let echo = json!({"do": "echo", "value": 1});
    assert_eq!(place.job(grant(MANIFEST), echo).await, 1);
}

#[tokio::test]
async fn names_of_other_systems_and_giants_stay_inside() {
    let (place, outside) = (Place::new(), outside());
    let absolute = outside.path().display().to_string();
    let before = digest(outside.path());
    let (may, huge) = (writing("."), "n".repeat(1 << 20));
    for path in [
        format!("..\\..{}", absolute.replace('/', "\\")),
        format!("C:{absolute}/canary"),
        format!("\\\\?\\{absolute}\\canary"),
        format!("//localhost{absolute}/canary"),
        format!("file://{absolute}/canary"),
        "CON".into(),
        "NUL.txt".into(),
        "COM\u{b9}".into(),
        "a\nb".into(),
        "a\u{202e}b".into(),
        "trailing. ".into(),
        huge.clone(),
        format!("a/{huge}"),
    ] {
        for verb in ["read", "write", "make", "truncate", "remove", "rmdir"] {
            let input = json!({"do": verb, "path": path, "text": "x"});
            let answer = place.job(may.clone(), input).await;
            assert!(!answer.to_string().contains("CANARY"), "{path:.80}");
        }
    }
    assert_eq!(digest(outside.path()), before);
}

pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[tokio::test]
async fn crowds_and_depths_of_files_cost_the_broker_nothing() {
    let place = Place::new();
    let crowd = place.view.path().join("src/crowd");
    std::fs::create_dir(&crowd).unwrap();
    for at in 0..100_000 {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            crowd.join(format!("{at:050}")),
            rustix::fs::FileType::RegularFile,
            rustix::fs::Mode::from_raw_mode(0o644),
            0,
        )
        .unwrap();
    }
    let mut deep = place.view.path().to_owned();
    for _ in 0..400 {
        deep.push("dddddddd");
    }
    std::fs::create_dir_all(&deep).unwrap();
    let before = resident_bytes();
    let patient = grant(&MANIFEST.replace("time = \"2s\"", "time = \"20s\""));
    for path in [
        "src/crowd".to_owned(),
        "dddddddd/".repeat(400),
        "dddddddd/".repeat(100_000),
    ] {
        match place
            .call_with(patient.clone(), json!({"do": "list", "path": path}))
            .await
        {
            Ok(answer) => assert!(answer.output.to_string().len() < 16 << 20),
            Err(error) => assert!(
                matches!(
                    error,
                    CallError::OutOfMemory { .. }
                        | CallError::OutOfTime { .. }
                        | CallError::Trap { .. }
                        | CallError::OutputTooLarge { .. }
                ),
                "{path:.40}: {error}"
            ),
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown}");
    let echo = json!({"do": "echo", "value": 1});
    assert_eq!(place.job(grant(MANIFEST), echo).await, 1);
}

#[tokio::test]
async fn cheap_calls_without_end_meet_the_deadline() {
    let place = Place::new();
    for what in ["ticks", "blanks"] {
        let begun = Instant::now();
        let answer = place.call(json!({"do": what})).await;
        assert!(
            matches!(
                answer,
                Err(CallError::OutOfTime { .. } | CallError::OutOfFuel)
            ),
            "{what}: {answer:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
    }
}

/// A worker that stops answering, or dies of whatever a broken engine dies of, costs its own call; others go on meanwhile.
#[tokio::test]
async fn a_frozen_or_crashed_worker_is_an_error_of_its_call_only() {
    for (signal, time) in [
        ("-STOP", "4s"),
        ("-SEGV", "20s"),
        ("-ABRT", "20s"),
        ("-BUS", "20s"),
        ("-TERM", "20s"),
    ] {
        let place = Place::new();
        let mark = format!("crashed{signal}");
        std::fs::write(place.view.path().join(&mark), "").unwrap();
        let grant = grant(&MANIFEST.replace("2s", time));
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
        let meanwhile = async {
            let (begun, mut was_found) = (Instant::now(), false);
            // A fault that nothing caused goes to the engine's handler, which waits for it to come again.
            loop {
                let is_found = signal_workers(&mark, signal);
                tokio::time::sleep(Duration::from_millis(50)).await;
                let is_gone = signal == "-STOP" || crate::session::workers(&mark) == 0;
                was_found |= is_found;
                if was_found && is_gone {
                    break;
                }
                assert!(
                    begun.elapsed() < Duration::from_secs(60),
                    "no worker was found, or it cannot be killed"
                );
            }
            let other = Place::new();
            for _ in 0..3 {
                let echo = json!({"do": "echo", "value": 1});
                assert_eq!(other.job(crate::place::grant(MANIFEST), echo).await, 1);
            }
        };
        let (ended, ()) = tokio::join!(sleeping, meanwhile);
        let is_its_own = match signal {
            "-STOP" => matches!(ended, Err(CallError::OutOfTime { .. })),
            _ => matches!(ended, Err(CallError::WorkerDied { .. })),
        };
        assert!(is_its_own, "{signal}: {ended:?}");
        assert_eq!(crate::session::workers(&mark), 0, "{signal}: it is gone");
        let cores = std::fs::read_dir(place.view.path()).unwrap().flatten();
        let cores = cores.filter(|entry| entry.file_name().to_string_lossy().contains("core"));
        assert_eq!(cores.count(), 0, "{signal}: no memory was written out");
    }
}

/// A repository whose `src` is a link: whatever a view holds there, the mount must not follow it out.
#[tokio::test]
async fn what_may_be_changed_is_no_link_to_the_outside() {
    let (place, outside) = (Place::new(), outside());
    let before = digest(outside.path());
    let root = place.view.path();
    std::fs::remove_dir(root.join("src")).unwrap();
    symlink(outside.path(), root.join("src")).unwrap();
    let grant = writing("src");
    let loaded = place.sandbox.load(&PROBE, &grant).await.unwrap();
    for input in [
        json!({"do": "read", "path": "src/canary"}),
        json!({"do": "write", "path": "src/planted", "text": "x"}),
        json!({"do": "remove", "path": "src/canary"}),
    ] {
        let call = Call {
            role: grant.role(),
            input: input.clone(),
            view: Some(View {
                tree: confine::Tree::Directory(root.into()),
                writable: grant.writable(),
            }),
            grant: grant.clone(),
            env: vec![],
            recording: None,
        };
        let answer = place.sandbox.call(&loaded, call, place.seen.clone()).await;
        let told: Value = answer.map_or(Value::Null, |answer| answer.output);
        assert!(!told.to_string().contains("CANARY"), "{input}: {told}");
        assert_eq!(digest(outside.path()), before, "{input}: {told}");
    }
}
