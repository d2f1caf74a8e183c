//! Which points are tried: a sample of all kinds, or all of them in shards.
//!
//! ```text
//! MOAT_CRASH=all          every point, not a sample
//! MOAT_CRASH=edges        of each unbroken row of calls of one kind the first and the last
//! MOAT_CRASH=kinds        one point of each kind of call
//! MOAT_CRASH=pairs        two crashes in one run, at random points
//! MOAT_CRASH=disk-full    no crash: at each of the calls for which it matters the disk is full, until moat has ended
//! MOAT_CRASH=read-only    the same with a file system that can only be read
//! MOAT_CRASH=list         no crash: the kinds of calls and how many there are of each
//! MOAT_CRASH_SHARD=2/8    the third eighth of the points, from 0
//! MOAT_CRASH_SEED=7       for what is drawn
//! MOAT_CRASH_ONLY=TEXT    only points whose kind has this text in it
//! MOAT_CRASH_COUNT=1000   how many pairs
//! ```

use std::collections::BTreeMap;
use std::time::Instant;

use crate::matrix::{Reference, Trial};
use crate::subject::{Kind, Subject};
use crate::supervisor::Moment;

/// How kinds begin of which a sample has a point: where the most depends on the order of things.
fn telling(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Demo => &[
            "write home/journal.sqlite-wal",
            "spawn",
            "kill",
            "rename home/compiled/",
            "link home/repositories/#/mirror.git/refs/",
            "link repo/.git/refs/heads/main.lock",
            "rename repo/.git/refs/heads/main",
            "rename repo/.git/index",
            "rename home/repositories/#/releases/current",
            "write home/repositories/#/releases/service.json",
        ],
        Kind::ThreeRed => &[
            "sync home/journal.sqlite-wal",
            "connect network",
            "send network",
            "write home/audit/",
            "rename home/approvals/",
        ],
        Kind::EightTasks => &[
            "sync home/journal.sqlite-wal",
            "send network",
            "spawn",
            "mkdir home/runs/#-#-#",
            "link home/repositories/#/mirror.git/refs/",
            "rename repo/.git/refs/heads/main",
        ],
        Kind::Effects => &[
            "connect network",
            "send network",
            "send network",
            "send network",
            "sync home/journal.sqlite-wal",
            "symlink home/repositories/#/releases/current.new",
        ],
    }
}

pub struct Plan<'a> {
    subject: &'a Subject,
    reference: Reference,
    trials: Vec<Trial>,
}

fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<u64> {
    set(name).map(|text| text.parse().unwrap())
}

/// Draws numbers, always the same ones for a seed (splitmix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}

/// What the environment asks for.
pub fn of(subject: &Subject) -> Plan<'_> {
    let which = set("MOAT_CRASH").unwrap_or_else(|| "sample".into());
    let reference = Reference::of(subject, which != "sample");
    let mut all = match which.as_str() {
        "edges" => reference.edges(),
        "disk-full" => reference.faults(Moment::DiskFull),
        "read-only" => reference.faults(Moment::ReadOnly),
        _ => reference.trials(),
    };
    if let Some(text) = set("MOAT_CRASH_ONLY") {
        all.retain(|trial| trial.points[0].kind.contains(&text));
    }
    let mut draws = Draws(number("MOAT_CRASH_SEED").unwrap_or(1));
    let trials = match which.as_str() {
        "sample" => sample(&all, &mut draws, subject.kind),
        "kinds" => one_of_each(&all, &mut draws),
        "all" | "edges" | "disk-full" | "read-only" => all,
        "pairs" => {
            let warm: Vec<&Trial> = all.iter().filter(|trial| trial.warm).collect();
            let count = number("MOAT_CRASH_COUNT").unwrap_or(1000);
            (0..count).map(|_| pair(&warm, &mut draws)).collect()
        }
        "list" => {
            list(&all);
            vec![]
        }
        other => panic!(
            "MOAT_CRASH={other}: sample, kinds, edges, all, pairs, disk-full, read-only or list"
        ),
    };
    Plan {
        subject,
        reference,
        trials: shard(trials),
    }
}

/// One point of each telling kind of call.
fn sample(all: &[Trial], draws: &mut Draws, kind: Kind) -> Vec<Trial> {
    let mut drawn = Vec::new();
    for beginning in telling(kind) {
        let some = all
            .iter()
            .filter(|trial| trial.points[0].kind.starts_with(beginning));
        let some: Vec<&Trial> = some.collect();
        assert!(!some.is_empty(), "{kind:?} has no call {beginning}");
        drawn.push(some[draws.below(some.len())].clone());
    }
    drawn
}

fn one_of_each(all: &[Trial], draws: &mut Draws) -> Vec<Trial> {
    let mut kinds: BTreeMap<&str, Vec<&Trial>> = BTreeMap::new();
    for trial in all {
        kinds.entry(&trial.points[0].kind).or_default().push(trial);
    }
    let drawn = kinds.values().map(|some| some[draws.below(some.len())]);
    drawn.cloned().collect()
}

fn pair(from: &[&Trial], draws: &mut Draws) -> Trial {
    let mut first = from[draws.below(from.len())].clone();
    first
        .points
        .extend(from[draws.below(from.len())].points.clone());
    first
}

fn shard(trials: Vec<Trial>) -> Vec<Trial> {
    let Some(text) = set("MOAT_CRASH_SHARD") else {
        return trials;
    };
    let (nth, of) = text.split_once('/').unwrap();
    let (nth, of): (usize, usize) = (nth.parse().unwrap(), of.parse().unwrap());
    trials.into_iter().skip(nth).step_by(of).collect()
}

fn list(all: &[Trial]) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let points = all.iter().map(|trial| &trial.points[0]);
    for point in points.filter(|point| point.moment == Moment::Before) {
        *kinds.entry(&point.kind).or_default() += 1;
    }
    let sum: usize = kinds.values().sum();
    for (kind, count) in &kinds {
        eprintln!("{count:6} {kind}");
    }
    eprintln!("{sum} calls of {} kinds", kinds.len());
}

impl Plan<'_> {
    pub fn carry_out(&self) {
        let (mut come_to, mut different) = (0, Vec::new());
        for (nth, trial) in self.trials.iter().enumerate() {
            let what: Vec<String> = trial
                .points
                .iter()
                .map(|point| format!("{:?} {} #{}", point.moment, point.kind, point.nth))
                .collect();
            let what = format!("{:?}: {}", self.subject.kind, what.join(", then "));
            let begun = Instant::now();
            let wrong = self.reference.compare(self.subject, trial);
            come_to += usize::from(wrong.is_some());
            let wrong = wrong.unwrap_or_default();
            eprintln!(
                "{nth:5} of {} in {:.1} s  {what}{}",
                self.trials.len(),
                begun.elapsed().as_secs_f32(),
                if wrong.is_empty() { "" } else { "  DIFFERENT" }
            );
            if !wrong.is_empty() {
                eprintln!("        {}", wrong.join("\n        "));
                different.push(format!("{what}\n    {}", wrong.join("\n    ")));
            }
        }
        eprintln!(
            "{:?}: {come_to} of {} points come to, {} differences",
            self.subject.kind,
            self.trials.len(),
            different.len()
        );
        assert!(different.is_empty(), "{}", different.join("\n"));
        // How often moat writes depends a little on how busy the machine is: the last call of a kind does not always come.
        assert!(
            come_to * 4 >= self.trials.len() * 3,
            "{come_to} of {} points come to",
            self.trials.len()
        );
    }
}
