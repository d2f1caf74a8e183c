//! `moat skill approve`: a person lets a skill's update have what it asks for in addition.

use std::path::{Path, PathBuf};

use catalog::Package;
use clap::Args;
use driver::Scope;
use serde_json::json;

use super::find_in;
use crate::cli::{Shared, person, run as item};
use crate::exit::Exit;
use crate::show::text::{json, one_line};

/// Let a skill's update have what it asks for in addition.
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// A name of `moat skill list` or of `[skills]` in moat.toml, a folder, or a packaged component: exactly this component is let in.
    skill: String,
    /// The repository that holds it, for a skill that does not come with moat.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
}

impl Approve {
    pub(super) fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let package = find_in(shared, &self.skill, Some(&self.repo))?;
        let scope = scope(&house, &package, &self.repo)?;
        let approvals = house.approvals();
        let comparison = approvals.compare(&scope, &package)?;
        approvals.approve(&scope, &package, &person(), &self.note)?;
        let widens = comparison.map(|one| one.widens).unwrap_or_default();
        let manifest = &package.manifest;
        if shared.json {
            let value = json!({"skill": manifest.name, "version": manifest.version, "digest": package.digest, "widens": widens});
            println!("{}", json(&value)?);
            return Ok(Exit::Done);
        }
        println!(
            "approved: {} {}, {}",
            manifest.name, manifest.version, package.digest
        );
        for one in &widens {
            println!("  in addition, {}", one_line(&one.to_string(), 300));
        }
        if widens.is_empty() {
            println!("  it asks for nothing in addition");
        }
        Ok(Exit::Done)
    }
}

/// A skill that comes with moat is the machine's; every other is its repository's.
fn scope(house: &driver::House, package: &Package, repository: &Path) -> anyhow::Result<Scope> {
    let bundled = house.catalog.find(&package.manifest.name);
    if bundled.is_some_and(|one| one.digest == package.digest) {
        return Ok(Scope::Machine);
    }
    let source = repo::Source::open(&item::absolute(repository)?)?;
    Ok(Scope::Repository(source.path().display().to_string()))
}
