//! Network, credentials and commands that use the network: never more than any of the three, and every key of the files bites.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use capability::{
    Capability, Grant, Manifest, NetworkRule, Origin, Policy, RawProjectGrant, Source,
};
use proptest::prelude::*;

const MANIFEST: &str = r#"
[skill]
name = "x"
version = "0.1.0"
role = "job"
description = "d"

[[network]]
host = "api.example.com"
methods = ["GET", "POST"]
paths = ["/v1", "/status"]
reason = "r"

[[network]]
host = "*.cdn.example.com"
scheme = "http"
port = 8080
methods = ["GET"]
reason = "r"

[[credentials]]
name = "token"
host = "api.example.com"
header = "Authorization"
format = "Bearer {}"
reason = "r"

[[processes]]
project = "fetch"
network = true
time = "5s"
memory = "64MiB"
reason = "r"

[[processes]]
program = "curl"
args = [["*"]]
network = true
reason = "r"

[limits]
memory = "64MiB"
time = "60s"
requests = 7
sent = "1KiB"
received = "2KiB"
"#;

const PROJECT: &str = r#"{"skill":"x","network":["api.example.com","http://*.cdn.example.com:8080"],"credentials":["token"],"commands":["fetch"],"programs":["curl"],"online":["fetch","curl"]}"#;

const POLICY: &str = r#"
hidden = []
[[ceiling]]
role = "job"
network = ["*", "http://*.example.com:8080"]
private = ["GET api.example.com/v1"]
credentials = ["*"]
commands = ["*"]
programs = ["*"]
online = ["*"]
memory = "1GiB"
time = "1h"
"#;

fn compute(manifest: &str, project: &str, policy: &str) -> Grant {
    let raw: RawProjectGrant = serde_json::from_str(project).unwrap();
    let nowhere = Source {
        file: "moat.toml",
        text: "",
    };
    let project = raw.check(nowhere, 0..0).unwrap();
    let manifest = Manifest::parse(manifest, "skill.toml").unwrap();
    let policy = Policy::parse(policy, "policy.toml").unwrap();
    Grant::compute(&manifest, Some(&project), &policy)
}

const REQUESTS: [(&str, &str, &str, &str); 16] = [
    ("https", "api.example.com", "GET", "/v1/a"),
    ("https", "api.example.com", "POST", "/v1"),
    ("https", "api.example.com", "GET", "/status"),
    ("https", "api.example.com", "DELETE", "/v1/a"),
    ("https", "api.example.com", "get", "/v1/a"),
    ("https", "api.example.com", "GET", "/v12"),
    ("https", "api.example.com", "GET", "/v1/../v2"),
    ("https", "api.example.com", "GET", "/v1/%2e%2e/v2"),
    ("https", "api.example.com", "GET", "/v1/..;/v2"),
    ("https", "api.example.com:8443", "GET", "/v1/a"),
    ("http", "api.example.com", "GET", "/v1/a"),
    ("https", "evil-api.example.com", "GET", "/v1/a"),
    ("https", "api.example.com.evil.io", "GET", "/v1/a"),
    ("http", "a.cdn.example.com:8080", "GET", "/x//../y"),
    ("http", "cdn.example.com:8080", "GET", "/"),
    ("http", "evilcdn.example.com:8080", "GET", "/"),
];

/// What a grant allows, as words that a test can compare.
fn powers(grant: &Grant) -> Vec<String> {
    let mut found = Vec::new();
    for (scheme, authority, method, path) in REQUESTS {
        let origin = Origin::parse(scheme, authority).unwrap();
        if let Ok(reach) = grant.may_request(&origin, method, path) {
            found.push(format!("{method} {origin}{path}"));
            if reach.private {
                found.push(format!("private {method} {origin}{path}"));
            }
            found.extend(
                reach
                    .credentials
                    .iter()
                    .map(|one| format!("{} for {origin}{path}", one.name)),
            );
        }
    }
    let arg = ["a".to_owned()];
    for (name, running) in [
        ("fetch", grant.may_run_project("fetch", &[])),
        ("curl", grant.may_run_program("curl", &arg)),
    ] {
        if let Ok(running) = running {
            found.push(name.into());
            if running.network {
                found.push(format!("{name} online"));
            }
            if let Some(wall_ms) = running.wall_ms {
                found.push(format!("{name} for {wall_ms} ms"));
            }
            if let Some(memory_bytes) = running.memory_bytes {
                found.push(format!("{name} in {memory_bytes} bytes"));
            }
        }
    }
    found
}

const ALL: &[&str] = &[
    "GET https://api.example.com/v1/a",
    "private GET https://api.example.com/v1/a",
    "token for https://api.example.com/v1/a",
    "POST https://api.example.com/v1",
    "token for https://api.example.com/v1",
    "GET https://api.example.com/status",
    "token for https://api.example.com/status",
    "GET http://a.cdn.example.com:8080/x//../y",
    "fetch",
    "fetch online",
    "fetch for 5000 ms",
    "fetch in 67108864 bytes",
    "curl",
    "curl online",
];

#[test]
fn only_what_agrees_in_origin_method_and_path_is_granted() {
    let grant = compute(MANIFEST, PROJECT, POLICY);
    assert_eq!(powers(&grant), ALL);
    assert!(grant.withheld().is_empty(), "{:?}", grant.withheld());
    let limits = grant.limits();
    assert_eq!(
        (limits.requests, limits.sent_bytes, limits.received_bytes),
        (7, 1 << 10, 2 << 10)
    );
    assert!(grant.interfaces().contains("wasi:http/outgoing-handler"));
}

#[test]
fn every_key_bites() {
    let token: &[&str] = &[
        "token for https://api.example.com/v1/a",
        "token for https://api.example.com/v1",
        "token for https://api.example.com/status",
    ];
    let api: Vec<&str> = ALL
        .iter()
        .copied()
        .filter(|one| one.contains("api.example.com"))
        .collect();
    let cdn: &[&str] = &["GET http://a.cdn.example.com:8080/x//../y"];
    let online: &[&str] = &["fetch online", "curl online"];
    let table: [(&str, &str, &str, &[&str]); 22] = [
        (
            "manifest",
            "host = \"*.cdn.example.com\"",
            "host = \"b.cdn.example.com\"",
            cdn,
        ),
        ("manifest", "scheme = \"http\"\n", "", cdn),
        ("manifest", "port = 8080\n", "", cdn),
        (
            "manifest",
            "methods = [\"GET\", \"POST\"]",
            "methods = [\"GET\"]",
            &[
                "POST https://api.example.com/v1",
                "token for https://api.example.com/v1",
            ],
        ),
        (
            "manifest",
            "paths = [\"/v1\", \"/status\"]",
            "paths = [\"/v1\"]",
            &[
                "GET https://api.example.com/status",
                "token for https://api.example.com/status",
            ],
        ),
        ("manifest", "name = \"token\"", "name = \"other\"", token),
        (
            "manifest",
            "project = \"fetch\"\nnetwork = true",
            "project = \"fetch\"",
            &["fetch online"],
        ),
        ("manifest", "time = \"5s\"\n", "", &["fetch for 5000 ms"]),
        (
            "manifest",
            "memory = \"64MiB\"\n",
            "",
            &["fetch in 67108864 bytes"],
        ),
        (
            "manifest",
            "args = [[\"*\"]]\nnetwork = true",
            "args = [[\"*\"]]",
            &["curl online"],
        ),
        ("project", "\"api.example.com\",", "", &api),
        (
            "project",
            "\"api.example.com\",",
            "\"GET api.example.com/v1/a\",",
            &[
                "POST https://api.example.com/v1",
                "token for https://api.example.com/v1",
                "GET https://api.example.com/status",
                "token for https://api.example.com/status",
            ],
        ),
        ("project", ",\"http://*.cdn.example.com:8080\"", "", cdn),
        ("project", "[\"token\"]", "[]", token),
        ("project", "[\"fetch\",\"curl\"]", "[]", online),
        ("policy", "\"*\", ", "", &api),
        ("policy", ", \"http://*.example.com:8080\"", "", cdn),
        (
            "policy",
            "network = [\"*\"",
            "network = [\"GET *\"",
            &[
                "POST https://api.example.com/v1",
                "token for https://api.example.com/v1",
            ],
        ),
        (
            "policy",
            "private = [\"GET api.example.com/v1\"]\n",
            "",
            &["private GET https://api.example.com/v1/a"],
        ),
        (
            "policy",
            "credentials = [\"*\"]",
            "credentials = [\"other\"]",
            token,
        ),
        (
            "policy",
            "online = [\"*\"]",
            "online = [\"curl\"]",
            &["fetch online"],
        ),
        ("policy", "role = \"job\"", "role = \"triage\"", ALL),
    ];
    for (file, from, to, lost) in table {
        let text = |name: &str, text: &str| {
            if name == file {
                assert!(text.contains(from), "{from}");
                text.replacen(from, to, 1)
            } else {
                text.to_owned()
            }
        };
        let grant = compute(
            &text("manifest", MANIFEST),
            &text("project", PROJECT),
            &text("policy", POLICY),
        );
        let left: Vec<&str> = ALL
            .iter()
            .copied()
            .filter(|one| !lost.contains(one))
            .collect();
        assert_eq!(powers(&grant), left, "{from} -> {to}");
        let told = file == "manifest" || from.contains("private") || !grant.withheld().is_empty();
        assert!(told, "{from} -> {to} says nothing");
    }
    let limited =
        |from: &str, to: &str| compute(&MANIFEST.replacen(from, to, 1), PROJECT, POLICY).limits();
    assert_eq!(limited("requests = 7", "requests = 6").requests, 6);
    assert_eq!(
        limited("sent = \"1KiB\"", "sent = \"1MiB\"").sent_bytes,
        1 << 20
    );
    assert_eq!(limited("received = \"2KiB\"", "").received_bytes, 64 << 20);
}

#[test]
fn a_denial_names_the_line_and_shows_no_hidden_character() {
    let grant = compute(MANIFEST, PROJECT, POLICY);
    let origin = Origin::parse("https", "other.example.com").unwrap();
    let denial = grant
        .may_request(&origin, "GET", "/a\n\u{1b}[2J")
        .unwrap_err();
    assert_eq!(denial.capability, Capability::Network);
    assert!(
        denial
            .line
            .contains("[[network]] host = \"other.example.com\""),
        "{denial}"
    );
    assert!(!denial.what.contains(char::is_control), "{denial:?}");
}

#[test]
fn a_wider_rule_takes_nothing_away() {
    let grant = |policy: &str| compute(MANIFEST, PROJECT, policy);
    let narrow = POLICY.replace("network = [\"*\"", "network = [\"GET api.example.com/v1\"");
    let lost = |from: &Grant, to: &Grant| from.beyond(to).len();
    assert_eq!(lost(&grant(&narrow), &grant(POLICY)), 0);
    assert!(lost(&grant(POLICY), &grant(&narrow)) > 0);
}

#[test]
fn an_http_request_is_answered_with_a_line_for_http() {
    let grant = compute(MANIFEST, PROJECT, POLICY);
    let origin = Origin::parse("http", "127.0.0.1:8080").unwrap();
    let denial = grant.may_request(&origin, "GET", "/").unwrap_err();
    assert!(
        denial.line.contains("scheme = \"http\" port = 8080"),
        "{denial}"
    );
}

#[test]
fn authorities_are_an_absolute_path_or_refused() {
    let with =
        |path: &str| Policy::parse(&format!("authorities = \"{path}\"{POLICY}"), "policy.toml");
    assert_eq!(
        with("/etc/ca.pem").unwrap().authorities.as_deref(),
        Some("/etc/ca.pem")
    );
    for path in ["ca.pem", "../ca.pem", "", "~/ca.pem"] {
        assert_eq!(with(path).unwrap_err().line, 1, "{path}");
    }
}

#[test]
fn without_network_there_is_no_interface() {
    let none = compute(
        MANIFEST,
        &PROJECT
            .replace("api.example.com", "b.example.com")
            .replace("cdn.example", "dnc.example"),
        POLICY,
    );
    assert!(
        !none
            .interfaces()
            .iter()
            .any(|one| one.starts_with("wasi:http"))
    );
    assert_eq!(none.credentials().count(), 0);
    let builtin = Policy::builtin().unwrap();
    assert!(
        builtin
            .ceilings
            .iter()
            .all(|one| one.network.is_empty() && one.private.is_empty())
    );
}

#[test]
fn manifests_that_are_ambiguous_or_reach_too_far_are_refused_with_line_and_mend() {
    for (from, to) in [
        ("host = \"*.cdn.example.com\"", "host = \"*\""),
        ("host = \"*.cdn.example.com\"", "host = \"*.com\""),
        ("host = \"*.cdn.example.com\"", "host = \"a.*.com\""),
        ("host = \"*.cdn.example.com\"", "host = \"\""),
        ("host = \"*.cdn.example.com\"", "host = \"user@a.com\""),
        ("host = \"*.cdn.example.com\"", "host = \"0x7f.1\""),
        ("host = \"*.cdn.example.com\"", "host = \"a.com:80\""),
        ("host = \"*.cdn.example.com\"", "host = \"*.10.0.0.1\""),
        ("port = 8080", "port = 0"),
        ("port = 8080", "port = 65536"),
        ("port = 8080", "port = \"8080\""),
        ("scheme = \"http\"", "scheme = \"ftp\""),
        ("methods = [\"GET\"]", "methods = []"),
        ("methods = [\"GET\"]", "methods = [\"get\"]"),
        ("methods = [\"GET\"]", "methods = [\"CONNECT\"]"),
        ("methods = [\"GET\"]", "methods = [\"*\"]"),
        ("methods = [\"GET\"]", ""),
        ("paths = [\"/v1\", \"/status\"]", "paths = []"),
        ("paths = [\"/v1\", \"/status\"]", "paths = [\"v1\"]"),
        ("paths = [\"/v1\", \"/status\"]", "paths = [\"/v1/../x\"]"),
        ("paths = [\"/v1\", \"/status\"]", "paths = [\"/v1?a=b\"]"),
        ("paths = [\"/v1\", \"/status\"]", "paths = [\"/%2e%2e\"]"),
        ("header = \"Authorization\"", "header = \"Host\""),
        (
            "header = \"Authorization\"",
            "header = \"Proxy-Authorization\"",
        ),
        ("header = \"Authorization\"", "header = \"a b\""),
        ("format = \"Bearer {}\"", "format = \"Bearer\""),
        ("format = \"Bearer {}\"", "format = \"{}{}\""),
        ("format = \"Bearer {}\"", "format = \"a\\r\\nb{}\""),
        (
            "host = \"api.example.com\"\nheader",
            "host = \"other.example.com\"\nheader",
        ),
        (
            "host = \"api.example.com\"\nheader",
            "host = \"*.example.com\"\nheader",
        ),
        ("name = \"token\"", "name = \"a/b\""),
        ("requests = 7", "requests = -7"),
        ("requests = 7", "requests = 100001"),
        ("sent = \"1KiB\"", "sent = \"1024\""),
    ] {
        assert!(MANIFEST.contains(from), "{from}");
        let error = Manifest::parse(&MANIFEST.replacen(from, to, 1), "skill.toml").unwrap_err();
        assert!(!error.mend.is_empty(), "{to}: {error}");
    }
}

fn rule() -> impl Strategy<Value = String> {
    let methods = proptest::sample::select(vec!["", "GET ", "GET,POST ", "PUT "]);
    let scheme = proptest::sample::select(vec!["", "http://"]);
    let host = proptest::sample::select(vec![
        "a.b.c",
        "*.b.c",
        "*.a.b.c",
        "x.a.b.c",
        "b.c",
        "127.0.0.1",
        "[::1]",
    ]);
    let port = proptest::sample::select(vec!["", ":1", ":80", ":443"]);
    let path = proptest::sample::select(vec!["", "/", "/a", "/a/b", "/ab"]);
    (methods, scheme, host, port, path).prop_map(|(m, s, h, p, q)| format!("{m}{s}{h}{p}{q}"))
}

proptest! {
    #[test]
    fn two_rules_have_in_common_just_what_both_allow(one in rule(), two in rule(), scheme in "https?", host in "(a\\.b\\.c|x\\.a\\.b\\.c|b\\.c|127\\.0\\.0\\.1|\\[::1\\])", port in "(:1|:80|:443)?", method in "(GET|POST|PUT|DELETE)", path in "(/|/a|/a/b|/ab|/a/../b)") {
        let (one, two) = (NetworkRule::parse(&one).unwrap(), NetworkRule::parse(&two).unwrap());
        prop_assert_eq!(NetworkRule::parse(&one.to_string()).unwrap(), one.clone());
        let origin = Origin::parse(&scheme, &format!("{host}{port}")).unwrap();
        let allows = |rule: &NetworkRule| rule.allows(&origin, &method.parse().unwrap(), &path);
        let both = one.both(&two).is_some_and(|rule| allows(&rule));
        prop_assert_eq!(both, two.both(&one).is_some_and(|rule| allows(&rule)));
        // A path that servers read in two ways lies below no narrow prefix.
        if path.contains("..") {
            prop_assert!(!both || (allows(&one) && allows(&two)));
        } else {
            prop_assert_eq!(both, allows(&one) && allows(&two));
        }
    }

    #[test]
    fn any_text_is_a_rule_or_refused_and_a_rule_prints_as_itself(text in ".{0,80}") {
        if let Ok(rule) = NetworkRule::parse(&text) {
            prop_assert_eq!(NetworkRule::parse(&rule.to_string()), Ok(rule));
        }
    }

    #[test]
    fn an_origin_prints_as_itself(text in "[a-zA-Z0-9.:\\[\\]_%@-]{0,40}") {
        if let Ok(origin) = Origin::parse("https", &text) {
            prop_assert_eq!(Origin::parse("https", &origin.authority()), Ok(origin));
        }
    }
}
