//! A place to run programs in, and how to see what is left of them.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use confine::{Command, Finished, Launcher, Limits, Mount, Network, Toolchains};
use tempfile::TempDir;

/// Directories of one test, gone at its end.
pub struct Place {
    pub launcher: Launcher,
    pub tools: Toolchains,
    pub scratch: TempDir,
    pub work: TempDir,
    pub _turn: Turn,
}

/// Tests that load the whole machine run alone: others assert how soon something is gone.
static TURNS: RwLock<()> = RwLock::new(());

#[expect(dead_code, reason = "held, not read")]
pub enum Turn {
    Shared(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
    Beside,
}

impl Turn {
    pub fn alone() -> Turn {
        Turn::Alone(TURNS.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    pub fn new() -> Place {
        Place::with(Turn::Shared(
            TURNS.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// For a program that loads the whole machine.
    pub fn alone() -> Place {
        Place::with(Turn::alone())
    }

    /// A second place in one test.
    pub fn beside() -> Place {
        Place::with(Turn::Beside)
    }

    fn with(turn: Turn) -> Place {
        Place {
            _turn: turn,
            launcher: Launcher::new(launcher()),
            tools: Toolchains::discover(&|name| std::env::var_os(name)),
            scratch: TempDir::new().unwrap(),
            work: TempDir::new().unwrap(),
        }
    }

    pub fn command(&self, program: &str, args: &[&str], wall: Duration) -> Command {
        let mut mounts = self.tools.mounts(self.scratch.path()).unwrap();
        mounts.push(Mount::ReadWrite {
            host: self.work.path().into(),
            inside: "/workspace".into(),
        });
        Command {
            program: self.tools.resolve(program).unwrap(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: self.tools.env(),
            directory: "/workspace".into(),
            mounts,
            network: Network::None,
            limits: Limits {
                output_bytes: 64 * 1024,
                ..Limits::for_builds(wall)
            },
            since: None,
            stdin: vec![],
            pass: vec![],
        }
    }

    pub async fn sh(&self, script: &str) -> Finished {
        self.launcher
            .run(self.command("sh", &["-c", script], Duration::from_secs(60)))
            .await
            .unwrap()
    }

    pub async fn python(&self, script: &str) -> Finished {
        self.launcher
            .run(self.command("python3", &["-c", script], Duration::from_secs(60)))
            .await
            .unwrap()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Processes anywhere on the machine whose command line holds the mark.
pub fn alive(mark: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes()))
        .count()
}

pub async fn gone(mark: &str) {
    let begun = Instant::now();
    while alive(mark) > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{} left of {mark}",
            alive(mark)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The program that becomes a launcher; another copy where the tests run as somebody else (see `ordinary`).
pub fn launcher() -> std::path::PathBuf {
    std::env::var_os("MOAT_TEST_LAUNCHER")
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_confine-launcher").into())
        .into()
}

/// Processes anywhere on the machine that go by this name, the dying among them.
pub fn named(name: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("comm")).ok())
        .filter(|comm| comm.trim() == name)
        .count()
}
