//! `moat audit`: the trail of what skills were allowed and refused, of verdicts and of decisions; and whether it is whole.

use std::time::{SystemTime, UNIX_EPOCH};

use audit::{Anchor, Filter, Kind, TrailError};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::trail;

/// Read the audit trail, or verify it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only what is about this run.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Only what is about this skill.
    #[arg(long, value_name = "SKILL")]
    skill: Option<String>,
    /// Only entries of this kind.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<Kind>,
    /// Only what happened since: an age such as 90m, 12h or 7d, or a day such as 2026-11-24 (UTC).
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check every line, the chain from the first to the last, and its head.
    Verify {
        /// A place that an earlier `verify` printed and that was kept elsewhere: the trail must still go through it.
        #[arg(long, value_name = "NUMBER:HASH")]
        through: Vec<Anchor>,
    },
}

impl Audit {
    pub fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        match self.command {
            Some(Command::Verify { through }) => verify(shared, &through),
            None => list(
                shared,
                &Filter {
                    run: self.run.map(|run| run.parse()).transpose()?,
                    skill: self.skill.map(|skill| skill.parse()).transpose()?,
                    kind: self.kind,
                    since_ms: self.since,
                },
            ),
        }
    }
}

fn list(shared: &Shared, filter: &Filter) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let listing = house.trail.entries(filter)?;
    for one in &listing.entries {
        if shared.json {
            // As it lies there, without the hashes' own key, which only `verify` needs.
            println!("{}", json!(one));
        } else {
            println!("{}", trail::line(one));
        }
    }
    if !shared.json && listing.entries.is_empty() {
        println!("nothing of that is in the trail");
    }
    if !listing.unreadable.is_empty() {
        eprintln!(
            "note: {} lines are no entries of this version, the first is {}: `moat audit verify` tells whether they were changed",
            listing.unreadable.len(),
            listing.unreadable[0]
        );
    }
    Ok(Exit::Done)
}

fn verify(shared: &Shared, through: &[Anchor]) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let verified = match house.trail.verify(through) {
        Err(TrailError::Broken(broken)) if shared.json => {
            println!(
                "{}",
                json!({"whole": false, "file": broken.place.file, "line": broken.place.line, "why": broken.why})
            );
            return Ok(Exit::Failed);
        }
        verified => verified?,
    };
    if shared.json {
        let torn: Vec<_> = verified.torn.iter().map(ToString::to_string).collect();
        println!(
            "{}",
            json!({"whole": true, "entries": verified.entries, "files": verified.files, "last": verified.last.to_string(), "torn": torn})
        );
        return Ok(Exit::Done);
    }
    println!(
        "whole: {} entries in {} files of {}",
        verified.entries,
        verified.files,
        house.trail.directory().display()
    );
    for place in &verified.torn {
        println!("  {place}: a line that a crash cut off");
    }
    println!(
        "  last: {}\n  Kept elsewhere, it shows later that nothing up to here was written anew: moat audit verify --through {0}",
        verified.last
    );
    Ok(Exit::Done)
}

fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::as_str).join(", ");
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| format!("the kinds are {}", names()))
}

/// Milliseconds since 1970 of an age or a day.
fn since(text: &str) -> Result<u64, String> {
    let wrong = || "an age such as 90m, 12h or 7d, or a day such as 2026-11-24".to_owned();
    if let Some(ms) = trail::day(text) {
        return Ok(ms);
    }
    let unit_ms = match text.chars().next_back() {
        Some('s') => 1_000,
        Some('m') => 60_000,
        Some('h') => 3_600_000,
        Some('d') => 86_400_000,
        _ => return Err(wrong()),
    };
    let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = now.map_or(0, |since| since.as_millis() as u64);
    Ok(now_ms.saturating_sub(count.saturating_mul(unit_ms)))
}
