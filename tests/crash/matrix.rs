//! The matrix: a run is killed at each point, taken up again, and compared with one that was not.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::outcome::{self, Outcome, Spent};
use crate::subject::{Deeds, Subject, World};
use crate::supervisor::{Moment, Point, Rest, Seen, start};

/// What was seen of a run that was left alone.
pub struct Reference {
    warm: Vec<String>,
    cold: Vec<String>,
    outcome: Outcome,
    bill: Bill,
}

/// What a run cost, as those who were asked know it, and as moat does.
#[derive(Debug, PartialEq, Eq)]
struct Bill {
    /// Different keys of model calls: each is paid once.
    calls: usize,
    /// Model calls without a key: each of them is paid.
    unkeyed: usize,
    spent: Spent,
    deeds: Deeds,
}

/// Until the last process of a run is gone: it dies when it sees that its moat has.
const DYING: Duration = Duration::from_secs(60);

/// After so many starts a run must have ended: two crashes, and what a person is asked after each of them.
const STARTS_MAX: usize = 8;

/// A run that has ended.
struct Driven {
    world: World,
    /// Points that were come to.
    met: usize,
    wrong: Vec<String>,
    calls: Vec<String>,
    outcome: Outcome,
    bill: Bill,
}

fn once(
    world: &World,
    mut command: Command,
    point: Option<Point>,
) -> (ExitStatus, Seen, Rest, String) {
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

/// One run, and what befalls it.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Whether skills are compiled already.
    pub warm: bool,
    /// The first start comes to the first, the next to the second, and so on.
    pub points: Vec<Point>,
}

impl Trial {
    /// Whether moat is killed, and no more than that.
    fn only_kills(&self) -> bool {
        self.points.iter().all(|point| point.moment.kills())
    }
}

/// What was done outside before a run.
struct Before {
    asked: usize,
    deeds: Deeds,
}

impl Before {
    fn of(subject: &Subject) -> Before {
        Before {
            asked: subject.asked().len(),
            deeds: subject.deeds(),
        }
    }

    /// What was done since.
    fn deeds(&self, subject: &Subject) -> Deeds {
        let mut deeds = subject.deeds();
        for (name, times) in &mut deeds {
            *times -= self.deeds.get(name).copied().unwrap_or(0);
        }
        deeds.retain(|_, times| *times > 0);
        deeds
    }

    fn bill(&self, subject: &Subject, spent: Spent) -> Bill {
        let asked = &subject.asked()[self.asked..];
        let keys = asked
            .iter()
            .filter_map(|request| request.header("idempotency-key"));
        let keys: Vec<&str> = keys.collect();
        Bill {
            unkeyed: asked.len() - keys.len(),
            calls: keys.into_iter().collect::<BTreeSet<_>>().len(),
            spent,
            deeds: self.deeds(subject),
        }
    }
}

/// How moat is started next, as a person would who finds the run as it is; not at all when it has ended.
fn next(subject: &Subject, world: &World, before: &Before, trial: &Trial) -> Option<Command> {
    let Some(standing) = outcome::standing(world) else {
        return Some(world.run());
    };
    let resume = ["runs", "resume", &standing.run];
    match standing.state.as_str() {
        "interrupted" | "pending" | "waiting-for-tasks" => Some(world.moat(&resume)),
        // A disk that cannot be written may fail a step; a crash never does.
        "failed" | "parked" if !trial.only_kills() => Some(world.moat(&resume)),
        "unknown" => {
            // Whoever was asked knows.
            let deeds = before.deeds(subject);
            let happened = deeds.keys().any(|deed| standing.sentence.contains(deed));
            let word = match happened {
                true => "--happened",
                false => "--did-not-happen",
            };
            Some(world.moat(&[&resume[..], &[word]].concat()))
        }
        _ => None,
    }
}

/// Drives a run to its end. The first start comes to the first point, the next to the second, and so on.
fn drive(subject: &Subject, trial: &Trial) -> Driven {
    let (world, before) = (subject.world(trial.warm), Before::of(subject));
    let (mut met, mut wrong, mut calls) = (0, Vec::new(), Vec::new());
    let (mut rests, mut died) = (Vec::new(), false);
    let mut command = Some(world.run());
    for turn in 0..STARTS_MAX {
        let Some(started) = command else { break };
        let point = trial.points.get(turn);
        let (status, seen, rest, said) = once(&world, started, point.cloned());
        rests.push(rest);
        met += usize::from(seen.met);
        if turn == 0 {
            calls = seen.calls;
        }
        if said.contains("panicked") {
            wrong.push(format!("it panicked: {said}"));
        }
        died = false;
        if status.success() {
            wrong.extend(missed(&world));
            break;
        }
        let is_killed = seen.met && point.is_some_and(|point| point.moment.kills());
        let is_refused = seen.met && !is_killed && status.code().is_some();
        let is_unknown = || outcome::standing(&world).is_some_and(|one| one.state == "unknown");
        if !is_killed && !is_refused && !is_unknown() {
            wrong.push(format!("it ended with {status}: {said}"));
            break;
        }
        died = is_killed;
        wrong.extend(missed(&world));
        command = next(subject, &world, &before, trial);
    }
    wrong.extend(service(subject, &world));
    for rest in rests {
        if !rest.is_gone_within(DYING) {
            wrong.push("a process is left".into());
            subject.stop_strays();
        }
    }
    if died {
        wrong.extend(swept(&world));
    }
    let (outcome, spent) = outcome::of(&world, subject.is_ordered());
    Driven {
        bill: before.bill(subject, spent),
        world,
        met,
        wrong,
        calls,
        outcome,
    }
}

/// What a moat leaves that is killed after its run has ended is there until the next one looks for something to do, in vain.
fn swept(world: &World) -> Option<String> {
    let (status, _, rest, said) = once(world, world.moat(&["runs", "resume", "--all"]), None);
    let is_quiet = status.success() && said.contains("no run was interrupted");
    let is_gone = rest.is_gone_within(DYING);
    (!is_quiet || !is_gone)
        .then(|| format!("nothing was to be done, and it ended with {status}: {said}"))
}

/// Whether the journal, by what it keeps of how runs stand, would have another run taken up again than people are told.
fn missed(world: &World) -> Option<String> {
    let standing = outcome::standing(world)?;
    let waits = ["interrupted", "pending", "waiting-for-tasks"].contains(&standing.state.as_str());
    let due = outcome::due(world);
    let is_due = due.contains(&standing.run);
    (is_due != waits).then(|| format!("{} and due: {is_due}, of {due:?}", standing.state))
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
    /// With `exact`, skills are compiled in a run of their own, so that no other call is counted of a run that compiles them.
    pub fn of(subject: &Subject, exact: bool) -> Reference {
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
        let calls = cold.calls.clone();
        let warm = if exact { alone(true) } else { cold };
        assert_eq!(warm.bill.unkeyed, 0, "each call has a key");
        let mut reference = Reference {
            warm: warm.calls,
            cold: calls,
            outcome: warm.outcome,
            bill: warm.bill,
        };
        reference.warm.retain(|kind| !is_compiling(kind));
        reference
    }

    /// Of each unbroken row of calls of one kind, the side before it and the side after it.
    pub fn edges(&self) -> Vec<Trial> {
        let mut trials = self.trials();
        let kinds: Vec<String> = (trials.iter())
            .map(|trial| trial.points[0].kind.clone())
            .collect();
        let is_edge = |at: usize, to: Option<usize>| {
            to.and_then(|to| kinds.get(to))
                .is_none_or(|kind| *kind != kinds[at])
        };
        let mut at = 0;
        trials.retain(|trial| {
            at += 1;
            match trial.points[0].moment {
                Moment::Before => is_edge(at - 1, (at - 1).checked_sub(1)),
                _ => is_edge(at - 1, Some(at)),
            }
        });
        trials
    }

    /// Every call by which files are changed, each with this befalling the machine there.
    pub fn faults(&self, moment: Moment) -> Vec<Trial> {
        let mut trials = self.trials();
        trials.retain_mut(|trial| {
            let point = &mut trial.points[0];
            let is_first = point.moment == Moment::Before;
            point.moment = moment;
            is_first && moment.comes_at(&point.kind)
        });
        trials
    }

    /// Every point, each call from both sides. Skills are compiled in those runs only that are killed at something of that.
    pub fn trials(&self) -> Vec<Trial> {
        let warm = all(&self.warm).into_iter().map(|point| (true, point));
        let cold = all(&self.cold).into_iter().map(|point| (false, point));
        warm.chain(cold.filter(|(_, point)| is_compiling(&point.kind)))
            .map(|(warm, point)| Trial {
                warm,
                points: vec![point],
            })
            .collect()
    }

    /// Drives a run, and says what is then other than it should be; `None` when no point was come to.
    pub fn compare(&self, subject: &Subject, trial: &Trial) -> Option<Vec<String>> {
        let mut driven = drive(subject, trial);
        if !trial.only_kills() {
            // Steps may have failed meanwhile, and say so.
            let runs = self.outcome.get("runs").cloned();
            driven
                .outcome
                .insert("runs".into(), runs.unwrap_or_default());
        }
        let mut wrong = driven.wrong;
        wrong.extend(outcome::differences(&self.outcome, &driven.outcome));
        if driven.bill != self.bill {
            wrong.push(format!("{:?} instead of {:?}", driven.bill, self.bill));
        }
        (driven.met > 0).then_some(wrong)
    }
}

fn is_compiling(kind: &str) -> bool {
    kind.contains("home/compiled/")
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
