//! `moat skill list`.

use serde_json::{Value, json};

use crate::cli::Shared;
use crate::exit::Exit;

pub(super) fn run(shared: &Shared) -> anyhow::Result<Exit> {
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
