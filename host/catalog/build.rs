//! Builds the first-party skills for WebAssembly, to be embedded.
#![allow(clippy::panic, reason = "a build script reports by panicking")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each is a folder of `skills/` and a package `skill-<name>`.
const SKILLS: [&str; 5] = ["triage", "implement", "search-repair", "test", "deploy"];

fn main() {
    // Asked now, not when this was compiled: a target directory may serve more than one checkout.
    let own = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let root = Path::new(&own).join("../..");
    for input in ["skills", "sdk/rust", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // <target>/<profile>/build/catalog-<hash>/out: one directory for all profiles, and no lock in common with the outer cargo.
    let target = out
        .ancestors()
        .nth(4)
        .expect("OUT_DIR lies in a target directory")
        .join("skills");
    build(&root, &target);
    let mut list = String::from("&[\n");
    for skill in SKILLS {
        let component = target.join(format!(
            "wasm32-wasip2/skill/skill_{}.wasm",
            skill.replace('-', "_")
        ));
        let manifest = root.join("skills").join(skill).join("skill.toml");
        let paths = [&manifest, &component].map(|path| {
            path.canonicalize()
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        });
        writeln!(
            list,
            "    (include_str!({:?}), include_bytes!({:?})),",
            paths[0], paths[1]
        )
        .expect("a string takes all");
    }
    list.push_str("]\n");
    std::fs::write(out.join("bundled.rs"), list).expect("OUT_DIR is writable");
}

fn build(root: &Path, target: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").expect("cargo sets CARGO"));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--quiet",
            "--locked",
            "--target",
            "wasm32-wasip2",
            "--profile",
            "skill",
            "--target-dir",
        ])
        .arg(target);
    for skill in SKILLS {
        cargo.args(["-p", &format!("skill-{skill}")]);
    }
    // What the outer build says is about the host, not about WebAssembly.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CLIPPY_ARGS",
    ] {
        cargo.env_remove(name);
    }
    let output = cargo.output().expect("cargo starts");
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        if errors.contains("can't find crate for `core`")
            || errors.contains("can't find crate for `std`")
        {
            panic!("the WebAssembly target is missing: run `rustup target add wasm32-wasip2`");
        }
        panic!("the skills do not build:\n{errors}");
    }
}
