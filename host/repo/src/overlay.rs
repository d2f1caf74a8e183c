//! Lays the base's own versions of some paths over a candidate: what the `base-tests` gate runs.

use flow::id::TreeId;
use git2::{Odb, Oid};

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::objects;
use crate::tree::{self, Bounds, Item, MODE_TREE};

impl Mirror {
    /// The candidate, but for every path that `matches`: there the base decides alone.
    ///
    /// Asked for files, symlinks and submodules, never for directories:
    /// - a matching path that the base has comes out as in the base, whether the candidate changed, removed or kept it;
    /// - a matching path that only the candidate has stays out;
    /// - any other path comes out as in the candidate;
    /// - where a matching path of the base needs a directory and the candidate has a file, or the other way round, the
    ///   base's path wins and the candidate's goes.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn overlay(
        &self,
        candidate: &TreeId,
        base: &TreeId,
        matches: &dyn Fn(&str) -> bool,
    ) -> Result<TreeId, StoreError> {
        let repo = self.repository()?;
        let odb = repo.odb().doing("open the objects")?;
        let (candidate, base) = (
            objects::oid(candidate.as_str())?,
            objects::oid(base.as_str())?,
        );
        if candidate == base {
            return objects::tree_id(base);
        }
        let mut overlay = Overlay {
            odb: &odb,
            matches,
            written: Vec::new(),
            bounds: Bounds::new(candidate),
        };
        let items = overlay.directory(Some(candidate), Some(base), "", 0)?;
        let id = overlay.write(items)?;
        objects::flush(&self.objects_dir(), &overlay.written)?;
        objects::tree_id(id)
    }
}

struct Overlay<'a> {
    odb: &'a Odb<'a>,
    matches: &'a dyn Fn(&str) -> bool,
    written: Vec<Oid>,
    bounds: Bounds,
}

impl Overlay<'_> {
    fn directory(
        &mut self,
        candidate: Option<Oid>,
        base: Option<Oid>,
        path: &str,
        depth: usize,
    ) -> Result<Vec<Item>, StoreError> {
        let pairs = tree::pair(self.odb, [candidate, base])?;
        self.bounds.enter(pairs.len(), depth)?;
        let mut result = Vec::with_capacity(pairs.len());
        for (name, [candidate, base]) in pairs {
            if candidate == base {
                // Equal entries come out the same whoever decides.
                result.extend(candidate);
                continue;
            }
            let path = tree::join(path, &String::from_utf8_lossy(&name));
            let (candidate_tree, base_tree) = (tree::subtree(&candidate), tree::subtree(&base));
            let below = match (candidate_tree, base_tree) {
                (None, None) => Vec::new(),
                (c, b) => self.directory(c, b, &path, depth + 1)?,
            };
            let (candidate, base) = (
                candidate.filter(|i| !i.is_tree()),
                base.filter(|i| !i.is_tree()),
            );
            let from_base = (candidate.is_some() || base.is_some()) && (self.matches)(&path);
            match if from_base { base } else { candidate } {
                // Where the candidate has a leaf, all that is below comes from the base, which wins.
                Some(leaf) if from_base || below.is_empty() => result.push(leaf),
                _ if below.is_empty() => {}
                _ => result.push(Item {
                    mode: MODE_TREE,
                    name,
                    id: self.write(below)?,
                }),
            }
        }
        Ok(result)
    }

    fn write(&mut self, items: Vec<Item>) -> Result<Oid, StoreError> {
        let id = tree::write(self.odb, items)?;
        self.written.push(id);
        Ok(id)
    }
}
