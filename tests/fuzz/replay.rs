//! Every input of the corpus through its target, without a fuzzer: what was once found stays mended, on any machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// All inputs together: a corpus is chosen, not collected.
const CORPUS_BYTES_MAX: u64 = 300_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(corpus().join(target)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn every_input_keeps_every_promise() {
    let mut broken = Vec::new();
    for (target, run) in fuzz::TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "corpus/{target} is empty");
        for path in inputs {
            let data = std::fs::read(&path).unwrap();
            if catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                broken.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// An input that is cut or bent is read too: what a fuzzer does first, everywhere.
#[test]
fn no_cut_and_no_flipped_bit_makes_a_parser_panic() {
    for (target, run) in fuzz::TARGETS.iter().filter(|(name, _)| *name != "tree") {
        for path in inputs(target) {
            let data = std::fs::read(path).unwrap();
            let step = data.len() / 16 + 1;
            for at in (0..data.len()).step_by(step) {
                run(&data[..at]);
                let mut bent = data.clone();
                bent[at] ^= 1 << (at % 8);
                run(&bent);
            }
        }
    }
}

#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    let targets: BTreeSet<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    let mut bytes = 0;
    for entry in std::fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            targets.contains(name.as_str()),
            "no target is called {name}"
        );
        for input in inputs(&name) {
            bytes += std::fs::metadata(input).unwrap().len();
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}
