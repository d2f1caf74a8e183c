//! What the base's own `.gitignore` files leave out. Those in the directory are never read.

use git2::{ObjectType, Odb};
use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use crate::error::StoreError;
use crate::objects;
use crate::tree::{EntryKind, Item};

/// A longer `.gitignore` is cut; it is data of the project, but its patterns cost time for every file.
const BYTES_MAX: usize = 1 << 20;

/// The patterns that hold in a directory: its own, then its parents'.
#[derive(Default)]
pub(super) struct Ignored {
    /// From the root inwards: the directory of a `.gitignore`, and its patterns.
    levels: Vec<(String, Gitignore)>,
}

impl Ignored {
    /// Adds the patterns of a directory of the base; answers whether there were any.
    pub(super) fn enter(
        &mut self,
        odb: &Odb<'_>,
        path: &str,
        items: &[Item],
    ) -> Result<bool, StoreError> {
        let own = items
            .iter()
            .find(|i| i.name == b".gitignore" && matches!(i.kind(), EntryKind::File { .. }));
        let Some(own) = own else { return Ok(false) };
        let blob = objects::read(odb, own.id, ObjectType::Blob, "file")?;
        let data = blob.data();
        let text = String::from_utf8_lossy(data.get(..BYTES_MAX).unwrap_or(data)).into_owned();
        let mut builder = GitignoreBuilder::new("");
        for line in text.lines() {
            // As git does, a pattern that cannot be read matches nothing.
            let _ = builder.add_line(None, line);
        }
        let Ok(patterns) = builder.build() else {
            return Ok(false);
        };
        self.levels.push((path.to_owned(), patterns));
        Ok(true)
    }

    /// Forgets the patterns of the directory entered last.
    pub(super) fn leave(&mut self) {
        self.levels.pop();
    }

    /// Whether an untracked path, whose directory is not ignored, is ignored.
    pub(super) fn matches(&self, path: &str, is_directory: bool) -> bool {
        for (directory, patterns) in self.levels.iter().rev() {
            let below = path
                .strip_prefix(directory.as_str())
                .unwrap_or(path)
                .trim_start_matches('/');
            match patterns.matched(below, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}
