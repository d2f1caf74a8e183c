//! What this machine can confine with, tried by confining something.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode};

use crate::command::{Command, Ending, Level, Limits, Mount, Network, Tree};
use crate::error::ConfineError;
use crate::launcher::Launcher;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What.
    pub name: &'static str,
    /// What was found.
    pub found: Found,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It works.
    Works(String),
    /// It does not.
    Missing {
        /// What the system said.
        why: String,
        /// What to do about it.
        mend: String,
    },
}

/// Confines a trivial program with each layer, and an overlay apart: package caches need it, the rest does not.
pub async fn probe(launcher: &Launcher, scratch: &Path) -> Vec<Probe> {
    let nothing = ["/bin/true"];
    let plain = attempt(launcher, vec![], &nothing).await;
    let overlay = match overlay_mount(scratch) {
        Ok(mount) => attempt(launcher, vec![mount], &nothing).await,
        Err(error) => missing(error, "make the state directory writable"),
    };
    vec![
        Probe {
            name: "namespaces, Landlock and seccomp",
            found: plain,
        },
        Probe {
            name: "overlays in user namespaces",
            found: overlay,
        },
    ]
}

/// Tries whether a [`Tree::Layers`] over two directories, in this one, does what a directory does, by changing one and looking at it from beneath
/// another overlay.
/// What is left in the directory is for [`crate::remove_tree`].
pub async fn probe_layers(launcher: &Launcher, scratch: &Path) -> Found {
    match Trial::new(scratch) {
        Ok(trial) => trial.run(launcher).await,
        Err(error) => missing(
            error,
            "keep the state directory on a file system that can be written, where anybody may make a device of number 0 (Linux 5.8 or newer)",
        ),
    }
}

fn missing(why: impl ToString, mend: &str) -> Found {
    Found::Missing {
        why: why.to_string(),
        mend: mend.into(),
    }
}

/// Where the trial's tree is seen.
const SEEN: &str = "/tried";

/// Everything that a layer has a form of its own for: a file changed and a file made, one removed, a directory that is there anew.
const CHANGE: &str = "cd /tried && echo new > changed && echo new > made && rm removed && rm -r anew && mkdir anew && mv renamed made-of-it && rm both/below";

/// Whether it is all seen so.
const LOOK: &str = "cd /tried && test \"$(cat changed made made-of-it)\" = \"new\nnew\nold\" && test ! -e removed && test -d anew && test ! -e anew/old \
    && test ! -e renamed && test \"$(cat kept replaced)\" = \"old\nold\" && test ! -e hidden && test \"$(ls both kind)\" = \"both:\nabove\nkept\n\nkind:\ninside\"";

struct Trial {
    tree: Tree,
    upper: PathBuf,
    work: PathBuf,
}

impl Trial {
    fn new(scratch: &Path) -> std::io::Result<Trial> {
        let part = |name: &str| -> std::io::Result<PathBuf> {
            let path = scratch.join(name);
            std::fs::create_dir_all(&path)?;
            Ok(path)
        };
        let (upper, lower) = (part("between")?, part("lower")?);
        std::fs::create_dir_all(lower.join("anew"))?;
        for file in ["changed", "removed", "renamed", "kept", "anew/old"] {
            std::fs::write(lower.join(file), "old\n")?;
        }
        for directory in [upper.join("both"), upper.join("kind"), lower.join("both")] {
            std::fs::create_dir_all(directory)?;
        }
        for file in [
            "replaced",
            "hidden",
            "kind",
            "both/hidden",
            "both/below",
            "both/kept",
        ] {
            std::fs::write(lower.join(file), "older\n")?;
        }
        for file in ["replaced", "kind/inside", "both/above"] {
            std::fs::write(upper.join(file), "old\n")?;
        }
        for file in ["hidden", "both/hidden"] {
            let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
            rustix::fs::mknodat(CWD, upper.join(file), kind, mode, 0).map_err(|errno| {
                let error = std::io::Error::from(errno);
                std::io::Error::new(
                    error.kind(),
                    format!("a file cannot be marked as gone (mknod): {error}"),
                )
            })?;
        }
        Ok(Trial {
            tree: Tree::Layers {
                lower: vec![upper, lower],
                upper: part("upper")?,
                work: part("work")?,
            },
            upper: part("upper-over-it")?,
            work: part("work-over-it")?,
        })
    }

    async fn run(self, launcher: &Launcher) -> Found {
        let changed = Mount::Tree {
            tree: self.tree.clone(),
            writable: vec![PathBuf::new()],
            inside: SEEN.into(),
        };
        let found = attempt(launcher, vec![changed], &["/bin/sh", "-c", CHANGE]).await;
        if !matches!(found, Found::Works(_)) {
            return found;
        }
        let over_it = Mount::Overlay {
            lower: self.tree.layers(),
            upper: self.upper,
            work: self.work,
            inside: SEEN.into(),
        };
        attempt(launcher, vec![over_it], &["/bin/sh", "-c", LOOK]).await
    }
}

async fn attempt(launcher: &Launcher, mut mounts: Vec<Mount>, argv: &[&str]) -> Found {
    for path in ["/usr", "/lib", "/lib64", "/bin"] {
        if let Ok(host) = std::fs::canonicalize(path) {
            mounts.push(Mount::ReadOnly {
                host,
                inside: path.into(),
            });
        }
    }
    let command = Command {
        program: argv.first().copied().unwrap_or_default().into(),
        args: argv.iter().skip(1).map(|arg| (*arg).to_owned()).collect(),
        env: Default::default(),
        directory: "/".into(),
        mounts,
        network: Network::None,
        limits: Limits::for_builds(Duration::from_secs(10)),
        since: None,
        stdin: vec![],
        pass: vec![],
    };
    match launcher.run(command).await {
        Ok(finished) if finished.ending == Ending::Exited(0) => Found::Works(format!(
            "{:.1} ms to start{}",
            finished.duration.as_secs_f64() * 1e3,
            match finished.level {
                Level::Full => "",
                Level::Namespaces => ", WITHOUT Landlock, as the policy accepts",
            }
        )),
        Ok(finished) => {
            let said = String::from_utf8_lossy(&finished.stderr);
            let why = format!("the trial ended with {:?} {}", finished.ending, said.trim());
            missing(why.trim_end(), "report this with the kernel's version")
        }
        Err(ConfineError::Setup { step, error, mend }) => missing(format!("{step}: {error}"), mend),
        Err(error) => missing(error, "see the message"),
    }
}

fn overlay_mount(scratch: &Path) -> std::io::Result<Mount> {
    let part = |name: &str| -> std::io::Result<PathBuf> {
        let path = scratch.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    Ok(Mount::Overlay {
        lower: vec![part("lower")?],
        upper: part("upper")?,
        work: part("work")?,
        inside: "/overlay".into(),
    })
}
