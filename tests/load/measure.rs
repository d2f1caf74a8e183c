//! What moats take of the machine while they drive agents.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::procs::{Process, Processes};

/// Reading how much memory a process has is work for the machine.
const LOOK: Duration = Duration::from_millis(500);

/// Watches moats until it is asked for what it saw.
pub struct Meter {
    moats: Arc<Mutex<Vec<u32>>>,
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Measured>,
}

#[derive(Debug, Default)]
pub struct Measured {
    /// The most of one moat at a time.
    pub files: usize,
    pub moat_kib: u64,
    /// The most of all processes below one moat at a time, and how many they were.
    pub below_kib: u64,
    pub below: usize,
    /// Processor time of each moat itself, in ticks, when it was last seen.
    ticks: BTreeMap<u32, u64>,
}

impl Measured {
    /// Of all moats together; a tick is a hundredth of a second.
    pub fn ticks(&self) -> u64 {
        self.ticks.values().sum()
    }

    fn look(&mut self, moats: &[u32]) {
        let all = Processes::now();
        for moat in moats.iter().filter_map(|pid| all.get(*pid)) {
            self.ticks.insert(moat.pid, moat.ticks);
            self.files = self.files.max(moat.files().unwrap_or(0));
            self.moat_kib = self.moat_kib.max(moat.pss_kib().unwrap_or(0));
            let below = all.below(moat.pid);
            let kib = below.iter().filter_map(|one| Process::pss_kib(one)).sum();
            self.below_kib = self.below_kib.max(kib);
            self.below = self.below.max(below.len());
        }
    }
}

impl Meter {
    pub fn start() -> Meter {
        let (moats, ended) = (
            Arc::<Mutex<Vec<u32>>>::default(),
            Arc::new(AtomicBool::new(false)),
        );
        let (watched, stop) = (moats.clone(), ended.clone());
        let thread = std::thread::spawn(move || {
            let mut measured = Measured::default();
            while !stop.load(Ordering::SeqCst) {
                let moats = watched.lock().unwrap().clone();
                measured.look(&moats);
                std::thread::sleep(LOOK);
            }
            measured
        });
        Meter {
            moats,
            ended,
            thread,
        }
    }

    pub fn add(&self, moat: u32) {
        self.moats.lock().unwrap().push(moat);
    }

    /// A process that is gone may leave its number to another.
    pub fn remove(&self, moat: u32) {
        self.moats.lock().unwrap().retain(|one| *one != moat);
    }

    pub fn end(self) -> Measured {
        self.ended.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}
