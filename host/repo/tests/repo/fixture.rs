//! A user's repository, moat's mirror of it, and small tools to build trees, in a temporary directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use flow::id::{CommitId, TreeId};
use git2::{ObjectType, Oid, Repository, RepositoryInitOptions, Signature, Time};
use repo::{Identity, ImportReport, ImportRules, Materialised, Message, Mirror, Source};

pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) mirror: Mirror,
}

/// A repository with a checkout on `main` and these files committed, and an empty mirror.
pub(crate) fn fixture(files: &[(&str, &str)]) -> Fixture {
    fixture_in(tempfile::tempdir().unwrap(), files)
}

/// The same where nothing waits for a disk, if there is such a place: for tests that fetch a thousand times.
pub(crate) fn fixture_in_memory(files: &[(&str, &str)]) -> Fixture {
    let memory = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(memory).or_else(|_| tempfile::tempdir());
    fixture_in(dir.unwrap(), files)
}

fn fixture_in(dir: tempfile::TempDir, files: &[(&str, &str)]) -> Fixture {
    let mut options = RepositoryInitOptions::new();
    options.initial_head("main").external_template(false);
    Repository::init_opts(dir.path().join("user"), &options).unwrap();
    let mirror = Mirror::open_or_create(&dir.path().join("state/mirror.git")).unwrap();
    let fixture = Fixture { dir, mirror };
    fixture.commit(files);
    fixture
}

impl Fixture {
    pub(crate) fn user(&self) -> PathBuf {
        self.dir.path().join("user")
    }

    pub(crate) fn source(&self) -> Source {
        Source::open(&self.user()).unwrap()
    }

    pub(crate) fn git(&self) -> Repository {
        Repository::open(self.user()).unwrap()
    }

    /// Writes files into the checkout and commits all of it, as the user would.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> CommitId {
        for (path, text) in files {
            write(&self.user().join(path), text);
        }
        let repo = self.git();
        let mut index = repo.index().unwrap();
        index
            .add_all(["*"], git2::IndexAddOption::FORCE, None)
            .unwrap();
        index.update_all(["*"], None).unwrap();
        index.write().unwrap();
        let tree = index.write_tree().unwrap();
        self.commit_tree(tree)
    }

    /// Commits a tree on HEAD's branch without touching the checkout.
    pub(crate) fn commit_tree(&self, tree: Oid) -> CommitId {
        let repo = self.git();
        let tree = repo.find_tree(tree).unwrap();
        let who = Signature::new("User", "user@example.com", &Time::new(1_700_000_000, 0)).unwrap();
        let parent = repo.head().ok().and_then(|h| h.peel_to_commit().ok());
        let parents: Vec<_> = parent.iter().collect();
        let id = repo
            .commit(Some("HEAD"), &who, &who, "user", &tree, &parents)
            .unwrap();
        commit_id(id)
    }

    /// A commit of a tree in the user's repository, on no branch and without parents.
    pub(crate) fn orphan(&self, tree: Oid) -> CommitId {
        let repo = self.git();
        let tree = repo.find_tree(tree).unwrap();
        let who = Signature::new("User", "user@example.com", &Time::new(1_700_000_000, 0)).unwrap();
        commit_id(repo.commit(None, &who, &who, "orphan", &tree, &[]).unwrap())
    }

    /// Fetches `main`; answers with its tip and tree.
    pub(crate) fn fetch(&self) -> (CommitId, TreeId) {
        let tip = self.mirror.fetch(&self.source(), "main").unwrap();
        let tree = self.mirror.tree_of(&tip).unwrap();
        (tip, tree)
    }

    /// A fresh worktree of a tree.
    pub(crate) fn worktree(&self, tree: &TreeId) -> (PathBuf, Materialised) {
        let path = tempfile::tempdir_in(self.dir.path()).unwrap().keep();
        let done = self.mirror.materialise(tree, &path, &|_, _| true).unwrap();
        (path, done)
    }

    pub(crate) fn import(&self, directory: &Path, base: &TreeId) -> ImportReport {
        self.mirror
            .import(directory, base, &ImportRules::default())
            .unwrap()
    }

    /// A commit in the mirror with these files changed (or removed, for `None`).
    pub(crate) fn change(&self, parent: &CommitId, files: &[(&str, Option<&str>)]) -> CommitId {
        let base = self.mirror.tree_of(parent).unwrap();
        let (path, _) = self.worktree(&base);
        for (name, text) in files {
            match text {
                Some(text) => write(&path.join(name), text),
                None => {
                    fs::remove_file(path.join(name)).unwrap();
                    // A directory that is empty now makes room for a file.
                    let _ = fs::remove_dir(path.join(name).parent().unwrap());
                }
            }
        }
        let report = self.import(&path, &base);
        assert_eq!(report.refused, []);
        self.commit_in_mirror(&report.tree, &[parent])
    }

    pub(crate) fn commit_in_mirror(&self, tree: &TreeId, parents: &[&CommitId]) -> CommitId {
        let parents: Vec<_> = parents.iter().map(|p| (*p).clone()).collect();
        let who = Identity::new("moat", "moat@localhost").unwrap();
        self.mirror
            .commit(
                tree,
                &parents,
                &who,
                &Message::new("change", ""),
                1_700_000_100,
            )
            .unwrap()
    }

    /// The files of a tree in the mirror, as text.
    pub(crate) fn files(&self, tree: &TreeId) -> BTreeMap<String, String> {
        let list = self.mirror.list(tree).unwrap();
        let read = |path: &str| {
            self.mirror
                .read(tree, path, usize::MAX)
                .unwrap()
                .unwrap_or_default()
        };
        list.into_iter()
            .map(|e| {
                (
                    e.path.clone(),
                    String::from_utf8_lossy(&read(&e.path)).into_owned(),
                )
            })
            .collect()
    }

    /// Runs git itself, on the test's own repository only.
    pub(crate) fn run_git(&self, directory: &Path, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=User", "-c", "user.email=user@example.com"])
            .args(args)
            .current_dir(directory)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "git {args:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    pub(crate) fn git_status(&self) -> String {
        self.run_git(&self.user(), &["status", "--porcelain"])
    }
}

pub(crate) fn commit_id(id: Oid) -> CommitId {
    id.to_string().parse().unwrap()
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn make_executable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes a tree object with any modes and names; in git's order already.
pub(crate) fn raw_tree(repo: &Repository, entries: &[(u32, &[u8], Oid)]) -> Oid {
    let mut data = Vec::new();
    for (mode, name, id) in entries {
        data.extend_from_slice(format!("{mode:o} ").as_bytes());
        data.extend_from_slice(name);
        data.push(0);
        data.extend_from_slice(id.as_bytes());
    }
    repo.odb().unwrap().write(ObjectType::Tree, &data).unwrap()
}

/// Everything below a directory: relative path to content, link target or `<dir>`.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            let kind = path.symlink_metadata().unwrap();
            if kind.is_symlink() {
                found.insert(
                    name,
                    format!("-> {}", fs::read_link(&path).unwrap().display()),
                );
            } else if kind.is_dir() {
                found.insert(name, "<dir>".to_owned());
                pending.push(path);
            } else if kind.file_type().is_char_device() {
                found.insert(name, "<none>".to_owned());
            } else {
                let executable = if kind.permissions().mode() & 0o100 != 0 {
                    "*"
                } else {
                    ""
                };
                found.insert(
                    name,
                    format!(
                        "{executable}{}",
                        String::from_utf8_lossy(&fs::read(&path).unwrap())
                    ),
                );
            }
        }
    }
    found
}
