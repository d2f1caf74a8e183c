//! Real programs behind a door that the proxy serves: they fetch what is granted, by the ways that they know, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use confine::{Command, DOOR_PORT, Ending, Finished, Mount};
use egress::Proxy;

use crate::place::{Place, text};
use crate::server::{Authority, Server, ok, saying};
use crate::world::{Granted, World};

const CERTIFICATE: &str = "/etc/moat/proxy.pem";

/// Two servers, of which one is granted: GET below /v1.
struct Net {
    server: Server,
    other: Server,
    world: World,
    granted: Granted,
}

impl Net {
    fn new() -> Net {
        let authority = Authority::new();
        let server = Server::tls(&authority, "api.test", saying(ok("hello\n")));
        let origin = format!("https://api.test:{}", server.port);
        Net {
            other: Server::tls(&authority, "other.test", saying(ok("other\n"))),
            world: World::new(Some(authority.pem())),
            granted: Granted::default()
                .rule("GET", &origin, "/v1")
                .private(&origin),
            server,
        }
    }

    /// Runs a script behind the door; gives what was refused as well.
    async fn run(&self, place: &Place, program: &str, script: &str) -> (Finished, Vec<String>) {
        let proxy = Arc::new(Proxy::new(Arc::new(self.world.visit(&self.granted))).unwrap());
        let mut command: Command =
            place.command(program, &["-c", script], Duration::from_secs(120));
        command
            .env
            .extend(egress::environment(DOOR_PORT, CERTIFICATE));
        command.env.insert(
            "API".into(),
            format!("https://api.test:{}", self.server.port),
        );
        command.env.insert(
            "OTHER".into(),
            format!("https://other.test:{}", self.other.port),
        );
        command.mounts.push(Mount::Text {
            inside: CERTIFICATE.into(),
            content: proxy.certificate().to_owned(),
        });
        let serve = |listener| proxy.serve(listener);
        let finished = place.launcher.run_with_door(command, serve).await.unwrap();
        let denied = proxy.denials();
        (
            finished,
            denied.into_iter().map(|(denial, _)| denial.what).collect(),
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_fetches_what_is_granted_and_nothing_else() {
    let (place, net) = (Place::new(), Net::new());
    if place.tools.resolve("curl").is_err() {
        return;
    }
    let script = "curl -sS $API/v1/a || echo failed\n\
        curl -sS $API/v1/b $API/v1/c || echo failed\n\
        for no in \"$OTHER/v1\" \"$API/v2\" \"-X POST $API/v1\" \"-X DELETE $API/v1\" \"--path-as-is $API/v1/../v2\" \"${API%:*}/v1\" \\\n\
        \x20 \"--noproxy * $API/v1\" \"--socks5-hostname 127.0.0.1:3128 $API/v1\" \"--socks4a 127.0.0.1:3128 $API/v1\" \"-H Host:other.test $API/v1\" \\\n\
        \x20 \"--connect-to ::other.test: $API/v1\" \"-H X-Forwarded-Host:other.test $API/v1\" \"-H Authorization:x $API/v1\" \"http://127.0.0.1:3128/\" \\\n\
        \x20 \"http://169.254.169.254/latest/\" \"ftp://api.test/v1\" \"telnet://api.test:22\" \"--proxytunnel http://other.test/\"; do\n\
        \x20 set -f; curl -sS --max-time 10 -f $no </dev/null >out 2>/dev/null && { echo \"reached by $no\"; cat out; }; set +f\n\
        done; ls /proc/sys/net/ipv4/conf | wc -l; cat /etc/moat/proxy.pem | grep -c PRIVATE; echo x > /etc/moat/proxy.pem";
    let (finished, denied) = net.run(&place, "sh", script).await;
    let (out, errors) = (text(&finished.stdout), text(&finished.stderr));
    assert_eq!(out, "hello\nhello\nhello\n3\n0\n", "{errors}");
    assert!(
        errors.contains("proxy.pem"),
        "the certificate was replaced: {errors}"
    );
    let requests = net.server.requests();
    let lines: Vec<&str> = requests
        .iter()
        .filter_map(|request| request.lines().next())
        .collect();
    let expected = [
        "GET /v1/a HTTP/1.1",
        "GET /v1/b HTTP/1.1",
        "GET /v1/c HTTP/1.1",
    ];
    assert_eq!(lines, expected);
    assert_eq!(net.other.connections(), 0);
    assert!(
        net.world
            .names
            .asked()
            .iter()
            .all(|name| name == "api.test")
    );
    for what in ["DELETE", "POST", "other.test", "/v2", "169.254.169.254"] {
        assert!(
            denied.iter().any(|one| one.contains(what)),
            "{what}: {denied:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_fetches_what_is_granted_and_nothing_else() {
    let (place, net) = (Place::new(), Net::new());
    let script = "import os, socket, urllib.request, urllib.error\n\
        api, other = os.environ['API'], os.environ['OTHER']\n\
        print(urllib.request.urlopen(api + '/v1/x').read())\n\
        for url, method in ((other + '/v1', 'GET'), (api + '/v2', 'GET'), (api + '/v1', 'PUT'), ('http://api.test/v1', 'GET')):\n\
        \x20try: print(urllib.request.urlopen(urllib.request.Request(url, method=method)).read())\n\
        \x20except (urllib.error.URLError, OSError) as e: print('no')\n\
        port = int(api.rsplit(':', 1)[1])\n\
        for to in (('127.0.0.1', port), ('192.0.2.1', 443)):\n\
        \x20try: socket.create_connection(to, 5); print('reached')\n except OSError: print('no')\n\
        try: socket.getaddrinfo('api.test', 443); print('looked up')\nexcept OSError: print('no')\n";
    let (finished, denied) = net.run(&place, "python3", script).await;
    assert_eq!(
        (finished.ending, text(&finished.stdout).as_str()),
        (
            Ending::Exited(0),
            "b'hello\\n'\nno\nno\nno\nno\nno\nno\nno\n"
        ),
        "{}",
        text(&finished.stderr)
    );
    assert_eq!(
        (net.server.requests().len(), net.other.connections()),
        (1, 0)
    );
    assert!(denied.len() >= 4, "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_that_have_their_own_words_for_it_find_the_proxy_and_trust_it() {
    let (place, net) = (Place::new(), Net::new());
    let script = "cd /tmp && mkdir -p index && export HOME=/tmp\n\
        command -v git >/dev/null && git ls-remote $API/v1/git 2>/dev/null\n\
        python3 -m pip --version >/dev/null 2>&1 && python3 -m pip download --no-cache-dir --retries 0 --index-url $API/v1/pip nothing >/dev/null 2>&1\n\
        command -v node >/dev/null && node -e 'fetch(process.env.API + \"/v1/node\").then(a => a.text()).then(t => console.log(\"node\", t))' 2>/dev/null | grep -c hello\n\
        command -v wget >/dev/null && wget -q -O /dev/null --ca-certificate=$SSL_CERT_FILE $API/v1/wget\n\
        command -v git >/dev/null && echo has git; python3 -m pip --version >/dev/null 2>&1 && echo has pip; true";
    let (finished, denied) = net.run(&place, "sh", script).await;
    let requests = net.server.requests().join("\n");
    let out = text(&finished.stdout);
    if out.contains("has git") {
        assert!(
            requests.contains("GET /v1/git/info/refs"),
            "{requests} {}",
            text(&finished.stderr)
        );
    }
    if out.contains("has pip") {
        assert!(
            requests.contains("GET /v1/pip/nothing/"),
            "{requests} {}",
            text(&finished.stderr)
        );
    }
    assert!(denied.is_empty(), "{denied:?}");
}
