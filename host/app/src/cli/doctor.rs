//! `moat doctor`: what this machine can and cannot enforce.

use confine::Found;
use driver::House;
use repo::Means;
use serde_json::json;

use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::text::{self, clean};

fn models(house: &House) -> Vec<serde_json::Value> {
    let models = &house.models;
    models
        .names()
        .map(|name| {
            let trouble = models.check(name).err().map(|error| error.to_string());
            json!({"name": name, "usable": trouble.is_none(), "trouble": trouble})
        })
        .collect()
}

/// No model is missing nothing: search-repair works without one.
fn tell_models(house: &House) {
    let models = &house.models;
    for name in models.names() {
        let who = models.find(name).map_or_else(String::new, |spec| {
            format!("{} of {}", spec.id, spec.provider)
        });
        match models.check(name) {
            Ok(()) => println!("ok       model {name}: {}", clean(&who)),
            Err(error) => println!("MISSING  model {name}: {}", clean(&error.to_string())),
        }
    }
    if models.names().next().is_none() {
        println!(
            "-        no model: {} would name some (docs/models.md); search-repair works without",
            house.root().join(model::FILE).display()
        );
    }
}

/// That the file was read means that it is whole: whether each secret can be had, `moat secret check` says, for that starts their programs.
fn tell_secrets(house: &House) {
    let file = house.root().join(egress::store::FILE);
    match house.secrets.entries().count() {
        0 => println!(
            "-        no secrets: {} would name some (docs/secrets.md)",
            file.display()
        ),
        count => println!(
            "ok       secrets: {} names {count}; `moat secret check` reads them",
            file.display()
        ),
    }
}

/// How worktrees are made here, and whether that is what was asked for.
async fn worktrees(house: &House) -> (bool, String) {
    let chosen = match house.views.chosen().await {
        Ok(chosen) => chosen,
        Err(error) => return (false, error.to_string()),
    };
    let how = match chosen.means {
        Means::Layer => "layers over a base that they share",
        Means::Clone => "copies that share their blocks (reflink)",
        Means::Checkout => "copies",
    };
    (
        true,
        match &chosen.why {
            Some(why) => format!("{how}; layers do not work here: {why}"),
            None => how.into(),
        },
    )
}

pub async fn run(shared: &Shared) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let scratch = house.root().join(format!("doctor-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let probes = confine::probe(&house.launcher, &scratch).await;
    // An overlay leaves a directory without permissions.
    confine::remove_tree(&scratch)?;
    let programs: Vec<_> = ["git", "cargo", "python3", "node", "go"]
        .into_iter()
        .map(|name| (name, house.tools.resolve(name).ok()))
        .collect();
    let (worktrees_work, worktrees) = worktrees(&house).await;
    let works = worktrees_work
        && probes
            .iter()
            .all(|probe| matches!(probe.found, Found::Works(_)));
    if shared.json {
        let probes: Vec<_> = probes
            .iter()
            .map(|probe| match &probe.found {
                Found::Works(how) => json!({"name": probe.name, "works": true, "detail": how}),
                Found::Missing { why, mend } => {
                    json!({"name": probe.name, "works": false, "detail": why, "mend": mend})
                }
            })
            .collect();
        println!(
            "{}",
            text::json(
                &json!({"confinement": probes, "worktrees": {"works": worktrees_work, "detail": worktrees}, "models": models(&house), "secrets": house.secrets.entries().map(|(name, _)| name).collect::<Vec<_>>(), "state": house.root(), "policy": house.policy.file})
            )?
        );
    } else {
        for probe in &probes {
            match &probe.found {
                Found::Works(how) => println!("ok       {}: {how}", probe.name),
                Found::Missing { why, mend } => println!(
                    "MISSING  {}: {}\n         mend: {mend}",
                    probe.name,
                    clean(why)
                ),
            }
        }
        println!(
            "{} worktrees: {}",
            if worktrees_work {
                "ok      "
            } else {
                "MISSING "
            },
            clean(&worktrees)
        );
        for (name, path) in programs {
            match path {
                Some(path) => println!("ok       commands may run {name}: {}", path.display()),
                None => println!(
                    "-        {name} is not on the PATH: projects that need it cannot be worked on here"
                ),
            }
        }
        tell_models(&house);
        tell_secrets(&house);
        println!("-        policy: {}", house.policy.file);
        println!("-        state: {}", house.root().display());
        if !works {
            println!(
                "\nUntil what is missing is there, moat refuses to run commands and skills. It never runs them unconfined."
            );
        }
    }
    Ok(if works { Exit::Done } else { Exit::Refused })
}
