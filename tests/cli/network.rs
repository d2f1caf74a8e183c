//! Skills of a project's own that ask for something on the network: what each file says comes to a listener, or does not.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::{Server, whole};

use crate::house::{House, git, guest, told};
use crate::server::{self as tls, Authority, Then};

/// The guest that does what it is told: as a job, and as a triage that fetches its report.
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| guest("guests", "probe.wasm"));

/// The component imports models, so that one must be there; nobody calls it.
const UNUSED_MODEL: &str = r#"
[provider.unused]
api = "openai"
url = "http://127.0.0.1:9/v1"

[model.unused]
provider = "unused"
id = "unused"
context-tokens = 100
output-tokens = 10
price = { input = 0, output = 0 }
"#;

const WORD: &str = "one full hour is charged as two";

pub fn server() -> Server {
    Server::start(|request, stream| match request.target.as_str() {
        "/v1/moved" => {
            let to = [("location", "/v1/report")];
            whole(stream, 302, &to, "");
        }
        _ => whole(stream, 200, &[("set-cookie", "a=b")], WORD),
    })
}

/// A skill that the guest is, in a repository and on a machine that give it `host`, each in its own file.
pub struct Asking {
    pub house: House,
    pub repo: PathBuf,
}

impl Asking {
    pub fn new(role: &str, port: u16, private: bool) -> Asking {
        let house = House::new();
        let repo = house.meter();
        let folder = repo.join("tools/asker");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("component.wasm"), GUEST.as_slice()).unwrap();
        let rule = format!("GET http://localhost:{port}/v1");
        let manifest = format!(
            r#"
[skill]
name = "asker"
version = "0.1.0"
role = "{role}"
description = "Asks."

[[network]]
host = "localhost"
scheme = "http"
port = {port}
methods = ["GET"]
paths = ["/v1"]
reason = "test"

[[processes]]
project = "test"
reason = "the component imports it"

[model]
aliases = ["small"]
max-tokens = 10
reason = "the component imports it"

[release]
reason = "the component imports it"

[limits]
memory = "64MiB"
time = "60s"
requests = 3
"#
        );
        std::fs::write(folder.join("skill.toml"), manifest).unwrap();
        let grant = format!(
            "\n[models]\nsmall = \"unused\"\n\n[skills]\nasker = \"tools/asker\"\n\n[[grant]]\nskill = \"asker\"\nnetwork = [\"{rule}\"]\ncommands = [\"test\"]\nmodels = [\"small\"]\nrelease = true\n"
        );
        let file = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
        let file = file.replace("[budget]\n", "[budget]\ntokens = 1000\nmoney = 1\n");
        let file = match role {
            "triage" => file.replace("triage = \"triage\"", "triage = \"asker\""),
            _ => file,
        };
        std::fs::write(repo.join("moat.toml"), file + &grant).unwrap();
        git(&repo, &["add", "-Af"]);
        git(&repo, &["commit", "-qm", "a skill that asks"]);
        let private = match private {
            true => format!("private = [\"http://localhost:{port}\"]\n"),
            false => String::new(),
        };
        let policy = format!(
            "hidden = []\n[[ceiling]]\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nmodels = [\"*\"]\nmax-tokens = 10\nrelease = true\nmemory = \"1GiB\"\ntime = \"10m\"\nnetwork = [\"http://localhost:{port}\"]\n{private}"
        );
        std::fs::create_dir_all(house.home()).unwrap();
        std::fs::write(house.home().join("policy.toml"), policy).unwrap();
        std::fs::write(house.home().join("models.toml"), UNUSED_MODEL).unwrap();
        Asking { house, repo }
    }

    /// Changes a file, where every text that is to be replaced is there.
    pub fn edit(path: PathBuf, from: &[(&str, &str)]) {
        let text = std::fs::read_to_string(&path).unwrap();
        let text = from.iter().fold(text, |text, (from, to)| {
            assert!(text.contains(from), "{from:?} is not in {text}");
            text.replace(from, to)
        });
        std::fs::write(path, text).unwrap();
    }

    /// Calls it by hand and gives what moat tells of the call.
    fn call(&self, input: Value) -> Value {
        let output = self.command(input).output().unwrap();
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", told(&output)))
    }

    fn command(&self, input: Value) -> Command {
        let file = self.house.path("input.json");
        std::fs::write(&file, input.to_string()).unwrap();
        self.house.command(&[
            "skill",
            "run",
            "asker",
            "--json",
            "--repo",
            self.repo.to_str().unwrap(),
            "--input",
            file.to_str().unwrap(),
        ])
    }

    /// Fetches, and gives the job's own answer.
    fn fetch(&self, url: &str) -> (Value, Value) {
        let mut told = self.call(json!({"do": "fetch", "url": url}));
        let inner = told["output"]["ok"].as_str().unwrap().to_owned();
        (
            serde_json::from_str(&inner).unwrap(),
            told["denials"].take(),
        )
    }
}

#[test]
fn a_granted_request_is_made_and_is_in_the_trail() {
    let server = server();
    let asking = Asking::new("job", server.port, true);
    let base = format!("http://localhost:{}", server.port);
    let (answer, denials) = asking.fetch(&format!("{base}/v1/report?of=today"));
    assert_eq!(answer["status"], 200, "{answer} {denials}");
    assert_eq!(answer["body"], WORD);
    assert!(!answer.to_string().contains("set-cookie"), "{answer}");
    let (moved, _) = asking.fetch(&format!("{base}/v1/moved"));
    assert_eq!(moved["status"], 302, "redirects are the skill's to follow");
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].target, "/v1/report?of=today");
    assert_eq!(
        seen[0].header("host"),
        Some(format!("localhost:{}", server.port).as_str())
    );
    let trail = told(&asking.house.moat(&["audit", "--json"]));
    assert!(trail.contains(&format!("\"origin\":\"{base}\"")), "{trail}");
    assert!(!trail.contains("today"), "no query is kept: {trail}");
}

#[test]
fn what_one_of_the_files_does_not_grant_comes_to_no_listener() {
    let (server, other) = (self::server(), self::server());
    let asking = Asking::new("job", server.port, true);
    for url in [
        format!("http://localhost:{}/v2", server.port),
        format!("http://localhost:{}/v1/../v2", server.port),
        format!("http://127.0.0.1:{}/v1", server.port),
        format!("http://localhost:{}/v1", other.port),
        format!(
            "http://localhost:{}@localhost:{}/v1",
            server.port, other.port
        ),
        format!("https://localhost:{}/v1", server.port),
    ] {
        let (answer, denials) = asking.fetch(&url);
        let error = answer["error"].as_str().unwrap();
        assert!(
            error == "Denied" || error == "InvalidUrl",
            "{url}: {answer}"
        );
        let line = denials[0]["line"].as_str().unwrap_or("");
        assert!(
            error == "InvalidUrl" || line.starts_with("skill.toml: [[network]]"),
            "{url}: {denials}"
        );
    }
    assert!(server.seen().is_empty() && other.seen().is_empty());
    // Granted, but the policy says nothing of private addresses.
    let asking = Asking::new("job", server.port, false);
    let (answer, _) = asking.fetch(&format!("http://localhost:{}/v1", server.port));
    assert_eq!(answer, json!({"error": "AddressRefused"}));
    assert!(server.seen().is_empty());
}

#[test]
fn a_run_takes_its_work_from_where_a_skill_may_look() {
    let server = server();
    let asking = Asking::new("triage", server.port, true);
    let url = format!("http://localhost:{}/v1/report", server.port);
    let output = asking.house.moat(&["run", "--repo", "meter", &url]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(server.seen().len(), 1);
    let changed = git(&asking.repo, &["diff", "--name-only", "main^", "main"]);
    assert_eq!(changed, "meter/fees.py");
}

const TOKEN: &str = "canary-token-9c41";

/// The same skill over https with a credential, on a machine whose owner bound the secret to `bound`.
fn with_a_credential(port: u16, authority: &Authority, bound: &str) -> Asking {
    use std::os::unix::fs::PermissionsExt as _;
    let asking = Asking::new("job", port, true);
    let edit = Asking::edit;
    let credential = format!(
        "[[credentials]]\nname = \"token\"\nhost = \"localhost\"\nport = {port}\nheader = \"Authorization\"\nformat = \"Bearer {{}}\"\nreason = \"test\"\n\n[[processes]]"
    );
    edit(
        asking.repo.join("tools/asker/skill.toml"),
        &[("scheme = \"http\"\n", ""), ("[[processes]]", &credential)],
    );
    edit(
        asking.repo.join("moat.toml"),
        &[
            ("GET http://localhost", "GET localhost"),
            (
                "release = true",
                "release = true\ncredentials = [\"token\"]",
            ),
        ],
    );
    git(&asking.repo, &["commit", "-qam", "with a credential"]);
    let home = asking.house.home();
    std::fs::write(home.join("authority.pem"), authority.pem()).unwrap();
    let authorities = format!(
        "hidden = []\nauthorities = {:?}",
        home.join("authority.pem")
    );
    edit(
        home.join("policy.toml"),
        &[
            ("http://localhost", "localhost"),
            ("hidden = []", &authorities),
            ("release = true", "release = true\ncredentials = [\"*\"]"),
        ],
    );
    let token = home.join("token");
    std::fs::write(&token, TOKEN).unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = format!("[secrets.token]\nhosts = [\"{bound}\"]\nfile = {token:?}\n");
    std::fs::write(home.join("secrets.toml"), secrets).unwrap();
    asking
}

/// Says the word, and at `/v1/echo` all that it was asked with.
fn over_tls(authority: &Authority) -> tls::Server {
    tls::Server::tls(authority, "localhost", |request, wire| {
        let body = match request.contains("/v1/echo") {
            true => request.to_owned(),
            false => WORD.to_owned(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let _ = wire.write_all(format!("{head}{body}").as_bytes());
        Then::Close
    })
}

#[test]
fn a_credential_goes_to_its_host_and_never_comes_back() {
    let authority = Authority::new();
    let server = over_tls(&authority);
    let origin = format!("https://localhost:{}", server.port);
    let asking = with_a_credential(server.port, &authority, &origin);
    let (answer, denials) = asking.fetch(&format!("{origin}/v1/report"));
    assert_eq!(answer["body"], WORD, "{answer} {denials}");
    let seen = server.requests();
    let sent = format!("authorization: Bearer {TOKEN}");
    assert!(
        seen[0].to_lowercase().contains(&sent.to_lowercase()),
        "{seen:?}"
    );
    let (echoed, _) = asking.fetch(&format!("{origin}/v1/echo"));
    assert_eq!(server.requests().len(), 2);
    assert!(!echoed.to_string().contains(TOKEN), "{echoed}");
    let trail = told(&asking.house.moat(&["audit", "--json"]));
    assert!(trail.contains("the answer held a secret"), "{trail}");
    assert!(trail.contains("\"credentials\":[\"token\"]"), "{trail}");
    assert!(!trail.contains(TOKEN));
}

#[test]
fn a_secret_that_its_owner_bound_elsewhere_is_not_sent_and_a_stranger_is_not_trusted() {
    let authority = Authority::new();
    let server = over_tls(&authority);
    let origin = format!("https://localhost:{}", server.port);
    let asking = with_a_credential(server.port, &authority, "https://localhost:9");
    let (answer, _) = asking.fetch(&format!("{origin}/v1/report"));
    assert!(answer["error"].is_string(), "{answer}");
    let asking = with_a_credential(server.port, &Authority::new(), &origin);
    let (answer, _) = asking.fetch(&format!("{origin}/v1/report"));
    assert_eq!(answer, json!({"error": "Tls"}));
    assert!(server.requests().is_empty(), "{:?}", server.requests());
}

const MODEL_KEY: &str = "sk-canary-7b20";

#[test]
fn a_models_key_is_sent_nowhere_by_a_skill_that_got_hold_of_it() {
    let server = server();
    let asking = Asking::new("job", server.port, true);
    let key = asking.house.path("model-key");
    std::fs::write(&key, MODEL_KEY).unwrap();
    let with_key = format!("key-file = {key:?}\nurl = ");
    Asking::edit(
        asking.house.home().join("models.toml"),
        &[("url = ", &with_key)],
    );
    let base = format!("http://localhost:{}/v1", server.port);
    let each = |spell: fn(u8) -> String| MODEL_KEY.bytes().map(spell).collect::<String>();
    let spellings = [
        MODEL_KEY.to_owned(),
        each(|byte| format!("{byte:02x}")),
        each(|byte| format!("%{byte:02x}")),
        "c2stY2FuYXJ5LTdiMjA".to_owned(),
    ];
    for spelling in &spellings {
        for input in [
            json!({"do": "fetch", "url": format!("{base}/report?k={spelling}")}),
            json!({"do": "fetch", "url": format!("{base}/{spelling}")}),
            json!({"do": "fetch", "url": base, "headers": [["x-mine", spelling]]}),
            json!({"do": "fetch", "url": base, "body": format!("<{spelling}>")}),
        ] {
            let told = asking.call(input.clone());
            let answer = told["output"]["ok"].as_str().unwrap();
            assert_eq!(answer, r#"{"error":"Denied"}"#, "{input}");
        }
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    let (answer, denials) = asking.fetch(&format!("{base}/report"));
    assert_eq!(answer["status"], 200, "{answer} {denials}");
    let trail = told(&asking.house.moat(&["audit", "--json"]));
    assert!(trail.contains("it holds a secret"), "{trail}");
    assert!(spellings.iter().all(|one| !trail.contains(one)), "{trail}");
}

#[test]
fn what_is_refused_to_a_command_is_in_the_trail_while_it_is_still_running() {
    let server = server();
    let asking = Asking::new("job", server.port, true);
    let command = "[[processes]]\nproject = \"python\"\nextra-args = true\nnetwork = true\nreason = \"test\"\n\n[model]";
    Asking::edit(
        asking.repo.join("tools/asker/skill.toml"),
        &[("[model]", command)],
    );
    Asking::edit(
        asking.repo.join("moat.toml"),
        &[
            (
                "[commands]\n",
                "[commands]\npython = [\"python3\", \"-c\"]\n",
            ),
            (
                "commands = [\"test\"]\nmodels",
                "commands = [\"test\", \"python\"]\nonline = [\"python\"]\nmodels",
            ),
        ],
    );
    git(
        &asking.repo,
        &["commit", "-qam", "a command on the network"],
    );
    Asking::edit(
        asking.house.home().join("policy.toml"),
        &[("release = true", "release = true\nonline = [\"*\"]")],
    );
    let text = format!(
        "import time, urllib.request\nfor _ in range(3):\n  try: urllib.request.urlopen('http://localhost:{}/v2')\n  except Exception: pass\ntime.sleep(50)",
        server.port
    );
    let mut running = asking
        .command(json!({"do": "run", "name": "python", "args": [text]}))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let refused = || {
        let trail = told(&asking.house.moat(&["audit", "--json", "--kind", "denied"]));
        trail.matches("/v2").count()
    };
    while refused() == 0 {
        assert!(running.try_wait().unwrap().is_none(), "it has ended");
        assert!(begun.elapsed() < Duration::from_secs(45), "nothing is told");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(running.try_wait().unwrap().is_none(), "it is still running");
    assert_eq!(refused(), 1, "once, however often it tries");
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(server.seen().is_empty());
}
