//! A moat that drives one wave of agents after another: after each it holds as much as after the one before.

use std::path::Path;
use std::sync::Arc;

use driver::{House, Watcher};
use flow::Recorded;
use flow::id::{RunId, TaskId};

use crate::agents::Agent;
use crate::chaos::Form;
use crate::check;
use crate::house::MOAT;
use crate::place::Place;
use crate::plan::Load;
use crate::procs::{Processes, journal_files, open_files};

const WAVES: usize = 3;

/// SQLite closes no descriptor of a file that its process has locks on: it keeps it, and takes it again for the next connection. So there are as
/// many as there were connections at one time.
const JOURNAL_FILES_MAX: usize = 16;

struct Nobody;

impl Watcher for Nobody {
    fn event(&self, _: &Recorded) {}
    fn note(&self, _: &str) {}
    fn of_task(&self, _: &TaskId) -> Arc<dyn Watcher> {
        Arc::new(Nobody)
    }
}

/// What this process has open, and what it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holds {
    /// Those of the journal's own file left out.
    files: usize,
    processes: usize,
}

impl Holds {
    fn now() -> Holds {
        let own = std::process::id();
        Holds {
            files: open_files(own).unwrap() - journal_files(own),
            // Orphans come here only because this is a test.
            processes: (Processes::now().below(own).iter())
                .filter(|one| one.state != 'Z')
                .count(),
        }
    }

    /// As soon as it is no more than before: what has ended is not gone at once.
    fn after(before: Option<Holds>) -> Holds {
        let mut holds = Holds::now();
        for _ in 0..200 {
            if before.is_some_and(|before| holds == before) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            holds = Holds::now();
        }
        holds
    }
}

pub fn of(load: Load) {
    let place = Place::new(&load, false);
    let agents = Agent::all(WAVES * load.agents);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let house = Arc::new(House::open(&place.home(), Path::new(MOAT)).unwrap());
    let mut before = None;
    for wave in agents.chunks(load.agents) {
        for agent in wave {
            place.open(&house, agent.report());
        }
        let runs: Vec<RunId> = driver::interrupted(&house).unwrap();
        assert_eq!(runs.len(), wave.len());
        let watcher = |_: &RunId| -> Arc<dyn Watcher> { Arc::new(Nobody) };
        let stopped = runtime.block_on(driver::drive_all(house.clone(), runs, &watcher));
        for (run, driven) in stopped {
            assert!(driven.is_ok(), "{run}: {driven:?}");
        }
        let holds = Holds::after(before);
        println!("a wave: {holds:?}");
        // The first one brings what is kept for the next.
        assert!(
            before.is_none_or(|before| holds == before),
            "{before:?} {holds:?}"
        );
        let journal = journal_files(std::process::id());
        assert!(journal <= JOURNAL_FILES_MAX, "{journal} are open");
        before = Some(holds);
    }
    drop((runtime, house));
    check::of(&place, Form::One, &agents);
}
