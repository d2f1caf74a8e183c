//! A HashiCorp Vault as far as reads of its key-value engines go: paths, headers, statuses and bodies are those of the real one.

use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::http::{Request, Server, whole};

/// How it feels.
#[derive(Debug, Clone, Default)]
pub enum Mood {
    #[default]
    Unsealed,
    Sealed,
    /// A standby that leads to the active node.
    Standby(String),
    /// This status, with an error body.
    Status(u16),
    /// 200 with this body.
    Says(String),
}

/// What it holds.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub mood: Mood,
    pub token: String,
    pub namespace: Option<String>,
    /// Of the engines at `secret/` (version 2) and `old/` (version 1), by name.
    pub secrets: Vec<(&'static str, Value)>,
    /// A text that a misbehaving server puts into every error.
    pub gossip: String,
}

/// The server.
pub struct Vault {
    pub server: Server,
    state: Arc<Mutex<State>>,
}

impl Vault {
    pub fn start(state: State) -> Vault {
        let state = Arc::new(Mutex::new(state));
        let held = state.clone();
        let server = Server::start(move |request, stream| {
            let state = held.lock().unwrap().clone();
            answer(&state, request, stream);
        });
        Vault { server, state }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Changes what it holds or how it feels.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

fn answer(state: &State, request: &Request, stream: &mut TcpStream) {
    let mut say = |status: u16, body: Value| {
        let headers = [
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
        ];
        whole(stream, status, &headers, &body.to_string());
    };
    let errors = |text: &str| json!({"errors": [format!("{text} {}", state.gossip)]});
    match &state.mood {
        Mood::Unsealed => {}
        Mood::Sealed => return say(503, errors("Vault is sealed")),
        Mood::Status(status) => return say(*status, errors("internal error")),
        Mood::Standby(to) => return whole(stream, 307, &[("Location", to)], ""),
        Mood::Says(body) => return whole(stream, 200, &[], body),
    }
    let Some(token) = request.header("x-vault-token") else {
        return say(400, errors("missing client token"));
    };
    if token != state.token {
        return say(
            403,
            errors("2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"),
        );
    }
    let path = request.target.trim_start_matches("/v1/");
    let elsewhere = request.header("x-vault-namespace") != state.namespace.as_deref();
    if elsewhere || request.method != "GET" {
        return say(
            404,
            errors(&format!(
                "no handler for route {path:?}. route entry not found."
            )),
        );
    }
    let find = |name: &str| {
        let found = state.secrets.iter().find(|(one, _)| *one == name);
        found.map(|(_, value)| value.clone())
    };
    if let Some(name) = path.strip_prefix("secret/data/") {
        let metadata = |deleted: &str| json!({"created_time": "2026-01-05T09:17:52.303317Z", "custom_metadata": null, "deletion_time": deleted, "destroyed": false, "version": 3});
        match find(name) {
            // Deleted, not destroyed: a body like that of a read, under 404.
            Some(Value::Null) => say(
                404,
                wrapped(json!({"data": null, "metadata": metadata("2026-02-01T00:00:00Z")})),
            ),
            Some(value) => say(
                200,
                wrapped(json!({"data": value, "metadata": metadata("")})),
            ),
            None => say(404, json!({"errors": []})),
        }
    } else if let Some(value) = path.strip_prefix("old/").and_then(find) {
        say(200, wrapped(value));
    } else if path.starts_with("secret/") {
        let mut body = wrapped(Value::Null);
        body["warnings"] = json!([
            "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use."
        ]);
        say(404, body);
    } else {
        say(403, errors("1 error occurred:\n\t* permission denied\n\n"));
    }
}

fn wrapped(data: Value) -> Value {
    json!({"request_id": "5bdf4ac1-6f0a-b2b1-8f44-1f2b2b0e2a4e", "lease_id": "", "renewable": false, "lease_duration": 0,
        "data": data, "wrap_info": null, "warnings": null, "auth": null, "mount_type": "kv"})
}
