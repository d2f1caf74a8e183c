//! `moat skill run`: one call under the grant of a repository, with everything that it did shown and nothing kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use capability::{Grant, RelPath};
use clap::Args;
use driver::{About, CallMeter, CallRecord, StepModels, StepNetwork, StepServices};
use flow::money::Reservation;
use sandbox::Call;
use serde_json::{Value, json};

use super::find_in;
use crate::cli::{Shared, run as item};
use crate::exit::Exit;
use crate::show::text::{clean, one_line};
use crate::watch::Terminal;

/// Call a skill under the grant that this repository gives it. Nothing is changed: what it would change is shown.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A name of `moat skill list` or of `[skills]` in moat.toml, a folder, or a packaged component.
    skill: String,
    /// Its input, a JSON file.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// The repository whose branch it sees.
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
}

impl Run {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let Run {
            skill,
            input,
            repo: repository,
        } = self;
        let package = find_in(shared, &skill, Some(&repository))?;
        let house = shared.house()?;
        let text = std::fs::read_to_string(&input)
            .with_context(|| format!("{} cannot be read", input.display()))?;
        let input: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", input.display()))?;
        let path = item::absolute(&repository)?;
        let source = repo::Source::open(&path)?;
        let branch = source.current_branch()?;
        let mirror = repo::Mirror::open_or_create(&house.mirror_dir(&path.display().to_string()))?;
        let tip = mirror.fetch(&source, &branch)?;
        let tree = mirror.tree_of(&tip)?;
        let moat = mirror
            .read(&tree, project::FILE, 1 << 20)?
            .with_context(|| format!("branch {branch} has no moat.toml: `moat init` writes one"))?;
        let project = Arc::new(project::Project::parse(
            &String::from_utf8_lossy(&moat),
            project::FILE,
        )?);
        let grant = Arc::new(Grant::compute(
            &package.manifest,
            project.grant_of(&package.manifest.name),
            &house.policy,
        ));
        for denial in grant.withheld() {
            eprintln!(
                "note: {}: {} is not granted; it would need {}",
                denial.capability, denial.what, denial.line
            );
        }
        let loaded = house.sandbox.load(&package.component, &grant).await?;
        let directory = house.root().join("calls");
        let view = driver::View::of_grant(&directory, &mirror, &tree, &grant)?;
        let watcher = Arc::new(Terminal::new(shared.json));
        let meter = Arc::new(CallMeter::new(Reservation {
            money: project.budget.money,
            tokens: project.budget.tokens,
        }));
        let about = About {
            run: None,
            package: &package,
            grant: &grant,
            project: &project,
        };
        let services = StepServices {
            record: CallRecord::begin(&house, &about)?,
            house: house.clone(),
            project: project.clone(),
            root: Some(view.root()),
            scratch: view.scratch(),
            releases: None,
            models: StepModels::new(
                house.models.clone(),
                project.clone(),
                meter.clone(),
                watcher.clone(),
            ),
            network: StepNetwork::new(&house.outbound, grant.clone()),
            wall: Duration::from_millis(grant.limits().wall_ms),
            watcher,
        };
        let writable: Vec<RelPath> = grant
            .writable()
            .into_iter()
            .filter(|path| path.is_root() || view.root().join(path.as_str()).exists())
            .collect();
        let call = Call {
            role: package.manifest.role,
            input,
            view: Some(sandbox::View {
                root: view.root(),
                writable,
            }),
            grant: grant.clone(),
            env: grant
                .env()
                .filter_map(|name| Some((name.to_owned(), project.env.get(name)?.clone())))
                .collect(),
        };
        let services = Arc::new(services);
        let answer = house.sandbox.call(&loaded, call, services.clone()).await;
        services.record.network(services.network.used());
        services.record.end(&answer)?;
        let answer = answer?;
        let spend = meter.spend();
        let import = view.import(&mirror, &tree, &grant)?;
        let diff = mirror.diff(&tree, &import.tree, &repo::DiffLimits::default())?;
        let denials: Vec<_> = answer
            .denials
            .iter()
            .map(
                |(denial, times)| json!({"what": denial.what, "line": denial.line, "times": times}),
            )
            .collect();
        if shared.json {
            println!(
                "{}",
                json!({"output": answer.output, "denials": denials, "diff": diff.patch, "fuel": answer.usage.fuel, "host-calls": answer.usage.host_calls,
                "peak-memory-bytes": answer.usage.peak_memory_bytes, "wall-ms": answer.usage.wall.as_millis() as u64, "model-calls": spend.calls, "tokens": spend.tokens, "money-micros": spend.money, "transcript": answer.transcript})
            );
        } else {
            eprintln!();
            println!("{}", serde_json::to_string_pretty(&answer.output)?);
            for denial in &denials {
                println!(
                    "denied: {} ({}×); it would need {}",
                    one_line(denial["what"].as_str().unwrap_or(""), 160),
                    denial["times"],
                    denial["line"].as_str().unwrap_or("")
                );
            }
            if !diff.patch.is_empty() {
                println!("\nIt would change:\n{}", clean(&diff.patch));
            }
            println!(
                "took {} ms, {} host calls, {} MiB at most",
                answer.usage.wall.as_millis(),
                answer.usage.host_calls,
                answer.usage.peak_memory_bytes >> 20
            );
            if spend.calls > 0 {
                println!(
                    "models: {} calls, {} tokens, {}",
                    spend.calls, spend.tokens, spend.money
                );
            }
            if let Some(trouble) = services.models.trouble() {
                println!("models: {}", one_line(&trouble.what, 300));
            }
        }
        Ok(if answer.output.get("err").is_some() {
            Exit::Failed
        } else {
            Exit::Done
        })
    }
}
