//! `moat run`: opens a run and drives it until it has ended or waits for a person.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use driver::{House, Watcher};
use flow::Run;
use flow::id::RunId;
use flow::role::{Origin, Report};

use crate::board;
use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::state::{self, Driving};
use crate::show::text;
use crate::watch::Terminal;

/// A report is bounded by its contract.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// One work item to its end.
#[derive(Debug, Args)]
pub struct RunItem {
    /// What is wrong or wanted, in your words.
    #[arg(required_unless_present_any = ["issue", "log"], conflicts_with_all = ["issue", "log"])]
    text: Option<String>,
    /// A file with an issue, its title on the first line.
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    issue: Option<PathBuf>,
    /// A file with the log of a failed build.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// The repository.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

impl RunItem {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let report = self.report()?;
        let house = shared.house()?;
        let watcher = Arc::new(Terminal::new(shared.json));
        let opened = driver::open(&house, &absolute(&self.repo)?, report)?;
        if !shared.json {
            note_pointers(&opened.lfs_pointers);
            for (skill, denial) in &opened.withheld {
                eprintln!(
                    "note: {skill} asks for {}: {}, which it does not get; it would need {}",
                    denial.capability,
                    text::one_line(&denial.what, 200),
                    text::clean(&denial.line)
                );
            }
        }
        let run = drive(house, &opened.run, watcher).await?;
        finish(run, shared.json)
    }

    fn report(&self) -> anyhow::Result<Report> {
        let read = |path: &PathBuf| {
            let size = std::fs::metadata(path)
                .with_context(|| format!("{} cannot be read", path.display()))?
                .len();
            anyhow::ensure!(
                size <= REPORT_BYTES_MAX,
                "{} has {size} bytes, a report at most {REPORT_BYTES_MAX}: give the part that matters",
                path.display()
            );
            let bytes = std::fs::read(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(match (&self.text, &self.issue, &self.log) {
            (Some(text), _, _) => Report {
                origin: Origin::Text,
                text: text.clone(),
            },
            (_, Some(path), _) => Report {
                origin: Origin::Issue,
                text: read(path)?,
            },
            (_, _, Some(path)) => Report {
                origin: Origin::CiLog,
                text: read(path)?,
            },
            _ => anyhow::bail!("say what is wrong, or name a file with --issue or --log"),
        })
    }
}

/// Says which files hold no content.
fn note_pointers(pointers: &[String]) {
    if let Some(first) = pointers.first() {
        eprintln!(
            "note: git-lfs pointers instead of files, {} in all, such as {}: commands and skills see the pointers. If the tests need the content, \
             commit it as plain files",
            pointers.len(),
            text::clean(first)
        );
    }
}

/// Repositories are named by their absolute path, or two spellings would be two of them.
pub fn absolute(path: &std::path::Path) -> anyhow::Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("there is no directory {}", path.display()))
}

/// Drives a run; Ctrl-C leaves it resumable.
pub async fn drive(
    house: Arc<House>,
    run: &RunId,
    watcher: Arc<dyn Watcher>,
) -> anyhow::Result<Option<Run>> {
    tokio::select! {
        driven = driver::drive(house, run, watcher) => Ok(Some(driven?)),
        _ = tokio::signal::ctrl_c() => {
            eprintln!("\ninterrupted: nothing is lost. Go on with: moat runs resume {run}");
            Ok(None)
        }
    }
}

/// Says how a driven run stands.
pub fn finish(run: Option<Run>, json: bool) -> anyhow::Result<Exit> {
    let Some(run) = run else {
        return Ok(Exit::Failed);
    };
    if json {
        // Whoever asks has just let go of it.
        println!("{}", text::json(&board::summary(&run, &Driving::Nobody))?);
        return Ok(Exit::of_run(&run));
    }
    println!(
        "run {}: {}",
        run.opened.run,
        state::sentence(&run, &Driving::Nobody)
    );
    let committed = run.committed();
    println!(
        "  {} in steps, {} attempts, model {}",
        text::span(run.active_ms),
        run.attempts.len(),
        committed.money
    );
    let steps = state::next_steps(&run, &Driving::Nobody);
    for step in &steps {
        println!("  {step}");
    }
    if steps.is_empty() {
        println!("  moat runs show {}", run.opened.run);
    }
    Ok(Exit::of_run(&run))
}
