//! `moat skill`: the reviewer's view of a skill, and the author's inner loop. One file a subcommand.

mod approve;
mod check;
mod diff;
mod inspect;
mod list;
mod review;
mod run;

use std::path::Path;

use anyhow::Context as _;
use catalog::Package;
use catalog::review::Found;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cli::{Shared, run as item};
use crate::exit::Exit;
use crate::show::page::{Look, Page};
use crate::show::text;

/// Look at skills, check them, or call one.
#[derive(Debug, Args)]
pub struct Skill {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The skills at hand.
    List,
    /// What a skill may do, in sentences, and what its component really imports.
    Inspect {
        /// A name of `moat skill list`, or a folder with skill.toml and component.wasm.
        skill: String,
    },
    /// A skill as a reviewer needs it: what it asks for, what that comes to, what is left of it, what it used.
    Review(review::Review),
    /// What an update of a skill widens, narrows and leaves. Exit code 3 when it widens.
    Diff(diff::Diff),
    /// Let a skill's update have what it asks for in addition.
    Approve(approve::Approve),
    /// Whether a skill's component and manifest agree.
    Check {
        /// A name of `moat skill list`, or a folder.
        skill: String,
    },
    /// Call a skill under the grant that this repository gives it. Nothing is changed: what it would change is shown.
    Run(run::Run),
}

impl Skill {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        match self.command {
            Command::List => list::run(shared),
            Command::Inspect { skill } => inspect::run(shared, &find(shared, &skill)?),
            Command::Review(review) => review.run(shared),
            Command::Diff(diff) => diff.run(shared),
            Command::Approve(approve) => approve.run(shared),
            Command::Check { skill } => check::run(shared, &find(shared, &skill)?).await,
            Command::Run(run) => run.run(shared).await,
        }
    }
}

/// A skill by a name of the catalog, a folder, or a packaged component's file.
fn find(shared: &Shared, skill: &str) -> anyhow::Result<Package> {
    find_in(shared, skill, None)
}

/// The same, and by a name under `[skills]` of a repository's `moat.toml`, as its branch holds it.
fn find_in(shared: &Shared, skill: &str, repository: Option<&Path>) -> anyhow::Result<Package> {
    let path = Path::new(skill);
    if path.is_file() {
        return Ok(Package::from_file(path)?);
    }
    if skill.contains('/') || path.is_dir() {
        return Ok(Package::from_dir(path)?);
    }
    let name = skill.parse()?;
    let house = shared.house()?;
    if let Some(package) = house.catalog.find(&name) {
        return Ok(package.clone());
    }
    let own = match repository {
        Some(repository) => driver::own_skill(&house, &item::absolute(repository)?, &name)?,
        None => None,
    };
    own.with_context(|| {
        format!(
            "there is no skill `{name}`: `moat skill list` shows those at hand, or name a folder"
        )
    })
}

/// What a component imports, for the review.
fn found(package: &Package) -> anyhow::Result<Found> {
    let imports = sandbox::imports(&package.component)?;
    Ok(Found {
        host: imports.host,
        base: imports.wasi_base,
        other: imports.other,
    })
}

/// How something is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For this terminal.
    #[default]
    Terminal,
    /// Markdown, as for a pull request.
    Markdown,
    /// One HTML page that loads and runs nothing.
    Html,
    /// For programs; the same as `--json`.
    Json,
}

impl Format {
    /// Prints a page, or what it was made of.
    #[allow(clippy::print_stdout, reason = "it is what was asked for")]
    fn print(self, shared: &Shared, page: &Page, value: &impl Serialize) -> anyhow::Result<()> {
        let format = if shared.json { Format::Json } else { self };
        match format {
            Format::Terminal => print!("{}", page.terminal(Look::of_stdout())),
            Format::Markdown => print!("{}", page.markdown()),
            Format::Html => print!("{}", page.html()),
            Format::Json => println!("{}", text::json(value)?),
        }
        Ok(())
    }
}
