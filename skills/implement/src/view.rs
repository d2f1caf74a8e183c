//! The files of the view below its root, and what was changed of them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::path::FilePath;

/// Larger files are not read, edited or written: no source is, and a context holds no more.
pub const FILE_BYTES_MAX: u64 = 2 << 20;

/// Files of a view that are looked at; a larger one is told as cut.
const WALK_MAX: usize = 50_000;

/// The files, and what became of those that were touched.
///
/// Only this skill changes them (what commands write is thrown away), so what is remembered here is how they are.
#[derive(Debug)]
pub struct View {
    root: PathBuf,
    touched: BTreeMap<FilePath, Touched>,
}

#[derive(Debug, Clone, Copy)]
struct Touched {
    before: State,
    now: State,
}

/// A file by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum State {
    Absent,
    Holds(u64),
    /// Larger than anything that could be written in its place.
    Large,
}

/// All paths, and whether there are more than are looked at.
#[derive(Debug, Default)]
pub struct Listing {
    /// Sorted.
    pub paths: Vec<String>,
    /// Whether the walk stopped early.
    pub cut: bool,
}

impl View {
    /// The view below a directory, untouched so far.
    pub fn new(root: impl Into<PathBuf>) -> View {
        View {
            root: root.into(),
            touched: BTreeMap::new(),
        }
    }

    /// Lists every file. Links are listed and not followed: a circle has no end.
    pub fn list(&self) -> Listing {
        let mut listing = Listing::default();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(self.root.join(&folder)) else {
                continue;
            };
            for entry in entries.flatten() {
                // Names that are no UTF-8 cannot be named by a model either.
                let Some(path) = entry.file_name().to_str().map(|name| folder.join(name)) else {
                    continue;
                };
                if listing.paths.len() + folders.len() >= WALK_MAX {
                    listing.cut = true;
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else {
                    listing.paths.push(path.to_string_lossy().into_owned());
                }
            }
        }
        listing.paths.sort();
        listing
    }

    /// Reads a text.
    ///
    /// # Errors
    /// Why not, for the model.
    pub fn read(&self, path: &FilePath) -> Result<String, String> {
        let bytes = self.bytes(path)?;
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => Ok(text),
            Ok(_) => Err(format!("{path} is binary: it has NUL bytes")),
            Err(_) => Err(format!(
                "{path} is not UTF-8: it is binary or has another encoding"
            )),
        }
    }

    /// Whether there is a file, whatever it holds.
    pub fn has(&self, path: &FilePath) -> bool {
        std::fs::symlink_metadata(self.place(path)).is_ok_and(|data| !data.is_dir())
    }

    /// Writes a text, and the folders that it needs.
    ///
    /// # Errors
    /// Why not, for the model.
    pub fn write(&mut self, path: &FilePath, text: &str) -> Result<(), String> {
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(format!(
                "{path} would have more than {FILE_BYTES_MAX} bytes"
            ));
        }
        let before = self.state(path)?;
        let place = self.place(path);
        let folder = place.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&place, text))
            .map_err(|error| told(path, "written", &error))?;
        self.touch(path, before, State::Holds(digest(text.as_bytes())));
        Ok(())
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// Why not, for the model.
    pub fn delete(&mut self, path: &FilePath) -> Result<(), String> {
        let before = self.state(path)?;
        std::fs::remove_file(self.place(path)).map_err(|error| told(path, "deleted", &error))?;
        self.touch(path, before, State::Absent);
        Ok(())
    }

    /// The paths whose content is not what it was at the beginning.
    pub fn changed(&self) -> impl Iterator<Item = &FilePath> {
        self.touched
            .iter()
            .filter(|(_, touched)| touched.before != touched.now)
            .map(|(path, _)| path)
    }

    /// One number for all that was changed: equal when the files are.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for (path, touched) in &self.touched {
            if touched.before != touched.now {
                (path, touched.now).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    fn touch(&mut self, path: &FilePath, before: State, now: State) {
        self.touched
            .entry(path.clone())
            .or_insert(Touched { before, now })
            .now = now;
    }

    fn state(&self, path: &FilePath) -> Result<State, String> {
        match std::fs::metadata(self.place(path)) {
            Ok(data) if data.is_dir() => Err(format!("{path} is a folder")),
            Ok(data) if data.len() > FILE_BYTES_MAX => Ok(State::Large),
            Ok(_) => Ok(State::Holds(digest(&self.bytes(path)?))),
            Err(_) => Ok(State::Absent),
        }
    }

    fn bytes(&self, path: &FilePath) -> Result<Vec<u8>, String> {
        let place = self.place(path);
        let data = std::fs::metadata(&place).map_err(|error| told(path, "read", &error))?;
        if data.is_dir() {
            return Err(format!("{path} is a folder; list_files lists it"));
        }
        if data.len() > FILE_BYTES_MAX {
            return Err(format!(
                "{path} is too large: {} bytes, and {FILE_BYTES_MAX} are the most that is read",
                data.len()
            ));
        }
        std::fs::read(&place).map_err(|error| told(path, "read", &error))
    }

    fn place(&self, path: &FilePath) -> PathBuf {
        self.root.join(Path::new(path.as_str()))
    }
}

fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

fn told(path: &FilePath, what: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("there is no file {path}"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("{path} may not be {what}: the sandbox does not allow it")
        }
        _ => format!("{path} could not be {what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use tempfile::TempDir;

    use super::*;

    fn path(text: &str) -> FilePath {
        FilePath::new(text).unwrap()
    }

    fn changed(view: &View) -> Vec<String> {
        view.changed().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_put_back_is_not_changed() {
        let directory = TempDir::new().unwrap();
        std::fs::write(directory.path().join("a"), "one").unwrap();
        let mut view = View::new(directory.path());
        let clean = view.fingerprint();
        view.write(&path("a"), "two").unwrap();
        view.write(&path("new/deep/b"), "x").unwrap();
        assert_eq!(changed(&view), ["a", "new/deep/b"]);
        let two = view.fingerprint();
        assert_ne!(two, clean);
        view.write(&path("a"), "three").unwrap();
        assert_ne!(view.fingerprint(), two);
        view.delete(&path("new/deep/b")).unwrap();
        view.write(&path("a"), "one").unwrap();
        assert!(changed(&view).is_empty());
        assert_eq!(view.fingerprint(), clean);
        view.delete(&path("a")).unwrap();
        assert_eq!(changed(&view), ["a"]);
        assert!(!directory.path().join("a").exists());
    }

    #[test]
    fn what_is_no_text_is_said_to_be_none() {
        let directory = TempDir::new().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("nul"), b"a\0b").unwrap();
        std::fs::write(at("latin"), b"caf\xe9").unwrap();
        let large = std::fs::File::create(at("large")).unwrap();
        large.set_len(1 << 30).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let mut view = View::new(directory.path());
        for (name, word) in [
            ("nul", "binary"),
            ("latin", "UTF-8"),
            ("large", "too large"),
            ("folder", "folder"),
            ("absent", "no file"),
        ] {
            let error = view.read(&path(name)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(view.delete(&path("folder")).is_err() && view.write(&path("folder"), "").is_err());
        assert!(view.delete(&path("absent")).is_err() && view.write(&path("nul/x"), "").is_err());
        assert!(changed(&view).is_empty(), "what failed changed nothing");
        view.delete(&path("large")).unwrap();
        assert_eq!(changed(&view), ["large"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_listed_and_not_followed() {
        let directory = TempDir::new().unwrap();
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::fs::write(directory.path().join("d/f"), "x").unwrap();
        std::os::unix::fs::symlink("..", directory.path().join("d/up")).unwrap();
        let listing = View::new(directory.path()).list();
        assert_eq!(listing.paths, ["d/f", "d/up"]);
        assert!(!listing.cut);
    }
}
