//! Requests of a guest that was given one path of one port, by one method: what else a listener is told.

use std::net::TcpListener;

use serde_json::{Value, json};
use support::http::{Server, whole};

use super::{Plan, Yard, fetch, network, policy, server};
use crate::house::git;

fn untouched(listener: &TcpListener, what: &str) {
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "{what}: somebody connected");
}

#[test]
fn no_other_spelling_of_a_granted_host_is_granted() {
    let (server, other) = (server(), server());
    let (port, elsewhere) = (server.port, other.port);
    let six = TcpListener::bind(("::1", port)).ok();
    let yard = Yard::new(&Plan::asking(port));
    let first = yard.answered(&fetch(&format!("http://localhost:{port}/v1")));
    assert_eq!(first["status"], 200, "{first}");
    for host in [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "127.0.0.2",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "localhost%00.example.com",
        "localhost%2eexample",
        "l\u{43e}calhost",
        "\u{24db}ocalhost",
        "localhost\u{3002}",
        "a.localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "xn--localhost-",
        "localhost,127.0.0.1",
        "user:pass@localhost",
        "localhost:1@127.0.0.1",
    ] {
        let answer = yard.call(&fetch(&format!("http://{host}:{port}/v1")));
        assert!(answer["status"].is_null(), "{host}: {answer}");
    }
    for url in [
        format!("http://localhost:{port}#@localhost:{elsewhere}/v1"),
        format!("http://localhost:{port}\\@localhost:{elsewhere}/v1"),
        format!("http://localhost:{elsewhere}#localhost:{port}/v1"),
        format!("http://localhost:{elsewhere}?@localhost:{port}/v1"),
        format!("http://localhost:{port}:{elsewhere}/v1"),
        format!("http://localhost:{elsewhere}/v1#:{port}"),
        format!("http://localhost:0{elsewhere}/v1"),
        format!("http:localhost:{elsewhere}/v1"),
        format!("http:///localhost:{elsewhere}/v1"),
        format!("http:\\\\localhost:{elsewhere}/v1"),
    ] {
        yard.call(&fetch(&url));
    }
    let (seen, strange) = (server.seen(), other.seen());
    assert!(strange.is_empty(), "{strange:?}");
    for request in &seen {
        assert_eq!(
            request.header("host"),
            Some(format!("localhost:{port}").as_str()),
            "{request:?}"
        );
    }
    if let Some(six) = six {
        untouched(&six, "the address of another family");
    }
    yard.verifies();
}

/// What a server might make of a target: decoded again and again, backslashes and parameters as some read them.
fn resolved(target: &str) -> Vec<String> {
    let mut path = target.split(['?', '#']).next().unwrap().to_lowercase();
    for _ in 0..4 {
        for (from, to) in [("%25", "%"), ("%2e", "."), ("%2f", "/"), ("%5c", "\\")] {
            path = path.replace(from, to);
        }
    }
    let mut stack = vec![];
    for part in path.split(['/', '\\']) {
        match part.split(';').next().unwrap() {
            "" | "." => {}
            ".." => {
                stack.pop();
            }
            other => stack.push(other.to_owned()),
        }
    }
    stack
}

#[test]
fn no_spelling_of_a_path_leads_a_server_out_of_the_granted_one() {
    let server = server();
    let authority = format!("localhost:{}", server.port);
    let yard = Yard::new(&Plan::asking(server.port));
    let ask = |path: &str| {
        yard.call(&json!({"do": "ask", "scheme": "http", "authority": authority, "path": path}))
    };
    assert_eq!(ask("/v1/a")["status"], 200);
    for path in [
        "/v1/../v2",
        "/v1/%2e%2e/v2",
        "/v1/.%2E/v2",
        "/v1%2f..%2fv2",
        "/v1/..%2fv2",
        "/v1\\..\\v2",
        "/v1/..\\v2",
        "/v1/%5c../v2",
        "/v1/..%5cv2",
        "/v1/..;/v2",
        "/v1;/../v2",
        "/v1/;x=/../v2",
        "/v1/%252e%252e/v2",
        "/v1/%252e%252e%252fv2",
        "/v1/..%00/v2",
        "/v1/%c0%ae%c0%ae/v2",
        "/v1/%ef%bc%8e%ef%bc%8e/v2",
        "//v1",
        "/v12",
        "/V2",
        "/v2#/v1",
        "/v2?/v1",
        "/v2%3f/v1",
        "v1/../v2",
        "*",
        "",
        "http://localhost/v2",
        "/v1/..",
        "/v1/.. /v2",
        "/v1/..\t/v2",
        "/v1 HTTP/1.1\r\nHost: x\r\n\r\nGET /v2",
        "/v1/a/../../v2",
        "/./v2",
        "/v1/.../../../v2",
        "/../v1/../v2",
    ] {
        ask(path);
    }
    let seen = server.seen();
    for request in &seen {
        assert_eq!(
            resolved(&request.target).first().map(String::as_str),
            Some("v1"),
            "{request:?}"
        );
        assert!(
            !resolved(&request.target).contains(&"v2".to_owned()) || !request.target.contains(".."),
            "{request:?}"
        );
    }
    yard.verifies();
}

#[test]
fn no_header_speaks_for_the_host_or_for_another_method() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let url = format!("http://localhost:{}/v1", server.port);
    let with = |name: &str, value: &str| {
        yard.call(&json!({"do": "fetch", "url": url, "headers": [[name, value]]}))
    };
    assert_eq!(with("x-harmless", "mark")["status"], 200);
    let names = [
        "Host",
        "host",
        "Authorization",
        "aUTHORIZATION",
        "Cookie",
        "Cookie2",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "TE",
        "Trailer",
        "Upgrade",
        "Content-Length",
        "Expect",
        "Forwarded",
        "X-Forwarded-Host",
        "X-Forwarded-For",
        "X-Http-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "HTTP2-Settings",
        ":authority",
        ":path",
        "Host ",
        " Host",
        "Authorization\t",
        "Author\nization",
        "x: y\r\nAuthorization",
        "X-Authenticated-User\0",
        "",
    ];
    for name in names {
        with(name, "mark-of-the-guest");
    }
    for value in [
        "a\r\nAuthorization: mark-of-the-guest",
        "a\nCookie: mark-of-the-guest",
        "a\rHost: mark-of-the-guest",
        "a\0mark-of-the-guest",
        "a\r\n\r\nGET /v2 HTTP/1.1\r\nx: mark-of-the-guest",
    ] {
        with("x-split", value);
    }
    for request in server.seen() {
        assert!(
            request.target == "/v1" && request.method == "GET",
            "{request:?}"
        );
        assert!(
            !format!("{request:?}").contains("mark-of-the-guest"),
            "{request:?}"
        );
    }
}

#[test]
fn no_spelling_of_a_method_is_another() {
    let server = server();
    let authority = format!("localhost:{}", server.port);
    let yard = Yard::new(&Plan::asking(server.port));
    let ask = |method: &str| {
        yard.call(&json!({"do": "ask", "scheme": "http", "authority": authority, "path": "/v1", "method": method}))
    };
    assert_eq!(ask("GET")["status"], 200);
    for method in [
        "POST",
        "get",
        "Get",
        "HEAD",
        "DELETE",
        "PUT",
        "PATCH",
        "OPTIONS",
        "TRACE",
        "CONNECT",
        "PRI",
        "GET ",
        " GET",
        "GET\t/v2",
        "GET /v2 HTTP/1.1\r\nx:",
        "G\u{0}ET",
        "",
        "GETX",
        "PROPFIND",
    ] {
        ask(method);
    }
    for request in server.seen() {
        assert!(
            request.method == "GET" && request.target == "/v1",
            "{request:?}"
        );
    }
}

#[test]
fn a_redirect_opens_nothing_to_whoever_follows_it() {
    let inner = server();
    let to = inner.port;
    let server = Server::start(move |request, stream| {
        let status = request
            .target
            .rsplit('/')
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(302);
        let location = format!("http://127.0.0.1:{to}/v1");
        let headers = [
            ("location", location.as_str()),
            ("refresh", "0; url=http://127.0.0.1/"),
            ("link", "<http://127.0.0.1/>; rel=preload"),
            ("alt-svc", "h2=\":1\""),
        ];
        whole(stream, status, &headers, "");
    });
    let yard = Yard::new(&Plan::asking(server.port));
    for status in [300, 301, 302, 303, 305, 307, 308, 401, 407, 421] {
        let answer = yard.answered(&fetch(&format!(
            "http://localhost:{}/v1/{status}",
            server.port
        )));
        assert_eq!(answer["status"], status, "{answer}");
        let headers = answer["headers"].as_array().unwrap();
        for pair in headers.iter().filter(|pair| pair[0] == "location") {
            yard.call(&fetch(pair[1].as_str().unwrap()));
        }
    }
    assert_eq!(server.seen().len(), 10);
    assert!(inner.seen().is_empty(), "{:?}", inner.seen());
}

#[test]
fn loopback_is_private_until_the_policy_names_exactly_it() {
    let server = server();
    let port = server.port;
    let plan = Plan::asking(port);
    let yard = Yard::new(&plan);
    let url = format!("http://localhost:{port}/v1");
    let rule = format!("network = [\"http://localhost:{port}\"]\n");
    for private in [
        String::new(),
        "private = []\n".to_owned(),
        format!("private = [\"https://localhost:{port}\"]\n"),
        format!("private = [\"http://localhost:{}\"]\n", port ^ 1),
        format!("private = [\"http://127.0.0.2:{port}\"]\n"),
        format!("private = [\"POST http://localhost:{port}\"]\n"),
        format!("private = [\"http://*.localhost:{port}\"]\n"),
        format!("private = [\"http://localhost:{port}/v1/deeper\"]\n"),
        "private = [\"*\"]\n".to_owned(),
    ] {
        yard.policy(&policy(&format!("{rule}{private}")));
        yard.call(&fetch(&url));
        assert!(server.seen().is_empty(), "{private}: {:?}", server.seen());
    }
    yard.policy(&policy(&plan.ceiling));
    assert_eq!(yard.answered(&fetch(&url))["status"], 200);
    // Every ceiling that matches must allow, in whatever order they stand.
    let none = "\n[[ceiling]]\nskill = \"asker\"\nread = [\".\"]\ncommands = [\"*\"]\nmodels = [\"*\"]\nmax-tokens = 10\nrelease = true\nmemory = \"1GiB\"\ntime = \"10m\"\n";
    let both = policy(&plan.ceiling) + none;
    yard.policy(&both);
    yard.call(&fetch(&url));
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn only_what_the_protected_branch_holds_grants_and_declares() {
    let (server, other) = (server(), server());
    let yard = Yard::new(&Plan::asking(server.port));
    let wide = |yard: &Yard| {
        let mut plan = Plan::asking(server.port);
        plan.manifest += &network(other.port, "http", "\"GET\"");
        yard.skill(&plan);
        let path = yard.repo.join("moat.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let more = format!("/v1\", \"GET http://localhost:{}/v1\"]", other.port);
        std::fs::write(path, text.replace("/v1\"]", &more)).unwrap();
    };
    let (one, two) = (server.port, other.port);
    yard.policy(&policy(&format!(
        "network = [\"http://localhost:{one}\", \"http://localhost:{two}\"]\nprivate = [\"http://localhost:{one}\", \"http://localhost:{two}\"]\n"
    )));
    let ask = || yard.call(&fetch(&format!("http://localhost:{two}/v1")));
    // In the files, and in the index; not committed.
    wide(&yard);
    ask();
    git(&yard.repo, &["add", "-A"]);
    ask();
    // In a stash, in a tag, in files of other names.
    git(&yard.repo, &["stash", "-q"]);
    git(&yard.repo, &["tag", "refs/heads/main", "stash@{0}"]);
    git(&yard.repo, &["update-ref", "refs/tags/main", "stash@{0}"]);
    git(
        &yard.repo,
        &["update-ref", "refs/remotes/main/main", "stash@{0}"],
    );
    ask();
    git(&yard.repo, &["update-ref", "-d", "refs/tags/main"]);
    git(
        &yard.repo,
        &["update-ref", "-d", "refs/tags/refs/heads/main"],
    );
    let grant =
        format!("[[grant]]\nskill = \"asker\"\nnetwork = [\"GET http://localhost:{two}/v1\"]\n");
    for name in [
        "Moat.toml",
        "tools/moat.toml",
        ".moat.toml",
        "moat.toml.d",
        "policy.toml",
        "tools/asker/moat.toml",
    ] {
        std::fs::write(yard.repo.join(name), &grant).unwrap();
    }
    yard.commit("files that are not the one");
    ask();
    // A replacement and a graft are for whoever believes in them.
    let tip = git(&yard.repo, &["rev-parse", "main"]);
    git(&yard.repo, &["replace", &tip, "stash@{0}"]);
    ask();
    git(&yard.repo, &["replace", "-d", &tip]);
    assert!(other.seen().is_empty(), "{:?}", other.seen());
    // This test can fail: on the branch, it is granted.
    git(&yard.repo, &["checkout", "-q", "main"]);
    wide(&yard);
    yard.commit("wider");
    let answer = ask();
    assert_eq!(answer["status"], 200, "{answer}");
}

#[test]
fn requests_and_bytes_end_with_their_limits_while_a_neighbour_goes_on() {
    let counted = Server::start(|request, stream| match request.target.as_str() {
        "/v1/endless" => {
            use std::io::Write as _;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        }
        _ => whole(stream, 200, &[], "well"),
    });
    let port = counted.port;
    let mut plan = Plan::asking(port);
    plan.manifest = network(port, "http", "\"GET\", \"POST\"");
    plan.grant = format!("network = [\"http://localhost:{port}/v1\"]\n");
    plan.limits =
        "memory = \"64MiB\"\ntime = \"60s\"\nrequests = 3\nsent = \"64KiB\"\nreceived = \"1MiB\"\n";
    let yard = Yard::new(&plan);
    let authority = format!("localhost:{port}");
    let ask = |what: Value| {
        let mut input =
            json!({"do": "ask", "scheme": "http", "authority": authority, "path": "/v1/own"});
        input
            .as_object_mut()
            .unwrap()
            .extend(what.as_object().unwrap().clone());
        input
    };
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            for _ in 0..4 {
                let answer =
                    yard.answered(&fetch(&format!("http://localhost:{port}/v1/neighbour")));
                assert_eq!(answer["status"], 200, "{answer}");
            }
        });
        yard.call(&ask(json!({"do": "drop-all", "count": 20})));
        yard.call(&ask(
            json!({"method": "POST", "body-bytes": 1 << 20, "path": "/v1/sent"}),
        ));
        let endless = yard.call(&fetch(&format!("http://localhost:{port}/v1/endless")));
        assert!(endless["status"].is_null(), "an endless answer has an end");
        neighbour.join().unwrap();
    });
    let seen = counted.seen();
    let of = |path: &str| seen.iter().filter(|one| one.target == path).count();
    assert!((1..=3).contains(&of("/v1/own")), "{}", of("/v1/own"));
    assert_eq!(of("/v1/neighbour"), 4);
    let sent: usize = seen
        .iter()
        .filter(|one| one.target == "/v1/sent")
        .map(|one| one.body.len())
        .sum();
    assert!(sent <= 64 << 10, "{sent}");
    yard.verifies();
}

#[test]
fn a_checkout_of_another_branch_grants_nothing() {
    let server = server();
    let url = format!("http://localhost:{}/v1", server.port);
    let mut plan = Plan::asking(server.port);
    plan.grant.clear();
    let yard = Yard::new(&plan);
    yard.call(&fetch(&url));
    git(&yard.repo, &["checkout", "-qb", "topic"]);
    let path = yard.repo.join("moat.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}network = [\"GET {url}\"]\n")).unwrap();
    yard.commit("wider, for a reviewer to look at");
    yard.call(&fetch(&url));
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    git(&yard.repo, &["checkout", "-q", "main"]);
    git(&yard.repo, &["merge", "-q", "topic"]);
    let answer = yard.answered(&fetch(&url));
    assert_eq!(answer["status"], 200, "this test can fail: {answer}");
}
