//! The load itself: moats that drive the agents, and whoever kills and stops them at random.

use std::collections::{BTreeMap, VecDeque};
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::agents::Agent;
use crate::check;
use crate::house::MOAT;
use crate::measure::{Measured, Meter};
use crate::place::Place;
use crate::plan::{Draws, Load};
use crate::procs::{Process, Processes, send};

/// How the agents are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All runs by one process.
    One,
    /// By several at the same time, each of which has one run or takes what it finds.
    Several,
    /// As tasks of few runs.
    Tasks,
}

impl Form {
    /// Processes at the same time.
    fn moats(self) -> usize {
        match self {
            Form::One | Form::Tasks => 1,
            Form::Several => 6,
        }
    }
}

/// A plan has no more tasks.
const TASKS: usize = 30;

/// In so many pieces the time is cut by what is done to the moats.
const DEEDS: u32 = 60;

/// A moat that is left alone ends all that does not wait for a person; what it leaves, because another had it, is for the next.
const ROUNDS: usize = 8;

#[derive(Debug, Default)]
struct Deeds {
    moats_killed: usize,
    moats_stopped: usize,
    workers_killed: usize,
}

struct Loaded<'a> {
    place: &'a Place,
    form: Form,
    draws: Draws,
    meter: Meter,
    moats: Vec<Child>,
    to_open: VecDeque<String>,
    begun: usize,
    deeds: Deeds,
}

/// Has agents work while they are disturbed, lets them end, and looks at what came of it.
pub fn of(form: Form, load: Load) {
    let place = Place::new(&load, form == Form::Tasks);
    let agents = Agent::all(load.agents);
    let mut to_open: VecDeque<String> = match form {
        Form::Tasks => agents.chunks(TASKS).map(whole).collect(),
        _ => agents.iter().map(|agent| agent.report()).collect(),
    };
    // Each of several processes opens some; the rest is there already, as from the day before.
    let kept = if form == Form::Several {
        2 * form.moats()
    } else {
        0
    };
    let house = place.house();
    while to_open.len() > kept {
        place.open(&house, to_open.pop_front().unwrap());
    }
    drop(house);
    let mut loaded = Loaded {
        place: &place,
        form,
        draws: Draws(load.seed),
        meter: Meter::start(),
        moats: Vec::new(),
        to_open,
        begun: 0,
        deeds: Deeds::default(),
    };
    loaded.disturb(load.time);
    loaded.open_again(&agents);
    let rounds = loaded.settle();
    let (deeds, measured) = (loaded.deeds, loaded.meter.end());
    tell(form, agents.len(), &deeds, rounds, &measured);
    check::of(&place, form, &agents);
}

fn whole(agents: &[Agent]) -> String {
    let tasks: Vec<String> = agents.iter().map(|agent| agent.task()).collect();
    format!("{} and more\n{}", agents[0].name(), tasks.join("\n"))
}

fn tell(form: Form, agents: usize, deeds: &Deeds, rounds: usize, measured: &Measured) {
    println!("{form:?}: {agents} agents; {deeds:?}; {rounds} rounds left alone");
    println!(
        "  of a moat at most: {} open files, {} KiB; below it {} processes, {} KiB; processor time of all moats themselves: {} ms an agent",
        measured.files,
        measured.moat_kib,
        measured.below,
        measured.below_kib,
        10 * measured.ticks() / agents as u64,
    );
}

impl Loaded<'_> {
    /// Until the time is over, or nothing is left to do.
    fn disturb(&mut self, time: Duration) {
        let (begun, pause) = (Instant::now(), time.as_millis() as usize / DEEDS as usize);
        while begun.elapsed() < time {
            self.begin_moats();
            let pause = self.draws.millis(pause / 2, pause * 3 / 2 + 2);
            std::thread::sleep(pause);
            if self.reap() && self.unfinished().is_empty() {
                break;
            }
            self.do_something(time);
        }
        for mut moat in std::mem::take(&mut self.moats) {
            self.deeds.moats_killed += 1;
            moat.kill().unwrap();
            self.end(moat);
        }
    }

    fn begin_moats(&mut self) {
        while self.moats.len() < self.form.moats() {
            let report = self.to_open.pop_front();
            let args = match &report {
                Some(report) => vec!["run", "--repo", "many", report],
                None => vec!["runs", "resume", "--all"],
            };
            self.begin(&args);
        }
    }

    fn begin(&mut self, args: &[&str]) {
        self.begun += 1;
        let moat = self.place.quiet(args, self.begun).spawn().unwrap();
        self.meter.add(moat.id());
        self.moats.push(moat);
    }

    fn end(&self, mut moat: Child) {
        moat.wait().unwrap();
        self.meter.remove(moat.id());
    }

    /// Takes leave of moats that have ended; true when one has.
    fn reap(&mut self) -> bool {
        let (mut ended, mut living) = (Vec::new(), Vec::new());
        for mut moat in std::mem::take(&mut self.moats) {
            match moat.try_wait().unwrap() {
                Some(_) => ended.push(moat),
                None => living.push(moat),
            }
        }
        self.moats = living;
        let has_ended = !ended.is_empty();
        ended.into_iter().for_each(|moat| self.end(moat));
        has_ended
    }

    fn do_something(&mut self, time: Duration) {
        if self.moats.is_empty() {
            return;
        }
        let at = self.draws.below(self.moats.len());
        match self.draws.below(8) {
            0 => {
                let mut moat = self.moats.swap_remove(at);
                moat.kill().unwrap();
                self.end(moat);
                self.deeds.moats_killed += 1;
            }
            1 => {
                let pid = self.moats[at].id();
                send(pid, Signal::STOP);
                let most = (time.as_millis() as usize / 10).min(4000);
                std::thread::sleep(self.draws.millis(most / 10, most + 2));
                send(pid, Signal::CONT);
                self.deeds.moats_stopped += 1;
            }
            _ => self.kill_a_worker(self.moats[at].id()),
        }
    }

    /// One of moat's own processes, not a program of the project's: that would be an honest red.
    fn kill_a_worker(&mut self, moat: u32) {
        let all = Processes::now();
        let program = std::fs::metadata(MOAT).unwrap();
        let below = all.below(moat);
        let mut workers: Vec<&&Process> = below.iter().filter(|one| one.runs(&program)).collect();
        workers.sort_by_key(|one| one.pid);
        if workers.is_empty() {
            return;
        }
        workers[self.draws.below(workers.len())].send(Signal::KILL);
        self.deeds.workers_killed += 1;
    }

    /// Of those whose moat was killed before the first event of their run was durable, nobody knows anything.
    fn open_again(&mut self, agents: &[Agent]) {
        if self.form == Form::Several {
            let open = self.place.reports();
            let reports = agents.iter().map(|agent| agent.report());
            self.to_open = reports.filter(|report| !open.contains(report)).collect();
        }
    }

    /// Left alone, all end; gives how many moats that took, one after the other.
    fn settle(&mut self) -> usize {
        while let Some(report) = self.to_open.pop_front() {
            self.begin(&["run", "--repo", "many", &report]);
            let moat = self.moats.pop().unwrap();
            self.end(moat);
        }
        for round in 0..ROUNDS {
            let given_up = self.given_up();
            if self.unfinished().is_empty() && given_up.is_empty() {
                return round;
            }
            for run in given_up {
                self.begin(&["runs", "resume", &run]);
                let moat = self.moats.pop().unwrap();
                self.end(moat);
            }
            self.begin(&["runs", "resume", "--all"]);
            let moat = self.moats.pop().unwrap();
            self.end(moat);
        }
        panic!(
            "not all have ended: {:?}\n{:#?}\n{:#?}",
            self.unfinished(),
            self.place.complaints(),
            self.place.runs()
        );
    }

    /// How many runs are in each state in which somebody but a person has to do something.
    /// Runs whose workers were killed more often in a row than they are tried again by themselves: a person has them go on.
    fn given_up(&self) -> Vec<String> {
        let runs = self.place.runs().into_iter().filter(|run| {
            run["state"] == "failed" && run["parked"]["failure"]["cause"] == "passing"
        });
        runs.map(|run| run["run"].as_str().unwrap().to_owned())
            .collect()
    }

    fn unfinished(&self) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        for run in self.place.runs() {
            let state = run["state"].as_str().unwrap();
            if matches!(
                state,
                "interrupted" | "pending" | "running" | "frozen" | "waiting-for-tasks"
            ) {
                *states.entry(state.to_owned()).or_default() += 1;
            }
        }
        states
    }
}
