//! The proxy for commands, spoken to byte by byte: what it passes on, and that nothing else leaves.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use egress::Proxy;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::server::{Authority, Server, Then, ok, saying};
use crate::world::{Granted, World};

/// A proxy under way.
struct Running {
    port: u16,
    proxy: Arc<Proxy>,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn new(world: &World, granted: &Granted) -> Running {
        let proxy = Arc::new(Proxy::new(Arc::new(world.visit(granted))).unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&proxy);
        Running {
            port,
            proxy,
            serving: tokio::spawn(async move { serving.serve(listener).await }),
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends these bytes and gives what comes back until the end.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be refused and closed while the rest is still being written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        rest(&mut stream)
    }

    /// The status with which `CONNECT` is answered, and the connection.
    fn tunnel(&self, to: &str) -> (u16, TcpStream) {
        let mut stream = self.connect();
        write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            head.push(byte[0]);
        }
        let text = String::from_utf8(head).unwrap();
        (
            text.split(' ')
                .nth(1)
                .map_or(0, |status| status.parse().unwrap()),
            stream,
        )
    }

    /// TLS with whom the certificate of the proxy vouches for.
    fn tls(
        &self,
        stream: TcpStream,
        name: &str,
        protocols: &[&[u8]],
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.proxy.certificate().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        StreamOwned::new(
            ClientConnection::new(Arc::new(config), name).unwrap(),
            stream,
        )
    }

    /// Says something within TLS to `authority`, and gives what comes back until the end.
    fn say_within(&self, authority: &str, text: &str) -> String {
        let (status, stream) = self.tunnel(authority);
        assert_eq!(status, 200, "{authority}");
        let host = authority.rsplit_once(':').unwrap().0;
        let mut stream = self.tls(stream, host, &[b"http/1.1"]);
        stream.write_all(text.as_bytes()).unwrap();
        stream.conn.send_close_notify();
        let _ = stream.flush();
        rest(&mut stream)
    }

    fn denied(&self) -> Vec<String> {
        let denials = self.proxy.denials();
        denials.into_iter().map(|(denial, _)| denial.what).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn rest(from: &mut impl std::io::Read) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

/// A TLS server at `api.test` and a grant for it: GET and POST below /v1.
struct Scene {
    server: Server,
    other: Server,
    world: World,
    granted: Granted,
    at: String,
}

impl Scene {
    fn new() -> Scene {
        let authority = Authority::new();
        let server = Server::tls(&authority, "api.test", saying(ok("hello")));
        let other = Server::tls(&authority, "other.test", saying(ok("other")));
        let origin = format!("https://api.test:{}", server.port);
        Scene {
            world: World::new(Some(authority.pem())),
            granted: Granted::default()
                .rule("GET,POST,HEAD", &origin, "/v1")
                .private(&origin),
            at: format!("api.test:{}", server.port),
            server,
            other,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_granted_goes_through_as_one_request_of_our_own() {
    let scene = Scene::new();
    let running = Running::new(&scene.world, &scene.granted).await;
    let at = &scene.at;
    let answer = running.say_within(
        at,
        &format!(
            "GET /v1/a?b=c HTTP/1.1\r\nHost: {at}\r\nAccept: */*\r\nProxy-Connection: keep-alive\r\n\r\n\
             POST /v1/b HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\
             HEAD /v1/c HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
        ),
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answer}");
    assert_eq!(answer.matches("hello").count(), 2, "{answer}");
    let requests = scene.server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests[0].starts_with("GET /v1/a?b=c HTTP/1.1\r\n"));
    assert!(requests[0].contains(&format!("\r\nhost: {at}\r\n")));
    assert!(requests[0].contains("accept: */*\r\n"));
    assert!(requests[1].contains("content-length: 3\r\n") && requests[1].ends_with("\r\n\r\nabc"));
    for request in &requests {
        let lower = request.to_ascii_lowercase();
        assert!(
            !lower.contains("proxy-") && !lower.contains("chunked"),
            "{request}"
        );
    }
    assert!(running.denied().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_granted_is_refused_recorded_and_never_seen_outside() {
    let scene = Scene::new();
    let running = Running::new(&scene.world, &scene.granted).await;
    let (at, other) = (&scene.at, format!("other.test:{}", scene.other.port));
    for to in [
        other.as_str(),
        "api.test:443",
        &format!("127.0.0.1:{}", scene.server.port),
        &format!("[::1]:{}", scene.server.port),
        &format!("evil-api.test:{}", scene.server.port),
        &format!("api.test.evil.test:{}", scene.server.port),
        "169.254.169.254:80",
    ] {
        assert_eq!(running.tunnel(to).0, 403, "{to}");
    }
    for asked in [
        format!("DELETE /v1/a HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET /v2 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET /v1/../v2 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET /v1/%2e%2e/v2 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("TRACE /v1 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    ] {
        let answer = running.say_within(at, &asked);
        assert_eq!(status(&answer), "403", "{asked}: {answer}");
        assert!(
            answer.ends_with("moat: this request is not granted\n")
                && !answer.contains("skill.toml")
        );
    }
    let plain = format!("GET http://{at}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n");
    assert_eq!(
        status(&running.say(plain.as_bytes())),
        "403",
        "the same host in the clear"
    );
    assert!(
        scene.world.names.asked().is_empty(),
        "{:?}",
        scene.world.names.asked()
    );
    assert_eq!(
        (scene.server.connections(), scene.other.connections()),
        (0, 0)
    );
    let denials = running.proxy.denials();
    assert!(denials.len() >= 10, "{denials:?}");
    assert!(
        denials
            .iter()
            .all(|(denial, _)| denial.line.contains("[[network]]"))
    );
    assert!(
        running
            .denied()
            .iter()
            .any(|what| what.contains("DELETE") && what.contains("/v1/a"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_refusal_is_told_at_once_and_no_other_is() {
    let scene = Scene::new();
    let running = Running::new(&scene.world, &scene.granted).await;
    let asks = |path: &str| {
        let request = format!("GET http://api.test{path} HTTP/1.1\r\nHost: api.test\r\n\r\n");
        assert_eq!(status(&running.say(request.as_bytes())), "403");
    };
    let nothing = || tokio::time::timeout(Duration::from_millis(50), running.proxy.news());
    assert!(nothing().await.is_err());
    let proxy = Arc::clone(&running.proxy);
    let waiting = tokio::spawn(async move { proxy.news().await });
    asks("/one");
    let told = waiting.await.unwrap();
    assert_eq!(told.len(), 1);
    assert!(told[0].what.ends_with("/one"), "{told:?}");
    asks("/one");
    assert!(nothing().await.is_err(), "it was told");
    asks("/two");
    asks("/three");
    assert_eq!(running.proxy.news().await.len(), 2);
    let times = running.proxy.denials().into_iter().map(|(_, times)| times);
    assert_eq!(times.sum::<u32>(), 4, "all are counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_is_no_tunnel_for_another_host_or_protocol() {
    let scene = Scene::new();
    let running = Running::new(&scene.world, &scene.granted).await;
    let (at, other) = (&scene.at, format!("other.test:{}", scene.other.port));
    let request = format!("GET /v1 HTTP/1.1\r\nHost: {at}\r\n\r\n");
    // TLS for another host, for none, or for a protocol that is not HTTP/1.1.
    for (name, protocols) in [
        ("other.test", &[&b"http/1.1"[..]][..]),
        ("127.0.0.1", &[b"http/1.1"]),
        ("api.test", &[b"h2"]),
        ("api.test", &[b"ssh", b"imap"]),
    ] {
        let (status, stream) = running.tunnel(at);
        assert_eq!(status, 200);
        let mut stream = running.tls(stream, name, protocols);
        let sent = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.flush());
        assert_eq!(rest(&mut stream), "", "{name} {protocols:?} {sent:?}");
    }
    // No TLS at all.
    for bytes in [
        &b"SSH-2.0-x\r\n"[..],
        request.as_bytes(),
        b"\x05\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (_, mut stream) = running.tunnel(at);
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        assert!(!rest(&mut stream).contains("hello"));
    }
    // Within TLS: another Host, none, two, another authority, a further proxy, an upgrade.
    for asked in [
        format!("GET /v1 HTTP/1.1\r\nHost: {other}\r\n\r\n"),
        "GET /v1 HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET /v1 HTTP/1.1\r\nHost: {at}\r\nHost: {other}\r\n\r\n"),
        format!("GET https://{other}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://{at}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET @{other}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("CONNECT {other} HTTP/1.1\r\nHost: {other}\r\n\r\n"),
        format!(
            "GET /v1 HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        ),
        format!("GET /v1 HTTP/1.1\r\nHost: {at}\r\nX-Forwarded-Host: {other}\r\n\r\n"),
        format!("OPTIONS * HTTP/1.1\r\nHost: {at}\r\n\r\n"),
    ] {
        let answer = running.say_within(at, &asked);
        assert!(
            matches!(status(&answer), "400" | "403" | "421" | "501"),
            "{asked}: {answer}"
        );
    }
    // Without CONNECT: other protocols, and targets that are none.
    for bytes in [
        &b"\x04\x01\x01\xbb\x7f\x00\x00\x01\x00"[..],
        b"\x05\x01\x00",
        b"\x05\x01\x00\x03\x08api.test\x01\xbb",
        b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"GET //api.test/v1 HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"CONNECT api.test HTTP/1.1\r\nHost: api.test\r\n\r\n",
        b"CONNECT user@api.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT https://api.test:443 HTTP/1.1\r\n\r\n",
        b"CONNECT api.test\0.other.test:443 HTTP/1.1\r\n\r\n",
        format!("CONNECT {at} HTTP/1.1\r\nHost: {other}\r\n\r\n").as_bytes(),
        format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 4\r\n\r\nabcd").as_bytes(),
        format!("GET https://{at}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes(),
        format!("GET http://user@{at}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes(),
        format!("GET http://{at}/v1 HTTP/1.0\r\n\r\n").as_bytes(),
    ] {
        let answer = running.say(bytes);
        assert!(
            matches!(status(&answer), "" | "400" | "403" | "421" | "505"),
            "{answer}"
        );
    }
    let older = running.say(format!("CONNECT {at} HTTP/1.0\r\n\r\n").as_bytes());
    assert_eq!(status(&older), "200");
    // What was sent before the answer could be for nobody else.
    let early = format!("CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n{request}");
    assert!(!running.say(early.as_bytes()).contains("hello"));
    assert_eq!(
        (scene.server.connections(), scene.other.connections()),
        (0, 0)
    );
    assert!(
        running
            .denied()
            .iter()
            .any(|what| what.starts_with("TLS for another host"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_the_clear_goes_where_it_says_and_a_smuggled_one_nowhere() {
    let server = Server::plain("127.0.0.1", saying(ok("hello")));
    let origin = format!("http://api.test:{}", server.port);
    let granted = Granted::default()
        .rule("GET,POST", &origin, "/v1")
        .private(&origin);
    let world = World::new(None);
    let running = Running::new(&world, &granted).await;
    let at = format!("api.test:{}", server.port);
    let get = format!("GET http://{at}/v1 HTTP/1.1\r\nHost: {at}\r\n\r\n");
    assert_eq!(status(&running.say(get.as_bytes())), "200");
    assert_eq!(server.requests().len(), 1);
    let post = format!("POST http://{at}/v1 HTTP/1.1\r\nHost: {at}\r\n");
    let smuggled = format!("GET /v2 HTTP/1.1\r\nHost: {at}\r\n\r\n");
    for rest in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n".to_owned(),
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef".to_owned(),
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde".to_owned(),
        "Content-Length: +5\r\n\r\nabcde".to_owned(),
        "Content-Length: 5 \t5\r\n\r\nabcde".to_owned(),
        "Content-Length : 5\r\n\r\nabcde".to_owned(),
        "Content_Length: 5\r\n\r\n".to_owned(),
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".to_owned(),
        "X: y\r\n folded\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        format!("Transfer-Encoding: chunked\r\n\r\n5\r\nabcdef\r\n0\r\n\r\n{smuggled}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0\r\nHost: evil\r\n\r\n{smuggled}"),
    ] {
        let answer = running.say(format!("{post}{rest}").as_bytes());
        assert!(
            matches!(status(&answer), "400" | "403"),
            "{rest:?}: {answer}"
        );
    }
    assert_eq!(server.requests().len(), 1, "{:?}", server.requests());
    // What stands behind a whole request is the next one, and judged as one.
    let both = format!("{post}Content-Length: 3\r\n\r\nabc{smuggled}");
    let answer = running.say(both.as_bytes());
    assert_eq!(
        (
            answer.matches("HTTP/1.1 200").count(),
            answer.matches("HTTP/1.1 400").count()
        ),
        (1, 1)
    );
    assert_eq!(server.requests().len(), 2);
    assert!(server.requests()[1].ends_with("\r\n\r\nabc"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_put_in_behind_the_command_and_never_comes_back_to_it() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "api.test", |request, wire| {
        let echo = request.starts_with("GET /echo");
        let value = request
            .lines()
            .find_map(|line| line.strip_prefix("authorization: "))
            .unwrap_or_default();
        let body = if echo {
            format!("you sent {value}, and more")
        } else {
            "fine".into()
        };
        let _ = wire.write_all(&ok(&body)).and_then(|()| wire.flush());
        Then::KeepOn
    });
    let origin = format!("https://api.test:{}", server.port);
    let granted = Granted::default().at(&origin).private(&origin).credential(
        "key",
        "api.test",
        server.port,
        "Authorization",
    );
    let world = World::new(Some(authority.pem()));
    world.secrets.put("key", "s3cret-CANARY-value", &[&origin]);
    let running = Running::new(&world, &granted).await;
    let at = format!("api.test:{}", server.port);
    let asked = |path: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{more}\r\n")
    };
    let answer = running.say_within(&at, &asked("/a", ""));
    assert!(answer.ends_with("fine"), "{answer}");
    assert!(server.requests()[0].contains("authorization: Bearer s3cret-CANARY-value\r\n"));
    let own = running.say_within(&at, &asked("/a", "Authorization: Bearer mine\r\n"));
    assert_eq!(status(&own), "403", "{own}");
    let cookie = running.say_within(&at, &asked("/a", "Cookie: a=b\r\n"));
    assert_eq!(status(&cookie), "403", "{cookie}");
    assert_eq!(server.requests().len(), 1);
    let echoed = running.say_within(&at, &asked("/echo", ""));
    assert!(
        !echoed.contains("CANARY") && !echoed.ends_with("and more"),
        "{echoed}"
    );
    let url = running.say_within(&at, &asked("/a?s3cret-CANARY-value", ""));
    assert_eq!(status(&url), "403");
    assert_eq!(server.requests().len(), 2, "the secret left in a path");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_end_at_their_bounds() {
    let scene = Scene::new();
    let granted = scene
        .granted
        .clone()
        .limit("sent = \"64KiB\"\nrequests = 4");
    let running = Running::new(&scene.world, &granted).await;
    let at = &scene.at;
    let long = running.say_within(
        at,
        &format!(
            "GET /v1?{} HTTP/1.1\r\nHost: {at}\r\n\r\n",
            "a".repeat(1 << 20)
        ),
    );
    assert_eq!(status(&long), "431");
    let many = running.say_within(
        at,
        &format!(
            "GET /v1 HTTP/1.1\r\nHost: {at}\r\n{}\r\n",
            "X: y\r\n".repeat(5000)
        ),
    );
    assert!(matches!(status(&many), "400" | "431"), "{many}");
    for framing in [
        "Content-Length: 100000000000".to_owned(),
        format!(
            "Transfer-Encoding: chunked\r\n\r\nffff\r\n{}\r\nffff",
            "a".repeat(0xffff)
        ),
    ] {
        let large = running.say_within(
            at,
            &format!("POST /v1 HTTP/1.1\r\nHost: {at}\r\n{framing}\r\n\r\n"),
        );
        assert_eq!(status(&large), "413", "{large}");
    }
    assert_eq!(scene.server.connections(), 0);
    let expecting = format!(
        "POST /v1 HTTP/1.1\r\nHost: {at}\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
    );
    let answer = running.say_within(at, &expecting);
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
        "{answer}"
    );
    assert!(!scene.server.requests()[0].contains("expect"));
    // The visit's budget holds for the command.
    for expected in ["200", "200", "200", "403", "403"] {
        let answer = running.say_within(
            at,
            &format!("GET /v1 HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"),
        );
        assert_eq!(status(&answer), expected, "{answer}");
    }
    assert_eq!(scene.server.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_framed_anew_and_a_broken_one_is_seen_to_be_broken() {
    let server = Server::plain("127.0.0.1", |request, wire| {
        let answer: &[u8] = match request.split(' ').nth(1) {
            Some("/chunked") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Some("/short") => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            Some("/cut") => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Some("/none") => b"HTTP/1.1 204 No Content\r\n\r\n",
            Some("/switch") => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nSSH",
            Some("/moved") => b"HTTP/1.1 302 Found\r\nLocation: http://other.test/\r\nContent-Length: 0\r\n\r\n",
            _ => b"what is this\r\n\r\n",
        };
        let _ = wire.write_all(answer).and_then(|()| wire.flush());
        Then::Close
    });
    let origin = format!("http://api.test:{}", server.port);
    let granted = Granted::default().at(&origin).private(&origin);
    let world = World::new(None);
    let running = Running::new(&world, &granted).await;
    let at = format!("api.test:{}", server.port);
    let ask = |path: &str| {
        let text =
            format!("GET http://{at}{path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        running.say(text.as_bytes()).to_ascii_lowercase()
    };
    let chunked = ask("/chunked");
    assert!(
        chunked.contains("transfer-encoding: chunked\r\n")
            && chunked.ends_with("3\r\nabc\r\n0\r\n\r\n"),
        "{chunked}"
    );
    assert!(!chunked.contains("set-cookie"));
    let short = ask("/short");
    assert!(
        short.contains("content-length: 10\r\n") && short.ends_with("abc"),
        "{short}"
    );
    let cut = ask("/cut");
    assert!(
        cut.contains("chunked") && !cut.ends_with("0\r\n\r\n"),
        "{cut}"
    );
    let none = ask("/none");
    assert!(
        none.starts_with("http/1.1 204") && !none.contains("chunked"),
        "{none}"
    );
    assert_eq!(status(&ask("/switch")), "502");
    assert_eq!(status(&ask("/nonsense")), "502");
    let moved = ask("/moved");
    assert!(moved.starts_with("http/1.1 302") && moved.contains("location: http://other.test/"));
    assert_eq!(
        world
            .names
            .asked()
            .iter()
            .filter(|name| *name != "api.test")
            .count(),
        0,
        "it was followed"
    );
}
