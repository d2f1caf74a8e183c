//! What a step wrote into its directory becomes a tree: rules, report, and the entry point.

mod disk;
mod findings;
mod ignored;
mod take;
mod walk;

use std::path::Path;

use flow::id::TreeId;

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::names::NameFault;
use crate::objects;
use walk::{Form, Walk};

/// What an import takes, and where it stops.
///
/// `default()` takes changes everywhere within limits that fit a project; the driver narrows it to the grant.
pub struct ImportRules<'a> {
    /// Directory entries looked at, ignored directories not entered. Default 500,000.
    pub entries_max: u64,
    /// Bytes read in all. Default 4 GiB.
    pub bytes_max: u64,
    /// Bytes of one new or changed file. A larger file that the base has unchanged is fine. Default 64 MiB.
    pub file_bytes_max: u64,
    /// Levels of directories. Default 64.
    pub depth_max: usize,
    /// Names what was hidden from the writer: the base's entry stands, what was put there is refused.
    pub withheld: &'a dyn Fn(&str) -> bool,
    /// Names what may be changed: elsewhere the base's entry stands, and a change is refused.
    pub writable: &'a dyn Fn(&str) -> bool,
}

impl Default for ImportRules<'_> {
    fn default() -> Self {
        Self {
            entries_max: 500_000,
            bytes_max: 4 << 30,
            file_bytes_max: 64 << 20,
            depth_max: 64,
            withheld: &|_| false,
            writable: &|_| true,
        }
    }
}

/// What an import found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportReport {
    /// The tree: the base with the changes that were taken.
    pub tree: TreeId,
    /// The changes that were taken, in the order of paths.
    pub changed: Vec<Change>,
    /// What was not taken, and why; at most 1,000 of them.
    pub refused: Vec<Refused>,
    /// Refusals beyond those.
    pub refused_more: u64,
    /// Untracked files, and directories as a whole, that the base's `.gitignore` leaves out.
    pub ignored: u64,
    /// Files and symlinks read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
}

/// One path whose entry differs from the base's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: String,
    /// How it differs.
    pub kind: ChangeKind,
}

/// How an entry differs from the base's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The base has none.
    Added,
    /// Other content or another kind.
    Modified,
    /// Same content, other permission to execute.
    ModeChanged,
    /// It is gone.
    Deleted,
}

/// Something in the directory that was not taken. Where the base has an entry, that one stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its path, escaped.
    pub path: String,
    /// Why.
    pub reason: RefusedReason,
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusedReason {
    /// A bad name.
    #[error("bad name: {0}")]
    Name(NameFault),
    /// Another name differs from it only in case.
    #[error("another name here differs only in upper and lower case")]
    CaseCollision,
    /// A symlink that leads, or could lead, out of the worktree.
    #[error("the symlink leads out of the worktree")]
    SymlinkEscapes,
    /// A named pipe.
    #[error("it is a named pipe")]
    Pipe,
    /// A socket.
    #[error("it is a socket")]
    Socket,
    /// A device.
    #[error("it is a device")]
    Device,
    /// The file has more than one name, one of which may be outside.
    #[error("it is a hard link")]
    HardLink,
    /// Set-user-id, set-group-id or sticky.
    #[error("it has a set-user-id, set-group-id or sticky bit")]
    SpecialMode,
    /// Another file system is mounted there.
    #[error("another file system is mounted there")]
    OtherFileSystem,
    /// It cannot be opened.
    #[error("it cannot be read")]
    Unreadable,
    /// It was hidden from the writer.
    #[error("the path is withheld")]
    Withheld,
    /// It is outside what may be changed.
    #[error("the path is not writable")]
    NotWritable,
    /// It stands where the base has a submodule, or a symlink or name that is never written out.
    #[error("the base has something there that is not checked out")]
    NotCheckedOut,
    /// It replaces a directory of which something must stay.
    #[error("the directory there holds files that must stay")]
    DirectoryStays,
}

/// Why an import gave up: nothing is wrong with the base, and no tree was made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// More entries than allowed.
    #[error(
        "more than {max} files and directories (at {path}); add what the build makes to .gitignore on the base branch"
    )]
    TooManyEntries {
        /// Where the count ran over.
        path: String,
        /// The limit.
        max: u64,
    },
    /// More bytes than allowed.
    #[error(
        "more than {max} bytes in all (at {path}); add what the build makes to .gitignore on the base branch"
    )]
    TooManyBytes {
        /// Where the sum ran over.
        path: String,
        /// The limit.
        max: u64,
    },
    /// A file larger than allowed.
    #[error(
        "{path} has {size} bytes, and a changed file may have {max}; add it to .gitignore on the base branch, or keep it elsewhere"
    )]
    FileTooLarge {
        /// The file.
        path: String,
        /// Its size.
        size: u64,
        /// The limit.
        max: u64,
    },
    /// Deeper directories than allowed.
    #[error("{path} is more than {max} directories deep")]
    TooDeep {
        /// The directory.
        path: String,
        /// The limit.
        max: usize,
    },
    /// A layer that no mount of moat's made.
    #[error("{path} holds {what}, which no overlay of moat's makes: the layer is not taken")]
    Layer {
        /// Where.
        path: String,
        /// What it is.
        what: &'static str,
    },
    /// The store or the machine failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Mirror {
    /// Reads a directory that was materialised from `base`, and makes a tree of it.
    ///
    /// Only regular files, directories and contained symlinks are taken, each read once through directory handles:
    /// the bytes that were read are the bytes in the tree. Whatever wrote there should be dead by now; if it is not,
    /// the tree is still one consistent set of reads, and nothing done later changes it.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn import(
        &self,
        directory: &Path,
        base: &TreeId,
        rules: &ImportRules<'_>,
    ) -> Result<ImportReport, ImportError> {
        self.take_in(directory, base, rules, Form::Whole)
    }

    /// Reads the upper directory of an overlay that shows `base` beneath it, in one directory or several, and makes the tree that all of them
    /// are: what [`Mirror::import`] would find where the overlay is mounted, by looking only at what differs.
    ///
    /// The overlay must be one with `userxattr`, without `metacopy` and without `redirect_dir`, and not mounted any more.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn import_layer(
        &self,
        upper: &Path,
        base: &TreeId,
        rules: &ImportRules<'_>,
    ) -> Result<ImportReport, ImportError> {
        self.take_in(upper, base, rules, Form::Layer)
    }

    fn take_in(
        &self,
        directory: &Path,
        base: &TreeId,
        rules: &ImportRules<'_>,
        form: Form,
    ) -> Result<ImportReport, ImportError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let base = objects::oid(base.as_str())?;
        let root = disk::open_root(directory).map_err(|e| StoreError::io("open", directory, e))?;
        let mut walk = Walk::new(&odb, rules, directory, &root, form)?;
        let id = walk.root(&root, base)?;
        let (report, written) = walk.finish(objects::tree_id(id)?);
        objects::flush(&self.objects_dir(), &written)?;
        Ok(report)
    }
}
