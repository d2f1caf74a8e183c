//! `moat runs`: what was, what is, and what goes on.

mod export;
mod show;
mod watch;

use std::sync::Arc;

use clap::{Args, Subcommand};
use driver::Watcher;
use flow::id::RunId;
use serde_json::json;

use crate::board::{self, Board, Seen};
use crate::cli::{Shared, person, run};
use crate::exit::Exit;
use crate::show::state::{self, Driving};
use crate::show::text;
use crate::watch::Terminal;

/// List, show, resume or cancel runs.
#[derive(Debug, Args)]
pub struct Runs {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All runs, the newest last.
    List,
    /// All runs as they go on: on a terminal one screen of them, in a pipe a line for each change. Ctrl-C or q ends it.
    Watch,
    /// A run's dossier and timeline: attempts, gates, cost, where the work is, and what you can do.
    Show(show::Show),
    /// Write one file with all that is needed to look at a run elsewhere.
    Export(export::Export),
    /// Go on with a run that was interrupted or is parked.
    Resume {
        #[arg(required_unless_present = "all")]
        run: Option<String>,
        /// All runs that were interrupted, at the same time. Those that wait for a person stay as they are.
        #[arg(long, conflicts_with = "run")]
        all: bool,
        /// What was interrupted and may have happened did happen: it is passed by.
        #[arg(long, conflicts_with_all = ["did_not_happen", "all"])]
        happened: bool,
        /// It did not happen: it is done.
        #[arg(long, conflicts_with = "all")]
        did_not_happen: bool,
    },
    /// End a run, also one that another process drives: that one stops.
    Cancel { run: String },
}

impl Runs {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        match self.command.unwrap_or(Command::List) {
            Command::List => list(shared),
            Command::Watch => watch::run(shared).await,
            Command::Show(show) => show.run(shared),
            Command::Export(export) => export.run(shared),
            Command::Resume {
                run: Some(run),
                happened,
                did_not_happen,
                ..
            } => {
                let word = (happened || did_not_happen).then_some(happened);
                resume(shared, &run, word).await
            }
            Command::Resume { run: None, .. } => resume_all(shared).await,
            Command::Cancel { run } => {
                let house = shared.house()?;
                let run: RunId = run.parse()?;
                let driving = Driving::of(&house.journal, &run)?;
                let watcher = Arc::new(Terminal::new(shared.json));
                driver::cancel(&house, &run, &person(), watcher)?;
                if let (Driving::By(by), false) = (driving, shared.json) {
                    eprintln!("whoever drove it ({by}) stops within a second");
                }
                Ok(Exit::Done)
            }
        }
    }
}

fn list(shared: &Shared) -> anyhow::Result<Exit> {
    let board = Board::read(&shared.journal()?)?;
    if shared.json {
        let values: Vec<_> = board.runs().iter().map(Seen::json).collect();
        println!("{}", text::json(&values)?);
        return Ok(Exit::Done);
    }
    if board.runs().is_empty() {
        println!("no runs yet: `moat demo` shows one, `moat run \"what is wrong\"` opens one");
    }
    let widest = board.runs().iter().map(|seen| seen.id.as_str().len()).max();
    let widest = widest.unwrap_or(0);
    for seen in board.runs() {
        let active = seen.told.as_ref().map_or(0, |run| run.active_ms);
        let about = match &seen.told {
            Ok(run) => board::title(run),
            Err(why) => why.clone(),
        };
        println!(
            "{:<widest$}  {:<18} {:>10}  {}",
            seen.id,
            seen.state().word(),
            text::span(active),
            text::one_line(&about, 70)
        );
    }
    Ok(Exit::Done)
}

async fn resume(shared: &Shared, id: &str, happened: Option<bool>) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let run: RunId = id.parse()?;
    let watcher = Arc::new(Terminal::new(shared.json));
    match happened {
        Some(happened) => driver::resolve(&house, &run, happened, &person(), watcher.clone())?,
        None => driver::resume(&house, &run, &person(), watcher.clone())?,
    }
    run::finish(run::drive(house, &run, watcher).await?, shared.json)
}

async fn resume_all(shared: &Shared) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let runs = driver::interrupted(&house)?;
    if runs.is_empty() && !shared.json {
        println!("no run was interrupted");
    }
    let journal = house.journal.clone();
    let terminal = Terminal::new(shared.json);
    let watcher = |run: &RunId| -> Arc<dyn Watcher> { Arc::new(terminal.of(run.as_str())) };
    let stopped = tokio::select! {
        stopped = driver::drive_all(house, runs, &watcher) => stopped,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\ninterrupted: nothing is lost. Go on with: moat runs resume --all");
            return Ok(Exit::Failed);
        }
    };
    let mut exit = Exit::Done;
    let mut values = Vec::new();
    for (id, driven) in stopped {
        match driven {
            Ok(run) => {
                let driving = Driving::of(&journal, &id)?;
                match shared.json {
                    true => values.push(board::summary(&run, &driving)),
                    false => println!("run {id}: {}", state::sentence(&run, &driving)),
                }
            }
            Err(error) => {
                exit = Exit::Failed;
                let error = text::clean(&error.to_string());
                match shared.json {
                    true => values.push(json!({"run": id, "state": "error", "error": error})),
                    false => println!("run {id}: {error}"),
                }
            }
        }
    }
    if shared.json {
        println!("{}", text::json(&values)?);
    }
    Ok(exit)
}
