//! `moat secret`: which secrets the machine's owner has, and whether they can be had. No value is shown, nor anything about one.

use clap::{Args, Subcommand};
use egress::Secrets as _;
use egress::store::{Entry, SecretSource};
use serde_json::{Value, json};

use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::text::{clean, one_line};

/// Look at the secrets of secrets.toml. Values are never shown.
#[derive(Debug, Args)]
pub struct Secret {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Their names, where each comes from, and where it may go.
    List,
    /// Read a secret from its source as a run would, and say whether that works.
    Check {
        /// Its name; all when absent.
        name: Option<String>,
    },
}

impl Secret {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        match self.command {
            Command::List => Ok(list(shared, &house)),
            Command::Check { name } => check(shared, &house, name.as_deref()).await,
        }
    }
}

fn list(shared: &Shared, house: &driver::House) -> Exit {
    let entries = house.secrets.entries();
    if shared.json {
        println!(
            "{}",
            Value::from_iter(entries.map(|(name, entry)| describe(name, entry)))
        );
        return Exit::Done;
    }
    let mut any = false;
    for (name, entry) in entries {
        any = true;
        println!(
            "{name:<20} {:<8} {:<40} {}",
            entry.source.kind(),
            one_line(&place(&entry.source), 120),
            hosts(entry).join(" ")
        );
    }
    if !any {
        println!(
            "no secrets: {} would name some (docs/secrets.md)",
            house.root().join(egress::store::FILE).display()
        );
    }
    Exit::Done
}

async fn check(
    shared: &Shared,
    house: &driver::House,
    wanted: Option<&str>,
) -> anyhow::Result<Exit> {
    let chosen: Vec<_> = house
        .secrets
        .entries()
        .filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name))
        .collect();
    anyhow::ensure!(
        wanted.is_none() || !chosen.is_empty(),
        "there is no secret `{}`: `moat secret list` shows those of {}",
        one_line(wanted.unwrap_or_default(), 64),
        house.root().join(egress::store::FILE).display()
    );
    let mut exit = Exit::Done;
    let mut found = Vec::new();
    for (name, entry) in chosen {
        let trouble = house.secrets.get(name).await.err();
        if trouble.is_some() {
            exit = Exit::Failed;
        }
        let trouble = trouble.map(|error| error.to_string());
        if shared.json {
            let mut one = describe(name, entry);
            one["resolves"] = json!(trouble.is_none());
            one["trouble"] = json!(trouble);
            found.push(one);
            continue;
        }
        match trouble {
            None => println!(
                "ok       {name} ({}): may go to {}",
                entry.source.kind(),
                hosts(entry).join(", ")
            ),
            Some(trouble) => println!("MISSING  {}", clean(&trouble)),
        }
    }
    if shared.json {
        println!("{}", Value::from(found));
    }
    Ok(exit)
}

fn describe(name: &str, entry: &Entry) -> Value {
    json!({"name": name, "source": entry.source.kind(), "from": place(&entry.source), "hosts": hosts(entry)})
}

fn hosts(entry: &Entry) -> Vec<String> {
    entry.hosts.iter().map(ToString::to_string).collect()
}

/// Where it is. Of a command only the program: its arguments are its owner's affair.
fn place(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(name) => name.clone(),
        SecretSource::File(path) => path.display().to_string(),
        SecretSource::Command(command) => command.program.display().to_string(),
        SecretSource::Keyring { service, account } => format!("{service}:{account}"),
        SecretSource::Vault { path, field, .. } => format!("{path} {field}"),
    }
}
