//! Trees that no git would make: written out, taken in again, compared and listed.

use std::cell::RefCell;

use flow::id::TreeId;
use git2::{ObjectType, Odb, Oid, Repository};
use repo::names::{check, check_dangerous, escape, fold, link_is_contained};
use repo::{DiffLimits, ImportRules, Mirror};
use tempfile::TempDir;

use crate::memory;

/// Objects of one input at most.
const OBJECTS_MAX: usize = 24;

/// Inputs that share one mirror: making one costs more than an input does, and objects pile up in it.
const INPUTS_PER_MIRROR: u32 = 2_000;

struct House {
    directory: TempDir,
    mirror: Mirror,
    inputs: u32,
}

impl House {
    fn new() -> House {
        let directory = tempfile::tempdir_in(memory()).unwrap();
        let mirror = Mirror::open_or_create(&directory.path().join("mirror.git")).unwrap();
        House {
            directory,
            mirror,
            inputs: 0,
        }
    }
}

/// A tree of the input's objects, the last one being the root. What can be written out is taken in as the same tree, and nothing is
/// written beside it.
pub(crate) fn tree(data: &[u8]) {
    thread_local! {
        static HOUSE: RefCell<Option<House>> = const { RefCell::new(None) };
    }
    HOUSE.with_borrow_mut(|house| {
        let house_now = house.get_or_insert_with(House::new);
        one(house_now, data);
        house_now.inputs += 1;
        if house_now.inputs >= INPUTS_PER_MIRROR {
            *house = None;
        }
    });
}

fn one(house: &House, data: &[u8]) {
    let repository = Repository::open_bare(house.mirror.git_dir()).unwrap();
    let odb = repository.odb().unwrap();
    let made = Maker { data, odb: &odb }.objects();
    let (Some(root), other) = (made.last(), made.first()) else {
        return;
    };
    let Ok(root) = root.to_string().parse::<TreeId>() else {
        return;
    };
    let _ = house.mirror.list(&root);
    if let Some(Ok(other)) = other.map(|id| id.to_string().parse::<TreeId>()) {
        let _ = house.mirror.diff(&other, &root, &DiffLimits::default());
    }
    let stage = tempfile::tempdir_in(house.directory.path()).unwrap();
    let view = stage.path().join("a/b/view");
    std::fs::create_dir_all(view.parent().unwrap()).unwrap();
    if house.mirror.materialise(&root, &view, &|_, _| true).is_ok() {
        let rules = ImportRules::default();
        let report = house.mirror.import(&view, &root, &rules).unwrap();
        assert_eq!(report.tree, root, "{report:?}");
        assert!(report.changed.is_empty());
    }
    let beside = |path: &str| std::fs::read_dir(stage.path().join(path)).unwrap().count();
    assert_eq!((beside(""), beside("a"), beside("a/b") <= 1), (1, 1, true));
}

/// Makes objects of bytes: a kind each, then a blob's content, a tree's entries, or a tree as raw as it comes.
struct Maker<'a> {
    data: &'a [u8],
    odb: &'a Odb<'a>,
}

impl<'a> Maker<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.data.split_first()?;
        self.data = rest;
        Some(*first)
    }

    /// A length and so many bytes, or what is left.
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.byte()?).min(self.data.len());
        let (bytes, rest) = self.data.split_at(length);
        self.data = rest;
        Some(bytes)
    }

    fn objects(mut self) -> Vec<Oid> {
        let mut made = Vec::new();
        while made.len() < OBJECTS_MAX {
            let Some(kind) = self.byte() else { break };
            let (kind, content) = match kind % 4 {
                0 => (ObjectType::Blob, self.bytes().map(<[u8]>::to_vec)),
                1 => (ObjectType::Tree, self.bytes().map(<[u8]>::to_vec)),
                _ => (ObjectType::Tree, self.entries(&made)),
            };
            let Some(content) = content else { break };
            made.push(self.odb.write(kind, &content).unwrap());
        }
        made
    }

    /// A count, and for each a mode, an earlier object and a name; in git's order, unless the count's high bit is set.
    fn entries(&mut self, made: &[Oid]) -> Option<Vec<u8>> {
        let count = self.byte()?;
        let mut entries = Vec::new();
        for _ in 0..count % 16 {
            let mode = match self.byte()? % 8 {
                0 => "100644",
                1 => "100755",
                2 => "120000",
                3 | 4 => "40000",
                5 => "160000",
                6 => "100664",
                _ => "040000",
            };
            let id = match made.get(usize::from(self.byte()?) % made.len().max(1)) {
                Some(id) => *id,
                None => Oid::ZERO_SHA1,
            };
            entries.push((mode, self.bytes()?, id));
        }
        if count < 128 {
            let key = |mode: &str, name: &[u8]| {
                let mut key = name.to_vec();
                key.extend(mode.ends_with("40000").then_some(b'/'));
                key
            };
            entries.sort_by_key(|(mode, name, _)| key(mode, name));
        }
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            raw.extend_from_slice(id.as_bytes());
        }
        Some(raw)
    }
}

/// A name or a link's target: what is checked has none of the disguises, and is printable once escaped.
pub(crate) fn names(data: &[u8]) {
    if let Ok(name) = check(data) {
        assert_eq!(check_dangerous(data), Ok(name));
        assert!(!fold(name).eq(".git"));
        assert!(
            link_is_contained(data, 0),
            "a plain name leads nowhere else"
        );
    }
    assert!(!escape(data).contains(char::is_control));
    let depth = data.iter().filter(|byte| **byte == b'/').count() % 4;
    if link_is_contained(data, depth) {
        contained(std::str::from_utf8(data).unwrap(), depth);
    }
}

/// Followed by hand, a contained target never rises above the root, and never passes `.git`.
fn contained(target: &str, depth: usize) {
    let mut level = depth as i64;
    assert!(!target.starts_with('/'));
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => level -= 1,
            name => {
                assert!(!name.eq_ignore_ascii_case(".git"));
                level += 1;
            }
        }
        assert!(level >= 0, "{target:?} from {depth}");
    }
}
