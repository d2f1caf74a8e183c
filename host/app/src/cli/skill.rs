//! `moat skill`: the reviewer's view of a skill, and the author's inner loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use capability::{Grant, RelPath};
use catalog::Package;
use clap::{Args, Subcommand};
use driver::{About, CallMeter, CallRecord, StepModels, StepServices};
use flow::money::Reservation;
use sandbox::Call;
use serde_json::{Value, json};

use crate::cli::{Shared, run};
use crate::exit::Exit;
use crate::show::text::{clean, one_line};
use crate::watch::Terminal;

/// Look at skills, check them, or call one.
#[derive(Debug, Args)]
pub struct Skill {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The skills at hand.
    List,
    /// What a skill may do, in sentences, and what its component really imports.
    Inspect {
        /// A name of `moat skill list`, or a folder with skill.toml and component.wasm.
        skill: String,
    },
    /// Whether a skill's component and manifest agree.
    Check {
        /// A name of `moat skill list`, or a folder.
        skill: String,
    },
    /// Call a skill under the grant that this repository gives it. Nothing is changed: what it would change is shown.
    Run {
        /// A name of `moat skill list`, or a folder.
        skill: String,
        /// Its input, a JSON file.
        #[arg(long, value_name = "FILE")]
        input: PathBuf,
        /// The repository whose branch it sees.
        #[arg(long, value_name = "DIR", default_value = ".")]
        repo: PathBuf,
    },
}

impl Skill {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        match self.command {
            Command::List => list(shared),
            Command::Inspect { skill } => inspect(shared, &find(shared, &skill)?),
            Command::Check { skill } => check(shared, &find(shared, &skill)?).await,
            Command::Run { skill, input, repo } => {
                call(shared, find(shared, &skill)?, &input, &repo).await
            }
        }
    }
}

fn find(shared: &Shared, skill: &str) -> anyhow::Result<Package> {
    let path = Path::new(skill);
    if skill.contains('/') || path.is_dir() {
        return Ok(Package::from_dir(path)?);
    }
    let name = skill.parse()?;
    let house = shared.house()?;
    house.catalog.find(&name).cloned().with_context(|| {
        format!(
            "there is no skill `{name}`: `moat skill list` shows those at hand, or name a folder"
        )
    })
}

fn list(shared: &Shared) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let packages = house.catalog.list();
    if shared.json {
        let values = packages.iter().map(|one| json!({"name": one.manifest.name, "version": one.manifest.version, "role": one.manifest.role, "digest": one.digest, "description": one.manifest.description}));
        println!("{}", Value::from_iter(values));
    } else {
        for package in packages {
            let manifest = &package.manifest;
            println!(
                "{:<14} {:<8} {:<10} {}",
                manifest.name, manifest.version, manifest.role, manifest.description
            );
        }
    }
    Ok(Exit::Done)
}

fn inspect(shared: &Shared, package: &Package) -> anyhow::Result<Exit> {
    let imports = sandbox::imports(&package.component)?;
    let manifest = &package.manifest;
    if shared.json {
        println!(
            "{}",
            json!({"name": manifest.name, "version": manifest.version, "role": manifest.role, "digest": package.digest, "may": manifest.sentences(),
                "host-imports": imports.host, "wasi-base": imports.wasi_base, "other-imports": imports.other, "exports": imports.exports})
        );
        return Ok(Exit::Done);
    }
    println!(
        "{} {} ({})\n{}\n{}\n",
        manifest.name, manifest.version, manifest.role, manifest.description, package.digest
    );
    println!("It asks to:");
    for sentence in manifest.sentences() {
        println!("  - {sentence}");
    }
    let limits = &manifest.limits;
    println!(
        "within {} MiB of memory and {} s a call.\n",
        limits.memory_bytes >> 20,
        limits.wall_ms / 1000
    );
    println!("Its component imports:");
    for import in &imports.host {
        println!("  {}", clean(import));
    }
    for import in &imports.other {
        println!("  {}   REFUSED: no manifest can declare it", clean(import));
    }
    println!(
        "  and {} interfaces of the WASI base, which give nothing beyond the above",
        imports.wasi_base.len()
    );
    Ok(Exit::Done)
}

/// The most that the manifest could get: what it declares, under the policy alone.
fn widest(package: &Package, house: &driver::House) -> anyhow::Result<Grant> {
    let manifest = &package.manifest;
    let paths = |write: bool| -> Vec<&str> {
        manifest
            .files
            .iter()
            .filter(|file| file.write == write)
            .map(|file| file.path.as_str())
            .collect()
    };
    let (mut commands, mut programs) = (vec![], vec![]);
    for process in &manifest.processes {
        match &process.what {
            capability::manifest::Runnable::Project { name, .. } => commands.push(name.clone()),
            capability::manifest::Runnable::Program { program, .. } => {
                programs.push(program.clone())
            }
        }
    }
    let env: Vec<_> = manifest.env.iter().map(|one| one.name.clone()).collect();
    let models = manifest
        .model
        .as_ref()
        .map(|model| model.aliases.clone())
        .unwrap_or_default();
    let value = json!({"skill": manifest.name, "read": paths(false), "write": paths(true), "commands": commands, "programs": programs, "env": env, "models": models, "release": manifest.release.is_some()});
    let raw: capability::RawProjectGrant = serde_json::from_value(value)?;
    let grant = raw.check(
        capability::Source {
            file: "skill.toml",
            text: "",
        },
        0..0,
    )?;
    Ok(Grant::compute(manifest, Some(&grant), &house.policy))
}

async fn check(shared: &Shared, package: &Package) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let grant = widest(package, &house)?;
    house.sandbox.load(&package.component, &grant).await?;
    for denial in grant.withheld() {
        println!(
            "note: {}: {} is beyond this machine's policy; it would need {}",
            denial.capability, denial.what, denial.line
        );
    }
    println!(
        "{} {}: manifest, imports and exports agree, and it compiles",
        package.manifest.name, package.digest
    );
    Ok(Exit::Done)
}

async fn call(
    shared: &Shared,
    package: Package,
    input: &Path,
    repository: &Path,
) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let text = std::fs::read_to_string(input)
        .with_context(|| format!("{} cannot be read", input.display()))?;
    let input: Value =
        serde_json::from_str(&text).with_context(|| format!("{} is no JSON", input.display()))?;
    let path = run::absolute(repository)?;
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
    let about = About {
        run: None,
        package: &package,
        grant: &grant,
        project: &project,
    };
    let record = CallRecord::begin(&house, &about)?;
    let loaded = match house.sandbox.load(&package.component, &grant).await {
        Ok(loaded) => loaded,
        Err(error) => {
            record.not_loaded(&error)?;
            return Err(error.into());
        }
    };
    let directory = house.root().join("calls");
    let view = driver::View::of_grant(&directory, &mirror, &tree, &grant)?;
    let watcher = Arc::new(Terminal::new(shared.json));
    let meter = Arc::new(CallMeter::new(Reservation {
        money: project.budget.money,
        tokens: project.budget.tokens,
    }));
    let services = StepServices {
        record,
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
    services.record.end(&answer)?;
    let answer = answer?;
    let spend = meter.spend();
    let import = view.import(&mirror, &tree, &grant)?;
    let diff = mirror.diff(&tree, &import.tree, &repo::DiffLimits::default())?;
    let denials: Vec<_> = answer
        .denials
        .iter()
        .map(|(denial, times)| json!({"what": denial.what, "line": denial.line, "times": times}))
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
