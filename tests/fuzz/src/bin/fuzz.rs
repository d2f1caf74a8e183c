//! The fuzzer: libFuzzer around the target that `MOAT_FUZZ_TARGET` names. Built and run by `.ci/fuzz`.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("MOAT_FUZZ_TARGET").unwrap_or_default();
    let names = || fuzz::TARGETS.iter().map(|(name, _)| *name);
    let Some((_, target)) = fuzz::TARGETS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = names().collect();
        panic!("MOAT_FUZZ_TARGET is none of {}", known.join(", "));
    };
    *target
}

fuzz_target!(|data: &[u8]| CHOSEN.get_or_init(chosen)(data));
