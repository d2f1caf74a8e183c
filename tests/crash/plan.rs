//! Which points are tried: a sample of all kinds, or all of them in shards.
//!
//! ```text
//! MOAT_CRASH=all          every point, not a sample
//! MOAT_CRASH=pairs        two crashes in one run, at random points
//! MOAT_CRASH=list         no crash: the kinds of calls and how many there are of each
//! MOAT_CRASH_SHARD=2/8    the third eighth of the points, from 0
//! MOAT_CRASH_SEED=7       for what is drawn
//! MOAT_CRASH_ONLY=TEXT    only points whose kind has this text in it
//! MOAT_CRASH_COUNT=1000   how many pairs
//! ```

use std::collections::BTreeMap;

use crate::matrix::Reference;
use crate::subject::Subject;
use crate::supervisor::{Moment, Point};

/// Drawn beside one point of each kind.
const HANDFUL: usize = 6;

pub struct Plan<'a> {
    subject: &'a Subject,
    reference: Reference,
    /// Each the points of one run.
    trials: Vec<Vec<Point>>,
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

pub fn of(subject: &Subject) -> Plan<'_> {
    let reference = Reference::of(subject);
    let mut points = reference.points();
    if let Some(text) = set("MOAT_CRASH_ONLY") {
        points.retain(|point| point.kind.contains(&text));
    }
    let mut draws = Draws(number("MOAT_CRASH_SEED").unwrap_or(1));
    let trials = match set("MOAT_CRASH").as_deref() {
        None | Some("sample") => sample(&points, &mut draws),
        Some("all") => points.into_iter().map(|point| vec![point]).collect(),
        Some("pairs") => (0..number("MOAT_CRASH_COUNT").unwrap_or(1000))
            .map(|_| {
                (0..2)
                    .map(|_| points[draws.below(points.len())].clone())
                    .collect()
            })
            .collect(),
        Some("list") => {
            list(&points);
            vec![]
        }
        Some(other) => panic!("MOAT_CRASH={other}: sample, all, pairs or list"),
    };
    Plan {
        subject,
        reference,
        trials: shard(trials),
    }
}

/// One point of each kind of call, and some more.
fn sample(points: &[Point], draws: &mut Draws) -> Vec<Vec<Point>> {
    let mut kinds: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    for point in points {
        kinds.entry(&point.kind).or_default().push(point);
    }
    let mut drawn: Vec<&Point> = kinds
        .values()
        .map(|of_kind| of_kind[draws.below(of_kind.len())])
        .collect();
    drawn.extend((0..HANDFUL).map(|_| &points[draws.below(points.len())]));
    drawn.into_iter().map(|point| vec![point.clone()]).collect()
}

fn shard(trials: Vec<Vec<Point>>) -> Vec<Vec<Point>> {
    let Some(text) = set("MOAT_CRASH_SHARD") else {
        return trials;
    };
    let (nth, of) = text.split_once('/').unwrap();
    let (nth, of): (usize, usize) = (nth.parse().unwrap(), of.parse().unwrap());
    trials.into_iter().skip(nth).step_by(of).collect()
}

fn list(points: &[Point]) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let calls = points.iter().filter(|point| point.moment == Moment::Before);
    for point in calls {
        *kinds.entry(&point.kind).or_default() += 1;
    }
    let all: usize = kinds.values().sum();
    for (kind, count) in &kinds {
        eprintln!("{count:6} {kind}");
    }
    eprintln!("{all} calls of {} kinds", kinds.len());
}

impl Plan<'_> {
    pub fn carry_out(&self) {
        let (mut come_to, mut different) = (0, Vec::new());
        for (nth, points) in self.trials.iter().enumerate() {
            let what: Vec<String> = points
                .iter()
                .map(|point| format!("{:?} {} #{}", point.moment, point.kind, point.nth))
                .collect();
            let what = format!("{:?}: {}", self.subject.kind, what.join(", then "));
            let wrong = self.reference.compare(self.subject, points);
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
