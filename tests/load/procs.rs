//! What `/proc` says of processes.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A process as it was a moment ago.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: u32,
    parent: u32,
    pub state: char,
    /// Processor time of its own, in ticks.
    pub ticks: u64,
}

/// All processes of the machine by their ids.
pub struct Processes(HashMap<u32, Process>);

impl Processes {
    pub fn now() -> Processes {
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Processes(
            pids.filter_map(|pid| Some((pid, Process::of(pid)?)))
                .collect(),
        )
    }

    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.0.get(&pid)
    }

    /// All that descend from one, itself left out.
    pub fn below(&self, pid: u32) -> Vec<&Process> {
        let descends = |process: &&Process| {
            let mut at = process.parent;
            // Processes come and go while they are read: a chain may be a ring.
            for _ in 0..64 {
                if at == pid {
                    return true;
                }
                match self.0.get(&at) {
                    Some(above) => at = above.parent,
                    None => return false,
                }
            }
            false
        };
        self.0.values().filter(descends).collect()
    }
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let words: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        Some(Process {
            pid,
            state: words.first()?.chars().next()?,
            parent: number(1)? as u32,
            ticks: number(11)? + number(12)?,
        })
    }

    /// Whether it runs this program, by the file itself: within its own root it has another name.
    pub fn runs(&self, program: &Metadata) -> bool {
        let exe = std::fs::metadata(format!("/proc/{}/exe", self.pid));
        exe.is_ok_and(|exe| (exe.dev(), exe.ino()) == (program.dev(), program.ino()))
    }

    /// Its share of memory, in KiB; nothing where this user may not look.
    pub fn pss_kib(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let line = text.lines().find(|line| line.starts_with("Pss:"))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    pub fn files(&self) -> Option<usize> {
        open_files(self.pid)
    }

    pub fn send(&self, signal: Signal) {
        send(self.pid, signal);
    }

    /// What it was started with, for people.
    pub fn words(&self) -> String {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", self.pid));
        line.unwrap_or_default().replace('\0', " ")
    }
}

/// One that is gone already needs no signal.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid as i32) {
        let _ = kill_process(pid, signal);
    }
}

pub fn open_files(pid: u32) -> Option<usize> {
    Some(std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
}

/// Descriptors of the journal's own file.
pub fn journal_files(pid: u32) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let names = entries.flatten().flat_map(|one| one.path().read_link());
    names
        .filter(|name| name.ends_with("journal.sqlite"))
        .count()
}

/// What is left below this process and lives, after all of it had time to end.
pub fn left() -> Vec<String> {
    let own = std::process::id();
    let mut living = Vec::new();
    for _ in 0..500 {
        let all = Processes::now();
        let below = all.below(own);
        for zombie in below.iter().filter(|one| one.state == 'Z') {
            if let Some(pid) = Pid::from_raw(zombie.pid as i32) {
                // An orphan that came here; those that are not ours yet are their parents' to wait for.
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
        }
        living = below
            .iter()
            .filter(|one| one.state != 'Z')
            .map(|one| format!("{} {}", one.pid, one.words()))
            .collect();
        if living.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    living
}

/// Mounts of this namespace below a directory.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    points
        .map(PathBuf::from)
        .filter(|point| point.starts_with(directory))
        .collect()
}
