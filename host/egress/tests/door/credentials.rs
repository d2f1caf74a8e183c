//! Secrets: they go where both the grant and their owner say, come back in no spelling, and are in nothing that is told.

use std::sync::{Arc, Mutex};

use egress::{InvalidRequest, Request, RequestError};

use crate::server::{Authority, Server, Then, Wire, ok, saying};
use crate::world::{Granted, World, asking, fetch, get, with};

const CANARY: &str = "canary-5ecr3t/value+42";

/// A world with one secret, a server over TLS, and a grant that sends the one to the other.
struct Bound {
    world: World,
    server: Server,
    at: String,
    granted: Granted,
}

fn bound(answer: impl Fn(&str, &mut dyn Wire) -> Then + Send + Sync + 'static) -> Bound {
    let authority = Authority::new();
    let server = Server::tls(&authority, "api.test", answer);
    let at = format!("https://api.test:{}", server.port);
    let world = World::new(Some(authority.pem()));
    world.secrets.put("token", CANARY, &[&at]);
    let granted = Granted::default().at(&at).private(&at).credential(
        "token",
        "api.test",
        server.port,
        "Authorization",
    );
    Bound {
        world,
        server,
        at,
        granted,
    }
}

#[tokio::test]
async fn the_secret_is_sent_once_to_the_origin_that_grant_and_owner_name() {
    let bound = bound(saying(ok("yes")));
    let visit = bound.world.visit(&bound.granted);
    assert_eq!(fetch(&visit, get(&bound.at)).await.unwrap().0, 200);
    let line = format!("\r\nauthorization: Bearer {CANARY}\r\n");
    assert_eq!(bound.server.requests()[0].matches(&line).count(), 1);
    assert_eq!(visit.used()[0].credentials, ["token"]);
}

#[tokio::test]
async fn a_secret_goes_to_no_origin_that_its_owner_does_not_name() {
    let bound = bound(saying(ok("no")));
    let port = bound.server.port;
    for hosts in [
        vec![],
        vec![format!("https://other.test:{port}")],
        vec![format!("http://api.test:{port}")],
        vec!["https://api.test".to_owned()],
        vec![format!("https://api.test.evil:{port}")],
    ] {
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        bound.world.secrets.put("token", CANARY, &hosts);
        let visit = bound.world.visit(&bound.granted);
        let unavailable = RequestError::CredentialUnavailable {
            name: "token".into(),
        };
        assert_eq!(visit.send(get(&bound.at)).await.unwrap_err(), unavailable);
    }
    bound.world.secrets.put("token", CANARY, &[&bound.at]);
    let visit = bound.world.visit(&bound.granted);
    assert!(visit.send(get(&bound.at)).await.is_ok());
    bound.world.secrets.revoke("token");
    // Within the same visit, over the connection that was made with it.
    assert!(matches!(
        visit.send(get(&bound.at)).await,
        Err(RequestError::CredentialUnavailable { .. })
    ));
    assert_eq!(bound.server.requests().len(), 1);
}

#[tokio::test]
async fn a_secret_goes_to_no_origin_that_the_grant_does_not_name_for_it() {
    let authority = Authority::new();
    let one = Server::tls(&authority, "api.test", saying(ok("one")));
    let two = Server::tls(&authority, "other.test", saying(ok("two")));
    let (at_one, at_two) = (
        format!("https://api.test:{}", one.port),
        format!("https://other.test:{}", two.port),
    );
    let world = World::new(Some(authority.pem()));
    // The owner would let it go to both.
    world.secrets.put("token", CANARY, &[&at_one, &at_two]);
    let granted = Granted::default()
        .at(&at_one)
        .at(&at_two)
        .private(&at_one)
        .private(&at_two)
        .credential("token", "api.test", one.port, "X-Key");
    let visit = world.visit(&granted);
    assert_eq!(fetch(&visit, get(&at_one)).await.unwrap().1, "one");
    assert_eq!(fetch(&visit, get(&at_two)).await.unwrap().1, "two");
    assert!(one.requests()[0].contains(&format!("x-key: Bearer {CANARY}\r\n")));
    assert!(!two.requests()[0].contains("canary"));
    // Nor may a guest bring it there itself, nor set the header that carries it, anywhere.
    for request in [
        with(get(&at_two), "x-other", CANARY),
        with(get(&at_two), "X-Key", "mine"),
        with(get(&at_two), "x_key", "mine"),
        with(get(&at_one), "X-KEY", "mine"),
    ] {
        assert!(matches!(
            visit.send(request).await.unwrap_err(),
            RequestError::Invalid(InvalidRequest::HeaderForbidden | InvalidRequest::HoldsSecret)
        ));
    }
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_host_with_a_credential_is_not_spoken_to_in_the_clear() {
    let server = Server::plain("127.0.0.1", saying(ok("no")));
    let at = format!("http://api.test:{}", server.port);
    let world = World::new(None);
    let granted = Granted::default()
        .at(&at)
        .at("https://api.test:443")
        .private(&at)
        .credential("token", "api.test", 443, "Authorization");
    let error = world.visit(&granted).send(get(&at)).await.unwrap_err();
    assert_eq!(error, RequestError::Invalid(InvalidRequest::PlainHttp));
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_request_that_holds_a_known_secret_does_not_leave() {
    let bound = bound(saying(ok("yes")));
    let visit = bound.world.visit(&bound.granted);
    let post = |body: &str| Request {
        body: body.as_bytes().to_vec(),
        ..asking("POST", &bound.at)
    };
    let hexadecimal = CANARY.bytes().map(|b| format!("{b:02x}"));
    for request in [
        post(&format!("key={CANARY}")),
        post(&hexadecimal.collect::<String>()),
        post(&CANARY.replace('/', "%2F").replace('+', "%2b")),
        with(get(&bound.at), "x-mine", CANARY),
        get(&format!("{}/?key={CANARY}", bound.at)),
        get(&format!("{}/{CANARY}", bound.at)),
    ] {
        assert_eq!(
            visit.send(request).await.unwrap_err(),
            RequestError::Invalid(InvalidRequest::HoldsSecret)
        );
    }
    assert_eq!(bound.server.requests().len(), 0);
    // What stands for a secret in somebody's configuration stands for nothing here.
    let request = with(get(&bound.at), "x-mine", "{} {token} [secret]");
    assert_eq!(fetch(&visit, request).await.unwrap().0, 200);
    assert!(bound.server.requests()[0].contains("x-mine: {} {token} [secret]\r\n"));
}

#[tokio::test]
async fn an_answer_that_repeats_the_secret_is_stopped_wherever_it_stands() {
    let spelt = |spell: &dyn Fn(u8) -> String| CANARY.bytes().map(spell).collect::<String>();
    let spellings = [
        CANARY.to_owned(),
        spelt(&|b| format!("{b:02x}")),
        spelt(&|b| format!("%{b:02X}")),
        spelt(&|b| format!("\\u{b:04x}")),
        CANARY.replace('/', "\\/"),
        // Of `Bearer canary…`, as a server that logs the header has it.
        "QmVhcmVyIGNhbmFyeS01ZWNyM3QvdmFsdWUrNDI=".to_owned(),
    ];
    let reply = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let kept = Arc::clone(&reply);
    let bound = bound(move |_, wire| {
        for piece in kept.lock().unwrap().iter() {
            if wire.write_all(piece).and_then(|()| wire.flush()).is_err() {
                break;
            }
        }
        Then::Close
    });
    for secret in &spellings {
        let length = secret.len() + 4;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
        let body = format!("<<{secret}>>");
        let each: Vec<Vec<u8>> = [head.as_bytes()]
            .into_iter()
            .chain(body.as_bytes().chunks(1))
            .map(<[u8]>::to_vec)
            .collect();
        let whole = |text: String| vec![text.into_bytes()];
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n";
        for (place, pieces) in [
            ("body", whole(format!("{head}{body}"))),
            ("body in pieces", each),
            (
                "header",
                whole(format!(
                    "HTTP/1.1 200 OK\r\nx-e: {secret}\r\ncontent-length: 0\r\n\r\n"
                )),
            ),
            (
                "location",
                whole(format!(
                    "HTTP/1.1 302 OK\r\nlocation: https://x.test/?k={secret}\r\ncontent-length: 0\r\n\r\n"
                )),
            ),
            (
                "error page",
                whole(format!(
                    "HTTP/1.1 403 No\r\ncontent-length: {length}\r\n\r\n{body}"
                )),
            ),
            (
                "trailer",
                whole(format!(
                    "{chunked}trailer: x-t\r\n\r\n1\r\na\r\n0\r\nx-t: {secret}\r\n\r\n"
                )),
            ),
            (
                "chunks of one byte",
                whole(format!(
                    "{chunked}\r\n{}0\r\n\r\n",
                    secret
                        .chars()
                        .map(|c| format!("1\r\n{c}\r\n"))
                        .collect::<String>()
                )),
            ),
        ] {
            *reply.lock().unwrap() = pieces;
            let visit = bound.world.visit(&bound.granted);
            assert_eq!(
                fetch(&visit, get(&bound.at)).await,
                Err(RequestError::SecretEchoed),
                "{secret} in {place}"
            );
        }
    }
}

#[tokio::test]
async fn nothing_of_a_repeated_secret_is_passed_on_before_it_is_whole() {
    let bound = bound(|_, wire| {
        let text = format!("HTTP/1.1 200 OK\r\n\r\n--{CANARY}");
        for byte in text.as_bytes() {
            if wire
                .write_all(&[*byte])
                .and_then(|()| wire.flush())
                .is_err()
            {
                break;
            }
        }
        Then::Close
    });
    let visit = bound.world.visit(&bound.granted);
    let mut reply = visit.send(get(&bound.at)).await.unwrap();
    let mut passed = Vec::new();
    let error = loop {
        match reply.body.chunk().await {
            Ok(bytes) => passed.extend_from_slice(&bytes.unwrap()),
            Err(error) => break error,
        }
    };
    // How much comes in one piece is the network's choice.
    assert!(b"--".starts_with(&passed), "{passed:?}");
    assert_eq!(error, RequestError::SecretEchoed);
    assert_eq!(reply.body.chunk().await, Err(RequestError::SecretEchoed));
}

#[tokio::test]
async fn an_encoded_answer_is_not_taken_where_a_secret_was_sent() {
    let encoded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
    let bound = bound(saying(encoded.to_vec()));
    let visit = bound.world.visit(&bound.granted);
    let request = with(get(&bound.at), "Accept-Encoding", "gzip");
    assert_eq!(
        visit.send(request).await.unwrap_err(),
        RequestError::Encoded
    );
    let seen = bound.server.requests().remove(0);
    assert_eq!(seen.matches("encoding").count(), 1, "{seen}");
    assert!(seen.contains("accept-encoding: identity\r\n"));
}

#[tokio::test]
async fn a_range_is_not_asked_for_where_a_secret_is_sent() {
    let bound = bound(saying(ok("yes")));
    let visit = bound.world.visit(&bound.granted);
    for name in ["Range", "If-Range"] {
        assert_eq!(
            visit
                .send(with(get(&bound.at), name, "bytes=0-3"))
                .await
                .unwrap_err(),
            RequestError::Invalid(InvalidRequest::HeaderForbidden),
            "{name}"
        );
    }
    assert_eq!(bound.server.requests().len(), 0);
}

#[tokio::test]
async fn a_refused_secret_is_told_to_the_store() {
    let bound = bound(saying(
        b"HTTP/1.1 401 No\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n".to_vec(),
    ));
    let visit = bound.world.visit(&bound.granted);
    let reply = visit.send(get(&bound.at)).await.unwrap();
    assert_eq!(reply.status, 401);
    assert!(
        !reply
            .headers
            .iter()
            .any(|(name, _)| name == "www-authenticate")
    );
    assert_eq!(*bound.world.secrets.refused.lock().unwrap(), ["token"]);
}

/// Keeps all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_error_debug_output_or_log_holds_a_secret_an_address_or_a_query() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut told = String::new();
    for answer in [
        ok("fine"),
        ok(CANARY),
        format!("HTTP/1.1 200 OK\r\n{CANARY}: {CANARY}\r\n\r\n").into_bytes(),
        format!("{CANARY}\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 200 {CANARY}\r\ncontent-length: 10\r\n\r\n1").into_bytes(),
        format!("HTTP/1.1 101 {CANARY}\r\nupgrade: x\r\n\r\n").into_bytes(),
        b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\n\r\n".to_vec(),
    ] {
        let bound = bound(move |_, wire| {
            let _ = wire.write_all(&answer).and_then(|()| wire.flush());
            Then::Close
        });
        let visit = bound.world.visit(&bound.granted);
        let asked = get(&format!("{}/x?query-canary", bound.at));
        let result = fetch(&visit, asked.clone()).await;
        told += &format!("{result:?}");
        if let Err(error) = result {
            told += &error.to_string();
        }
        told += &format!("{:?} {visit:?} {:?}", visit.used(), visit.send(asked).await);
        told += &format!("{:?} {:?}", bound.world.secrets, bound.world.outbound);
        bound.world.secrets.put("token", CANARY, &[]);
        told += &format!("{:?}", visit.send(get(&bound.at)).await);
    }
    drop(guard);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("its hosts in secrets.toml"), "{logged}");
    for text in [&told, &logged] {
        for forbidden in ["canary-5ecr3t", "query-canary", "127.0.0.1"] {
            assert!(!text.contains(forbidden), "{forbidden} in {text}");
        }
    }
}
