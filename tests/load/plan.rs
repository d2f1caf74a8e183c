//! How many agents there are, and for how long they are disturbed.
//!
//! ```text
//! MOAT_LOAD_AGENTS=100    so many agents
//! MOAT_LOAD_TIME=600      disturbed for so many seconds, and then left alone until all have ended
//! MOAT_LOAD_FILES=20000   in a repository of so many files
//! MOAT_LOAD_SEED=7        for what is drawn
//! ```
//! For example, with what was measured: `MOAT_LOAD_AGENTS=100 MOAT_LOAD_TIME=600 MOAT_LOAD_FILES=20000 cargo test -p app --test load -- --nocapture many_runs`

use std::time::Duration;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub agents: usize,
    pub time: Duration,
    pub files: usize,
    pub seed: u64,
}

pub fn load() -> Load {
    Load {
        agents: number("MOAT_LOAD_AGENTS", 6) as usize,
        time: Duration::from_secs(number("MOAT_LOAD_TIME", 3)),
        files: number("MOAT_LOAD_FILES", 200) as usize,
        seed: number("MOAT_LOAD_SEED", 1),
    }
}

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty());
    text.map_or(otherwise, |text| text.parse().unwrap())
}

/// Draws numbers, always the same ones for a seed (splitmix64).
pub struct Draws(pub u64);

impl Draws {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    pub fn millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.below(to - from)) as u64)
    }
}
