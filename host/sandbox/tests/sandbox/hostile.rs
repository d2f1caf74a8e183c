//! A worker that its guest has taken over says what it likes to the broker; the call fails, the broker does not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbox::{Answer, Call, CallError, LoadError, Sandbox};
use serde_json::json;
use tempfile::TempDir;

use crate::place::{MANIFEST, PROBE, Place, grant, hostile_worker, without};

/// Loads with an honest worker, and calls with the other.
async fn call(what: &str, manifest: &str) -> (Result<Answer, CallError>, Place) {
    let honest = Place::new();
    let hostile = Place::with_worker(&honest.cache, &hostile_worker());
    let grant = grant(manifest);
    // What may be called is asked anew at each call, whatever was linked.
    let full = crate::place::grant(MANIFEST);
    let loaded = honest.sandbox.load(&PROBE, &full).await.unwrap();
    let call = Call {
        role: grant.role(),
        input: json!({ "do": what }),
        view: None,
        grant,
        env: vec![],
        recording: None,
    };
    let answer = hostile
        .sandbox
        .call(&loaded, call, hostile.seen.clone())
        .await;
    (answer, hostile)
}

#[tokio::test]
async fn what_is_no_protocol_ends_the_call() {
    for what in [
        "garbage",
        "no-json",
        "announce-all",
        "deep",
        "unknown-function",
        "unknown-interface",
        "wrong-arguments",
        "compiled",
    ] {
        let (answer, place) = call(what, MANIFEST).await;
        assert!(
            matches!(answer, Err(CallError::Protocol { .. })),
            "{what}: {answer:?}"
        );
        assert!(place.seen.commands.lock().unwrap().is_empty());
    }
    let (answer, _) = call("not-granted", &without("[release]")).await;
    assert!(
        matches!(answer, Err(CallError::Protocol { .. })),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_worker_that_says_nothing_or_half_of_it_is_not_waited_for() {
    for what in ["silence", "announce-much"] {
        let (answer, _) = call(what, MANIFEST).await;
        assert!(
            matches!(answer, Err(CallError::OutOfTime { wall_ms: 2000 })),
            "{what}: {answer:?}"
        );
    }
    for what in ["exit", "half-a-frame"] {
        let (answer, _) = call(what, MANIFEST).await;
        assert!(
            matches!(answer, Err(CallError::WorkerDied { .. })),
            "{what}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn a_worker_that_does_not_listen_is_not_waited_for() {
    let (answer, place) = call("flood", &MANIFEST.replace("time = \"2s\"", "time = \"4s\"")).await;
    assert!(
        matches!(
            answer,
            Err(CallError::OutOfTime { .. } | CallError::TooManyHostCalls { .. })
        ),
        "{answer:?}"
    );
    assert!(place.seen.commands.lock().unwrap().is_empty());
}

fn resident_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

#[tokio::test]
async fn what_it_sends_costs_the_broker_little_more_than_its_bytes() {
    // 80 MiB of zeros and commas would be gigabytes once they are values.
    let (answer, _) = call(
        "dense",
        &MANIFEST.replace("time = \"2s\"", "time = \"20s\""),
    )
    .await;
    assert!(
        matches!(answer, Err(CallError::Protocol { .. })),
        "{answer:?}"
    );
    assert!(resident_peak_bytes() < 1 << 30, "{}", resident_peak_bytes());
}

#[tokio::test]
async fn what_it_tells_is_cut_before_anybody_keeps_it() {
    let patient = MANIFEST.replace("time = \"2s\"", "time = \"20s\"");
    match call("long-story", &patient).await.0 {
        Err(CallError::Trap { message, printed }) => {
            assert!(
                message.len() < 20_000 && printed.len() < 20_000,
                "{}",
                message.len()
            );
        }
        other => panic!("{other:?}"),
    }
    let answer = call("much-printed", &patient).await.0.unwrap();
    assert!(answer.printed.len() <= 4 << 20, "{}", answer.printed.len());
    let answer = call("many-denials", &patient).await.0.unwrap();
    assert!(answer.denials.len() <= 1001, "{}", answer.denials.len());
    let times: u32 = answer.denials.iter().map(|(_, times)| times).sum();
    assert_eq!(times, 5000, "each is counted");
}

/// The component with a wish for the worker that compiles it, in a custom section of its own.
fn wishing(wish: &str) -> Vec<u8> {
    let text = format!("wish:{wish}");
    let mut component = PROBE.clone();
    component.extend([0, text.len() as u8 + 2, 1, b'w']);
    component.extend(text.as_bytes());
    component
}

async fn load(sandbox: &Sandbox, wish: &str) -> Result<(), LoadError> {
    let grant = grant(MANIFEST);
    let component = wishing(wish);
    let loading = sandbox.load(&component, &grant);
    let loaded = tokio::time::timeout(Duration::from_secs(30), loading).await;
    loaded.expect("it ends").map(drop)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn what_a_compiling_worker_leaves_is_taken_only_if_it_is_a_plain_file() {
    let outside = TempDir::new().unwrap();
    let canary = outside.path().join("canary");
    std::fs::write(&canary, "CANARY").unwrap();
    let cache = TempDir::new().unwrap();
    let place = Arc::new(Place::with_worker(cache.path(), &hostile_worker()));
    let canary = canary.display().to_string();
    for wish in ["nothing", "directory", "pipe", "two-names", "deep", &canary] {
        // On a thread of its own: a broker that waits for a pipe cannot be timed out from within.
        let (of, wished) = (place.clone(), wish.to_owned());
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let _ = done.send(runtime.block_on(load(&of.sandbox, &wished)));
        });
        let loaded = finished.recv_timeout(Duration::from_secs(30));
        let loaded = loaded.unwrap_or_else(|_| panic!("the broker hangs at {wish}"));
        assert!(loaded.is_err(), "{wish}");
        let left: Vec<String> = names(cache.path())
            .into_iter()
            .filter(|name| name != "key")
            .collect();
        assert!(left.is_empty(), "{wish}: {left:?}");
    }
}

#[tokio::test]
async fn a_compiling_worker_that_was_killed_is_told_from_one_that_failed() {
    let cache = TempDir::new().unwrap();
    let place = Place::with_worker(cache.path(), &hostile_worker());
    let killed = load(&place.sandbox, "killed").await;
    assert!(
        matches!(killed, Err(LoadError::WorkerDied { .. })),
        "{killed:?}"
    );
    for wish in ["exit", "abort"] {
        let failed = load(&place.sandbox, wish).await;
        assert!(
            matches!(failed, Err(LoadError::Compile { .. })),
            "{wish}: {failed:?}"
        );
    }
}

/// A request that the grant allows, as a worker tells it.
fn asked() -> serde_json::Value {
    json!({"method": "GET", "scheme": "https", "authority": "api.example.com", "path-with-query": "/v1/hello", "headers": [], "body": "",
        "connect-timeout-ms": null, "first-byte-timeout-ms": null, "between-bytes-timeout-ms": null})
}

fn handle(args: &serde_json::Value) -> String {
    format!("call wasi:http/outgoing-handler handle {args}")
}

#[tokio::test]
async fn requests_that_no_worker_of_ours_makes_end_the_call() {
    let (answer, place) = call(&handle(&json!([asked(), []])), MANIFEST).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(place.seen.web.count(), 1, "this one is well-formed");
    assert_eq!(place.seen.web.open(), 0);
    let with = |key: &str, value: serde_json::Value| {
        let mut one = asked();
        one[key] = value;
        handle(&json!([one, []]))
    };
    let header = |name: &str, value: &str| with("headers", json!([{"name": name, "value": value}]));
    let mut missing = asked();
    missing.as_object_mut().unwrap().remove("body");
    let mut calls = vec![
        handle(&json!([])),
        handle(&json!([asked()])),
        handle(&json!([asked(), [], []])),
        handle(&json!([asked(), "all"])),
        handle(&json!([missing, []])),
        with("unknown", json!(1)),
        with("body", json!("not base64")),
        with("body", json!([1, 2])),
        with("body", json!("A".repeat(2 << 20))),
        with("method", json!(7)),
        with("connect-timeout-ms", json!(-1)),
        header("x", "DQo="),
        header("X", "eA=="),
        header("", "eA=="),
        header("x y", "eA=="),
        header("x\r\ny", "eA=="),
        header("x", "plain text"),
    ];
    for name in [
        "host",
        "authorization",
        "cookie",
        "content-length",
        "transfer-encoding",
        "connection",
        "expect",
        "proxy-authorization",
    ] {
        calls.push(header(name, "eA=="));
    }
    let handler = "call wasi:http/outgoing-handler";
    calls.extend([
        format!("{handler} read-body [1,[]]"),
        format!("{handler} read-body [0,[]]"),
        format!("{handler} read-body [\"1\",[]]"),
        format!("{handler} connect []"),
        format!("call wasi:http/types handle {}", json!([asked(), []])),
        "call wasi:http/incoming-handler handle []".into(),
        "call wasi:sockets/tcp connect []".into(),
    ]);
    for what in calls {
        let (answer, place) = call(&what, MANIFEST).await;
        assert!(
            matches!(answer, Err(CallError::Protocol { .. })),
            "{what:.200}: {answer:?}"
        );
        assert_eq!(place.seen.web.count(), 0, "{what:.200}");
    }
    let (answer, place) = call(&handle(&json!([asked(), []])), &without("[[network]]")).await;
    assert!(
        matches!(answer, Err(CallError::Protocol { .. })),
        "{answer:?}"
    );
    assert_eq!(place.seen.web.count(), 0);
}

#[tokio::test]
async fn the_grant_is_asked_again_whatever_the_worker_says() {
    for (key, value) in [
        ("authority", "evil.com"),
        ("authority", "api.example.com@evil.com"),
        ("authority", "api.example.com\u{0}.evil.com"),
        ("authority", "api.example.com\r\nx: y"),
        ("scheme", "http"),
        ("scheme", "file"),
        ("method", "DELETE"),
        ("method", "GET /v1 HTTP/1.1\r\nhost: evil.com\r\n\r\nGET"),
        ("path-with-query", "/v2"),
        ("path-with-query", "https://evil.com/v1"),
        ("path-with-query", "/v1 HTTP/1.1\r\nhost: evil.com"),
        ("path-with-query", "/v1?a\nb"),
        ("path-with-query", "/v1#a"),
        ("path-with-query", "v1"),
    ] {
        let mut one = asked();
        one[key] = json!(value);
        let (answer, place) = call(&handle(&json!([one, []])), MANIFEST).await;
        assert!(answer.is_ok(), "{key} {value:?}: {answer:?}");
        assert_eq!(place.seen.web.count(), 0, "{key} {value:?}");
    }
    // Ids that it never got are not closed; the services would say so.
    let many: Vec<u64> = (0..100_000).collect();
    let (answer, _) = call(&handle(&json!([asked(), many])), MANIFEST).await;
    assert!(answer.is_ok(), "{answer:?}");
}
