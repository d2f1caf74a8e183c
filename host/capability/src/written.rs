//! A manifest and the grant that it asks for, as TOML that people can copy into their files.

use std::fmt::Write as _;

use crate::grant::Running;
use crate::limits::Limits;
use crate::manifest::{FileRequest, Manifest, NetworkRequest, ProcessRequest, Runnable};
use crate::network::{HostPattern, Methods};
use crate::origin::Scheme;
use crate::project_grant::RawProjectGrant;
use crate::quantity::{of_bytes, of_millis};

/// A table under construction; the header is written with it.
struct Table(String);

impl Table {
    fn new(header: &str) -> Table {
        Table(format!("{header}\n"))
    }

    fn text(mut self, key: &str, value: &str) -> Table {
        self.put(key, &quoted(value));
        self
    }

    fn plain(mut self, key: &str, value: impl ToString) -> Table {
        self.put(key, &value.to_string());
        self
    }

    fn list(mut self, key: &str, values: &[impl AsRef<str>]) -> Table {
        if !values.is_empty() {
            self.put(key, &listed(values));
        }
        self
    }

    fn put(&mut self, key: &str, value: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{key} = {value}");
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn listed(values: &[impl AsRef<str>]) -> String {
    let all: Vec<String> = values.iter().map(|one| quoted(one.as_ref())).collect();
    format!("[{}]", all.join(", "))
}

impl Manifest {
    /// The manifest as `skill.toml`; reading it gives the same manifest. What has its default is left out.
    pub fn to_toml(&self) -> String {
        let mut tables = vec![
            Table::new("[skill]")
                .text("name", self.name.as_str())
                .text("version", &self.version)
                .text("role", &self.role.to_string())
                .text("description", &self.description),
        ];
        tables.extend(self.files.iter().map(files));
        tables.extend(self.network.iter().filter_map(network));
        for one in &self.credentials {
            let mut table = Table::new("[[credentials]]")
                .text("name", &one.name)
                .text("host", &one.origin.host().to_string());
            if one.origin.port() != Scheme::Https.default_port() {
                table = table.plain("port", one.origin.port());
            }
            let table = table
                .text("header", &one.header)
                .text("format", &one.format);
            tables.push(table.text("reason", &one.reason));
        }
        tables.extend(self.processes.iter().map(process));
        for one in &self.env {
            tables.push(
                Table::new("[[env]]")
                    .text("name", &one.name)
                    .text("reason", &one.reason),
            );
        }
        if let Some(one) = &self.model {
            let table = Table::new("[model]").list("aliases", &one.aliases);
            let table = table.plain("max-tokens", one.max_tokens);
            tables.push(table.text("reason", &one.reason));
        }
        if let Some(reason) = &self.release {
            tables.push(Table::new("[release]").text("reason", reason));
        }
        tables.push(limits(&self.limits));
        let texts: Vec<String> = tables.into_iter().map(|table| table.0).collect();
        texts.join("\n")
    }

    /// The project's grant that leaves the manifest whole, as far as the policy allows.
    pub fn whole_grant(&self) -> RawProjectGrant {
        let paths = |write: bool| {
            let wanted = self.files.iter().filter(|one| one.write == write);
            wanted.map(|one| one.path.to_string()).collect()
        };
        let mut grant = RawProjectGrant {
            skill: self.name.to_string(),
            read: paths(false),
            write: paths(true),
            network: self
                .network
                .iter()
                .flat_map(|one| &one.rules)
                .map(ToString::to_string)
                .collect(),
            credentials: self
                .credentials
                .iter()
                .map(|one| one.name.clone())
                .collect(),
            env: self.env.iter().map(|one| one.name.clone()).collect(),
            models: self
                .model
                .iter()
                .flat_map(|one| one.aliases.clone())
                .collect(),
            release: self.release.is_some(),
            ..RawProjectGrant::default()
        };
        for one in &self.processes {
            let (name, list) = match &one.what {
                Runnable::Project { name, .. } => (name, &mut grant.commands),
                Runnable::Program { program, .. } => (program, &mut grant.programs),
            };
            if !list.contains(name) {
                list.push(name.clone());
            }
            if one.network && !grant.online.contains(name) {
                grant.online.push(name.clone());
            }
        }
        grant
    }
}

impl RawProjectGrant {
    /// The grant as a `[[grant]]` of `moat.toml`. What has its default is left out.
    pub fn to_toml(&self) -> String {
        let mut table = Table::new("[[grant]]").text("skill", &self.skill);
        for (key, values) in [
            ("read", &self.read),
            ("write", &self.write),
            ("except", &self.except),
            ("network", &self.network),
            ("credentials", &self.credentials),
            ("commands", &self.commands),
            ("programs", &self.programs),
            ("online", &self.online),
            ("env", &self.env),
            ("models", &self.models),
        ] {
            table = table.list(key, values);
        }
        if let Some(tokens) = self.max_tokens {
            table = table.plain("max-tokens", tokens);
        }
        if self.release {
            table = table.plain("release", true);
        }
        for (key, value) in [("memory", &self.memory), ("time", &self.time)] {
            if let Some(value) = value {
                table = table.text(key, value);
            }
        }
        table.0
    }
}

fn files(one: &FileRequest) -> Table {
    Table::new("[[files]]")
        .text("path", one.path.as_str())
        .text("access", if one.write { "write" } else { "read" })
        .list("except", one.except.patterns())
        .text("reason", &one.reason)
}

/// The rules of one request differ in their paths only.
fn network(one: &NetworkRequest) -> Option<Table> {
    let rule = one.rules.first()?;
    let host = match &rule.host {
        HostPattern::Exact(host) => host.to_string(),
        HostPattern::Below(above) => format!("*.{above}"),
        // A policy's only.
        HostPattern::Any => return None,
    };
    let Methods::These(methods) = &rule.methods else {
        return None;
    };
    let methods: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    let mut table = Table::new("[[network]]").text("host", &host);
    if rule.scheme != Scheme::Https {
        table = table.text("scheme", rule.scheme.as_str());
    }
    if let Some(port) = rule.port.filter(|port| *port != rule.scheme.default_port()) {
        table = table.plain("port", port);
    }
    table = table.list("methods", &methods);
    let paths: Vec<&str> = one.rules.iter().map(|rule| rule.path.as_str()).collect();
    if paths != ["/"] {
        table = table.list("paths", &paths);
    }
    if let Some(header) = &one.idempotency {
        table = table.text("idempotency", header);
    }
    Some(table.text("reason", &one.reason))
}

fn process(one: &ProcessRequest) -> Table {
    let mut table = Table::new("[[processes]]");
    table = match &one.what {
        Runnable::Project { name, extra_args } => {
            let table = table.text("project", name);
            if *extra_args {
                table.plain("extra-args", true)
            } else {
                table
            }
        }
        Runnable::Program { program, args } => {
            let forms: Vec<String> = args.iter().map(|one| listed(one.elements())).collect();
            table
                .text("program", program)
                .plain("args", format!("[{}]", forms.join(", ")))
        }
    };
    let running = Running {
        network: one.network,
        wall_ms: one.wall_ms,
        memory_bytes: one.memory_bytes,
    };
    if running.network {
        table = table.plain("network", true);
    }
    if let Some(ms) = running.wall_ms {
        table = table.text("time", &of_millis(ms));
    }
    if let Some(bytes) = running.memory_bytes {
        table = table.text("memory", &of_bytes(bytes));
    }
    table.text("reason", &one.reason)
}

fn limits(limits: &Limits) -> Table {
    let unstated = Limits::UNSTATED;
    let mut table = Table::new("[limits]")
        .text("memory", &of_bytes(limits.memory_bytes))
        .text("time", &of_millis(limits.wall_ms));
    for (key, value, usual) in [
        ("fuel", limits.fuel, unstated.fuel),
        ("host-calls", limits.host_calls, unstated.host_calls),
        ("handles", limits.handles.into(), unstated.handles.into()),
        ("requests", limits.requests, unstated.requests),
    ] {
        if value != usual {
            table = table.plain(key, value);
        }
    }
    for (key, value, usual) in [
        ("output", limits.output_bytes, unstated.output_bytes),
        ("sent", limits.sent_bytes, unstated.sent_bytes),
        ("received", limits.received_bytes, unstated.received_bytes),
    ] {
        if value != usual {
            table = table.text(key, &of_bytes(value));
        }
    }
    table
}
