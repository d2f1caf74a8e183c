//! What a guest tries with requests, and what of it comes through to the services.

use std::sync::Arc;
use std::time::Duration;

use capability::Grant;
use sandbox::{CallError, LoadError};
use serde_json::{Value, json};

use crate::place::{MANIFEST, PROBE, Place, grant, without};
use crate::tricks::resident_bytes;
use crate::web::field;

/// Enough time for many requests.
fn patient() -> Arc<Grant> {
    grant(&MANIFEST.replace("time = \"2s\"", "time = \"20s\""))
}

async fn answered(place: &Place, input: Value) -> Value {
    place.job(patient(), input).await
}

fn ask(more: Value) -> Value {
    let mut input = json!({"do": "ask", "authority": "api.example.com", "path": "/v1/hello"});
    for (key, value) in more.as_object().unwrap() {
        input[key] = value.clone();
    }
    input
}

#[tokio::test]
async fn a_granted_request_comes_through_as_it_was_made_and_its_answer_comes_back() {
    let place = Place::new();
    let answer = answered(
        &place,
        json!({"do": "fetch", "url": "https://API.example.com/v1/trailers?a=b%20c#part", "method": "POST", "body": "{}",
            "headers": [["X-One", "1"], ["x-one", "2"], ["content-length", "2"]]}),
    )
    .await;
    assert_eq!(
        answer,
        json!({"status": 200, "headers": [["content-type", "text/plain"]], "body": "hello"})
    );
    let requests = place.seen.web.requests.lock().unwrap();
    let request = &requests[0];
    assert_eq!(request.method, "POST");
    assert_eq!(request.origin.to_string(), "https://api.example.com");
    assert_eq!(request.path_and_query, "/v1/trailers?a=b%20c");
    assert_eq!(request.headers, [field("x-one", "1"), field("x-one", "2")]);
    assert_eq!(request.body, b"{}");
    assert_eq!(requests.len(), 1);
    assert_eq!(place.seen.web.open(), 0);
}

#[tokio::test]
async fn a_large_answer_is_read_piece_by_piece() {
    let place = Place::new();
    let url = "https://api.example.com/v1/pieces/40";
    let answer = place
        .call_with(patient(), json!({"do": "fetch", "url": url}))
        .await
        .unwrap();
    let answer_text = answer.output["ok"].as_str().unwrap();
    let body: Value = serde_json::from_str(answer_text).unwrap();
    assert_eq!(body["body"].as_str().unwrap().len(), 40 * (64 << 10));
    // The head, each piece, and the end.
    assert_eq!(answer.usage.host_calls, 42);
    assert!(
        answer
            .transcript
            .iter()
            .all(|entry| entry.interface == "wasi:http/outgoing-handler")
    );
    assert_eq!(place.seen.web.open(), 0);
}

#[tokio::test]
async fn what_is_not_granted_reaches_no_service() {
    let place = Place::new();
    for more in [
        json!({"authority": "example.com"}),
        json!({"authority": "evil.com"}),
        json!({"authority": "api.example.com.evil.com"}),
        json!({"authority": "api.example.com:8443"}),
        json!({"authority": "127.0.0.1"}),
        json!({"scheme": "http"}),
        json!({"method": "DELETE"}),
        json!({"method": "get"}),
        json!({"method": "CONNECT"}),
        json!({"method": "TRACE"}),
        json!({"path": "/"}),
        json!({"path": "/v2"}),
        json!({"path": "/v1x"}),
        json!({"path": "/v1/../v2"}),
        json!({"path": "/v1/%2e%2e/v2"}),
        json!({"path": "/v1%2fa"}),
        json!({"path": "?/v1"}),
    ] {
        let answer = place.call_with(patient(), ask(more.clone())).await.unwrap();
        let inner = answer.output["ok"].as_str().unwrap();
        assert!(
            inner.contains("HttpRequestDenied") && !inner.contains("skill.toml"),
            "{more}: {inner}"
        );
        let [(denial, 1)] = answer.denials.as_slice() else {
            panic!("{more}: {:?}", answer.denials);
        };
        assert!(
            denial.line.starts_with("skill.toml: [[network]]"),
            "{more}: {denial:?}"
        );
    }
    assert_eq!(place.seen.web.count(), 0);
}

#[tokio::test]
async fn what_two_readers_could_read_in_two_ways_reaches_no_service() {
    let place = Place::new();
    for more in [
        json!({"authority": "api.example.com@evil.com"}),
        json!({"authority": "evil.com:x@api.example.com"}),
        json!({"authority": "api.example.com%00.evil.com"}),
        json!({"authority": "api.example.com\u{0}.evil.com"}),
        json!({"authority": "api.example.com/evil"}),
        json!({"authority": "api.example.com evil.com"}),
        json!({"authority": "api.example.com:0443"}),
        json!({"authority": "0x7f.1"}),
        json!({"authority": "2130706433"}),
        json!({"authority": "[::1%eth0]"}),
        json!({"authority": ""}),
        json!({"authority": null}),
        json!({"authority": "аpi.example.com"}),
        json!({"scheme": "ftp"}),
        json!({"scheme": "unix"}),
        json!({"path": "https://evil.com/v1"}),
        json!({"path": "//evil.com/v1\r\nhost: evil.com"}),
        json!({"path": "/v1/a b"}),
        json!({"path": "/v1/a\u{7f}"}),
        json!({"path": "/v1/ä"}),
        json!({"path": "*"}),
        json!({"path": null}),
        json!({"path-bytes": 60_000}),
        json!({"path-bytes": 1 << 20}),
    ] {
        let answer = answered(&place, ask(more.clone())).await;
        assert!(
            answer["refused"].is_string() || answer["error"].is_string(),
            "{more}: {answer}"
        );
        assert_eq!(place.seen.web.count(), 0, "{more}: {answer}");
    }
    let long = answered(&place, ask(json!({"path-bytes": 60_000}))).await;
    assert_eq!(long["error"], "ErrorCode::HttpRequestUriTooLong");
}

#[tokio::test]
async fn headers_that_are_the_hosts_to_write_cannot_be_written() {
    let place = Place::new();
    for name in [
        "Host",
        "host",
        "Authorization",
        "Cookie",
        "Proxy-Authorization",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "HTTP2-Settings",
    ] {
        let answer = answered(&place, ask(json!({"headers": [[name, "x"]]}))).await;
        assert_eq!(
            answer,
            json!({"refused": "headers", "error": "HeaderError::Forbidden"}),
            "{name}"
        );
        let input = json!({"method": "POST", "body-bytes": 1, "trailer": name});
        let answer = answered(&place, ask(input)).await;
        assert_eq!(answer["refused"], "trailer", "{name}");
    }
    for (name, value) in [
        ("x\r\nhost", "evil.com"),
        ("x", "a\r\nhost: evil.com"),
        ("x", "a\u{0}b"),
        ("", "x"),
        ("x y", "z"),
        ("content-length", "-1"),
        ("content-length", "1, 1"),
        ("content-length", "+1"),
    ] {
        let answer = answered(&place, ask(json!({"headers": [[name, value]]}))).await;
        assert_eq!(
            answer,
            json!({"refused": "headers", "error": "HeaderError::InvalidSyntax"}),
            "{name}: {value}"
        );
    }
    assert_eq!(place.seen.web.count(), 0);
    let input = json!({"do": "mutate", "authority": "api.example.com", "path": "/v1/hello", "headers": [["x-a", "1"]]});
    let answer = answered(&place, input).await;
    assert_eq!(
        answer,
        json!({"appended": "Err(HeaderError::Immutable)", "copied": "Ok(())", "answered": true})
    );
    let requests = place.seen.web.requests.lock().unwrap();
    assert_eq!(requests[0].headers, [field("x-a", "1")]);
}

#[tokio::test]
async fn a_body_is_as_long_as_it_says_and_within_what_a_call_may_send() {
    let place = Place::new();
    let post = |more: Value| {
        let mut input = ask(json!({"method": "POST"}));
        for (key, value) in more.as_object().unwrap() {
            input[key] = value.clone();
        }
        input
    };
    let length = |bytes: &str| json!([["content-length", bytes]]);
    for (more, error) in [
        (
            json!({"body-bytes": 3, "headers": length("5")}),
            "HttpProtocolError",
        ),
        (
            json!({"body-bytes": 9, "headers": length("5")}),
            "HttpProtocolError",
        ),
        (json!({"headers": length("5")}), "HttpRequestBodySize"),
        (json!({"body-bytes": (1 << 20) + 1}), "HttpRequestBodySize"),
        (json!({"body-bytes": 64 << 20}), "HttpRequestBodySize"),
        (
            json!({"body-bytes": 3, "trailer": "x-sum"}),
            "HttpRequestTrailerSectionSize",
        ),
        (
            json!({"body-bytes": 3, "finish": "drop"}),
            "HttpProtocolError",
        ),
    ] {
        let answer = answered(&place, post(more.clone())).await;
        assert!(
            answer["error"]
                .as_str()
                .is_some_and(|one| one.contains(error)),
            "{more}: {answer}"
        );
    }
    assert_eq!(place.seen.web.count(), 0);
    let all = answered(&place, post(json!({"body-bytes": 1 << 20}))).await;
    assert_eq!(all, json!({"status": 200}));
    assert_eq!(
        place.seen.web.requests.lock().unwrap()[0].body.len(),
        1 << 20
    );
    // A body whose end is never told is the guest's own time.
    let never = place
        .call(post(json!({"body-bytes": 3, "finish": false})))
        .await;
    assert!(
        matches!(never, Err(CallError::OutOfTime { .. })),
        "{never:?}"
    );
    assert_eq!(place.seen.web.count(), 1);
}

#[tokio::test]
async fn header_and_body_floods_end_the_guest_or_the_request_and_nothing_else() {
    let place = Place::new();
    for input in [
        json!({"do": "fields", "count": 10_000, "bytes": 0}),
        json!({"do": "fields", "count": 2, "bytes": 1 << 20}),
    ] {
        let ended = place.call_with(patient(), input.clone()).await;
        assert!(
            matches!(ended, Err(CallError::Trap { .. })),
            "{input}: {ended:?}"
        );
    }
    let many: Vec<_> = (0..150).map(|n| json!([format!("x-{n}"), "1"])).collect();
    let long = json!([["x-long", "y".repeat(20 << 10)]]);
    for headers in [json!(many), long] {
        let answer = answered(&place, ask(json!({ "headers": headers }))).await;
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("HttpRequestHeaderSectionSize"), "{error}");
    }
    // Bodies that are begun and never sent.
    let input = json!({"do": "unsent", "count": 200, "authority": "api.example.com"});
    let roomy = MANIFEST.replace("time = \"2s\"", "time = \"20s\"\nhandles = 10000");
    let begun = place.job(grant(&roomy), input).await;
    assert_eq!(begun, json!({"begun": 200}));
    assert_eq!(place.seen.web.count(), 0);
    // What is more than an answer may hold is not handed on.
    for (path, error) in [
        ("header-flood", "HttpResponseHeaderSectionSize"),
        ("long-header", "HttpResponseHeaderSectionSize"),
        ("error/head-too-large", "HttpResponseHeaderSectionSize"),
    ] {
        let path = format!("/v1/{path}");
        let answer = answered(&place, ask(json!({ "path": path }))).await;
        assert!(
            answer["error"].as_str().unwrap().contains(error),
            "{path}: {answer}"
        );
    }
    let url = "https://api.example.com/v1/trailer-flood";
    let answer = answered(&place, json!({"do": "fetch", "url": url})).await;
    assert!(answer["error"].is_string(), "{answer}");
    assert_eq!(place.seen.web.open(), 0);
}

/// Every flood that a guest and what answers it can make of one call each.
async fn flood(place: &Place) {
    let fetch =
        |what: &str| json!({"do": "fetch", "url": format!("https://api.example.com/v1/{what}")});
    for input in [
        json!({"do": "fields", "count": 10_000, "bytes": 0}),
        json!({"do": "fields", "count": 2, "bytes": 1 << 20}),
        ask(json!({"method": "POST", "body-bytes": 1 << 20})),
        ask(json!({"method": "POST", "body-bytes": 64 << 20})),
        fetch("header-flood"),
        fetch("long-header"),
        fetch("trailer-flood"),
        // More than the guest has room for: it is ended, and what is on its way is given up.
        fetch("pieces/1500"),
    ] {
        // How each ends is for the tests above.
        drop(place.call_with(patient(), input).await);
        assert_eq!(place.seen.web.open(), 0);
    }
    place.seen.web.requests.lock().unwrap().clear();
    place.seen.heard.lock().unwrap().clear();
}

#[tokio::test]
async fn the_brokers_memory_stays_flat_under_floods_of_headers_bodies_and_answers() {
    let place = Place::new();
    flood(&place).await;
    let before = resident_bytes();
    for _ in 0..4 {
        flood(&place).await;
    }
    // Other tests of this process take some meanwhile; what these leave behind would be several times as much.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 150 << 20, "{grown}");
}

#[tokio::test]
async fn what_a_guest_must_not_see_is_taken_from_the_answer() {
    let place = Place::new();
    let fetch =
        |what: &str| json!({"do": "fetch", "url": format!("https://api.example.com/v1/{what}")});
    let answer = answered(&place, fetch("secrets")).await;
    assert_eq!(
        answer["headers"],
        json!([["content-type", "text/plain"], ["x-kept", "1"]])
    );
    let answer = answered(&place, fetch("odd")).await;
    assert_eq!(answer["headers"], json!([["content-type", "text/plain"]]));
}

#[tokio::test]
async fn answers_that_are_not_read_hold_no_connections_beyond_a_few() {
    let place = Place::new();
    let many = |what: &str| {
        let mut input = ask(json!({"count": 60}));
        input["do"] = json!(what);
        input
    };
    let dropped = answered(&place, many("drop-all")).await;
    assert_eq!(dropped, json!({"answered": 60}));
    assert_eq!(place.seen.web.open(), 0);
    assert!(
        place.seen.web.most_open() <= 2,
        "{}",
        place.seen.web.most_open()
    );
    let held = answered(&place, many("hold")).await;
    assert_eq!(
        held,
        json!({"held": 8, "last": {"error": "ErrorCode::ConnectionLimitReached"}})
    );
    assert_eq!(place.seen.web.open(), 0, "the end of a call gives all up");
    let sent = answered(&place, {
        let mut input = ask(json!({}));
        input["do"] = json!("abandon");
        input
    });
    assert_eq!(sent.await, json!({"sent": true}));
    assert_eq!(place.seen.web.open(), 0);
}

#[tokio::test]
async fn no_request_outlives_its_call_in_a_warm_worker() {
    let place = Place::new();
    let mut session = place.open(&patient()).await;
    let mut abandoning = ask(json!({}));
    abandoning["do"] = json!("abandon");
    for called in 1..=50 {
        let answer = place.ask(&mut session, abandoning.clone()).await.unwrap();
        assert!(answer.output["ok"].is_string());
        assert_eq!(place.seen.web.open(), 0);
        // The second begins nowhere: its guest did not wait any more.
        assert_eq!(place.seen.web.count(), called);
        let next = place.ask(&mut session, json!({"do": "count"})).await;
        assert_eq!(next.unwrap().output, json!({"ok": "1"}));
        assert_eq!(place.seen.web.count(), called);
    }
    session.close().await;
}

#[tokio::test]
async fn requests_are_host_calls_and_handles_are_handles() {
    let place = Place::new();
    let few = grant(&MANIFEST.replace("time = \"2s\"", "time = \"20s\"\nhost-calls = 10"));
    let mut input = ask(json!({"count": 60}));
    input["do"] = json!("drop-all");
    let ended = place.call_with(few, input).await;
    assert!(
        matches!(ended, Err(CallError::TooManyHostCalls { max: 10 })),
        "{ended:?}"
    );
    assert_eq!(place.seen.web.count(), 10);
    assert_eq!(place.seen.web.open(), 0);
    // Every request's options stay in the table for ever.
    let handles = grant(&MANIFEST.replace("time = \"2s\"", "time = \"20s\"\nhandles = 50"));
    let mut input = ask(json!({"count": 60, "timeout-ns": 1_000_000_000u64}));
    input["do"] = json!("drop-all");
    let ended = place.call_with(handles, input).await;
    assert!(matches!(ended, Err(CallError::Trap { .. })), "{ended:?}");
    assert!(place.seen.web.count() <= 60);
}

#[tokio::test]
async fn timeouts_are_brought_within_the_call() {
    let place = Place::new();
    for (ns, ms) in [(0, 1), (1, 1), (5_000_000, 5), (u64::MAX, 20_000)] {
        let answer = answered(&place, ask(json!({"timeout-ns": ns}))).await;
        assert_eq!(answer, json!({"status": 200}));
        let request = place.seen.web.requests.lock().unwrap().pop().unwrap();
        let wait = Some(Duration::from_millis(ms));
        let all = request.timeouts;
        assert_eq!(
            [all.connect, all.first_byte, all.between_bytes],
            [wait; 3],
            "{ns}"
        );
    }
    let slow = place.call(ask(json!({"path": "/v1/slow"}))).await;
    assert!(matches!(slow, Err(CallError::OutOfTime { .. })), "{slow:?}");
}

#[tokio::test]
async fn errors_come_to_the_guest_as_cases_without_words() {
    let place = Place::new();
    for (error, case) in [
        ("denied", "HttpRequestDenied"),
        ("out-of-budget", "ConnectionLimitReached"),
        ("address-refused", "DestinationIpProhibited"),
        ("unreachable", "DestinationUnavailable"),
        ("tls", "TlsProtocolError"),
        ("timed-out", "HttpResponseTimeout"),
        ("too-large", "HttpResponseBodySize(None)"),
        ("broke-off", "ConnectionTerminated"),
        ("withheld", "HttpResponseIncomplete"),
        ("not-configured", "ConfigurationError"),
        ("invalid", "HttpProtocolError"),
    ] {
        let path = format!("/v1/error/{error}");
        let answer = answered(&place, ask(json!({ "path": path }))).await;
        assert_eq!(answer["error"], format!("ErrorCode::{case}"), "{error}");
    }
    let answer = answered(&place, ask(json!({"path": "/v1/error/no-such-name"}))).await;
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("DnsError") && error.contains("rcode: None"));
    let url = "https://api.example.com/v1/broken";
    let answer = answered(&place, json!({"do": "fetch", "url": url})).await;
    assert_eq!(answer, json!({"error": "BrokeOff"}));
    assert_eq!(place.seen.web.open(), 0);
}

#[tokio::test]
async fn without_a_rule_requests_are_refused_at_load() {
    let place = Place::new();
    let none = grant(&without("[[network]]"));
    match place.sandbox.load(&PROBE, &none).await {
        Err(LoadError::NotGranted { import, line }) => {
            assert!(import.starts_with("wasi:http/"), "{import}");
            assert!(line.starts_with("skill.toml: [[network]] host ="), "{line}");
        }
        other => panic!("{other:?}"),
    }
    // The manifest declares it, the project does not grant it: another line, of another file.
    let elsewhere = MANIFEST.replace("api.example.com", "other.example.com");
    match place.sandbox.load(&PROBE, &grant(&elsewhere)).await {
        Err(LoadError::NotGranted { line, .. }) => {
            assert!(line.starts_with("moat.toml"), "{line}");
        }
        other => panic!("{other:?}"),
    }
}
