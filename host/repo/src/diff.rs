//! The difference of two trees, for people and gates: every file with its counts, and a patch of bounded size.
//!
//! Attributes (`-diff`, `linguist-generated`, `textconv`) are not asked: a candidate does not decide what its reviewer
//! sees. Control and text direction characters stay in the patch as data; whoever shows it makes them visible.

use flow::id::TreeId;
use git2::{Delta, DiffOptions, Oid, Patch, Repository};

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::names;
use crate::objects;

/// How much of a difference is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiffLimits {
    /// Bytes of patch text. Default 1 MiB. The list of files is always whole.
    pub patch_bytes_max: usize,
    /// A larger file counts as binary. Default 4 MiB.
    pub file_bytes_max: u32,
    /// Unchanged lines around a change. Default 3.
    pub context_lines: u32,
}

impl Default for DiffLimits {
    fn default() -> Self {
        Self {
            patch_bytes_max: 1 << 20,
            file_bytes_max: 4 << 20,
            context_lines: 3,
        }
    }
}

/// The difference of two trees. Renames are shown as a removal and an addition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Every file that differs, in the order of paths.
    pub files: Vec<FileChange>,
    /// A unified patch; bytes that are not UTF-8 are replaced.
    pub patch: String,
    /// Whether files are missing from the patch because it would be too long.
    pub truncated: bool,
}

/// One file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Its path; bytes that are not UTF-8 and control characters are escaped.
    pub path: String,
    /// How it differs.
    pub status: FileStatus,
    /// Its mode before, such as `0o100644`; 0 when it was not there.
    pub old_mode: u32,
    /// Its mode after; 0 when it is gone. `0o120000` is a symlink, `0o160000` a submodule.
    pub new_mode: u32,
    /// Lines added; 0 for a binary file.
    pub additions: u64,
    /// Lines removed; 0 for a binary file.
    pub deletions: u64,
    /// Whether it holds NUL bytes or is too large to compare by lines.
    pub binary: bool,
}

/// How a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileStatus {
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
    /// Its content or its permission to execute differs.
    Modified,
    /// It was a file and is a symlink, or the like.
    KindChanged,
}

impl Mirror {
    /// Compares two trees.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn diff(
        &self,
        old: &TreeId,
        new: &TreeId,
        limits: &DiffLimits,
    ) -> Result<Diff, StoreError> {
        let repo = self.repository()?;
        let old = find(&repo, objects::oid(old.as_str())?)?;
        let new = find(&repo, objects::oid(new.as_str())?)?;
        let mut options = DiffOptions::new();
        options
            .context_lines(limits.context_lines)
            .max_size(i64::from(limits.file_bytes_max))
            .include_typechange(true)
            .ignore_submodules(false)
            .indent_heuristic(true)
            .id_abbrev(40);
        let diff = repo
            .diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))
            .doing("compare two trees")?;

        let mut out = Diff::default();
        for index in 0..diff.deltas().len() {
            let Some(delta) = diff.get_delta(index) else {
                continue;
            };
            let patch = Patch::from_diff(&diff, index).doing("compare two files")?;
            // Loading the patch is what tells libgit2 whether the file is binary.
            let binary = patch.as_ref().is_none_or(|p| p.delta().flags().is_binary());
            let (additions, deletions) = match &patch {
                Some(patch) if !binary => {
                    let (_, additions, deletions) =
                        patch.line_stats().doing("compare two files")?;
                    (additions as u64, deletions as u64)
                }
                _ => (0, 0),
            };
            let (was, is) = (delta.old_file(), delta.new_file());
            let path = is.path_bytes().or(was.path_bytes()).unwrap_or_default();
            let (old_mode, new_mode) = (u32::from(was.mode()), u32::from(is.mode()));
            let status = match delta.status() {
                Delta::Added => FileStatus::Added,
                Delta::Deleted => FileStatus::Deleted,
                Delta::Typechange => FileStatus::KindChanged,
                _ => FileStatus::Modified,
            };
            out.files.push(FileChange {
                path: names::escape(path),
                status,
                old_mode,
                new_mode,
                additions,
                deletions,
                binary,
            });
            if let Some(mut patch) = patch {
                // Once something did not fit nothing more is added: a patch with holes would mislead.
                let size = patch.size(true, true, true);
                if out.truncated || out.patch.len() + size > limits.patch_bytes_max {
                    out.truncated = true;
                    continue;
                }
                let text = patch.to_buf().doing("write a patch")?;
                out.patch.push_str(&String::from_utf8_lossy(&text));
            }
        }
        Ok(out)
    }
}

fn find(repo: &Repository, id: Oid) -> Result<git2::Tree<'_>, StoreError> {
    repo.find_tree(id).map_err(|source| match source.code() {
        git2::ErrorCode::NotFound => StoreError::Missing {
            kind: "tree",
            id: id.to_string(),
        },
        _ => StoreError::Git {
            doing: "read a tree",
            source,
        },
    })
}
