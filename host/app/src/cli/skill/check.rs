//! `moat skill check`.

use capability::{Grant, Source};
use catalog::Package;

use crate::cli::Shared;
use crate::exit::Exit;
use crate::show::text;

/// The most that the manifest could get: what it declares, under the policy alone.
pub(super) fn widest(package: &Package, house: &driver::House) -> anyhow::Result<Grant> {
    let source = Source {
        file: "skill.toml",
        text: "",
    };
    let grant = package.manifest.whole_grant().check(source, 0..0)?;
    Ok(Grant::compute(
        &package.manifest,
        Some(&grant),
        &house.policy,
    ))
}

pub(super) async fn run(shared: &Shared, package: &Package) -> anyhow::Result<Exit> {
    let house = shared.house()?;
    let grant = widest(package, &house)?;
    house.sandbox.load(&package.component, &grant).await?;
    for denial in grant.withheld() {
        println!(
            "note: {}: {} is beyond this machine's policy; it would need {}",
            denial.capability,
            text::one_line(&denial.what, 200),
            text::clean(&denial.line)
        );
    }
    println!(
        "{} {}: manifest, imports and exports agree, and it compiles",
        package.manifest.name, package.digest
    );
    Ok(Exit::Done)
}
