//! The same over HTTP/2, by agreement in the TLS handshake.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use egress::RequestError;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::server::Authority;
use crate::world::{Granted, World, asking, fetch, get, with};

type Body = BoxBody<Bytes, Infallible>;

/// What a server saw of each request, and how many connections it took.
#[derive(Clone, Default)]
struct Seen {
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

/// A server that speaks HTTP/2 only.
async fn serve(
    authority: &Authority,
    answer: impl Fn(&Request<Incoming>) -> Response<Body> + Send + Sync + 'static,
) -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(authority.server("api.test", &[b"h2"]));
    let (seen, answer) = (Seen::default(), Arc::new(answer));
    let kept = seen.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            *kept.connections.lock().unwrap() += 1;
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&config));
            let (answer, requests) = (Arc::clone(&answer), Arc::clone(&kept.requests));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await.unwrap();
                let service = service_fn(move |request: Request<Incoming>| {
                    requests.lock().unwrap().push(format!("{request:?}"));
                    let reply = answer(&request);
                    async move {
                        let _ = request.into_body().collect().await;
                        Ok::<_, Infallible>(reply)
                    }
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (port, seen)
}

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed()
}

fn frames(frames: Vec<Frame<Bytes>>) -> Body {
    let frames = frames.into_iter().map(Ok::<_, Infallible>);
    StreamBody::new(futures::stream::iter(frames)).boxed()
}

fn granted(port: u16) -> (String, Granted) {
    let at = format!("https://api.test:{port}");
    let granted = Granted::default().at(&at).private(&at).credential(
        "token",
        "api.test",
        port,
        "Authorization",
    );
    (at, granted)
}

#[tokio::test]
async fn one_authority_one_connection_and_the_secret() {
    let authority = Authority::new();
    let (port, seen) = serve(&authority, |_| Response::new(full("two"))).await;
    let (at, granted) = granted(port);
    let world = World::new(Some(authority.pem()));
    world.secrets.put("token", "canary-secret", &[&at]);
    let visit = world.visit(&granted);
    for _ in 0..3 {
        let mut request = with(asking("POST", &format!("{at}/v1?q=1")), "x-mine", "1");
        request.body = b"body".to_vec();
        assert_eq!(fetch(&visit, request).await.unwrap().1, "two");
    }
    let requests = seen.requests.lock().unwrap().clone();
    assert_eq!((requests.len(), *seen.connections.lock().unwrap()), (3, 1));
    let uri = format!("uri: {at}/v1?q=1");
    assert!(requests[0].contains("HTTP/2.0") && requests[0].contains(&uri));
    assert!(requests[0].contains("Bearer canary-secret"));
    assert!(!requests[0].contains("\"host\""), "{}", requests[0]);
    assert_eq!(world.names.asked(), ["api.test"]);
    fetch(&world.visit(&granted), get(&at)).await.unwrap();
    assert_eq!(*seen.connections.lock().unwrap(), 2);
}

#[tokio::test]
async fn what_a_server_repeats_or_sets_is_treated_alike() {
    let authority = Authority::new();
    let (port, _seen) = serve(&authority, |request| {
        let mut trailers = http::HeaderMap::new();
        let reply = Response::builder()
            .header("set-cookie", "a=b")
            .header("x-fine", "1");
        match request.uri().path() {
            "/header" => reply.header("x-echo", "canary-secret").body(full("")),
            "/body" => reply.body(frames(vec![
                Frame::data(Bytes::from_static(b"canary-")),
                Frame::data(Bytes::from_static(b"secret")),
            ])),
            path => {
                let value = if path == "/trailer" {
                    "canary-secret"
                } else {
                    "1"
                };
                trailers.insert("x-t", value.parse().unwrap());
                trailers.insert("set-cookie", "c=d".parse().unwrap());
                reply.body(frames(vec![
                    Frame::data(Bytes::from_static(b"fine")),
                    Frame::trailers(trailers),
                ]))
            }
        }
        .unwrap()
    })
    .await;
    let (at, granted) = granted(port);
    let world = World::new(Some(authority.pem()));
    world.secrets.put("token", "canary-secret", &[&at]);
    let visit = world.visit(&granted);
    for path in ["/header", "/body", "/trailer"] {
        assert_eq!(
            fetch(&visit, get(&format!("{at}{path}"))).await,
            Err(RequestError::SecretEchoed),
            "{path}"
        );
    }
    let mut reply = visit.send(get(&at)).await.unwrap();
    let names: Vec<&str> = reply
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["x-fine", "date"]);
    assert_eq!(&reply.body.chunk().await.unwrap().unwrap()[..], b"fine");
    assert_eq!(reply.body.chunk().await.unwrap(), None);
    assert_eq!(reply.body.trailers(), [("x-t".to_owned(), b"1".to_vec())]);
}

#[tokio::test]
async fn a_flood_of_headers_is_ended() {
    let authority = Authority::new();
    let (port, _seen) = serve(&authority, |request| {
        let few_and_long = request.uri().path() == "/long";
        let (count, value) = if few_and_long {
            (90, "a".repeat(2000))
        } else {
            (1000, "a".into())
        };
        let reply = (0..count).fold(Response::builder(), |reply, n| {
            reply.header(format!("x-{n}"), &value)
        });
        reply.body(full("")).unwrap()
    })
    .await;
    let at = format!("https://api.test:{port}");
    let world = World::new(Some(authority.pem()));
    for path in ["/long", "/many"] {
        let visit = world.visit(&Granted::default().at(&at).private(&at));
        let error = visit.send(get(&format!("{at}{path}"))).await.unwrap_err();
        assert!(
            matches!(error, RequestError::TooLarge | RequestError::BrokeOff),
            "{path}: {error:?}"
        );
    }
}
