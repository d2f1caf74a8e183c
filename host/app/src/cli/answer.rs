//! `moat approve` and `moat reject`: a person's word, for one exact tree.

use std::sync::Arc;

use clap::Args;
use flow::event::Answer;
use flow::id::{GateName, RunId};

use crate::cli::{Shared, person, run};
use crate::exit::Exit;
use crate::watch::Terminal;

/// Approve what waits for a person, and go on.
#[derive(Debug, Args)]
pub struct Approve {
    /// The run.
    run: String,
    /// The gate; all that wait when absent.
    gate: Option<String>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    note: String,
}

/// Refuse what waits for a person.
#[derive(Debug, Args)]
pub struct Reject {
    /// The run.
    run: String,
    /// The gate; the first that waits when absent.
    gate: Option<String>,
    /// Why, for the record.
    #[arg(long, default_value = "")]
    note: String,
}

impl Approve {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let id: RunId = self.run.parse()?;
        let gate: Option<GateName> = self.gate.map(|gate| gate.parse()).transpose()?;
        let watcher = Arc::new(Terminal::new(shared.json));
        driver::answer(
            &house,
            &id,
            gate.as_ref(),
            Answer::Approve,
            &person(),
            &self.note,
            watcher.clone(),
        )?;
        run::finish(run::drive(house, &id, watcher).await?, shared.json)
    }
}

impl Reject {
    pub fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let id: RunId = self.run.parse()?;
        let gate: Option<GateName> = self.gate.map(|gate| gate.parse()).transpose()?;
        driver::answer(
            &house,
            &id,
            gate.as_ref(),
            Answer::Reject,
            &person(),
            &self.note,
            Arc::new(Terminal::new(shared.json)),
        )?;
        Ok(Exit::Done)
    }
}
