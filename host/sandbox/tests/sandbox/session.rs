//! Several calls in one warm worker: what one of them can leave to the next, and when there is no next.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use capability::Grant;
use sandbox::{Answer, CallError, Session, View};
use serde_json::{Value, json};

use crate::kill_workers;
use crate::place::{MANIFEST, PROBE, Place, grant};

impl Place {
    pub async fn open(&self, grant: &Arc<Grant>) -> Session {
        let loaded = self.sandbox.load(&PROBE, grant).await.unwrap();
        let view = View {
            writable: grant.writable(),
            ..self.view()
        };
        let session = self.sandbox.open(&loaded, grant.clone(), Some(&view));
        session.await.unwrap()
    }

    pub async fn ask(&self, session: &mut Session, input: Value) -> Result<Answer, CallError> {
        let role = flow::id::Role::Job;
        session
            .call(role, input, vec![], self.seen.as_ref(), None)
            .await
    }
}

/// The workers of this user that hold a view with a file of this name, by process id: an ordinary user runs the same tests beside root.
pub fn workers_with(mark: &str) -> Vec<String> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let is_ours = |process: &Path| {
        let read = |file| std::fs::read(process.join(file)).unwrap_or_default();
        let line = read("cmdline");
        let status = String::from_utf8(read("status")).unwrap_or_default();
        let owner = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        line.starts_with(b"/moat")
            && line.windows(11).any(|part| part == b"moat-worker")
            && owner.is_some_and(|ids| ids.split_whitespace().next() == Some(&uid))
            && process.join("root/view").join(mark).exists()
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| is_ours(&process.path()))
        .map(|process| process.file_name().into_string().unwrap())
        .collect()
}

/// How many those are.
pub fn workers(mark: &str) -> usize {
    workers_with(mark).len()
}

#[tokio::test]
async fn calls_share_a_worker_and_no_memory() {
    let place = Place::new();
    std::fs::write(place.view.path().join("shared"), "").unwrap();
    let mut session = place.open(&grant(MANIFEST)).await;
    for _ in 0..3 {
        let answer = place.ask(&mut session, json!({"do": "count"})).await;
        assert_eq!(answer.unwrap().output, json!({"ok": "1"}));
        assert_eq!(workers("shared"), 1);
    }
    session.close().await;
    assert_eq!(workers("shared"), 0);
}

#[tokio::test]
async fn each_call_has_its_own_environment_files_and_record() {
    let place = Place::new();
    let granted = grant(
        &format!("{MANIFEST}\n[[env]]\nname = \"SHOWN\"\nreason = \"test\"\n")
            .replace("access = \"read\"", "access = \"write\""),
    );
    let mut session = place.open(&granted).await;
    let env = vec![("SHOWN".to_owned(), "value".to_owned())];
    let role = flow::id::Role::Job;
    let shown = session.call(role, json!({"do": "env"}), env, place.seen.as_ref(), None);
    assert_eq!(
        shown.await.unwrap().output,
        json!({"ok": "[[\"SHOWN\",\"value\"]]"})
    );
    let next = place.ask(&mut session, json!({"do": "env"})).await.unwrap();
    assert_eq!(
        next.output,
        json!({"ok": "[]"}),
        "values are those of a call"
    );

    let wrote = json!({"do": "write", "path": "new", "text": "x"});
    place.ask(&mut session, wrote).await.unwrap();
    let read = place.ask(&mut session, json!({"do": "read", "path": "new"}));
    assert_eq!(
        read.await.unwrap().output,
        json!({"ok": "\"x\""}),
        "the view is the session's"
    );

    let refused = place.ask(&mut session, json!({"do": "run", "name": "deploy"}));
    let refused = refused.await.unwrap();
    assert_eq!((refused.denials.len(), refused.transcript.len()), (1, 1));
    let after = place.ask(&mut session, json!({"do": "env"})).await.unwrap();
    assert_eq!((after.denials.len(), after.transcript.len()), (0, 0));
}

#[tokio::test]
async fn limits_are_those_of_each_call() {
    let place = Place::new();
    let run = || json!({"do": "run", "name": "test"});
    let one = place.call(run()).await.unwrap();
    assert_eq!(one.usage.host_calls, 1);
    // Enough for one call and a half.
    let tight = format!(
        "{MANIFEST}host-calls = 1\nfuel = {}\n",
        one.usage.fuel * 3 / 2
    );
    let mut session = place.open(&grant(&tight)).await;
    for _ in 0..3 {
        let answer = place.ask(&mut session, run()).await.unwrap();
        assert_eq!(answer.usage.host_calls, 1);
    }
    let storm = place.ask(&mut session, json!({"do": "storm"})).await;
    assert!(
        matches!(storm, Err(CallError::TooManyHostCalls { max: 1 })),
        "{storm:?}"
    );
}

#[tokio::test]
async fn what_a_guest_may_have_broken_is_not_used_again() {
    for (what, manifest) in [
        ("panic", MANIFEST.to_owned()),
        ("recurse", MANIFEST.to_owned()),
        ("grow", MANIFEST.to_owned()),
        ("spin", format!("{MANIFEST}fuel = 1000000\n")),
        ("sleep", MANIFEST.replace("2s", "1s")),
        ("storm", format!("{MANIFEST}host-calls = 10\n")),
    ] {
        let place = Place::new();
        std::fs::write(place.view.path().join(what), "").unwrap();
        let mut session = place.open(&grant(&manifest)).await;
        let first = place.ask(&mut session, json!({"do": what})).await;
        assert!(
            !matches!(first, Ok(_) | Err(CallError::Poisoned { .. })),
            "{what}: {first:?}"
        );
        assert_eq!(workers(what), 0, "{what}: the worker is gone");
        for _ in 0..2 {
            let next = place.ask(&mut session, json!({"do": "count"})).await;
            assert!(
                matches!(next, Err(CallError::Poisoned { .. })),
                "{what}: {next:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_input_that_does_not_fit_and_an_error_of_the_skill_leave_the_session_as_it_is() {
    let place = Place::new();
    let mut session = place.open(&grant(MANIFEST)).await;
    let failed = place.ask(&mut session, json!({"do": "dance"})).await;
    assert_eq!(
        failed.unwrap().output["err"]["invalid-input"],
        "what is \"dance\"?"
    );
    let other = session
        .call(
            flow::id::Role::Triage,
            json!({}),
            vec![],
            place.seen.as_ref(),
            None,
        )
        .await;
    assert!(
        matches!(other, Err(CallError::InvalidInput { .. })),
        "{other:?}"
    );
    let next = place.ask(&mut session, json!({"do": "count"})).await;
    assert_eq!(next.unwrap().output, json!({"ok": "1"}));
}

#[tokio::test]
async fn a_worker_that_is_killed_between_calls_is_an_error_of_the_next() {
    let place = Place::new();
    std::fs::write(place.view.path().join("between"), "").unwrap();
    let mut session = place.open(&grant(MANIFEST)).await;
    place
        .ask(&mut session, json!({"do": "count"}))
        .await
        .unwrap();
    assert!(kill_workers("between"));
    let next = place.ask(&mut session, json!({"do": "count"})).await;
    assert!(
        matches!(next, Err(CallError::WorkerDied { .. })),
        "{next:?}"
    );
    let later = place.ask(&mut session, json!({"do": "count"})).await;
    assert!(
        matches!(later, Err(CallError::Poisoned { .. })),
        "{later:?}"
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_midway_takes_the_worker_with_it() {
    let place = Place::new();
    std::fs::write(place.view.path().join("dropped"), "").unwrap();
    let mut session = place.open(&grant(&MANIFEST.replace("2s", "20s"))).await;
    let call = place.ask(&mut session, json!({"do": "sleep"}));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), call)
            .await
            .is_err()
    );
    let next = place.ask(&mut session, json!({"do": "count"})).await;
    assert!(matches!(next, Err(CallError::Poisoned { .. })), "{next:?}");
    let begun = Instant::now();
    while workers("dropped") > 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "it lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_was_refused_is_heard_at_once_whatever_becomes_of_the_call() {
    let refused_then = |then: &str| json!({"do": "run", "name": "deploy", "then": then});
    for then in ["panic", "spin"] {
        let place = Place::new();
        let answer = place.call(refused_then(then)).await;
        assert!(answer.is_err(), "{then}: {answer:?}");
        let heard = place.seen.heard.lock().unwrap();
        let (call, denial) = &heard[0];
        assert_eq!((heard.len(), call.function.as_str()), (1, "run"));
        assert_eq!(denial.as_ref().unwrap().what, "deploy", "{then}");
    }
}

#[tokio::test]
async fn a_call_that_cannot_be_recorded_is_stopped() {
    let place = Place::new();
    *place.seen.deaf.lock().unwrap() = Some("the disk is full".into());
    let answer = place
        .call(json!({"do": "run", "name": "test", "then": "panic"}))
        .await;
    assert!(
        matches!(&answer, Err(CallError::Unrecorded { why }) if why == "the disk is full"),
        "{answer:?}"
    );
}
