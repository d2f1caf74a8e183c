//! The matrix: a run is killed at each point, taken up again, and compared with one that was not.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use crate::outcome::{self, Outcome};
use crate::subject::{Subject, World};
use crate::supervisor::{Moment, Point, Rest, Seen, start};

/// What was seen of a run that was left alone.
pub struct Reference {
    warm: Vec<String>,
    cold: Vec<String>,
    outcome: Outcome,
    money: u64,
    asked: usize,
}

/// Until the last process of a run is gone: it dies when it sees that its moat has.
const DYING: Duration = Duration::from_secs(60);

/// After so many kills a run that is taken up again must have ended.
const RESUMES_MAX: usize = 4;

/// A run, killed at none or some points.
struct Driven {
    world: World,
    /// Points that were come to.
    killed: usize,
    wrong: Vec<String>,
    calls: Vec<String>,
}

fn once(
    world: &World,
    run: Option<&str>,
    point: Option<Point>,
) -> (ExitStatus, Seen, Rest, String) {
    let mut command = match run {
        None => world.run(),
        Some(run) => world.moat(&["runs", "resume", run]),
    };
    // A file, not a pipe: a service that stays would keep the pipe open.
    let said = world.said();
    command
        .stdin(std::process::Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said);
    let supervised = start(command, world.places(), point);
    let (status, seen, rest) = supervised.wait();
    (status, seen, rest, world.was_said())
}

/// One run, killed.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Whether skills are compiled already.
    pub warm: bool,
    /// The first start is killed at the first, the next at the second, and so on.
    pub points: Vec<Point>,
}

/// Drives a run to its end. The first start is killed at the first point, the next at the second, and so on.
fn drive(subject: &Subject, trial: &Trial) -> Driven {
    let mut driven = Driven {
        world: subject.world(trial.warm),
        killed: 0,
        wrong: Vec::new(),
        calls: Vec::new(),
    };
    let world = &driven.world;
    let mut rests = Vec::new();
    for turn in 0..RESUMES_MAX {
        let standing = (turn > 0).then(|| outcome::standing(world)).flatten();
        let run = match &standing {
            Some((run, state)) if ["interrupted", "pending"].contains(&state.as_str()) => {
                Some(run.as_str())
            }
            Some(_) => break,
            None => None,
        };
        let (status, seen, rest, said) = once(world, run, trial.points.get(turn).cloned());
        rests.push(rest);
        driven.killed += usize::from(seen.killed);
        if turn == 0 {
            driven.calls = seen.calls;
        }
        if !seen.killed && !status.success() {
            driven.wrong.push(format!("it ended with {status}: {said}"));
            break;
        }
        if !seen.killed && status.success() {
            break;
        }
    }
    driven.wrong.extend(service(subject, &driven.world));
    for rest in rests {
        if !rest.is_gone_within(DYING) {
            driven.wrong.push("a process is left".into());
            subject.stop_strays();
        }
    }
    driven
}

/// The service that was deployed, if there is one, answers, and is then stopped.
fn service(subject: &Subject, world: &World) -> Option<String> {
    if !subject.deploys() {
        return None;
    }
    let answered = subject.quote();
    let stopped = world.stop_service();
    match answered {
        Some(body) if body.contains("\"cents\": 200") && stopped => None,
        answered => Some(format!(
            "the service: known {stopped}, it says {answered:?}"
        )),
    }
}

impl Reference {
    pub fn of(subject: &Subject) -> Reference {
        let alone = |warm| {
            let trial = Trial {
                warm,
                points: vec![],
            };
            let driven = drive(subject, &trial);
            assert_eq!(driven.wrong, Vec::<String>::new());
            driven
        };
        let cold = alone(false);
        subject.keep_compiled(&cold.world);
        let before = subject.asked().len();
        let warm = alone(true);
        let (outcome, money) = outcome::of(&warm.world);
        Reference {
            warm: warm.calls,
            cold: cold.calls,
            outcome,
            money,
            asked: subject.asked().len() - before,
        }
    }

    /// Every point, each call from both sides. Skills are compiled in those runs only that are killed at something of that.
    pub fn trials(&self) -> Vec<Trial> {
        let is_compiling = |kind: &str| kind.contains("home/compiled/");
        let warm = all(&self.warm).into_iter().map(|point| (true, point));
        let cold = all(&self.cold).into_iter().map(|point| (false, point));
        warm.chain(cold.filter(|(_, point)| is_compiling(&point.kind)))
            .map(|(warm, point)| Trial {
                warm,
                points: vec![point],
            })
            .collect()
    }

    /// Kills a run at points, and says what is then other than it should be; `None` when no point was come to.
    pub fn compare(&self, subject: &Subject, trial: &Trial) -> Option<Vec<String>> {
        let before = subject.asked().len();
        let driven = drive(subject, trial);
        let (found, money) = outcome::of(&driven.world);
        let mut wrong = driven.wrong;
        wrong.extend(outcome::differences(&self.outcome, &found));
        wrong.extend(self.bill(subject, before, money));
        (driven.killed > 0).then_some(wrong)
    }

    /// No call is paid twice: one that is made again has the key of the first. Nothing that was asked is missing from the run's own account.
    fn bill(&self, subject: &Subject, before: usize, money: u64) -> Vec<String> {
        let asked = &subject.asked()[before..];
        let mut keys: Vec<&str> = asked
            .iter()
            .filter_map(|request| request.header("idempotency-key"))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let keyed = asked
            .iter()
            .all(|request| request.header("idempotency-key").is_some());
        let paid = if keyed { keys.len() } else { asked.len() };
        let mut wrong = Vec::new();
        if keyed && paid != self.asked {
            wrong.push(format!(
                "{paid} model calls are paid instead of {}",
                self.asked
            ));
        }
        if self.asked > 0 && money < self.money / self.asked as u64 * paid as u64 {
            wrong.push(format!(
                "{paid} model calls are paid, and the run knows of {money} instead of {}",
                self.money
            ));
        }
        wrong
    }
}

fn all(calls: &[String]) -> Vec<Point> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut points = Vec::new();
    for kind in calls {
        let nth = counts.entry(kind).or_default();
        for moment in [Moment::Before, Moment::After] {
            points.push(Point {
                kind: kind.clone(),
                nth: *nth,
                moment,
            });
        }
        *nth += 1;
    }
    points
}
