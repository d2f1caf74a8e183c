//! The watch over a program's progress: one that prints nothing and takes no processor time, in none of its processes, stands still.
//!
//! Silence alone says nothing: a long compile is silent. Neither does the wall clock: this machine, or moat itself, may have been stopped, and the
//! program with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Looks within the time that a program may stand still.
const LOOKS: u32 = 20;

/// A look reads a few small files for each process.
const PERIOD: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(20)..=Duration::from_secs(5);

/// Bytes that the program has printed.
pub(crate) type Printed = Arc<AtomicU64>;

/// Watches over one program with all that it started.
#[derive(Debug)]
pub(crate) struct IdleWatch {
    launcher: Option<u32>,
    printed: Printed,
    limit: Option<Duration>,
}

/// What changes while something goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Progress {
    printed: u64,
    /// Processor time of all processes, of those that have ended as well.
    ticks: u64,
    processes: u64,
}

impl IdleWatch {
    /// Of the processes below this launcher. Without a limit it never ends.
    pub(crate) fn new(launcher: Option<u32>, printed: Printed, limit: Option<Duration>) -> Self {
        IdleWatch {
            launcher,
            printed,
            limit,
        }
    }

    /// Returns when the program has stood still for as long as it may.
    pub(crate) async fn passed(&self) {
        let (Some(limit), Some(launcher)) = (self.limit, self.launcher) else {
            return std::future::pending().await;
        };
        let period = (limit / LOOKS).clamp(*PERIOD.start(), *PERIOD.end());
        let (mut last, mut still) = (Progress::default(), Duration::ZERO);
        let mut looked = Instant::now();
        while still < limit {
            tokio::time::sleep(period).await;
            let now = self.look(launcher);
            // A look that comes late tells no more than one in time: nobody knows who was stopped meanwhile.
            let since = looked.elapsed().min(period * 2);
            looked = Instant::now();
            still = if now == last {
                still + since
            } else {
                Duration::ZERO
            };
            last = now;
        }
    }

    fn look(&self, launcher: u32) -> Progress {
        let mut progress = Progress {
            printed: self.printed.load(Ordering::Relaxed),
            ..Progress::default()
        };
        let mut waiting = vec![launcher];
        while let Some(process) = waiting.pop() {
            // One that has ended since is counted by whoever waited for it.
            if let Some(ticks) = ticks(process) {
                progress.ticks += ticks;
                progress.processes += 1;
                children(process, &mut waiting);
            }
        }
        progress
    }
}

/// Processor time of a process and of its children that have ended, in clock ticks.
fn ticks(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, which may hold anything, is in brackets; the times are the 14th to 17th fields, and the 3rd is the first behind it.
    let behind = &stat[stat.rfind(')')? + 1..];
    let times = behind.split_whitespace().skip(11).take(4);
    times.map(|field| field.parse::<u64>().ok()).sum()
}

/// Each thread lists the children that it made.
fn children(process: u32, found: &mut Vec<u32>) {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else {
        return;
    };
    for thread in threads.flatten() {
        let listed = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(
            listed
                .split_whitespace()
                .filter_map(|id| id.parse::<u32>().ok()),
        );
    }
}
