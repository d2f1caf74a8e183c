//! Tree objects as they are: parsed, checked, walked and written byte for byte.
//!
//! Own code instead of `git2::TreeBuilder`, because a tree of the base must come back with the same id whatever
//! names and modes it holds, and because names are checked by our rules when they enter, not by git's.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use git2::{ObjectType, Odb, Oid};

use crate::error::{Doing, StoreError};
use crate::objects;

/// Deeper trees are no project but an attack on the stack.
pub(crate) const DEPTH_MAX: usize = 256;

/// More entries than any project has; stops a tree that names itself a million times over.
pub(crate) const ENTRIES_MAX: usize = 2_000_000;

/// What a tree entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link; its content is the target.
    Symlink,
    /// A directory.
    Directory,
    /// A commit of another repository.
    Submodule,
}

pub(crate) const MODE_FILE: u32 = 0o100_644;
pub(crate) const MODE_EXECUTABLE: u32 = 0o100_755;
pub(crate) const MODE_LINK: u32 = 0o120_000;
pub(crate) const MODE_TREE: u32 = 0o040_000;

/// One entry of a tree object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) mode: u32,
    pub(crate) name: Vec<u8>,
    pub(crate) id: Oid,
}

impl Item {
    pub(crate) fn kind(&self) -> EntryKind {
        match self.mode & 0o170_000 {
            0o040_000 => EntryKind::Directory,
            0o120_000 => EntryKind::Symlink,
            0o160_000 => EntryKind::Submodule,
            _ => EntryKind::File {
                executable: self.mode & 0o100 != 0,
            },
        }
    }

    pub(crate) fn is_tree(&self) -> bool {
        self.kind() == EntryKind::Directory
    }
}

/// Reads one tree object.
pub(crate) fn read(odb: &Odb<'_>, id: Oid) -> Result<Vec<Item>, StoreError> {
    let object = objects::read(odb, id, ObjectType::Tree, "tree")?;
    parse(object.data()).map_err(|why| StoreError::BrokenTree {
        id: id.to_string(),
        why,
    })
}

/// Writes one tree object; the items may come in any order, no two of one name.
pub(crate) fn write(odb: &Odb<'_>, mut items: Vec<Item>) -> Result<Oid, StoreError> {
    odb.write(ObjectType::Tree, &serialise(&mut items))
        .doing("write a tree")
}

/// The items in the order and form of a tree object.
pub(crate) fn serialise(items: &mut [Item]) -> Vec<u8> {
    items.sort_by(compare);
    let mut data = Vec::with_capacity(items.len() * 40);
    for item in items {
        data.extend_from_slice(format!("{:o} ", item.mode).as_bytes());
        data.extend_from_slice(&item.name);
        data.push(0);
        data.extend_from_slice(item.id.as_bytes());
    }
    data
}

fn parse(mut data: &[u8]) -> Result<Vec<Item>, &'static str> {
    let mut items: Vec<Item> = Vec::new();
    while !data.is_empty() {
        let space = data
            .iter()
            .take(8)
            .position(|b| *b == b' ')
            .ok_or("an entry has no mode")?;
        let (mode, rest) = data.split_at(space);
        let mode = std::str::from_utf8(mode)
            .ok()
            .and_then(|m| u32::from_str_radix(m, 8).ok())
            .ok_or("a mode is not octal")?;
        if !matches!(
            mode & 0o170_000,
            0o040_000 | 0o100_000 | 0o120_000 | 0o160_000
        ) {
            return Err("a mode is of no known kind");
        }
        let rest = rest.get(1..).unwrap_or_default();
        let nul = rest
            .iter()
            .position(|b| *b == 0)
            .ok_or("a name has no end")?;
        let (name, rest) = rest.split_at(nul);
        let id = rest.get(1..21).ok_or("an entry has no id")?;
        if name.is_empty() || name.contains(&b'/') {
            return Err("a name is empty or holds a slash");
        }
        let item = Item {
            mode,
            name: name.to_vec(),
            id: Oid::from_bytes(id).map_err(|_| "an entry has no id")?,
        };
        if let Some(last) = items.last()
            && compare(last, &item) != Ordering::Less
        {
            return Err("its entries are doubled or out of order");
        }
        // A file and a directory of one name need not be neighbours in git's order.
        if item.is_tree()
            && items
                .binary_search_by(|i| order((&i.name, i.is_tree()), (&item.name, false)))
                .is_ok()
        {
            return Err("two of its entries have one name");
        }
        items.push(item);
        data = rest.get(21..).unwrap_or_default();
    }
    Ok(items)
}

fn compare(a: &Item, b: &Item) -> Ordering {
    order((&a.name, a.is_tree()), (&b.name, b.is_tree()))
}

/// git's order of names, each with whether it is a directory's: that sorts as if its name ended in `/`.
fn order(a: (&[u8], bool), b: (&[u8], bool)) -> Ordering {
    let common = a.0.len().min(b.0.len());
    let end = |(name, is_tree): (&[u8], bool)| {
        name.get(common)
            .copied()
            .unwrap_or(if is_tree { b'/' } else { 0 })
    };
    a.0.get(..common)
        .cmp(&b.0.get(..common))
        .then_with(|| end(a).cmp(&end(b)))
}

/// The path of an entry of `directory` (empty for the root).
pub(crate) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// Bounds a walk over trees: depth and number of entries.
pub(crate) struct Bounds {
    root: Oid,
    entries: usize,
}

impl Bounds {
    pub(crate) fn new(root: Oid) -> Self {
        Self { root, entries: 0 }
    }

    pub(crate) fn enter(&mut self, entries: usize, depth: usize) -> Result<(), StoreError> {
        self.entries += entries;
        let too = |what, max| {
            Err(StoreError::TreeTooLarge {
                id: self.root.to_string(),
                what,
                max,
            })
        };
        if depth > DEPTH_MAX {
            return too("levels", DEPTH_MAX);
        }
        if self.entries > ENTRIES_MAX {
            return too("entries", ENTRIES_MAX);
        }
        Ok(())
    }
}

/// Called with a raw path and its entry; answers whether to enter a directory.
type Visit<'v> = dyn FnMut(&[u8], &Item) -> Result<bool, StoreError> + 'v;

/// Calls `visit` with the raw path of every entry below `root`, directories first; a directory for which it answers
/// false is not entered.
pub(crate) fn walk(odb: &Odb<'_>, root: Oid, visit: &mut Visit<'_>) -> Result<(), StoreError> {
    walk_below(odb, root, &mut Vec::new(), 0, &mut Bounds::new(root), visit)
}

fn walk_below(
    odb: &Odb<'_>,
    id: Oid,
    path: &mut Vec<u8>,
    depth: usize,
    bounds: &mut Bounds,
    visit: &mut Visit<'_>,
) -> Result<(), StoreError> {
    let items = read(odb, id)?;
    bounds.enter(items.len(), depth)?;
    let length = path.len();
    for item in items {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&item.name);
        if visit(path, &item)? && item.is_tree() {
            walk_below(odb, item.id, path, depth + 1, bounds, visit)?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// A path whose leaf (file, symlink or submodule) differs between two trees.
pub(crate) struct Difference {
    pub(crate) path: Vec<u8>,
    pub(crate) old: Option<Item>,
    pub(crate) new: Option<Item>,
}

/// Every leaf that differs between two trees; reads only what differs.
pub(crate) fn differences(
    odb: &Odb<'_>,
    old: Oid,
    new: Oid,
) -> Result<Vec<Difference>, StoreError> {
    let mut found = Vec::new();
    let mut bounds = Bounds::new(new);
    differences_below(odb, Some(old), Some(new), &[], 0, &mut bounds, &mut found)?;
    Ok(found)
}

fn differences_below(
    odb: &Odb<'_>,
    old: Option<Oid>,
    new: Option<Oid>,
    path: &[u8],
    depth: usize,
    bounds: &mut Bounds,
    found: &mut Vec<Difference>,
) -> Result<(), StoreError> {
    if old == new {
        return Ok(());
    }
    for (name, [old, new]) in differing(odb, [old, new], depth, bounds)? {
        let path = if path.is_empty() {
            name
        } else {
            [path, b"/", &name].concat()
        };
        let (old_tree, new_tree) = (subtree(&old), subtree(&new));
        let (old, new) = (old.filter(|i| !i.is_tree()), new.filter(|i| !i.is_tree()));
        if old_tree.is_some() || new_tree.is_some() {
            differences_below(odb, old_tree, new_tree, &path, depth + 1, bounds, found)?;
        }
        if old.is_some() || new.is_some() {
            found.push(Difference { path, old, new });
        }
    }
    Ok(())
}

/// The entries of two trees that differ, side by side, by name.
pub(crate) fn differing(
    odb: &Odb<'_>,
    trees: [Option<Oid>; 2],
    depth: usize,
    bounds: &mut Bounds,
) -> Result<impl Iterator<Item = (Vec<u8>, [Option<Item>; 2])> + use<>, StoreError> {
    let pairs = pair(odb, trees)?;
    bounds.enter(pairs.len(), depth)?;
    Ok(pairs.into_iter().filter(|(_, [old, new])| old != new))
}

/// The id of an entry that is a directory.
pub(crate) fn subtree(item: &Option<Item>) -> Option<Oid> {
    item.as_ref().filter(|i| i.is_tree()).map(|i| i.id)
}

/// The entries of several trees side by side, by name; a tree that is not there has none.
pub(crate) fn pair<const N: usize>(
    odb: &Odb<'_>,
    trees: [Option<Oid>; N],
) -> Result<BTreeMap<Vec<u8>, [Option<Item>; N]>, StoreError> {
    let mut pairs: BTreeMap<Vec<u8>, [Option<Item>; N]> = BTreeMap::new();
    for (side, tree) in trees.into_iter().enumerate() {
        let Some(tree) = tree else { continue };
        for item in read(odb, tree)? {
            let entry = pairs
                .entry(item.name.clone())
                .or_insert_with(|| std::array::from_fn(|_| None));
            if let Some(slot) = entry.get_mut(side) {
                *slot = Some(item);
            }
        }
    }
    Ok(pairs)
}

/// The entry at a path, as far as plain directories lead there.
pub(crate) fn find(odb: &Odb<'_>, root: Oid, path: &str) -> Result<Option<Item>, StoreError> {
    let mut tree = root;
    let mut components = path.split('/').peekable();
    while let Some(component) = components.next() {
        let Some(item) = read(odb, tree)?
            .into_iter()
            .find(|i| i.name == component.as_bytes())
        else {
            return Ok(None);
        };
        if components.peek().is_none() {
            return Ok(Some(item));
        }
        if !item.is_tree() {
            return Ok(None);
        }
        tree = item.id;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    fn item(mode: u32, name: &str) -> Item {
        Item {
            mode,
            name: name.as_bytes().to_vec(),
            id: Oid::from_bytes(&[7; 20]).unwrap(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_in_gits_order() {
        let mut items = vec![
            item(MODE_TREE, "foo"),
            item(MODE_FILE, "foo.c"),
            item(MODE_FILE, "foo0"),
            item(0o100_664, "a"),
        ];
        let data = serialise(&mut items);
        let names: Vec<_> = items
            .iter()
            .map(|i| String::from_utf8(i.name.clone()).unwrap())
            .collect();
        assert_eq!(names, ["a", "foo.c", "foo", "foo0"]);
        assert_eq!(parse(&data).unwrap(), items);
    }

    #[test]
    fn broken_trees_are_refused() {
        let good = serialise(&mut [item(MODE_FILE, "a")]);
        let later = serialise(&mut [item(MODE_FILE, "b")]);
        let twice = [
            item(MODE_FILE, "a"),
            item(MODE_FILE, "a.b"),
            item(MODE_TREE, "a"),
        ];
        for (data, why) in [
            (serialise(&mut twice.clone()), "one name"),
            ([good.clone(), good.clone()].concat(), "doubled"),
            ([later, good.clone()].concat(), "order"),
            (good[..good.len() - 1].to_vec(), "no id"),
            (b"100644 a".to_vec(), "no end"),
            (b"99 a\0".to_vec(), "octal"),
            (b"010644 a\0aaaaaaaaaaaaaaaaaaaa".to_vec(), "kind"),
            (b"100644 a/b\0aaaaaaaaaaaaaaaaaaaa".to_vec(), "slash"),
            (b"100644 \0aaaaaaaaaaaaaaaaaaaa".to_vec(), "empty"),
        ] {
            let error = parse(&data).unwrap_err();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
