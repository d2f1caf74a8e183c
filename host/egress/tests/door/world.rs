//! What a test's door is made of: a resolver that is scripted, secrets, and grants written in the words of the files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use capability::origin::Origin;
use capability::{Grant, Manifest, Policy, RawProjectGrant, Source};
use egress::{
    BoundSecret, Clamps, Outbound, Request, RequestError, Resolver, Secret, SecretError, Secrets,
    Setup, Visit,
};

/// Answers by a script, one after the other, the last for ever; writes down what it was asked.
#[derive(Default)]
pub(crate) struct Names {
    script: Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn answer(&self, name: &str, answers: &[&[&str]]) {
        let answers = answers
            .iter()
            .map(|answer| answer.iter().map(|ip| ip.parse().unwrap()).collect());
        self.script
            .lock()
            .unwrap()
            .insert(name.to_owned(), answers.collect());
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut script = self.script.lock().unwrap();
        let answers = script.get_mut(name).ok_or(std::io::ErrorKind::NotFound)?;
        match answers.len() {
            1 => Ok(answers[0].clone()),
            _ => Ok(answers.remove(0)),
        }
    }
}

/// Secrets in memory.
#[derive(Debug, Default)]
pub(crate) struct Store {
    secrets: Mutex<BTreeMap<String, Arc<BoundSecret>>>,
    given: Mutex<Vec<Arc<BoundSecret>>>,
    pub(crate) refused: Mutex<Vec<String>>,
}

impl Store {
    pub(crate) fn put(&self, name: &str, value: &str, hosts: &[&str]) {
        let bound = BoundSecret {
            secret: Secret::new(value.into(), "test").unwrap(),
            hosts: hosts.iter().map(|host| origin(host)).collect(),
        };
        let bound = Arc::new(bound);
        self.secrets.lock().unwrap().insert(name.to_owned(), bound);
    }

    pub(crate) fn revoke(&self, name: &str) {
        self.secrets.lock().unwrap().remove(name);
    }
}

#[async_trait::async_trait]
impl Secrets for Store {
    async fn get(&self, name: &str) -> Result<Arc<BoundSecret>, SecretError> {
        let secrets = self.secrets.lock().unwrap();
        let bound = secrets.get(name).ok_or(SecretError::Unknown {
            name: name.to_owned(),
        })?;
        self.given.lock().unwrap().push(Arc::clone(bound));
        Ok(Arc::clone(bound))
    }

    fn refused(&self, name: &str) {
        self.refused.lock().unwrap().push(name.to_owned());
    }

    fn known(&self) -> Vec<Arc<BoundSecret>> {
        self.given.lock().unwrap().clone()
    }
}

/// A machine.
pub(crate) struct World {
    pub(crate) names: Arc<Names>,
    pub(crate) secrets: Arc<Store>,
    pub(crate) outbound: Outbound,
}

impl World {
    pub(crate) fn new(authority: Option<Vec<u8>>) -> World {
        World::with(authority, Clamps::default())
    }

    pub(crate) fn with(authorities: Option<Vec<u8>>, clamps: Clamps) -> World {
        let names = Arc::<Names>::default();
        names.answer("api.test", &[&["127.0.0.1"]]);
        names.answer("other.test", &[&["127.0.0.1"]]);
        let secrets = Arc::<Store>::default();
        let outbound = Outbound::new(Setup {
            resolver: Arc::clone(&names) as _,
            authorities,
            secrets: Arc::clone(&secrets) as _,
            clamps,
        })
        .unwrap();
        World {
            names,
            secrets,
            outbound,
        }
    }

    pub(crate) fn visit(&self, granted: &Granted) -> Visit {
        self.outbound.visit(Arc::new(granted.grant()))
    }
}

/// What a skill is granted; nothing unless said.
#[derive(Clone, Default)]
pub(crate) struct Granted {
    manifest: String,
    limits: String,
    rules: Vec<String>,
    credentials: Vec<String>,
    private: Vec<String>,
}

impl Granted {
    /// All methods and paths of an origin such as `http://api.test:8080`.
    pub(crate) fn at(self, origin: &str) -> Granted {
        self.rule("GET,POST,PUT,DELETE,HEAD,OPTIONS,PATCH", origin, "")
    }

    pub(crate) fn rule(mut self, methods: &str, origin: &str, path: &str) -> Granted {
        let (scheme, authority) = origin.split_once("://").unwrap();
        let at = authority.rfind(':').unwrap();
        let methods_listed = methods.replace(',', "\",\"");
        write!(
            self.manifest,
            "[[network]]\nhost = \"{}\"\nport = {}\nscheme = \"{scheme}\"\nmethods = [\"{methods_listed}\"]\nreason = \"r\"\n",
            &authority[..at],
            &authority[at + 1..],
        )
        .unwrap();
        if !path.is_empty() {
            self.manifest
                .truncate(self.manifest.len() - "reason = \"r\"\n".len());
            write!(self.manifest, "paths = [\"{path}\"]\nreason = \"r\"\n").unwrap();
        }
        self.rules.push(format!("{methods} {origin}{path}"));
        self
    }

    /// Its addresses may be this machine's.
    pub(crate) fn private(mut self, rule: &str) -> Granted {
        self.private.push(rule.to_owned());
        self
    }

    /// A secret in a header of an https origin.
    pub(crate) fn credential(mut self, name: &str, host: &str, port: u16, header: &str) -> Granted {
        write!(
            self.manifest,
            "[[credentials]]\nname = \"{name}\"\nhost = \"{host}\"\nport = {port}\nheader = \"{header}\"\nformat = \"Bearer {{}}\"\nreason = \"r\"\n",
        )
        .unwrap();
        self.credentials.push(name.to_owned());
        self
    }

    /// Lines of `[limits]`.
    pub(crate) fn limit(mut self, lines: &str) -> Granted {
        self.limits = lines.to_owned();
        self
    }

    pub(crate) fn grant(&self) -> Grant {
        let manifest = format!(
            "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n{}[limits]\nmemory = \"64MiB\"\ntime = \"60s\"\n{}\n",
            self.manifest, self.limits
        );
        let project = format!(
            r#"{{"skill":"x","network":{:?},"credentials":{:?}}}"#,
            self.rules, self.credentials
        );
        let policy = format!(
            "hidden = []\n[[ceiling]]\nrole = \"job\"\nnetwork = {:?}\nprivate = {:?}\ncredentials = [\"*\"]\nmemory = \"1GiB\"\ntime = \"1h\"\n",
            self.rules, self.private
        );
        let raw: RawProjectGrant = serde_json::from_str(&project).unwrap();
        let source = Source {
            file: "moat.toml",
            text: "",
        };
        let project = raw.check(source, 0..0).unwrap();
        let manifest = Manifest::parse(&manifest, "skill.toml").unwrap();
        let policy = Policy::parse(&policy, "policy.toml").unwrap();
        Grant::compute(&manifest, Some(&project), &policy)
    }
}

pub(crate) fn origin(text: &str) -> Origin {
    let (scheme, authority) = text.split_once("://").unwrap();
    Origin::parse(scheme, authority).unwrap()
}

/// A request as a guest would write it.
pub(crate) fn asking(method: &str, url: &str) -> Request {
    let path = url[8..].find('/').map_or("/", |at| &url[at + 8..]);
    Request {
        method: method.into(),
        origin: origin(url.strip_suffix(path).unwrap_or(url)),
        path_and_query: path.into(),
        headers: vec![],
        body: vec![],
        timeouts: egress::Timeouts::default(),
    }
}

pub(crate) fn get(url: &str) -> Request {
    asking("GET", url)
}

pub(crate) fn with(mut request: Request, name: &str, value: &str) -> Request {
    request
        .headers
        .push((name.into(), value.as_bytes().to_vec()));
    request
}

/// Sends, and reads the answer to its end.
pub(crate) async fn fetch(visit: &Visit, request: Request) -> Result<(u16, String), RequestError> {
    let mut reply = visit.send(request).await?;
    let mut body = Vec::new();
    while let Some(bytes) = reply.body.chunk().await? {
        body.extend_from_slice(&bytes);
    }
    Ok((reply.status, String::from_utf8_lossy(&body).into_owned()))
}
