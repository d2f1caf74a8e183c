//! What leaves, and what does not.

use egress::{InvalidRequest, RequestError};

use crate::server::{Authority, Server, ok, saying};
use crate::world::{Granted, World, asking, fetch, get, with};

#[tokio::test]
async fn a_granted_request_leaves_as_it_was_checked_and_its_answer_comes_back() {
    let server = Server::plain("127.0.0.1", saying(ok("hello")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    let mut request = with(asking("POST", &format!("{at}/v1/x?q=%41")), "X-Mine", "1");
    request.body = b"body".to_vec();
    assert_eq!(
        fetch(&visit, request).await.unwrap(),
        (200, "hello".to_owned())
    );
    let seen = server.requests().remove(0);
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines.remove(0), "POST /v1/x?q=%41 HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: api.test:{}", server.port);
    let agent = concat!("user-agent: moat/", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (lines, body),
        (
            vec![
                "accept-encoding: identity",
                "content-length: 4",
                host.as_str(),
                agent,
                "x-mine: 1"
            ],
            "body"
        )
    );
    assert_eq!(world.names.asked(), ["api.test"]);
    let used = &visit.used()[0];
    assert_eq!(
        (used.path.as_str(), used.method.as_str(), used.requests),
        ("/v1", "POST", 1)
    );
    assert!(used.sent >= 4 && used.received >= 5, "{used:?}");
}

#[tokio::test]
async fn what_is_not_granted_is_neither_looked_up_nor_connected_to() {
    let server = Server::plain("127.0.0.1", saying(ok("no")));
    let port = server.port;
    let at = format!("http://api.test:{port}");
    let world = World::new(None);
    for name in ["evil-api.test", "api.test.evil", "sub.api.test", "apixtest"] {
        world.names.answer(name, &[&["127.0.0.1"]]);
    }
    let granted = Granted::default()
        .rule("GET", &at, "/v1")
        .private(&format!("http://api.test:{port}"));
    let visit = world.visit(&granted);
    for request in [
        get(&format!("http://other.test:{port}/v1")),
        get(&format!("http://evil-api.test:{port}/v1")),
        get(&format!("http://api.test.evil:{port}/v1")),
        get(&format!("http://sub.api.test:{port}/v1")),
        get(&format!("http://apixtest:{port}/v1")),
        get(&format!("http://127.0.0.1:{port}/v1")),
        get(&format!("http://[::ffff:7f00:1]:{port}/v1")),
        get("http://api.test/v1"),
        get(&format!("http://api.test:{}/v1", port ^ 1)),
        get(&format!("https://api.test:{port}/v1")),
        asking("POST", &format!("{at}/v1")),
        get(&format!("{at}/v2")),
        get(&format!("{at}/v1x")),
        get(&format!("{at}/v1/../v2")),
        get(&format!("{at}/v1/%2e%2e/v2")),
        get(&format!("{at}/v1%2f..%2fv2")),
        get(&format!("{at}/v1/..\\v2")),
    ] {
        let (method, origin, path) = (
            request.method.clone(),
            request.origin.to_string(),
            request.path_and_query.clone(),
        );
        let error = visit.send(request).await.unwrap_err();
        assert!(
            matches!(error, RequestError::Denied(_)),
            "{method} {origin}{path}: {error:?}"
        );
    }
    assert!(world.names.asked().is_empty(), "{:?}", world.names.asked());
    assert_eq!(server.connections(), 0);
    assert!(visit.used().is_empty());
}

#[tokio::test]
async fn an_empty_grant_reaches_nothing() {
    let server = Server::plain("127.0.0.1", saying(ok("no")));
    let world = World::new(None);
    let visit = world.visit(&Granted::default());
    for host in ["api.test", "127.0.0.1", "localhost"] {
        let error = visit
            .send(get(&format!("http://{host}:{}/", server.port)))
            .await;
        assert!(matches!(error, Err(RequestError::Denied(_))), "{host}");
    }
    assert!(world.names.asked().is_empty() && server.connections() == 0);
}

#[tokio::test]
async fn headers_that_are_the_hosts_to_set_are_refused_before_anything_leaves() {
    let server = Server::plain("127.0.0.1", saying(ok("no")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    for name in [
        "Host",
        "HOST",
        "Authorization",
        "authorization",
        "Cookie",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "x_forwarded_host",
        "X-Real-IP",
        "Via",
        "Connection",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "transfer_encoding",
        "content_length",
        "Upgrade",
        "HTTP2-Settings",
        "Sec-WebSocket-Key",
        "Expect",
        "X-Auth-Token",
        "X-Vault-Token",
        "X-Api-Key",
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
    ] {
        let error = visit.send(with(get(&at), name, "1")).await.unwrap_err();
        assert_eq!(
            error,
            RequestError::Invalid(InvalidRequest::HeaderForbidden),
            "{name}"
        );
    }
    for (name, value) in [
        ("a b", "1"),
        ("a:b", "1"),
        ("", "1"),
        ("a\r\nb", "1"),
        ("a\0", "1"),
        ("x", "a\r\nhost: evil"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x", "a\r\n obs-fold"),
        ("ä", "1"),
    ] {
        let error = visit.send(with(get(&at), name, value)).await.unwrap_err();
        assert_eq!(
            error,
            RequestError::Invalid(InvalidRequest::Header),
            "{name:?} {value:?}"
        );
    }
    assert!(world.names.asked().is_empty() && server.connections() == 0);
}

#[tokio::test]
async fn a_length_that_is_not_the_bodys_is_refused_and_the_true_one_is_sent_once() {
    let server = Server::plain("127.0.0.1", saying(ok("yes")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    let post = |lengths: &[&str]| {
        let mut request = asking("POST", &at);
        request.body = b"12345".to_vec();
        lengths.iter().fold(request, |request, length| {
            with(request, "Content-Length", length)
        })
    };
    for lengths in [
        &["4"][..],
        &["6"],
        &["+5"],
        &[" 5"],
        &["05"],
        &["5, 5"],
        &["5", "5"],
        &["5", "0"],
        &["0x5"],
        &[""],
    ] {
        assert_eq!(
            visit.send(post(lengths)).await.unwrap_err(),
            RequestError::Invalid(InvalidRequest::ContentLength),
            "{lengths:?}"
        );
    }
    assert_eq!(server.connections(), 0);
    assert_eq!(fetch(&visit, post(&["5"])).await.unwrap().0, 200);
    let seen = server.requests().remove(0);
    assert_eq!(seen.matches("content-length").count(), 1, "{seen}");
    assert!(seen.ends_with("\r\n\r\n12345"), "{seen}");
}

#[tokio::test]
async fn a_path_or_method_that_two_readers_could_take_for_different_ones_is_refused() {
    let server = Server::plain("127.0.0.1", saying(ok("no")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    for path in [
        "",
        "x",
        "http://evil.test/",
        "*",
        "/a b",
        "/a\r\nHost: evil.test\r\n\r\nGET /",
        "/a\nb",
        "/a\tb",
        "/a\0b",
        "/a#b",
        "/a?b#c",
        "/ä",
        "/a\u{7f}",
    ] {
        let mut request = get(&at);
        request.path_and_query = path.into();
        assert_eq!(
            visit.send(request).await.unwrap_err(),
            RequestError::Invalid(InvalidRequest::Path),
            "{path:?}"
        );
    }
    for method in [
        "", "get", "Get", "CONNECT", "TRACE", "TRACK", "PRI", "GET /", "GET\r\n", "GÉT", "GE T",
    ] {
        assert_eq!(
            visit.send(asking(method, &at)).await.unwrap_err(),
            RequestError::Invalid(InvalidRequest::Method),
            "{method:?}"
        );
    }
    let mut request = get(&at);
    request.path_and_query = format!("/{}", "a".repeat(1 << 20));
    assert_eq!(
        visit.send(request).await.unwrap_err(),
        RequestError::TooLarge
    );
    let many = (0..10_000).fold(get(&at), |request, n| with(request, &format!("x-{n}"), "1"));
    assert_eq!(visit.send(many).await.unwrap_err(), RequestError::TooLarge);
    assert!(world.names.asked().is_empty() && server.connections() == 0);
}

#[tokio::test]
async fn over_tls_one_name_is_resolved_asked_for_proved_and_sent() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "api.test", saying(ok("safe")));
    let at = format!("https://api.test:{}", server.port);
    let world = World::new(Some(authority.pem()));
    let visit = world.visit(&Granted::default().at(&at).private(&at));
    assert_eq!(fetch(&visit, get(&at)).await.unwrap().1, "safe");
    assert_eq!(world.names.asked(), ["api.test"]);
    assert_eq!(server.names(), [Some("api.test".to_owned())]);
    let host = format!("\r\nhost: api.test:{}\r\n", server.port);
    assert!(server.requests()[0].contains(&host));
}

#[tokio::test]
async fn a_certificate_of_another_name_or_a_strangers_is_refused_before_anything_is_sent() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for (by, name) in [(&authority, "other.test"), (&stranger, "api.test")] {
        let server = Server::tls(by, name, saying(ok("no")));
        let at = format!("https://api.test:{}", server.port);
        let world = World::new(Some(authority.pem()));
        let visit = world.visit(&Granted::default().at(&at).private(&at));
        assert_eq!(
            visit.send(get(&at)).await.unwrap_err(),
            RequestError::Tls,
            "{name}"
        );
        assert!(server.requests().is_empty());
    }
}
