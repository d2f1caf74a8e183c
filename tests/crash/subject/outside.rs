//! A service on loopback that does something at each request, and keeps account of it.

use std::collections::BTreeMap;
use std::net::TcpStream;

use support::http::{Request, Server, whole};

/// Where a key is taken: below it, a request is done once for each.
const KEYED: &str = "/v1/keyed/";
/// Where none is: each request is done.
const PLAIN: &str = "/v1/plain/";

/// What was done, and how often.
pub type Deeds = BTreeMap<String, usize>;

pub struct Outside {
    server: Server,
}

impl Outside {
    pub fn new() -> Outside {
        Outside {
            server: Server::start(answer),
        }
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    pub fn keyed(&self, name: &str) -> String {
        self.url(KEYED, name)
    }

    pub fn plain(&self, name: &str) -> String {
        self.url(PLAIN, name)
    }

    fn url(&self, place: &str, name: &str) -> String {
        format!("http://localhost:{}{place}{name}", self.port())
    }

    pub fn deeds(&self) -> Deeds {
        let mut deeds = Deeds::new();
        let mut keys = std::collections::BTreeSet::new();
        for request in self.server.seen() {
            let key = request.header("idempotency-key").unwrap_or_default();
            let is_new = !request.target.starts_with(KEYED)
                || key.is_empty()
                || keys.insert((request.target.clone(), key.to_owned()));
            if request.method == "POST" && is_new {
                *deeds.entry(request.target).or_default() += 1;
            }
        }
        deeds
    }
}

fn answer(request: &Request, stream: &mut TcpStream) {
    let status = match request.method.as_str() {
        "POST" => 200,
        _ => 404,
    };
    whole(stream, status, &[], "done");
}
