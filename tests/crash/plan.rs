//! Which points are tried: a sample of all kinds, or all of them in shards.
//!
//! ```text
//! MOAT_CRASH=all          every point, not a sample
//! MOAT_CRASH=kinds        one point of each kind of call, down to the file
//! MOAT_CRASH=pairs        two crashes in one run, at random points
//! MOAT_CRASH=list         no crash: the kinds of calls and how many there are of each
//! MOAT_CRASH_SHARD=2/8    the third eighth of the points, from 0
//! MOAT_CRASH_SEED=7       for what is drawn
//! MOAT_CRASH_ONLY=TEXT    only points whose kind has this text in it
//! MOAT_CRASH_COUNT=1000   how many pairs
//! ```

use std::collections::BTreeMap;

use crate::matrix::{Reference, Trial};
use crate::subject::Subject;
use crate::supervisor::{Moment, Point};

/// Calls that a sample leaves out, to last no longer than a minute or so: each stands right beside one that it has.
const NOT_SAMPLED: &[&str] = &["chmod", "chown", "mkdir", "sync", "truncate", "utimens"];

/// Drawn beside one point of each kind.
const HANDFUL: usize = 6;

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

/// What the environment asks for. A sample has one point of each kind of call when `kinds` is set, and else only the handful.
pub fn of(subject: &Subject, kinds: bool) -> Plan<'_> {
    let reference = Reference::of(subject);
    let mut all = reference.trials();
    if let Some(text) = set("MOAT_CRASH_ONLY") {
        all.retain(|trial| trial.points[0].kind.contains(&text));
    }
    let mut draws = Draws(number("MOAT_CRASH_SEED").unwrap_or(1));
    let trials = match set("MOAT_CRASH").as_deref() {
        None | Some("sample") => sample(&all, &mut draws, kinds),
        Some("kinds") => one_of_each(&all, &mut draws, &|point| point.kind.clone()),
        Some("all") => all,
        Some("pairs") => {
            let warm: Vec<&Trial> = all.iter().filter(|trial| trial.warm).collect();
            let count = number("MOAT_CRASH_COUNT").unwrap_or(1000);
            (0..count).map(|_| pair(&warm, &mut draws)).collect()
        }
        Some("list") => {
            list(&all);
            vec![]
        }
        Some(other) => panic!("MOAT_CRASH={other}: sample, kinds, all, pairs or list"),
    };
    Plan {
        subject,
        reference,
        trials: shard(trials),
    }
}

/// One point of each coarse kind of call, and some more.
fn sample(all: &[Trial], draws: &mut Draws, kinds: bool) -> Vec<Trial> {
    let mut drawn = if kinds {
        let mut some = all.to_vec();
        some.retain(|trial| {
            let call = trial.points[0].kind.split(' ').next();
            !call.is_some_and(|call| NOT_SAMPLED.contains(&call))
        });
        one_of_each(&some, draws, &|point| coarse(&point.kind))
    } else {
        vec![]
    };
    drawn.extend((0..HANDFUL).map(|_| all[draws.below(all.len())].clone()));
    drawn
}

fn one_of_each(all: &[Trial], draws: &mut Draws, kind: &dyn Fn(&Point) -> String) -> Vec<Trial> {
    let mut kinds: BTreeMap<String, Vec<&Trial>> = BTreeMap::new();
    for trial in all {
        kinds.entry(kind(&trial.points[0])).or_default().push(trial);
    }
    let drawn = kinds.values().map(|some| some[draws.below(some.len())]);
    drawn.cloned().collect()
}

/// The call, and in which part of a directory: not which file of it.
fn coarse(kind: &str) -> String {
    let deep = if kind.contains("mirror.git/") { 4 } else { 2 };
    kind.split('/').take(deep).collect::<Vec<_>>().join("/")
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
            let wrong = self.reference.compare(self.subject, trial);
            come_to += usize::from(wrong.is_some());
            let wrong = wrong.unwrap_or_default();
            eprintln!(
                "{nth:5} of {}  {what}{}",
                self.trials.len(),
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
        assert!(
            come_to * 10 >= self.trials.len() * 9,
            "{come_to} of {} points come to",
            self.trials.len()
        );
    }
}
