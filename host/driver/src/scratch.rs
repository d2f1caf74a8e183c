//! What the commands of one view leave beside it: build outputs, package caches, and the layer that takes what they write into the view.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use confine::{DiskMark, Mount};
use repo::Lease;

use crate::builds;

/// Where build outputs go: beside the view, so that they are not taken for a change.
pub(crate) const BUILD: &str = "/build";

/// What was kept of a run of the project's own test command on the view's tree.
#[derive(Debug)]
struct Before {
    kept: Lease,
    /// The directories that `[project] installed` names.
    installed: Vec<PathBuf>,
}

/// A directory for what the commands of one view leave.
#[derive(Debug)]
pub struct Scratch {
    directory: PathBuf,
    /// What was built of the view's tree before, and lies beneath what is built now. Nobody removes it meanwhile.
    before: OnceLock<Before>,
    is_mixed: AtomicBool,
    sets_aside: AtomicBool,
    /// How much was free before anything was left here.
    mark: DiskMark,
}

impl Scratch {
    /// In this directory, which need not be there yet; the one above it is.
    pub fn at(directory: &Path) -> Scratch {
        Scratch {
            mark: DiskMark::now(directory.parent().unwrap_or(directory)),
            directory: directory.to_owned(),
            before: OnceLock::new(),
            is_mixed: AtomicBool::new(false),
            sets_aside: AtomicBool::new(false),
        }
    }

    /// Puts what was built before beneath; once, and before the first command.
    pub(crate) fn build_on(&self, kept: Lease, installed: Vec<PathBuf>) {
        // A second one would cover nothing that the first has not.
        let _ = self.before.set(Before { kept, installed });
    }

    /// Whether all that was built here is what whole runs of the project's own test command built.
    pub(crate) fn is_pure(&self) -> bool {
        !self.is_mixed.load(Ordering::Relaxed)
    }

    /// It may hold what a skill's choice, or half a run, left: so before each command, until it is known how that ended.
    pub(crate) fn mix(&self) {
        self.is_mixed.store(true, Ordering::Relaxed);
    }

    /// The command has ended, and left it as pure as it was.
    pub(crate) fn hold_pure(&self) {
        self.is_mixed.store(false, Ordering::Relaxed);
    }

    /// From now on what the project's own test command writes into the view is set aside when it has ended, and not thrown away.
    pub(crate) fn set_aside(&self) {
        self.sets_aside.store(true, Ordering::Relaxed);
    }

    pub(crate) fn sets_aside(&self) -> bool {
        self.sets_aside.load(Ordering::Relaxed)
    }

    /// What the last of them wrote into the view, as a layer over it.
    pub(crate) fn aside(&self) -> PathBuf {
        self.directory.join("aside")
    }

    /// What was installed in the view's tree before: each directory by its path, and the root that holds it there.
    pub(crate) fn installed(&self) -> impl Iterator<Item = (&Path, PathBuf)> {
        self.before.get().into_iter().flat_map(|before| {
            let paths = before.installed.iter().enumerate();
            paths.filter_map(|(number, path)| {
                Some((path.as_path(), builds::installed(&before.kept, number)?))
            })
        })
    }

    pub(crate) fn caches(&self) -> PathBuf {
        self.directory.join("caches")
    }

    pub(crate) fn layer(&self) -> PathBuf {
        self.directory.join("layer")
    }

    pub(crate) fn build(&self) -> PathBuf {
        self.directory.join("build")
    }

    pub(crate) fn mark(&self) -> DiskMark {
        self.mark.clone()
    }

    /// The build directory as commands see it.
    pub(crate) fn build_mount(&self) -> std::io::Result<Mount> {
        let (build, inside) = (self.build(), PathBuf::from(BUILD));
        std::fs::create_dir_all(&build)?;
        let Some(before) = self.before.get() else {
            return Ok(Mount::ReadWrite {
                host: build,
                inside,
            });
        };
        let work = self.directory.join("build-work");
        std::fs::create_dir_all(&work)?;
        Ok(Mount::Overlay {
            lower: vec![builds::outputs(&before.kept)],
            upper: build,
            work,
            inside,
        })
    }
}
