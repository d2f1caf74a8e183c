//! The walk over a directory and its base at once, entry by entry, and the tree that comes out.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;

use flow::id::TreeId;
use git2::{ObjectType, Odb, Oid};

use super::disk::{self, NotRead, OnDisk};
use super::findings::Findings;
use super::ignored::Ignored;
use super::{ChangeKind, ImportError, ImportReport, ImportRules, RefusedReason};
use crate::error::{Doing, StoreError};
use crate::materialise;
use crate::names;
use crate::tree::{self, EntryKind, Item, MODE_EXECUTABLE, MODE_FILE, MODE_LINK, MODE_TREE};

pub(super) struct Walk<'a> {
    odb: &'a Odb<'a>,
    rules: &'a ImportRules<'a>,
    directory: &'a Path,
    device: u64,
    ignored: Ignored,
    written: Vec<Oid>,
    entries: u64,
    report: Findings,
}

/// A directory on its way through the walk.
struct Place<'p> {
    /// Its handle; none where only the base has it.
    handle: Option<&'p OwnedFd>,
    /// Its path from the root, empty for the root.
    path: &'p str,
    depth: usize,
    /// Whether an ignored directory encloses it: then nothing untracked below counts.
    ignored: bool,
}

/// What is there now and what the base has, by name.
type Pairs = BTreeMap<Vec<u8>, (Option<OnDisk>, Option<Item>)>;

/// One name in a directory: what is there now, and what the base has.
struct Pair {
    path: String,
    disk: Option<OnDisk>,
    base: Option<Item>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        odb: &'a Odb<'a>,
        rules: &'a ImportRules<'a>,
        directory: &'a Path,
        root: &OwnedFd,
    ) -> Result<Self, StoreError> {
        let device = disk::device(root).map_err(|e| StoreError::io("open", directory, e))?;
        let (ignored, written, report) = (Ignored::default(), Vec::new(), Findings::default());
        Ok(Self {
            odb,
            rules,
            directory,
            device,
            ignored,
            written,
            entries: 0,
            report,
        })
    }

    pub(super) fn root(&mut self, handle: &OwnedFd, base: Oid) -> Result<Oid, ImportError> {
        let items = tree::read(self.odb, base)?;
        let place = Place {
            handle: Some(handle),
            path: "",
            depth: 0,
            ignored: false,
        };
        let result = self.directory(&place, &items)?;
        if same(&result, &items) {
            Ok(base)
        } else {
            self.write_tree(result)
        }
    }

    pub(super) fn finish(self, tree: TreeId) -> (ImportReport, Vec<Oid>) {
        (self.report.into_report(tree), self.written)
    }

    /// The entries that a directory has after the import.
    fn directory(&mut self, place: &Place<'_>, base: &[Item]) -> Result<Vec<Item>, ImportError> {
        if place.depth > self.rules.depth_max && place.handle.is_some() {
            return Err(ImportError::TooDeep {
                path: place.path.to_owned(),
                max: self.rules.depth_max,
            });
        }
        if place.depth > tree::DEPTH_MAX {
            return Err(ImportError::TooDeep {
                path: place.path.to_owned(),
                max: tree::DEPTH_MAX,
            });
        }
        let entered = self.ignored.enter(self.odb, place.path, base)?;
        let mut result = Vec::with_capacity(base.len());
        for (name, (disk, base)) in self.pairs(place, base)? {
            let before = result.len();
            self.name(place, &name, disk, base, &mut result)?;
            debug_assert!(result.len() <= before + 1);
        }
        if entered {
            self.ignored.leave();
        }
        self.refuse_collisions(place, base, &mut result);
        Ok(result)
    }

    fn pairs(&mut self, place: &Place<'_>, base: &[Item]) -> Result<Pairs, ImportError> {
        let mut pairs = Pairs::new();
        if let Some(handle) = place.handle {
            let left = self.rules.entries_max.saturating_sub(self.entries);
            let listed = disk::entries(handle, left)
                .map_err(|e| StoreError::io("list", &self.directory.join(place.path), e))?;
            let Some(listed) = listed else {
                return Err(ImportError::TooManyEntries {
                    path: place.path.to_owned(),
                    max: self.rules.entries_max,
                });
            };
            self.entries += listed.len() as u64;
            pairs.extend(
                listed
                    .into_iter()
                    .map(|(name, disk)| (name, (Some(disk), None))),
            );
        }
        for item in base {
            pairs.entry(item.name.clone()).or_default().1 = Some(item.clone());
        }
        Ok(pairs)
    }

    fn name(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        disk: Option<OnDisk>,
        base: Option<Item>,
        result: &mut Vec<Item>,
    ) -> Result<(), ImportError> {
        let fault = names::check_dangerous(name).err();
        let text = match (fault, std::str::from_utf8(name)) {
            (None, Ok(text)) => text,
            (fault, _) => {
                if disk.is_some() {
                    let reason = RefusedReason::Name(fault.unwrap_or(names::NameFault::NotUtf8));
                    self.report
                        .refuse(tree::join(place.path, &names::escape(name)), reason);
                }
                result.extend(base);
                return Ok(());
            }
        };
        let pair = Pair {
            path: tree::join(place.path, text),
            disk,
            base,
        };
        if let Some(item) = &pair.base
            && materialise::writable(self.odb, item, place.depth)?.is_some()
        {
            if pair.disk.is_some() {
                self.report.refuse(pair.path, RefusedReason::NotCheckedOut);
            }
            result.extend(pair.base);
            return Ok(());
        }
        // What is withheld or read-only as a whole needs no look.
        if (self.rules.withheld)(&pair.path) {
            if pair.disk.is_some() {
                self.report.refuse(pair.path, RefusedReason::Withheld);
            }
            result.extend(pair.base);
            return Ok(());
        }
        if pair.base.is_none() && pair.disk.is_some() {
            let is_directory = pair.disk == Some(OnDisk::Directory);
            if place.ignored || self.ignored.matches(&pair.path, is_directory) {
                self.report.ignored += 1;
                return Ok(());
            }
            if let Err(fault) = names::check(name) {
                self.report.refuse(pair.path, RefusedReason::Name(fault));
                return Ok(());
            }
        }
        let taken = match pair.disk {
            Some(OnDisk::Directory) => self.take_directory(place, name, pair)?,
            Some(OnDisk::File | OnDisk::Symlink) => self.take_leaf(place, name, pair)?,
            Some(OnDisk::Other(reason)) => {
                self.report.refuse(pair.path, reason);
                pair.base
            }
            None => self.take_absence(place, pair)?,
        };
        result.extend(taken);
        Ok(())
    }

    fn take_directory(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        pair: Pair,
    ) -> Result<Option<Item>, ImportError> {
        let Pair { path, base, .. } = pair;
        let base_tree = base.clone().filter(Item::is_tree);
        let replaces = base.is_some() && base_tree.is_none();
        if replaces && !(self.rules.writable)(&path) {
            self.report.refuse(path, RefusedReason::NotWritable);
            return Ok(base);
        }
        let Some(parent) = place.handle else {
            return Ok(base);
        };
        let handle = match disk::open_directory(parent, name, self.device) {
            Ok(handle) => handle,
            Err(NotRead::Failed(e)) => {
                return Err(StoreError::io("open", &self.directory.join(&path), e).into());
            }
            Err(NotRead::Refused(reason)) => {
                self.report.refuse(path, reason);
                return Ok(base);
            }
            Err(NotRead::TooLarge(_)) => return Ok(base),
        };
        let items = base_tree
            .as_ref()
            .map(|b| tree::read(self.odb, b.id))
            .transpose()?
            .unwrap_or_default();
        let inner = Place {
            handle: Some(&handle),
            path: &path,
            depth: place.depth + 1,
            ignored: place.ignored || self.ignored.matches(&path, true),
        };
        let result = self.directory(&inner, &items)?;
        if replaces {
            self.report.change(path, ChangeKind::Deleted);
        }
        self.subtree(name, base_tree, &items, result)
    }

    fn take_leaf(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        pair: Pair,
    ) -> Result<Option<Item>, ImportError> {
        let base_tree = pair.base.clone().filter(Item::is_tree);
        if let Some(base_tree) = base_tree {
            // The writer put a file where a directory was: fine if nothing in that directory must stay.
            let items = tree::read(self.odb, base_tree.id)?;
            let gone = Place {
                handle: None,
                path: &pair.path,
                depth: place.depth + 1,
                ignored: place.ignored,
            };
            let kept = self.directory(&gone, &items)?;
            if !kept.is_empty() {
                self.report.refuse(pair.path, RefusedReason::DirectoryStays);
                return self.subtree(name, Some(base_tree), &items, kept);
            }
            let path = pair.path.clone();
            let taken = self.take_content(place, name, Pair { base: None, ..pair })?;
            if taken.is_none() {
                // The file was refused, so the directory stands.
                self.report.forget_changes(&path);
                return Ok(Some(base_tree));
            }
            return Ok(taken);
        }
        self.take_content(place, name, pair)
    }

    /// Takes a file or symlink where the base has a leaf or nothing.
    fn take_content(
        &mut self,
        place: &Place<'_>,
        name: &[u8],
        pair: Pair,
    ) -> Result<Option<Item>, ImportError> {
        let Pair { path, disk, base } = pair;
        let Some(parent) = place.handle else {
            return Ok(base);
        };
        let is_link = disk == Some(OnDisk::Symlink);
        let base_size = match &base {
            Some(item) => self.odb.read_header(item.id).doing("read an object")?.0 as u64,
            None => 0,
        };
        let file_max = self.rules.file_bytes_max;
        let read = if is_link {
            disk::read_link(parent, name).map(|bytes| disk::Content {
                bytes,
                executable: false,
            })
        } else {
            // A large file is read only if it can be the base's, unchanged.
            disk::read_file(parent, name, |size| {
                if base.is_some() && size == base_size {
                    size
                } else {
                    file_max
                }
            })
        };
        let content = match read {
            Ok(content) => content,
            Err(NotRead::Refused(reason)) => {
                self.report.refuse(path, reason);
                return Ok(base);
            }
            Err(NotRead::TooLarge(size)) => {
                return Err(ImportError::FileTooLarge {
                    path,
                    size,
                    max: file_max,
                });
            }
            Err(NotRead::Failed(e)) => {
                return Err(StoreError::io("read", &self.directory.join(&path), e).into());
            }
        };
        self.report.files += 1;
        self.report.bytes += content.bytes.len() as u64;
        if self.report.bytes > self.rules.bytes_max {
            return Err(ImportError::TooManyBytes {
                path,
                max: self.rules.bytes_max,
            });
        }
        if is_link && !names::link_is_contained(&content.bytes, place.depth) {
            self.report.refuse(path, RefusedReason::SymlinkEscapes);
            return Ok(base);
        }
        let id = Oid::hash_object(ObjectType::Blob, &content.bytes).doing("hash a file")?;
        let kind = if is_link {
            EntryKind::Symlink
        } else {
            EntryKind::File {
                executable: content.executable,
            }
        };
        if let Some(base) = &base
            && base.id == id
            && base.kind() == kind
        {
            return Ok(Some(base.clone()));
        }
        if !(self.rules.writable)(&path) {
            self.report.refuse(path, RefusedReason::NotWritable);
            return Ok(base);
        }
        let size = content.bytes.len() as u64;
        if size > file_max {
            return Err(ImportError::FileTooLarge {
                path,
                size,
                max: file_max,
            });
        }
        let is_file = |item: &Item| matches!(item.kind(), EntryKind::File { .. });
        let change = match &base {
            None => ChangeKind::Added,
            Some(base) if base.id == id && is_file(base) && !is_link => ChangeKind::ModeChanged,
            Some(_) => ChangeKind::Modified,
        };
        if base.as_ref().is_none_or(|b| b.id != id) {
            self.written.push(
                self.odb
                    .write(ObjectType::Blob, &content.bytes)
                    .doing("write a file into the store")?,
            );
        }
        self.report.change(path, change);
        let mode = match kind {
            EntryKind::Symlink => MODE_LINK,
            EntryKind::File { executable: true } => MODE_EXECUTABLE,
            _ => MODE_FILE,
        };
        Ok(Some(Item {
            mode,
            name: name.to_vec(),
            id,
        }))
    }

    /// The base has something that is not there any more.
    fn take_absence(&mut self, place: &Place<'_>, pair: Pair) -> Result<Option<Item>, ImportError> {
        let Pair { path, base, .. } = pair;
        let Some(item) = base else { return Ok(None) };
        if item.is_tree() {
            let items = tree::read(self.odb, item.id)?;
            let gone = Place {
                handle: None,
                path: &path,
                depth: place.depth + 1,
                ignored: place.ignored,
            };
            let kept = self.directory(&gone, &items)?;
            let name = item.name.clone();
            return self.subtree(&name, Some(item), &items, kept);
        }
        if !(self.rules.writable)(&path) {
            self.report.refuse(path, RefusedReason::NotWritable);
            return Ok(Some(item));
        }
        self.report.change(path, ChangeKind::Deleted);
        Ok(None)
    }

    fn subtree(
        &mut self,
        name: &[u8],
        base: Option<Item>,
        items: &[Item],
        result: Vec<Item>,
    ) -> Result<Option<Item>, ImportError> {
        if let Some(base) = base
            && same(&result, items)
        {
            return Ok(Some(base));
        }
        if result.is_empty() {
            return Ok(None);
        }
        Ok(Some(Item {
            mode: MODE_TREE,
            name: name.to_vec(),
            id: self.write_tree(result)?,
        }))
    }

    /// Refuses new names that a file system which ignores case cannot hold next to the others.
    fn refuse_collisions(&mut self, place: &Place<'_>, base: &[Item], result: &mut Vec<Item>) {
        let mut count: HashMap<String, usize> = HashMap::with_capacity(result.len());
        let folded = |item: &Item| {
            std::str::from_utf8(&item.name)
                .map(names::fold)
                .unwrap_or_default()
        };
        for item in result.iter() {
            *count.entry(folded(item)).or_default() += 1;
        }
        if count.len() == result.len() {
            return;
        }
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(result).into_iter().partition(|i| {
            count.get(&folded(i)).is_none_or(|n| *n == 1) || base.iter().any(|b| b.name == i.name)
        });
        *result = stay;
        for item in go {
            let path = tree::join(place.path, &names::escape(&item.name));
            self.report.forget_changes(&path);
            self.report.refuse(path, RefusedReason::CaseCollision);
        }
    }

    fn write_tree(&mut self, items: Vec<Item>) -> Result<Oid, ImportError> {
        let id = tree::write(self.odb, items)?;
        self.written.push(id);
        Ok(id)
    }
}

fn same(a: &[Item], b: &[Item]) -> bool {
    // The walk goes by name, git's order differs around directories.
    a.len() == b.len() && {
        let (mut a, mut b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
        a.sort_by(|x, y| x.name.cmp(&y.name));
        b.sort_by(|x, y| x.name.cmp(&y.name));
        a == b
    }
}
