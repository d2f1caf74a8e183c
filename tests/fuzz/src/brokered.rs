//! Host calls of a worker that its guest has taken over, through the broker: nothing gets past it but what the grant says in so many words.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{LazyLock, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use capability::denial::Denial;
use capability::origin::{HostName, Origin, Scheme};
use capability::{Grant, Manifest, Policy, RawProjectGrant, Running, Source};
use serde_json::Value;
use url::Url;

use crate::broker::{Record, Tape};
use crate::message::HostCall;
use crate::message::effects::{Effect, EffectsError, Standing};
use crate::message::http::{self, Field, Head, HttpError, Piece};
use crate::message::model::{Alias, Content, ModelError, Request, Response, StopReason, Usage};
use crate::message::process::{Command, Ending, Invocation, Output, ProcessError, ProjectCommand};
use crate::message::release::{Health, ReleaseError, Version};
use crate::recording::{Answered, Traffic};
use crate::services::{Ran, Services};
use crate::transcript::{Entry, Outcome};

/// Host calls of one input at most.
const CALLS_MAX: usize = 64;

const MANIFEST: &str = include_str!("brokered.toml");

const POLICY: &str = r#"
hidden = []
[[ceiling]]
network = ["*"]
commands = ["*"]
programs = ["*"]
models = ["*"]
credentials = ["*"]
max-tokens = 1000
memory = "1GiB"
time = "1h"
"#;

static GRANT: LazyLock<Grant> = LazyLock::new(|| {
    let manifest = Manifest::parse(MANIFEST, "skill.toml").unwrap();
    let policy = Policy::parse(POLICY, "policy.toml").unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let project = RawProjectGrant {
        skill: "x".into(),
        network: names(&["api.example.com", "GET *.example.org:8443"]),
        commands: names(&["test"]),
        programs: names(&["cargo"]),
        models: names(&["small"]),
        credentials: names(&["token"]),
        ..RawProjectGrant::default()
    };
    let source = Source {
        file: "moat.toml",
        text: "",
    };
    let project = project.check(source, 0..0).unwrap();
    let grant = Grant::compute(&manifest, Some(&project), &policy);
    assert!(grant.withheld().is_empty(), "{:?}", grant.withheld());
    grant
});

/// Lines, each a call: `["interface", "function", [arguments]]`.
pub(crate) fn brokered(data: &[u8]) {
    let services = Outside::default();
    let mut record = Record::new(Tape::new(None).unwrap());
    let mut lanes = 0;
    for line in data.split(|byte| *byte == b'\n').take(CALLS_MAX) {
        let Ok((interface, function, args)) = serde_json::from_slice::<Call>(line) else {
            continue;
        };
        let before = services.seen(|seen| seen.heard);
        // Each request has a lane of its own, and its body the lane's number; all else is asked in the guest's.
        let lane = match function.as_str() {
            "handle" => {
                lanes += 1;
                lanes
            }
            _ => 0,
        };
        let call = HostCall {
            lane,
            begun: lanes,
            ..HostCall::new(&interface, &function, args)
        };
        let answer = now(record.answer(&GRANT, &services, call));
        let (heard, outcome) = services.seen(|seen| (seen.heard, seen.last));
        assert_eq!(heard, before + 1, "each call is heard of once");
        match answer {
            Ok(value) => {
                assert_ne!(outcome, Some(Outcome::Malformed));
                is_for_a_guest(&value);
            }
            // The worker is not used again.
            Err(_) => {
                assert_eq!(outcome, Some(Outcome::Malformed));
                break;
            }
        }
    }
    record.bodies.close_all(&services);
    let (open, heard) = services.seen(|seen| (seen.open.clone(), seen.heard));
    assert!(open.is_empty(), "bodies stay open: {open:?}");
    assert_eq!(record.transcript.len(), heard);
}

type Call = (String, String, Vec<Value>);

/// The services answer at once, so the broker does too.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the broker waits for nobody"),
    }
}

/// No answer has a header that is kept from guests, whatever the services say.
fn is_for_a_guest(value: &Value) {
    let text = value.to_string().to_ascii_lowercase();
    for name in ["authorization", "set-cookie", "proxy-authenticate"] {
        assert!(!text.contains(&format!("\"name\":\"{name}\"")), "{text}");
    }
}

/// What the broker reached, and checks of its own that it may.
#[derive(Default)]
struct Outside(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    heard: usize,
    last: Option<Outcome>,
    /// Something was reached since a call was last heard of.
    reached: bool,
    next_body: u64,
    open: BTreeSet<u64>,
}

impl Outside {
    fn seen<T>(&self, look: impl FnOnce(&mut Seen) -> T) -> T {
        look(&mut self.0.lock().unwrap())
    }

    fn reach(&self) {
        self.seen(|seen| seen.reached = true);
    }
}

/// What the manifest grants, said once more and by hand.
fn is_granted(method: &str, origin: &Origin, url: &Url) -> bool {
    let HostName::Name(host) = origin.host() else {
        return false;
    };
    let path = url.path();
    let below = path == "/v1" || path.starts_with("/v1/");
    origin.scheme() == Scheme::Https
        && url.scheme() == "https"
        && url.host_str() == Some(host)
        && match (host.as_str(), origin.port()) {
            ("api.example.com", 443) => below && matches!(method, "GET" | "POST"),
            (host, 8443) => host.ends_with(".example.org") && method == "GET",
            _ => false,
        }
}

/// The door refuses more; these are the broker's to refuse.
fn is_a_guests(field: &Field) -> bool {
    let kept = [
        "authorization",
        "connection",
        "content-length",
        "cookie",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = field.name.as_str();
    !kept.contains(&name)
        && !name.starts_with("proxy-")
        && !name.contains(|c: char| c.is_ascii_uppercase() || !c.is_ascii_graphic() || c == ':')
        && !name.is_empty()
        && !field.value.iter().any(|byte| b"\r\n\0".contains(byte))
}

/// Bounded, and not empty.
fn is_an_entry(text: &str) {
    assert!(!text.is_empty() && text.len() <= 64 << 10);
}

#[async_trait]
impl Services for Outside {
    async fn heard(&self, call: &Entry, denial: Option<&Denial>) -> Result<(), String> {
        self.seen(|seen| {
            assert_eq!(denial.is_some(), call.outcome == Outcome::Denied);
            assert!(
                call.outcome == Outcome::Done || !seen.reached,
                "what was refused was done"
            );
            assert!(call.interface.chars().count() <= 64 && call.function.chars().count() <= 64);
            seen.heard += 1;
            seen.last = Some(call.outcome);
            seen.reached = false;
        });
        if let Some(denial) = denial {
            assert!(!denial.line.is_empty());
            assert!(denial.what.len() + denial.line.len() < 4096, "{denial:?}");
        }
        Ok(())
    }

    fn replayed(&self, _: &Answered, _: &[Value]) {
        panic!("nothing is recorded")
    }

    fn requested_before(&self, _: http::Request, _: u64, _: u64) {
        panic!("nothing is recorded")
    }

    fn received_before(&self, _: u64, _: u64) {
        panic!("nothing is recorded")
    }

    async fn run_command(&self, command: Command, terms: Running) -> Result<Ran, ProcessError> {
        self.reach();
        assert!(!terms.network, "none is granted a network");
        match &command.what {
            Invocation::Project(one) => {
                assert!(one.name == "test" && one.extra_args.is_empty());
            }
            Invocation::Program(one) => {
                let [first, second, ..] = &one.args[..] else {
                    panic!("{one:?}");
                };
                assert!(one.program == "cargo" && first == "metadata" && !second.starts_with('-'));
                assert!(!one.args.iter().any(|arg| arg.contains('\0')));
            }
        }
        let leaves = |part: &str| part == ".." || part.eq_ignore_ascii_case(".git");
        let directory = command.directory.as_str();
        assert!(!directory.starts_with('/') && !directory.split(['/', '\\']).any(leaves));
        Ok(Ran {
            output: Output {
                ending: Ending::Exited(0),
                stdout: String::new(),
                stderr: String::new(),
                truncated: false,
                duration_ms: 0,
            },
            denials: Vec::new(),
            traffic: Traffic::default(),
        })
    }

    fn project_command(&self, name: &str) -> Option<ProjectCommand> {
        assert_eq!(name, "test");
        None
    }

    async fn chat(&self, request: Request, _: u64) -> Result<Response, ModelError> {
        self.reach();
        assert!(request.alias == "small" && (1..=100).contains(&request.max_tokens));
        Ok(Response {
            content: vec![Content::Text(String::new())],
            stop: StopReason::EndTurn,
            usage: Usage::default(),
        })
    }

    fn alias(&self, name: &str) -> Option<Alias> {
        assert_eq!(name, "small");
        None
    }

    async fn request(&self, request: http::Request, _: u64) -> Result<Head, HttpError> {
        self.reach();
        let spelled = format!("{}{}", request.origin, request.path_and_query);
        let url = Url::parse(&spelled).unwrap();
        assert!(
            is_granted(&request.method, &request.origin, &url),
            "{request:?}"
        );
        assert!(request.headers.iter().all(is_a_guests), "{request:?}");
        assert!(request.body.len() <= 1024, "more than the grant's `sent`");
        let waits = request.timeouts;
        for wait in [waits.connect, waits.first_byte, waits.between_bytes] {
            assert!(wait.is_none_or(|wait| (1..=1000).contains(&wait.as_millis())));
        }
        let id = self.seen(|seen| {
            seen.next_body += 1;
            seen.open.insert(seen.next_body);
            assert!(seen.open.len() <= 8, "bodies without end");
            seen.next_body
        });
        let kept = ["Set-Cookie", "authorization", "proxy-authenticate"];
        let kept = kept.map(|name| Field {
            name: name.into(),
            value: b"kept".to_vec(),
        });
        Ok(Head {
            id,
            status: 200,
            headers: request.headers.into_iter().chain(kept).collect(),
        })
    }

    async fn read_body(&self, id: u64) -> Result<Piece, HttpError> {
        self.reach();
        assert!(
            self.seen(|seen| seen.open.contains(&id)),
            "a body of nobody"
        );
        match id % 3 {
            0 => Ok(Piece::End(Vec::new())),
            1 => Ok(Piece::Bytes(vec![0; 3])),
            _ => Err(HttpError::BrokeOff),
        }
    }

    fn close_body(&self, id: u64) {
        assert!(self.seen(|seen| seen.open.remove(&id)), "closed twice");
    }

    fn note(&self, text: String) {
        self.reach();
        assert!(text.chars().count() <= 200 && !text.chars().any(char::is_control));
    }

    async fn intend(&self, key: String, what: String, _: u64) -> Result<Standing, EffectsError> {
        self.reach();
        is_an_entry(&key);
        is_an_entry(&what);
        Ok(Standing::Fresh)
    }

    async fn confirm(&self, key: String, outcome: String) -> Result<(), EffectsError> {
        self.reach();
        is_an_entry(&key);
        assert!(outcome.len() <= 64 << 10);
        Ok(())
    }

    async fn withdraw(&self, key: String) -> Result<(), EffectsError> {
        self.reach();
        is_an_entry(&key);
        Err(EffectsError::NotIntended)
    }

    async fn effects(&self) -> Result<Vec<Effect>, EffectsError> {
        self.reach();
        Ok(vec![])
    }

    async fn versions(&self) -> Result<Vec<Version>, ReleaseError> {
        panic!("releases are not granted")
    }

    async fn stage(&self) -> Result<String, ReleaseError> {
        panic!("releases are not granted")
    }

    async fn activate(&self, _: String) -> Result<(), ReleaseError> {
        panic!("releases are not granted")
    }

    async fn deactivate(&self) -> Result<(), ReleaseError> {
        panic!("releases are not granted")
    }

    async fn probe(&self) -> Result<Health, ReleaseError> {
        panic!("releases are not granted")
    }
}
