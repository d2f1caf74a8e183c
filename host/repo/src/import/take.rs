//! What becomes of one name in a directory: a directory, a leaf, or nothing any more.

use std::os::fd::OwnedFd;

use git2::{ObjectType, Oid};

use super::disk::{self, NotRead, OnDisk};
use super::walk::{Pair, Place, Walk, same};
use super::{ChangeKind, ImportError, RefusedReason};
use crate::error::{Doing, StoreError};
use crate::names;
use crate::tree::{self, EntryKind, Item, MODE_EXECUTABLE, MODE_FILE, MODE_LINK, MODE_TREE};

impl Walk<'_> {
    pub(super) fn take_directory(
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
            Err(NotRead::Foreign(what)) => return Err(ImportError::Layer { path, what }),
            Err(NotRead::TooLarge(_)) => return Ok(base),
        };
        // Whatever makes a directory apart from the base's hides that as a whole.
        let merged = place.merged && base_tree.is_some() && !self.is_opaque(&handle, &path)?;
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
            merged,
        };
        let result = self.directory(&inner, &items)?;
        if replaces {
            self.report.change(path, ChangeKind::Deleted);
        }
        self.subtree(name, base_tree, &items, result)
    }

    pub(super) fn take_leaf(
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
                merged: false,
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
            disk::read_file(parent, name, self.form, |size| {
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
            Err(NotRead::Foreign(what)) => return Err(ImportError::Layer { path, what }),
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
    pub(super) fn take_absence(
        &mut self,
        place: &Place<'_>,
        pair: Pair,
    ) -> Result<Option<Item>, ImportError> {
        let Pair { path, base, .. } = pair;
        let Some(item) = base else { return Ok(None) };
        if item.is_tree() {
            let items = tree::read(self.odb, item.id)?;
            let gone = Place {
                handle: None,
                path: &path,
                depth: place.depth + 1,
                ignored: place.ignored,
                merged: false,
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

    /// Whether a directory of a layer hides the base's.
    pub(super) fn is_opaque(&self, handle: &OwnedFd, path: &str) -> Result<bool, ImportError> {
        match disk::is_opaque(handle) {
            Ok(is) => Ok(is),
            Err(NotRead::Foreign(what)) => Err(ImportError::Layer {
                path: path.to_owned(),
                what,
            }),
            Err(NotRead::Failed(e)) => {
                Err(StoreError::io("read", &self.directory.join(path), e).into())
            }
            Err(NotRead::Refused(_) | NotRead::TooLarge(_)) => Ok(true),
        }
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
}
