//! Paths within a worktree, and globs over them.

use std::fmt;
use std::str::FromStr;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

/// A clean path relative to the root of a worktree: UTF-8, `/`-separated, without `.`, `..`, empty or `.git` components.
///
/// The root itself is `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

/// Why a text is no path within a worktree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path within a worktree: {rule}")]
pub struct InvalidPath {
    /// The text, cut at 120 characters.
    pub path: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl RelPath {
    /// The root of the worktree.
    pub fn root() -> RelPath {
        RelPath(".".into())
    }

    /// The path as text; the root is `.`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0 == "."
    }

    /// Whether `other` is this path or lies below it.
    pub fn holds(&self, other: &RelPath) -> bool {
        self.is_root()
            || self == other
            || other
                .0
                .strip_prefix(&self.0)
                .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for RelPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<RelPath, InvalidPath> {
        let refuse = |rule| InvalidPath {
            path: text.chars().take(120).collect(),
            rule,
        };
        if text == "." {
            return Ok(RelPath::root());
        }
        if text.is_empty() || text.len() > 1024 {
            return Err(refuse("it has from 1 to 1024 bytes"));
        }
        if text.contains(['\0', '\\', ':']) || text.chars().any(char::is_control) {
            return Err(refuse("it has no control character, `\\` or `:`"));
        }
        for part in text.split('/') {
            match part {
                "" => return Err(refuse("it is relative, and no component is empty")),
                "." | ".." => return Err(refuse("no component is `.` or `..`")),
                _ if is_git(part) => return Err(refuse("`.git` is never granted")),
                _ if part.ends_with([' ', '.']) => {
                    return Err(refuse("no component ends in a space or a dot"));
                }
                _ => {}
            }
        }
        Ok(RelPath(text.to_owned()))
    }
}

/// `.git` in the spellings that some file system takes for it.
fn is_git(part: &str) -> bool {
    let folded: String = part
        .chars()
        .filter(|c| !is_ignorable(*c))
        .flat_map(char::to_lowercase)
        .collect();
    let folded = folded.trim_end_matches([' ', '.']);
    folded == ".git" || folded.starts_with(".git/") || folded == "git~1"
}

/// Characters that HFS+ leaves out when it compares names (git's `is_hfs_dotgit`).
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

impl TryFrom<String> for RelPath {
    type Error = InvalidPath;

    fn try_from(text: String) -> Result<RelPath, InvalidPath> {
        text.parse()
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> String {
        path.0
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelPath({})", self.0)
    }
}

/// Globs over worktree paths: `*` stays within a component, `**` does not, case counts not.
///
/// A glob that matches a directory matches all below it.
#[derive(Clone)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

/// A glob that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no glob: {why}")]
pub struct InvalidGlob {
    /// The text.
    pub pattern: String,
    /// What is wrong.
    pub why: String,
}

impl Globs {
    /// Compiles patterns.
    ///
    /// # Errors
    /// The first pattern that is no glob.
    pub fn new(
        patterns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Globs, InvalidGlob> {
        let mut patterns: Vec<String> = patterns.into_iter().map(Into::into).collect();
        patterns.sort();
        patterns.dedup();
        let mut set = GlobSetBuilder::new();
        for pattern in &patterns {
            set.add(compile(pattern)?);
        }
        let set = set.build().map_err(|error| InvalidGlob {
            pattern: patterns.join(" "),
            why: error.kind().to_string(),
        })?;
        Ok(Globs { patterns, set })
    }

    /// Matches nothing.
    pub fn none() -> Globs {
        Globs {
            patterns: Vec::new(),
            set: GlobSet::empty(),
        }
    }

    /// Whether the path, or a directory above it, matches.
    pub fn matches(&self, path: &str) -> bool {
        let whole = std::iter::once(path.len());
        let above = path.match_indices('/').map(|(at, _)| at);
        !self.patterns.is_empty()
            && above
                .chain(whole)
                .any(|end| self.set.is_match(&path[..end]))
    }

    /// The patterns, sorted.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

fn compile(pattern: &str) -> Result<Glob, InvalidGlob> {
    let refuse = |why: &str| InvalidGlob {
        pattern: pattern.chars().take(120).collect(),
        why: why.into(),
    };
    if pattern.is_empty() || pattern.len() > 512 {
        return Err(refuse("it has from 1 to 512 bytes"));
    }
    if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
        return Err(refuse("it is relative to the worktree"));
    }
    if pattern.chars().any(char::is_control) {
        return Err(refuse("it has no control character"));
    }
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .case_insensitive(true)
        .backslash_escape(false)
        .build()
        .map_err(|error| refuse(&error.kind().to_string()))
}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.patterns).finish()
    }
}

impl PartialEq for Globs {
    fn eq(&self, other: &Globs) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Globs {}

impl Serialize for Globs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.patterns.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Globs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Globs, D::Error> {
        Globs::new(Vec::<String>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn tricks_are_no_paths() {
        for trick in [
            "",
            "/",
            "/etc",
            "..",
            "a/..",
            "./a",
            "a//b",
            "a/",
            "C:x",
            "a\\b",
            "a\0",
            "a\nb",
            ".git",
            "sub/.GIT/config",
            "git~1",
            ".git.",
            ".g\u{200c}it",
            "a ",
            "a.",
        ] {
            assert!(trick.parse::<RelPath>().is_err(), "{trick:?}");
        }
        for path in [
            ".",
            "a",
            "src/main.rs",
            ".github/workflows",
            ".gitignore",
            "a b",
            "ä",
        ] {
            assert!(path.parse::<RelPath>().is_ok(), "{path:?}");
        }
    }

    #[test]
    fn a_path_holds_what_is_below_it_and_no_namesake() {
        let path = |text: &str| text.parse::<RelPath>().unwrap();
        assert!(path("src").holds(&path("src/a")));
        assert!(!path("src").holds(&path("src2/a")));
        assert!(RelPath::root().holds(&path("a")));
        assert!(!path("a").holds(&RelPath::root()));
    }

    #[test]
    fn a_glob_of_a_directory_covers_all_below_whatever_the_case() {
        let globs = Globs::new(["**/.env*", "secrets", "*.pem"]).unwrap();
        for hidden in [".env", "a/b/.env.local", ".ENV", "secrets/a/b", "k.pem"] {
            assert!(globs.matches(hidden), "{hidden}");
        }
        for seen in ["env", "a/k.pem", "secrets2", "a"] {
            assert!(!globs.matches(seen), "{seen}");
        }
        assert!(!Globs::none().matches("a"));
    }
}
