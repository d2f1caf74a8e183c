//! What this machine can confine with, tried by confining something.

use std::time::Duration;

use crate::command::{Command, Ending, Level, Limits, Mount, Network};
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
pub async fn probe(launcher: &Launcher, scratch: &std::path::Path) -> Vec<Probe> {
    let plain = attempt(launcher, vec![]).await;
    let overlay = match overlay_mount(scratch) {
        Ok(mount) => attempt(launcher, vec![mount]).await,
        Err(error) => Found::Missing {
            why: error.to_string(),
            mend: "make the state directory writable".into(),
        },
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

async fn attempt(launcher: &Launcher, mut mounts: Vec<Mount>) -> Found {
    for path in ["/usr", "/lib", "/lib64", "/bin"] {
        if let Ok(host) = std::fs::canonicalize(path) {
            mounts.push(Mount::ReadOnly {
                host,
                inside: path.into(),
            });
        }
    }
    let command = Command {
        program: "/bin/true".into(),
        args: vec![],
        env: Default::default(),
        directory: "/".into(),
        mounts,
        network: Network::None,
        limits: Limits::for_builds(Duration::from_secs(10)),
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
        Ok(finished) => Found::Missing {
            why: format!("the trial ended with {:?}", finished.ending),
            mend: "report this with the kernel's version".into(),
        },
        Err(ConfineError::Setup { step, error, mend }) => Found::Missing {
            why: format!("{step}: {error}"),
            mend: mend.into(),
        },
        Err(error) => Found::Missing {
            why: error.to_string(),
            mend: "see the message".into(),
        },
    }
}

fn overlay_mount(scratch: &std::path::Path) -> std::io::Result<Mount> {
    let part = |name: &str| -> std::io::Result<std::path::PathBuf> {
        let path = scratch.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    };
    Ok(Mount::Overlay {
        lower: part("lower")?,
        upper: part("upper")?,
        work: part("work")?,
        inside: "/overlay".into(),
    })
}
