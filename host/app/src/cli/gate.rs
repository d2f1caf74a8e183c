//! `moat gate`: this repository's gates, and running one on the branch as it is.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use driver::{GateRun, run_gate};
use flow::verdict::{Finding, Subject};

use crate::cli::{Shared, run};
use crate::exit::Exit;
use crate::show::text::{self, clean};

/// Look at this repository's gates, or run one.
#[derive(Debug, Args)]
pub struct Gate {
    /// The repository.
    #[arg(long, value_name = "DIR", default_value = ".", global = true)]
    repo: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The gates of moat.toml on the branch.
    List,
    /// Run a gate on the tip of the branch, as a candidate without changes.
    Run {
        /// Its name; all when absent.
        gate: Option<String>,
    },
}

impl Gate {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let path = run::absolute(&self.repo)?;
        let source = repo::Source::open(&path)?;
        let branch = source.current_branch()?;
        let mirror = repo::Mirror::open_or_create(&house.mirror_dir(&path.display().to_string()))?;
        let tip = mirror.fetch(&source, &branch)?;
        let tree = mirror.tree_of(&tip)?;
        let text = mirror
            .read(&tree, project::FILE, 1 << 20)?
            .with_context(|| format!("branch {branch} has no moat.toml: `moat init` writes one"))?;
        let project = driver::protected(&text, branch)?;
        let gates = driver::pinned_gates(&project);
        let wanted = match &self.command {
            Command::List => {
                for gate in &gates {
                    println!(
                        "{:<14} {:<11} {}",
                        gate.name,
                        gate.check.kind(),
                        gate.assumes.as_deref().unwrap_or("")
                    );
                }
                return Ok(Exit::Done);
            }
            Command::Run { gate } => gate.clone(),
        };
        let chosen: Vec<_> = gates
            .iter()
            .filter(|gate| {
                wanted
                    .as_deref()
                    .is_none_or(|name| gate.name.as_str() == name)
            })
            .collect();
        anyhow::ensure!(
            !chosen.is_empty(),
            "moat.toml has no gate `{}`: `moat gate list` shows them",
            wanted.unwrap_or_default()
        );
        let directory = house.root().join("calls");
        let gate_run = GateRun {
            house: &house,
            project: &project,
            mirror: &mirror,
            directory: &directory,
            baseline: None,
        };
        let subject = Subject {
            tree: tree.clone(),
            base: tree,
        };
        let mut exit = Exit::Done;
        for gate in chosen {
            let verdict = run_gate(&gate_run, gate, &subject)
                .await
                .map_err(|failure| {
                    anyhow::anyhow!(
                        "gate {} could not run: {}",
                        gate.name,
                        failure.evidence.title
                    )
                })?;
            match verdict.finding {
                Finding::Pass => {}
                Finding::Fail => exit = Exit::Failed,
                Finding::NeedsHuman => exit = Exit::Waiting,
            }
            if shared.json {
                println!("{}", text::json(&verdict)?);
            } else {
                println!(
                    "{:<14} {:?}: {}",
                    verdict.gate,
                    verdict.finding,
                    clean(&verdict.evidence.title)
                );
                if verdict.finding != Finding::Pass {
                    println!("{}", clean(&verdict.evidence.text));
                }
            }
        }
        Ok(exit)
    }
}
