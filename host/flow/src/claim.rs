//! Claims: globs of paths that a task may change, and whether two of them can meet.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A longer pattern is a mistake; comparing two takes time with the product of their lengths.
const BYTES_MAX: usize = 300;

/// A glob of paths: `*` and `?` stay within a directory, `**` is a whole part of the path and stands for any number of directories.
///
/// A claim to a directory covers all below it, and upper and lower case are the same: two tasks must not meet on a file system that takes them for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Claim {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`
    Any,
    /// Characters, `*` and `?`, in lower case.
    Plain(Vec<char>),
}

/// A text that is no claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no claim: {why}")]
pub struct InvalidClaim {
    /// The text, cut at 80 characters.
    pub text: String,
    /// The rule that it breaks.
    pub why: &'static str,
}

impl TryFrom<String> for Claim {
    type Error = InvalidClaim;

    fn try_from(text: String) -> Result<Claim, InvalidClaim> {
        let refuse = |why| InvalidClaim {
            text: text.chars().take(80).collect(),
            why,
        };
        if text.is_empty() || text.len() > BYTES_MAX {
            return Err(refuse("a path or glob of at most 300 bytes"));
        }
        if text
            .chars()
            .any(|c| c.is_control() || "\\[]{}!".contains(c))
        {
            return Err(refuse("only `*`, `**` and `?` have a meaning"));
        }
        // `src/` is how a person writes a directory; `.` is the whole tree.
        let plain = text.strip_suffix('/').unwrap_or(&text);
        let plain = if plain == "." { "**" } else { plain };
        let part = |part: &str| match part {
            "" | "." | ".." => Err(refuse("relative to the root, without `.`, `..` or `//`")),
            "**" => Ok(Part::Any),
            _ if part.contains("**") => Err(refuse("`**` stands alone between slashes")),
            _ => Ok(Part::Plain(part.to_lowercase().chars().collect())),
        };
        let parts = plain.split('/').map(part).collect::<Result<_, _>>()?;
        Ok(Claim { text, parts })
    }
}

impl From<Claim> for String {
    fn from(claim: Claim) -> String {
        claim.text
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Claim {
    /// The path, where the claim is to one file or directory.
    pub fn literal(&self) -> Option<&str> {
        let is_glob = self.text.contains(['*', '?']) || self.text == ".";
        (!is_glob).then_some(&self.text)
    }

    /// Whether a path, or a directory above it, is claimed.
    pub fn covers(&self, path: &str) -> bool {
        let path: Vec<Vec<char>> = path
            .split('/')
            .map(|part| part.to_lowercase().chars().collect())
            .collect();
        covers(&self.parts, &path)
    }

    /// Whether some path is covered by both.
    pub fn overlaps(&self, other: &Claim) -> bool {
        meet(&self.parts, &other.parts)
    }
}

fn covers(claim: &[Part], path: &[Vec<char>]) -> bool {
    // What ends in `**` is what lies below, not the directory itself.
    let is_last = |i: usize| i + 1 == claim.len();
    let columns = path.len() + 1;
    let mut table = vec![true; (claim.len() + 1) * columns];
    for i in (0..claim.len()).rev() {
        for j in (0..columns).rev() {
            let at = |i: usize, j: usize| table[i * columns + j];
            table[i * columns + j] = match (&claim[i], path.get(j)) {
                (Part::Any, None) => !is_last(i) && at(i + 1, j),
                (Part::Any, Some(_)) => is_last(i) || at(i + 1, j) || at(i, j + 1),
                (Part::Plain(pattern), Some(name)) => at(i + 1, j + 1) && matches(pattern, name),
                (Part::Plain(_), None) => false,
            };
        }
    }
    table[0]
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut i, mut j) = (0, 0);
    // The last `*`, and how far the name was when it was met: what follows is tried again one further.
    let mut star: Option<(usize, usize)> = None;
    while j < name.len() {
        match pattern.get(i) {
            Some('*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(c) if *c == '?' || *c == name[j] => {
                i += 1;
                j += 1;
            }
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (i, j) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[i..].iter().all(|c| *c == '*')
}

/// Whether a path of the one is a path of the other, or lies below it.
fn meet(a: &[Part], b: &[Part]) -> bool {
    let (rows, columns) = (a.len() + 1, b.len() + 1);
    // From the ends: where one is used up, the other has some path below.
    let mut table = vec![true; rows * columns];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let at = |i: usize, j: usize| table[i * columns + j];
            table[i * columns + j] = match (&a[i], &b[j]) {
                (Part::Any, _) | (_, Part::Any) => at(i + 1, j) || at(i, j + 1),
                (Part::Plain(one), Part::Plain(other)) => at(i + 1, j + 1) && alike(one, other),
            };
        }
    }
    table[0]
}

/// Whether some name matches both patterns.
fn alike(a: &[char], b: &[char]) -> bool {
    let (rows, columns) = (a.len() + 1, b.len() + 1);
    let mut table = vec![false; rows * columns];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            let at = |i: usize, j: usize| table[i * columns + j];
            table[i * columns + j] = match (a.get(i), b.get(j)) {
                (None, None) => true,
                (Some('*'), None) => at(i + 1, j),
                (None, Some('*')) => at(i, j + 1),
                (None, Some(_)) | (Some(_), None) => false,
                (Some('*'), Some(_)) | (Some(_), Some('*')) => at(i + 1, j) || at(i, j + 1),
                (Some(one), Some(other)) => {
                    at(i + 1, j + 1) && (one == other || *one == '?' || *other == '?')
                }
            };
        }
    }
    table[0]
}
