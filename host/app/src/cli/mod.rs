//! The command line: one file a command.

mod answer;
mod audit;
mod demo;
mod doctor;
mod gate;
mod init;
mod run;
mod runs;
mod secret;
mod skill;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use driver::{House, Worktrees};
use journal::Journal;

use crate::exit::Exit;

/// The harness for agents: runs skills within their grants, merges nothing that its gates have not passed, and deploys.
#[derive(Debug, Parser)]
#[command(
    name = "moat",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed or parked, 2 usage, 3 refused, 4 waiting for a person or a grant."
)]
pub struct Arguments {
    /// Where moat keeps its state.
    #[arg(long, global = true, env = "MOAT_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    /// After how long without a sign of life another moat may take over a run that this one drives.
    #[arg(long, global = true, env = "MOAT_LEASE", value_name = "TIME", default_value = "30s", value_parser = lease, hide = true)]
    lease: Duration,
    /// How worktrees are made: `cheapest`, or `layers` or `copies` alone.
    #[arg(long, global = true, env = "MOAT_WORKTREES", value_name = "HOW", default_value = "cheapest", value_parser = worktrees, hide = true)]
    worktrees: Worktrees,
    /// Print JSON, for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole loop on a sample repository, offline, with nothing to configure.
    Demo(demo::Demo),
    /// Write a moat.toml for this repository.
    Init(init::Init),
    /// One work item to its end.
    Run(run::RunItem),
    /// List, show, resume or cancel runs.
    Runs(runs::Runs),
    /// Approve what waits for a person.
    Approve(answer::Approve),
    /// Refuse what waits for a person.
    Reject(answer::Reject),
    /// Look at skills, check them, or call one.
    Skill(skill::Skill),
    /// Look at this repository's gates, or run one.
    Gate(gate::Gate),
    /// Look at the secrets of secrets.toml. Values are never shown.
    Secret(secret::Secret),
    /// What skills were allowed and refused, and what people decided; and whether that record is whole.
    Audit(audit::Audit),
    /// What this machine can and cannot enforce, and what to do about it.
    Doctor,
}

/// Runs a command.
pub async fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let shared = Shared {
        home: arguments.home,
        lease: arguments.lease,
        worktrees: arguments.worktrees,
        json: arguments.json,
    };
    match arguments.command {
        Command::Demo(demo) => demo.run(&shared).await,
        Command::Init(init) => init.run(&shared),
        Command::Run(run) => run.run(&shared).await,
        Command::Runs(runs) => runs.run(&shared).await,
        Command::Approve(approve) => approve.run(&shared).await,
        Command::Reject(reject) => reject.run(&shared),
        Command::Skill(skill) => skill.run(&shared).await,
        Command::Gate(gate) => gate.run(&shared).await,
        Command::Secret(secret) => secret.run(&shared).await,
        Command::Audit(audit) => audit.run(&shared),
        Command::Doctor => doctor::run(&shared).await,
    }
}

/// What every command may need.
pub struct Shared {
    home: Option<PathBuf>,
    lease: Duration,
    worktrees: Worktrees,
    json: bool,
}

impl Shared {
    /// The state directory: `--home`, `MOAT_HOME`, or the user's own.
    fn home(&self) -> anyhow::Result<PathBuf> {
        if let Some(home) = &self.home {
            return Ok(home.clone());
        }
        let state = std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let user = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        Ok(state
            .or_else(user)
            .context(
                "neither HOME nor MOAT_HOME is set: set MOAT_HOME to a directory for moat's state",
            )?
            .join("moat"))
    }

    /// The journal alone, for those who only look: they need neither policy nor tools.
    fn journal(&self) -> anyhow::Result<Journal> {
        let home = self.home()?;
        only_ours(&home)?;
        Ok(Journal::open(&home)?)
    }

    fn house(&self) -> anyhow::Result<Arc<House>> {
        self.house_at(&self.home()?)
    }

    fn house_at(&self, home: &std::path::Path) -> anyhow::Result<Arc<House>> {
        only_ours(home)?;
        let program = std::env::current_exe().context("this program cannot tell its own path")?;
        let house = House::open(home, &program)?.leasing(self.lease);
        Ok(Arc::new(house.with_worktrees(self.worktrees)))
    }
}

/// Shorter, a busy machine would lose its runs; longer, one that stands still would keep them for a day.
fn lease(text: &str) -> Result<Duration, String> {
    match capability::quantity::millis(text) {
        Ok(ms @ 1_000..=3_600_000) => Ok(Duration::from_millis(ms)),
        Ok(_) => Err("from 1s to 1h".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn worktrees(text: &str) -> Result<Worktrees, String> {
    match text {
        "cheapest" => Ok(Worktrees::Cheapest),
        "layers" => Ok(Worktrees::Layers),
        "copies" => Ok(Worktrees::Copies),
        _ => Err("`cheapest`, `layers` or `copies`".into()),
    }
}

/// Whoever can write in the state directory decides on policy, approvals and compiled code. One that is not there yet is made for its owner only.
fn only_ours(home: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(found), Ok(own)) = (std::fs::metadata(home), std::fs::metadata("/proc/self")) else {
        return Ok(());
    };
    let name = home.display();
    anyhow::ensure!(
        found.uid() == own.uid(),
        "the state directory {name} belongs to another user: set MOAT_HOME to a directory of your own"
    );
    anyhow::ensure!(
        found.mode() & 0o002 == 0,
        "everybody can write in the state directory {name}: chmod o-w {name}, and look at what is in it, or set MOAT_HOME to another one"
    );
    Ok(())
}

/// Who gives a word, for the record.
fn person() -> String {
    std::env::var("USER")
        .or_else(|_| std::env::var("LOGNAME"))
        .unwrap_or_else(|_| "someone at this terminal".into())
}
