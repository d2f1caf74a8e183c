//! `moat skill inspect`.

use catalog::Package;
use serde_json::json;

use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::text::{self, clean};

pub(super) fn run(shared: &Shared, package: &Package) -> anyhow::Result<Exit> {
    let imports = sandbox::imports(&package.component)?;
    let manifest = &package.manifest;
    if shared.json {
        println!(
            "{}",
            text::json(
                &json!({"name": manifest.name, "version": manifest.version, "role": manifest.role, "digest": package.digest, "may": manifest.sentences(),
                "host-imports": imports.host, "wasi-base": imports.wasi_base, "other-imports": imports.other, "exports": imports.exports})
            )?
        );
        return Ok(Exit::Done);
    }
    println!(
        "{} {} ({})\n{}\n{}\n",
        manifest.name, manifest.version, manifest.role, manifest.description, package.digest
    );
    println!("It asks to:");
    for sentence in manifest.sentences() {
        println!("  - {}", clean(&sentence));
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
