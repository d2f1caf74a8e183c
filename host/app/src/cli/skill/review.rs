//! `moat skill review`: what a reviewer needs to know of a skill, in the order in which it matters.

use std::path::PathBuf;

use anyhow::Context as _;
use catalog::review::{self as model, Bounds};
use clap::Args;

use super::{Format, find_in, found};
use crate::cli::{Shared, run as item};
use crate::exit::Exit;
use crate::show;

/// A skill as a reviewer needs it: what it asks for, what that comes to, what is left of it, what it used.
#[derive(Debug, Args)]
pub(super) struct Review {
    /// A name of `moat skill list` or of `[skills]` in moat.toml, a folder, or a packaged component.
    skill: String,
    /// Under the grant of this repository's moat.toml, as its branch holds it; without one, under the policy alone.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Review {
    pub(super) fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let package = find_in(shared, &self.skill, self.repo.as_deref())?;
        let name = &package.manifest.name;
        let project = match &self.repo {
            Some(repo) => Some(
                driver::project_of(&house, &item::absolute(repo)?)
                    .with_context(|| format!("no grant can be read from {}", repo.display()))?,
            ),
            None => None,
        };
        let bounds = Bounds {
            policy: &house.policy,
            project: project
                .as_ref()
                .map(|project| (project::FILE, project.grant_of(name))),
        };
        let repository = match &self.repo {
            Some(repo) => Some(item::absolute(repo)?),
            None => None,
        };
        let usage = driver::used_by(&house, name, repository.as_deref())?;
        let review = model::Review::of(&package, &found(&package)?, &bounds, usage)?;
        self.format
            .print(shared, &show::review::of(&review), &review)?;
        Ok(Exit::Done)
    }
}
