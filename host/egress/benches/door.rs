//! A request through the guests' door against a bare client, paired in one run: `cargo bench -p egress`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    reason = "a bench may stop at the first surprise, prints, and uses a part of the tests' world"
)]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use world::{Granted, World, fetch, get};

#[path = "../tests/door/world.rs"]
mod world;

const ROUNDS: usize = 2000;

/// A page of an API.
const ANSWER_BYTES: usize = 4096;

#[tokio::main]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener));
    let at = format!("http://api.test:{port}");
    let world = World::new(None);
    let granted = Granted::default()
        .at(&at)
        .private(&at)
        .limit("requests = 100000\nreceived = \"1GiB\"");

    let visit = world.visit(&granted);
    let mut client = connect(port).await;
    let (mut bare, mut door) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(timed(ask(&mut client)).await);
        door.push(timed(fetch(&visit, get(&at))).await);
    }
    tell("on a connection that stands", bare, door);

    let (mut bare, mut door) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(timed(async { ask(&mut connect(port).await).await }).await);
        let visit = world.visit(&granted);
        door.push(timed(fetch(&visit, get(&at))).await);
    }
    tell("with a connection of its own", bare, door);
}

async fn serve(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let answer = service_fn(|_: hyper::Request<Incoming>| async {
            let body = Full::new(Bytes::from_static(&[b'x'; ANSWER_BYTES]));
            Ok::<_, Infallible>(hyper::Response::new(body))
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer),
        );
    }
}

async fn connect(port: u16) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (client, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn ask(client: &mut SendRequest<Full<Bytes>>) -> Bytes {
    client.ready().await.unwrap();
    let request = hyper::Request::get("/").header("host", "api.test");
    let request = request.body(Full::default()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    answer.into_body().collect().await.unwrap().to_bytes()
}

async fn timed<T>(what: impl Future<Output = T>) -> Duration {
    let begun = Instant::now();
    what.await;
    begun.elapsed()
}

fn tell(what: &str, bare: Vec<Duration>, door: Vec<Duration>) {
    let (bare, door) = (median(bare), median(door));
    println!(
        "{what}: bare {bare:?}, door {door:?}, ratio {:.2}",
        door.as_secs_f64() / bare.as_secs_f64()
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
