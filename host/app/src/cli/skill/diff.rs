//! `moat skill diff`: what an update of a skill changes.

use std::path::PathBuf;

use catalog::review::{Bounds, Update};
use clap::Args;

use super::{Format, find_in, found};
use crate::cli::Shared;
use crate::exit::Exit;
use crate::show;

/// What an update of a skill widens, narrows and leaves. Exit code 3 when it widens.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The version before: a name, a folder, or a packaged component.
    before: String,
    /// The update.
    after: String,
    /// A repository whose moat.toml names one of them under `[skills]`.
    #[arg(long, value_name = "DIR")]
    repo: Option<PathBuf>,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Diff {
    pub(super) fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let before = find_in(shared, &self.before, self.repo.as_deref())?;
        let after = find_in(shared, &self.after, self.repo.as_deref())?;
        let bounds = Bounds {
            policy: &house.policy,
            project: None,
        };
        let update = Update::of(
            (&before, &found(&before)?),
            (&after, &found(&after)?),
            &bounds,
        )?;
        self.format
            .print(shared, &show::update::of(&update), &update)?;
        Ok(if update.wider {
            Exit::Refused
        } else {
            Exit::Done
        })
    }
}
