//! `moat demo`: the whole loop on a sample repository, offline.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use capability::Grant;
use clap::Args;
use driver::House;
use flow::Run;
use flow::role::{Origin, Report};
use flow::run::{End, Stage};
use url::Url;

use crate::cli::{Shared, run};
use crate::exit::Exit;
use crate::show::text::{self, span};
use crate::watch::Terminal;

const FILES: &[(&str, &str)] = &[
    ("README.md", include_str!("../../demo/README.md")),
    (
        "meter/__init__.py",
        include_str!("../../demo/meter/__init__.py"),
    ),
    ("meter/fees.py", include_str!("../../demo/meter/fees.py")),
    (
        "meter/server.py",
        include_str!("../../demo/meter/server.py"),
    ),
    (
        "tests/__init__.py",
        include_str!("../../demo/tests/__init__.py"),
    ),
    (
        "tests/test_fees.py",
        include_str!("../../demo/tests/test_fees.py"),
    ),
    (
        "tests/test_server.py",
        include_str!("../../demo/tests/test_server.py"),
    ),
];

const REPORT: &str = include_str!("../../demo/report.txt");

/// The whole loop on a sample repository, offline, with nothing to configure.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave the deployed service running.
    #[arg(long)]
    keep_running: bool,
}

impl Demo {
    pub async fn run(self, shared: &Shared) -> anyhow::Result<Exit> {
        let begun = Instant::now();
        // A house of its own: the demo shows up in nobody's list of runs, and can be thrown away whole.
        let home = shared
            .home()?
            .join("demo")
            .join(format!("{}", std::process::id()));
        let house = shared.house_at(&home)?;
        let house_place = house.root().to_owned();
        house
            .tools
            .resolve("python3")
            .context("the demo's sample service is in Python: install python3")?;
        let repository = house_place.join("meter");
        let port = free_port()?;
        sample(&repository, port)?;
        println!(
            "A service that charges for parking, in {}.",
            repository.display()
        );
        println!("Someone reports:\n");
        for line in REPORT.lines().take(4) {
            println!("    {line}");
        }
        println!("\nFrom here on nobody helps. No model and no network is used.\n");
        let opened = driver::open(
            &house,
            &repository,
            Report {
                origin: Origin::Text,
                text: REPORT.into(),
            },
        )?;
        let driven = run::drive(house.clone(), &opened.run, Arc::new(Terminal::new(false))).await?;
        let Some(ended) = driven else {
            return Ok(Exit::Failed);
        };
        let told = tell(&house, &ended, port).await;
        let releases = releases(&house, &ended)?;
        if self.keep_running {
            println!("\nThe service goes on at http://127.0.0.1:{port}/quote?minutes=60");
        } else if let Some(releases) = &releases {
            releases
                .stop()
                .await
                .map_err(|error| anyhow::anyhow!("the service could not be stopped: {error:?}"))?;
        }
        told?;
        println!(
            "\nIt took {} in all. Where to look next:",
            span(begun.elapsed().as_millis() as u64)
        );
        println!("  git -C {} log -p -1", repository.display());
        println!(
            "  moat --home {} runs show {}",
            house_place.display(),
            ended.opened.run
        );
        println!("  moat skill inspect search-repair");
        println!("  moat init                          # in a repository of yours");
        Ok(Exit::of_run(&ended))
    }
}

fn free_port() -> anyhow::Result<u16> {
    let listener =
        std::net::TcpListener::bind("127.0.0.1:0").context("no port is free on loopback")?;
    Ok(listener.local_addr()?.port())
}

/// The sample, with a moat.toml as `moat init` would write it.
fn sample(repository: &Path, port: u16) -> anyhow::Result<()> {
    let names: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
    let read = |name: &str| {
        FILES
            .iter()
            .find(|(one, _)| *one == name)
            .map(|(_, text)| (*text).to_owned())
    };
    let detected = project::detect(&names, &read).context("the sample has no tests")?;
    let health = format!("http://127.0.0.1:{port}/health");
    let port = port.to_string();
    let deploy = ["python3", "-m", "meter.server", "--port", &port, &health].map(str::to_owned);
    let choices = project::Choices {
        deploy: deploy.to_vec(),
        model: None,
    };
    let moat = project::template(&detected, "main", &choices);
    let mut files = FILES.to_vec();
    files.push((project::FILE, &moat));
    let identity = repo::Identity::new("demo", "demo@localhost")?;
    repo::create(
        repository,
        "main",
        &files,
        &identity,
        "Charge for parking by the hour",
        1_750_000_000,
    )?;
    Ok(())
}

fn releases(house: &House, run: &Run) -> anyhow::Result<Option<driver::Releases>> {
    let Some(commit) = &run.merged else {
        return Ok(None);
    };
    let directory: PathBuf = house.releases_dir(&run.opened.repository);
    let mirror = repo::Mirror::open_or_create(&house.mirror_dir(&run.opened.repository))?;
    let tree = mirror.tree_of(commit)?;
    let deploy = project_of(house, run)?
        .deploy
        .context("the sample has a [deploy]")?;
    Ok(Some(driver::Releases {
        directory,
        mirror,
        deploy,
        target: (commit.clone(), tree),
        held: None,
    }))
}

/// The effective grants of the run's skills, in the order of their steps.
fn grants(house: &House, run: &Run) -> anyhow::Result<Vec<Grant>> {
    let project = project_of(house, run)?;
    let skills = run.opened.pipeline.skills();
    let packages = skills.filter_map(|skill| house.catalog.find(&skill.name));
    Ok(packages
        .map(|package| {
            let granted = project.grant_of(&package.manifest.name);
            Grant::compute(&package.manifest, granted, &house.policy)
        })
        .collect())
}

/// The run's own moat.toml.
fn project_of(house: &House, run: &Run) -> anyhow::Result<project::Project> {
    let text = house
        .journal
        .get_blob(&run.opened.project)?
        .context("the run's moat.toml is gone")?;
    Ok(project::Project::parse(
        &String::from_utf8_lossy(&text),
        project::FILE,
    )?)
}

/// What was granted, used and seen, and whether the service answers right now.
async fn tell(house: &House, run: &Run, port: u16) -> anyhow::Result<()> {
    let mut failed = None;
    if run.stage == Stage::Ended(End::Deployed) {
        let url = Url::parse(&format!("http://127.0.0.1:{port}/quote?minutes=60"))?;
        match egress::probe(&url, Duration::from_secs(5)).await {
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                println!(
                    "\nGET /quote?minutes=60 now answers {}: {body}",
                    answer.status
                );
                if !body.contains("\"cents\": 200") {
                    failed = Some("the deployed service does not answer 200 cents");
                }
            }
            Err(_) => failed = Some("the deployed service does not answer"),
        }
    }
    println!("\nWhat each skill was granted, and what it used of it:");
    for grant in grants(house, run)? {
        println!("  {}", grant.skill());
        for sentence in grant.sentences() {
            println!("    may {sentence}");
        }
        if let Some(usage) = run.used.get(grant.skill()) {
            println!("    used {}", text::usage(usage));
        }
    }
    println!(
        "Refused to them: {}.",
        if run.denials == 0 {
            "nothing was asked beyond it".to_owned()
        } else {
            format!("{} requests", run.denials)
        }
    );
    println!("\nWhat each gate saw:");
    for gate in &run.opened.pipeline.gates {
        for verdict in run
            .verdicts
            .values()
            .filter(|verdict| verdict.gate == gate.name)
        {
            println!(
                "  {:<11} {:?}: {}",
                gate.name, verdict.finding, verdict.evidence.title
            );
        }
    }
    match failed {
        Some(why) => anyhow::bail!(why),
        None => Ok(()),
    }
}
