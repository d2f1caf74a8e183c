//! The walk over a directory and its base at once, entry by entry, and the tree that comes out.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;

use flow::id::TreeId;
use git2::{Odb, Oid};

use super::disk::{self, OnDisk};
use super::findings::Findings;
use super::ignored::Ignored;
use super::{ImportError, ImportReport, ImportRules, RefusedReason};
use crate::error::StoreError;
use crate::materialise;
use crate::names;
use crate::tree::{self, Item};

/// What a directory that is imported holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// All that is there.
    Whole,
    /// The upper layer of an overlay: what differs from the base.
    Layer,
}

pub(super) struct Walk<'a> {
    pub(super) odb: &'a Odb<'a>,
    pub(super) rules: &'a ImportRules<'a>,
    pub(super) directory: &'a Path,
    pub(super) form: Form,
    pub(super) device: u64,
    pub(super) ignored: Ignored,
    pub(super) written: Vec<Oid>,
    entries: u64,
    pub(super) report: Findings,
}

/// A directory on its way through the walk.
pub(super) struct Place<'p> {
    /// Its handle; none where only the base has it.
    pub(super) handle: Option<&'p OwnedFd>,
    /// Its path from the root, empty for the root.
    pub(super) path: &'p str,
    pub(super) depth: usize,
    /// Whether an ignored directory encloses it: then nothing untracked below counts.
    pub(super) ignored: bool,
    /// Whether it lies over the base's: then what it does not hold is as in the base, and not gone.
    pub(super) merged: bool,
}

/// What is there now and what the base has, by name.
type Pairs = BTreeMap<Vec<u8>, (Option<OnDisk>, Option<Item>)>;

/// One name in a directory: what is there now, and what the base has.
pub(super) struct Pair {
    pub(super) path: String,
    pub(super) disk: Option<OnDisk>,
    pub(super) base: Option<Item>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        odb: &'a Odb<'a>,
        rules: &'a ImportRules<'a>,
        directory: &'a Path,
        root: &OwnedFd,
        form: Form,
    ) -> Result<Self, StoreError> {
        let device = disk::device(root).map_err(|e| StoreError::io("open", directory, e))?;
        let (ignored, written, report) = (Ignored::default(), Vec::new(), Findings::default());
        Ok(Self {
            odb,
            rules,
            directory,
            form,
            device,
            ignored,
            written,
            entries: 0,
            report,
        })
    }

    pub(super) fn root(&mut self, handle: &OwnedFd, base: Oid) -> Result<Oid, ImportError> {
        let items = tree::read(self.odb, base)?;
        let merged = self.form == Form::Layer && !self.is_opaque(handle, "")?;
        let place = Place {
            handle: Some(handle),
            path: "",
            depth: 0,
            ignored: false,
            merged,
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
    pub(super) fn directory(
        &mut self,
        place: &Place<'_>,
        base: &[Item],
    ) -> Result<Vec<Item>, ImportError> {
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
            let disk = match disk {
                None if place.merged => {
                    result.extend(base);
                    continue;
                }
                Some(OnDisk::Whiteout) => None,
                other => other,
            };
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
            let listed = disk::entries(handle, left, self.form)
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
            None | Some(OnDisk::Whiteout) => self.take_absence(place, pair)?,
        };
        result.extend(taken);
        Ok(())
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

    pub(super) fn write_tree(&mut self, items: Vec<Item>) -> Result<Oid, ImportError> {
        let id = tree::write(self.odb, items)?;
        self.written.push(id);
        Ok(id)
    }
}

pub(super) fn same(a: &[Item], b: &[Item]) -> bool {
    // The walk goes by name, git's order differs around directories.
    a.len() == b.len() && {
        let (mut a, mut b): (Vec<_>, Vec<_>) = (a.iter().collect(), b.iter().collect());
        a.sort_by(|x, y| x.name.cmp(&y.name));
        b.sort_by(|x, y| x.name.cmp(&y.name));
        a == b
    }
}
