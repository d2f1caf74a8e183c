//! `moat runs show`: a run's dossier and timeline, from the journal or from an exported file.

use std::path::{Path, PathBuf};

use clap::Args;
use driver::DriveError;
use flow::Recorded;
use flow::id::RunId;
use flow::run::Run;
use repo::Mirror;
use serde_json::json;

use crate::archive;
use crate::board::{Board, summary};
use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::page::Look;
use crate::show::place::{self, Place};
use crate::show::state::{self, Driving, State};
use crate::show::{cost, dossier, effects, text, timeline};

/// A run's dossier and timeline.
#[derive(Debug, Args)]
pub struct Show {
    /// The run.
    #[arg(required_unless_present = "from")]
    run: Option<String>,
    /// A file that `moat runs export` wrote, here or elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    from: Option<PathBuf>,
}

impl Show {
    pub fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        match (&self.from, &self.run) {
            (Some(file), _) => copy(shared, file),
            (None, run) => ours(shared, &run.as_deref().unwrap_or_default().parse()?),
        }
    }
}

fn copy(shared: &Shared, file: &Path) -> anyhow::Result<Exit> {
    let copy = archive::read(file)?;
    let driving = Driving::Then(copy.state);
    tell(shared, &copy.run, &copy.events, &driving, &Place::Copy)?;
    Ok(Exit::Done)
}

fn ours(shared: &Shared, id: &RunId) -> anyhow::Result<Exit> {
    let journal = shared.journal()?;
    let (run, events) = match driver::load(&journal, id) {
        Ok(told) => told,
        Err(error) => return unreadable(shared, id, error),
    };
    let driving = Driving::of(&journal, id)?;
    let place = place_of(&shared.home()?, &run);
    let open = driver::unconfirmed(&journal, &run.opened.repository)?;
    tell(shared, &run, &events, &driving, &place)?;
    if !shared.json && !open.is_empty() {
        println!("{}", effects::unconfirmed(&open));
    }
    Ok(Exit::Done)
}

/// A run that is not there, and one that is and cannot be read, are two things.
fn unreadable(shared: &Shared, id: &RunId, error: DriveError) -> anyhow::Result<Exit> {
    if shared.json {
        let state = match &error {
            DriveError::NoSuchRun { .. } => State::Absent,
            _ => State::Error,
        };
        println!(
            "{}",
            text::json(
                &json!({"summary": {"run": id, "state": state.word(), "sentence": error.to_string()}})
            )?
        );
    } else if !matches!(error, DriveError::NoSuchRun { .. }) {
        let board = Board::read(&shared.journal()?)?;
        if let Some(seen) = board.runs().iter().find(|seen| seen.id == *id) {
            println!(
                "run {id}: error. It has {} events, and nothing is done with it.\n  moat runs export {id}    # takes all of it along, for a moat that can read it",
                seen.events
            );
        }
    }
    Err(error.into())
}

/// The mirror is looked into, never made.
pub fn place_of(home: &Path, run: &Run) -> Place {
    let kept = mirror_of(home, run).and_then(|mirror| {
        let kept = mirror
            .kept(&run.opened.run)
            .map_err(|error| error.to_string())?;
        Ok((mirror.git_dir().to_owned(), kept))
    });
    match kept {
        Ok((git_dir, kept)) => Place::Mirror { git_dir, kept },
        Err(why) => Place::Gone { why },
    }
}

/// The mirror of a run's repository, or why it cannot be read.
pub fn mirror_of(home: &Path, run: &Run) -> Result<Mirror, String> {
    let home = home.canonicalize().map_err(|error| error.to_string())?;
    let git_dir = driver::mirror_dir(&home, &run.opened.repository);
    if !git_dir.exists() {
        return Err(format!("there is no mirror at {}", git_dir.display()));
    }
    Mirror::open_or_create(&git_dir).map_err(|error| error.to_string())
}

fn tell(
    shared: &Shared,
    run: &Run,
    events: &[Recorded],
    driving: &Driving,
    place: &Place,
) -> anyhow::Result<()> {
    let entries = timeline::of(events);
    if !shared.json {
        println!(
            "{}\n## Timeline\n\n{}",
            dossier::of(run, events, driving, place),
            timeline::table(&entries, Look::of_stdout().width)
        );
        return Ok(());
    }
    let next = match place {
        Place::Copy => Vec::new(),
        _ => state::next_steps(run, driving),
    };
    println!(
        "{}",
        text::json(&json!({
            "summary": summary(run, driving),
            "timeline": timeline::json(&entries),
            "cost": cost::json(&cost::of(events)),
            "effects": effects::json(&effects::of(events)),
            "where": place::json(run, place),
            "next": next,
            "events": events,
        }))?
    );
    Ok(())
}
