//! `moat runs`: what was, what is, and what goes on.

use std::sync::Arc;

use clap::{Args, Subcommand};
use driver::Watcher;
use flow::id::RunId;
use serde_json::json;

use crate::cli::{Shared, person, run};
use crate::exit::Exit;
use crate::show::{dossier, state, text, timeline};
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
    /// A run's dossier and timeline.
    Show { run: String },
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
    /// End a run.
    Cancel { run: String },
}

impl Runs {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        match self.command.unwrap_or(Command::List) {
            Command::List => list(shared),
            Command::Show { run } => show(shared, &run),
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
                driver::cancel(
                    &house,
                    &run.parse()?,
                    &person(),
                    Arc::new(Terminal::new(shared.json)),
                )?;
                Ok(Exit::Done)
            }
        }
    }
}

fn list(shared: &Shared) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let summaries = house.journal.runs()?;
    let mut rows = Vec::new();
    for summary in summaries {
        // One run of a newer moat must not hide the others.
        match driver::load(&house.journal, &summary.run) {
            Ok((state, _)) => {
                let driven = house.journal.is_driven(&summary.run);
                rows.push((summary.run, Some((state, driven))));
            }
            Err(_) => rows.push((summary.run, None)),
        }
    }
    if shared.json {
        let values: Vec<_> = rows
            .iter()
            .map(|(id, state)| {
                state.as_ref().map_or_else(
                    || json!({"run": id, "state": "unknown"}),
                    |(state, driven)| run::summary(state, *driven),
                )
            })
            .collect();
        println!("{}", text::json(&values)?);
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        println!("no runs yet: `moat demo` shows one, `moat run \"what is wrong\"` opens one");
    }
    for (id, state) in rows {
        match state {
            Some((run, driven)) => {
                let title = run
                    .item
                    .as_ref()
                    .map_or(run.opened.report.text.as_str(), |item| item.title.as_str());
                println!(
                    "{id}  {:<18} {:>10}  {}",
                    state::word(&run, driven),
                    text::span(run.active_ms),
                    text::one_line(title, 70)
                );
            }
            None => println!("{id}  unknown            (written by another version of moat)"),
        }
    }
    Ok(Exit::Done)
}

fn show(shared: &Shared, id: &str) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let run: RunId = id.parse()?;
    let (state, events) = driver::load(&house.journal, &run)?;
    let open = driver::unconfirmed(&house.journal, &state.opened.repository)?;
    if shared.json {
        println!(
            "{}",
            text::json(
                &json!({"summary": run::summary(&state, house.journal.is_driven(&run)), "events": events, "unconfirmed": open.iter().map(|one| json!({"skill": one.skill, "key": one.key, "what": one.what, "run": one.run})).collect::<Vec<_>>()})
            )?
        );
    } else {
        println!(
            "{}\n## Timeline\n\n{}",
            dossier::of(&state),
            timeline::of(&events)
        );
        if !open.is_empty() {
            println!("## Begun outside in this repository, and not confirmed\n");
        }
        for one in open {
            println!(
                "- {} of skill {}, intended in run {}: {}",
                text::one_line(&one.key, 200),
                one.skill,
                one.run,
                text::one_line(&one.what, 300)
            );
        }
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
            Ok(run) if shared.json => values.push(run::summary(&run, false)),
            Ok(run) => println!("run {id}: {}", state::sentence(&run)),
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
