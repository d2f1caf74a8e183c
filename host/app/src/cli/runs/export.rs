//! `moat runs export`: one file with all that is needed to look at a run elsewhere.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use audit::Trail;
use clap::Args;
use driver::DriveError;
use flow::id::RunId;
use serde_json::json;

use crate::archive::{self, Contents, Sources};
use crate::cli::Shared;
use crate::cli::runs::show::mirror_of;
use crate::exit::Exit;
use crate::show::state::Driving;
use crate::show::text;

/// Write one file with all that is needed to look at a run elsewhere.
#[derive(Debug, Args)]
pub struct Export {
    /// The run.
    run: String,
    /// The file; a tar.
    #[arg(long, short, value_name = "FILE", default_value = "moat-RUN.tar")]
    output: PathBuf,
    /// The skills' components come along.
    #[arg(long)]
    with_components: bool,
}

impl Export {
    pub fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let id: RunId = self.run.parse()?;
        let output = match self.output.to_str() {
            Some("moat-RUN.tar") => PathBuf::from(format!("moat-{id}.tar")),
            _ => self.output.clone(),
        };
        let contents = self.contents(shared, &id)?;
        let files = contents.files.len();
        keep(&contents, &output)
            .with_context(|| format!("{} cannot be written", output.display()))?;
        if shared.json {
            let told = json!({"run": id, "file": output.display().to_string(), "files": files});
            println!("{}", text::json(&told)?);
        } else {
            println!(
                "{} has {files} files; look at it anywhere: moat runs show --from {0}",
                text::clean(&output.display().to_string())
            );
        }
        Ok(Exit::Done)
    }

    fn contents(&self, shared: &Shared, id: &RunId) -> anyhow::Result<Contents> {
        let (home, journal) = (shared.home()?, shared.journal()?);
        let driving = Driving::of(&journal, id)?;
        let told = match driver::load(&journal, id) {
            Ok(told) => Ok(told),
            Err(error @ DriveError::NoSuchRun { .. }) => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        let mirror = match &told {
            Ok((run, _)) => mirror_of(&home, run),
            Err(why) => Err(why.clone()),
        };
        let mut stored = journal.read(id, 0)?;
        if let Ok((_, events)) = &told {
            // What came between the two readings is for the next export.
            stored.truncate(events.len());
        }
        let sources = Sources {
            journal: &journal,
            trail: &Trail::open(&home.join("audit"))?,
            mirror,
            with_components: self.with_components,
        };
        archive::gather(&sources, id, &stored, &told, &driving)
    }
}

/// Whole or not at all, and for its owner only.
fn keep(contents: &Contents, output: &Path) -> std::io::Result<()> {
    let mut name = output.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    let written = archive::write(contents, BufWriter::new(&file)).and_then(|()| file.sync_all());
    match written {
        Ok(()) => std::fs::rename(&part, output),
        Err(error) => {
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}
