//! What stands behind a guest's requests: notes each, and answers as its path says.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use sandbox::message::http::{Field, Head, HttpError, Piece, Request};
use serde_json::json;

#[derive(Default)]
pub struct Web {
    /// Every request that came through.
    pub requests: Mutex<Vec<Request>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    open: BTreeMap<u64, Body>,
    most_open: usize,
}

/// A body of `left` pieces that are alike, and then its end.
struct Body {
    piece: Vec<u8>,
    /// Each piece begins with how many are left.
    counted: bool,
    left: u64,
    end: Result<Vec<Field>, HttpError>,
}

pub fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.into(),
        value: value.as_bytes().into(),
    }
}

impl Web {
    /// `/v1/<what>/<n>`.
    pub async fn request(&self, request: Request) -> Result<Head, HttpError> {
        let path = request.path_and_query.clone();
        self.requests.lock().unwrap().push(request);
        let mut parts = path.split('/').skip(2);
        let (what, n) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let number = n.parse::<u64>().unwrap_or(0);
        let mut headers = vec![field("content-type", "text/plain")];
        let mut body = Body {
            piece: b"hello".to_vec(),
            counted: false,
            left: 1,
            end: Ok(vec![]),
        };
        match what {
            "error" => return Err(serde_json::from_value(json!(n)).unwrap()),
            "slow" => tokio::time::sleep(Duration::from_secs(3600)).await,
            "pieces" => {
                body.piece = vec![b'x'; 64 << 10];
                body.left = number;
            }
            "late" => tokio::time::sleep(Duration::from_millis(number)).await,
            "counted" => {
                body.piece = vec![b'x'; 64 << 10];
                body.counted = true;
                body.left = number;
            }
            "changing" => {
                body.piece = format!("{} times", self.count()).into_bytes();
                body.left = number;
            }
            "broken" => body.end = Err(HttpError::BrokeOff),
            "trailers" => body.end = Ok(vec![field("x-sum", "1"), field("set-cookie", "a=b")]),
            "trailer-flood" => body.end = Ok(vec![field("x-a", "b"); 10_000]),
            "header-flood" => headers = vec![field("x-a", "b"); 10_000],
            "long-header" => headers = vec![field("x-a", &"b".repeat(1 << 20))],
            "secrets" => headers.extend([
                field("Set-Cookie", "session=1"),
                field("authorization", "Bearer x"),
                field("x-kept", "1"),
            ]),
            "odd" => headers.extend([field("not a name", "1"), field("x-value", "a\r\nb: c")]),
            _ => {}
        }
        let mut state = self.state.lock().unwrap();
        state.next += 1;
        let id = state.next;
        state.open.insert(id, body);
        state.most_open = state.most_open.max(state.open.len());
        Ok(Head {
            id,
            status: 200,
            headers,
        })
    }

    pub fn read_body(&self, id: u64) -> Result<Piece, HttpError> {
        let mut state = self.state.lock().unwrap();
        let body = state.open.get_mut(&id).expect("only what is open is read");
        if body.left > 0 {
            body.left -= 1;
            let mut piece = body.piece.clone();
            if body.counted {
                piece[..8].copy_from_slice(&body.left.to_le_bytes());
            }
            return Ok(Piece::Bytes(piece));
        }
        body.end.clone().map(Piece::End)
    }

    pub fn close_body(&self, id: u64) {
        let closed = self.state.lock().unwrap().open.remove(&id);
        assert!(closed.is_some(), "what is closed is open");
    }

    pub fn open(&self) -> usize {
        self.state.lock().unwrap().open.len()
    }

    pub fn most_open(&self) -> usize {
        self.state.lock().unwrap().most_open
    }

    pub fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}
