//! Every input of the corpus through its target, without a fuzzer: what was once found stays mended, on any machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Inputs of one target, in number and together: a corpus is chosen, not collected.
const CORPUS_FILES_MAX: usize = 60;
const CORPUS_BYTES_MAX: u64 = 200_000;

/// Inputs that are made of each target's corpus, always the same ones: a look in passing at what `.ci/fuzz` searches for.
const MADE: u32 = 1_500;

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

/// What is put together of the corpus, as a fuzzer does: pieces of two inputs, left out, doubled, overwritten.
#[test]
fn what_is_put_together_of_the_corpus_keeps_every_promise() {
    for (target, run) in fuzz::TARGETS {
        let corpus: Vec<Vec<u8>> = inputs(target)
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        let made = if *target == "tree" { MADE / 8 } else { MADE };
        let mut random = Random(0x6d6f_6174);
        for _ in 0..made {
            let input = random.input(&corpus);
            if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                panic!("{target}: {}", input.escape_ascii());
            }
        }
    }
}

/// Numbers that look random, after Steele, Lea and Flood (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 1).unwrap() % bound.max(1)
    }

    /// From one place to a later one, mostly near.
    fn piece<'a>(&mut self, of: &'a [u8]) -> &'a [u8] {
        let from = self.below(of.len() + 1);
        let bound = [8, 64, of.len()][self.below(3)];
        let length = self.below(bound + 1).min(of.len() - from);
        &of[from..from + length]
    }

    fn input(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut input = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(4) {
            let other = &corpus[self.below(corpus.len())];
            let from = self.below(input.len() + 1);
            let upto = from + self.below(9).min(input.len() - from);
            match self.below(5) {
                0 => drop(input.drain(from..upto)),
                1 => drop(input.splice(from..from, self.piece(other).to_vec())),
                2 => drop(input.splice(from..upto, self.piece(other).to_vec())),
                3 => {
                    let own = self.piece(&input).to_vec();
                    drop(input.splice(from..from, own));
                }
                _ => {
                    let byte = u8::try_from(self.below(256)).unwrap();
                    drop(input.splice(from..upto.min(from + 1), [byte]));
                }
            }
        }
        input
    }
}

#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    let targets: BTreeSet<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
    for entry in std::fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            targets.contains(name.as_str()),
            "no target is called {name}"
        );
        let found = inputs(&name);
        let bytes: u64 = found
            .iter()
            .map(|input| std::fs::metadata(input).unwrap().len())
            .sum();
        assert!(
            found.len() <= CORPUS_FILES_MAX && bytes <= CORPUS_BYTES_MAX,
            "{name}: {} files, {bytes} bytes",
            found.len()
        );
    }
}
