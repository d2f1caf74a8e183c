//! `moat init`: writes a commented moat.toml with the test command found.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::cli::Shared;
use crate::cli::run::absolute;
use crate::exit::Exit;

/// Write a moat.toml for a repository.
#[derive(Debug, Args)]
pub struct Init {
    /// The repository.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

impl Init {
    pub fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let house = shared.house()?;
        let path = absolute(&self.repo)?;
        let source = repo::Source::open(&path)?;
        let worktree = source
            .worktree()
            .context("a bare repository has no files to look at: run `moat init` in a checkout")?;
        let branch = source.current_branch()?;
        let target = worktree.join(project::FILE);
        // A link that leads nowhere is there as well; written through it, the file would be wherever the repository's author wants one.
        anyhow::ensure!(
            target.symlink_metadata().is_err(),
            "{} is there already: edit it, or move it away first",
            target.display()
        );
        let files = files(worktree);
        let names: Vec<&str> = files.iter().map(String::as_str).collect();
        let read = |name: &str| {
            let path = worktree.join(name);
            let data = path.symlink_metadata().ok()?;
            let readable = data.is_file() && data.len() < 1 << 20;
            readable
                .then(|| std::fs::read_to_string(path).ok())
                .flatten()
        };
        let detected = project::detect(&names, &read)
            .context("no test command could be found (Cargo.toml, go.mod, package.json, or Python tests): write moat.toml by hand; docs/moat-toml.md has every key")?;
        // The first model that could be called now; one whose key is missing is no help.
        let model = house
            .models
            .names()
            .find(|name| house.models.check(name).is_ok())
            .map(str::to_owned);
        let choices = project::Choices {
            model,
            ..project::Choices::default()
        };
        let text = project::template(&detected, &branch, &choices);
        project::Project::parse(&text, project::FILE)?;
        std::fs::File::create_new(&target)
            .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .with_context(|| format!("{} cannot be written", target.display()))?;
        println!(
            "wrote {} for a {} project; its test command is `{}`",
            target.display(),
            detected.language,
            detected.test.join(" ")
        );
        match &choices.model {
            Some(model) => println!("the implement skill works with the model `{model}`"),
            None => println!(
                "no model is configured on this machine, so the implement skill is search-repair, which needs none"
            ),
        }
        println!(
            "look at it, then commit it on {branch}: moat reads it from the branch, not from your files"
        );
        println!("  git add moat.toml && git commit -m \"Let moat work here\"");
        println!("  moat run \"what is wrong\"");
        Ok(Exit::Done)
    }
}

/// Names of files, three directories deep: enough to tell a project's kind.
fn files(root: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![(root.to_path_buf(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        for entry in std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < 3 && !hidden && found.len() < 20_000 => {
                    waiting.push((entry.path(), depth + 1))
                }
                Ok(kind) if kind.is_file() => {
                    if let Ok(name) = entry.path().strip_prefix(root) {
                        found.push(name.to_string_lossy().into_owned());
                    }
                }
                _ => {}
            }
        }
    }
    found
}
