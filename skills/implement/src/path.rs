//! Paths of the view as a model gives them. The sandbox enforces; this gives the error that helps.

use std::fmt;

/// A clean path of a file, relative to the root of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilePath(String);

impl FilePath {
    /// Reads a path; a leading `./` is left out.
    ///
    /// # Errors
    /// What is wrong with it, for the model.
    pub fn new(text: &str) -> Result<FilePath, String> {
        let refuse = |why: &str| {
            let shown = crate::clip::line(text, 120);
            Err(format!("{shown:?} is no path of a file here: {why}"))
        };
        let mut clean = text;
        while let Some(rest) = clean.strip_prefix("./") {
            clean = rest;
        }
        if clean.is_empty() || clean.len() > 1024 {
            return refuse("it has from 1 to 1024 bytes");
        }
        if clean.starts_with('/') {
            return refuse("it is relative to the root of the repository, without a leading `/`");
        }
        if clean.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("it has no control character and no `\\`");
        }
        for part in clean.split('/') {
            match part {
                "" => return refuse("it names a file, and no part of it is empty"),
                "." | ".." => return refuse("no part of it is `.` or `..`"),
                _ if part.eq_ignore_ascii_case(".git") => {
                    return refuse("the repository's `.git` is out of reach; the host commits");
                }
                _ => {}
            }
        }
        Ok(FilePath(clean.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_taken_or_refused() {
        for good in [
            "a",
            "src/lib.rs",
            "./src/lib.rs",
            "././x",
            ".github/w.yml",
            "a b/ü.py",
            "...",
            "..a/b..",
            "a:b",
            ".gitignore",
        ] {
            assert!(FilePath::new(good).is_ok(), "{good:?}");
        }
        let long = "x/".repeat(600);
        for bad in [
            "",
            ".",
            "..",
            "./",
            "/",
            "/etc/passwd",
            ".//etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            "a/./b",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
            "a\\..\\b",
            ".git/config",
            "sub/.GIT/hooks/x",
            ".git",
            long.as_str(),
        ] {
            assert!(FilePath::new(bad).is_err(), "{bad:?}");
        }
        let absolute = FilePath::new("/etc/passwd").err().unwrap_or_default();
        assert!(absolute.contains("relative to the root"), "{absolute}");
        assert_eq!(
            FilePath::new("././src/a.rs").map(|path| path.to_string()),
            Ok("src/a.rs".into())
        );
    }

    proptest! {
        #[test]
        fn whatever_is_taken_stays_below_the_root(text in "(\\.|/|\\.\\.|\\.git|a|\\\\|\0|[ -~é]){0,12}") {
            if let Ok(path) = FilePath::new(&text) {
                let parts: Vec<_> = Path::new(path.as_str()).components().collect();
                prop_assert!(!parts.is_empty());
                prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(name) if *name != ".git")), "{path}");
                // Nothing is left for the system to clean up: the text is the path.
                let joined: Vec<_> = parts.iter().filter_map(|part| part.as_os_str().to_str()).collect();
                prop_assert_eq!(joined.join("/"), path.as_str());
            }
        }
    }
}
