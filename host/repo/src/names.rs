//! Which names and symlink targets may enter a tree or a worktree.
//!
//! Two classes. A *dangerous* name means something to git or to a terminal (`.git` in any disguise, `..`, control
//! characters): it is never taken and never written out. An *unportable* name breaks checkouts on other systems
//! (`aux.c`, `a:b`, a trailing dot): it is not taken when new, but a project that already tracks one keeps it.

/// The longest component that common file systems take.
const COMPONENT_BYTES_MAX: usize = 255;

/// Linux refuses longer symlink targets.
const TARGET_BYTES_MAX: usize = 4095;

/// Why a name is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NameFault {
    /// Empty, `.`, `..`, or with a `/` or NUL inside.
    #[error("it is no name for a file")]
    NotAName,
    /// Longer than 255 bytes.
    #[error("it is longer than 255 bytes")]
    TooLong,
    /// Not valid UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A control character, a line break or a text direction override.
    #[error("it holds a control or text direction character")]
    Control,
    /// `.git`, or a spelling that some file system takes for it.
    #[error("some file systems take it for .git")]
    DotGit,
    /// `\` or `:`.
    #[error("it holds a backslash or a colon")]
    Separator,
    /// Ends in a dot or a space.
    #[error("it ends in a dot or a space")]
    Trailing,
    /// A device name of Windows.
    #[error("Windows takes it for a device")]
    Device,
}

impl NameFault {
    /// Whether the name is refused even where the base already has it.
    pub fn is_dangerous(self) -> bool {
        !matches!(self, Self::Separator | Self::Trailing | Self::Device)
    }
}

/// Checks one component of a path.
pub fn check(name: &[u8]) -> Result<&str, NameFault> {
    let text = check_dangerous(name)?;
    if text.contains(['\\', ':']) {
        return Err(NameFault::Separator);
    }
    if text.ends_with(['.', ' ']) {
        return Err(NameFault::Trailing);
    }
    if is_device(text) {
        return Err(NameFault::Device);
    }
    Ok(text)
}

/// Checks one component of a path that the base already tracks.
pub fn check_dangerous(name: &[u8]) -> Result<&str, NameFault> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0)
    {
        return Err(NameFault::NotAName);
    }
    if name.len() > COMPONENT_BYTES_MAX {
        return Err(NameFault::TooLong);
    }
    let text = std::str::from_utf8(name).map_err(|_| NameFault::NotUtf8)?;
    if is_dot_git(text) {
        return Err(NameFault::DotGit);
    }
    if text.chars().any(is_control) {
        return Err(NameFault::Control);
    }
    Ok(text)
}

/// Whether a symlink in a directory `depth` levels below the root stays inside, whatever other links do.
///
/// `..` is taken only in front: then a contained link can only lead through directories that are really there or
/// through links that are themselves contained, so no chain of them leaves the root.
pub fn link_is_contained(target: &[u8], depth: usize) -> bool {
    let Ok(text) = std::str::from_utf8(target) else {
        return false;
    };
    if text.is_empty() || text.len() > TARGET_BYTES_MAX || text.starts_with('/') {
        return false;
    }
    let mut up = 0;
    let mut down = false;
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." if down => return false,
            ".." => up += 1,
            name => {
                if check_dangerous(name.as_bytes()).is_err() || name.contains('\\') {
                    return false;
                }
                down = true;
            }
        }
    }
    up <= depth
}

/// The form in which two names are the same to a file system that ignores case.
pub fn fold(name: &str) -> String {
    name.chars()
        .filter(|c| !is_ignorable(*c))
        .flat_map(char::to_lowercase)
        .collect()
}

/// A path as printable text: UTF-8 stays, other bytes and control characters are written `\x..` or `\u{..}`.
pub fn escape(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_control(c) || is_ignorable(c) {
                out.extend(c.escape_unicode())
            } else {
                out.push(c)
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}

fn is_dot_git(text: &str) -> bool {
    let folded = fold(text);
    // NTFS: `.git::$INDEX_ALLOCATION` and `.git. ` name the directory `.git`.
    let name = folded
        .split(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches(['.', ' ']);
    let short = name
        .strip_prefix("git~")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    // A backslash separates on Windows, so each part counts.
    name == ".git" || short || (text.contains('\\') && text.split('\\').any(is_dot_git))
}

fn is_device(text: &str) -> bool {
    let stem = text
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end_matches(' ')
        .to_ascii_uppercase();
    if matches!(
        stem.as_str(),
        "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$" | "CLOCK$"
    ) {
        return true;
    }
    let number = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    number.is_some_and(|n| {
        matches!(
            n,
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
        )
    })
}

fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The characters that HFS+ ignores in names.
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disguise_of_dot_git_is_dangerous() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git. .",
            "git~1",
            "GIT~1",
            "git~12",
            ".git::$INDEX_ALLOCATION",
            ".git:x",
            ".g\u{200c}it",
            "\u{feff}.git",
            ".gi\u{206f}t",
            "a\\.git",
            ".git\\hooks",
        ] {
            assert_eq!(
                check_dangerous(name.as_bytes()),
                Err(NameFault::DotGit),
                "{name:?}"
            );
        }
        for name in [
            ".gitignore",
            ".github",
            "git",
            "x.git",
            "git~",
            "git~x",
            ".gitmodules",
            "dot.git.rs",
        ] {
            assert!(check(name.as_bytes()).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn names_of_each_fault() {
        let table: &[(&[u8], NameFault)] = &[
            (b"", NameFault::NotAName),
            (b".", NameFault::NotAName),
            (b"..", NameFault::NotAName),
            (b"a/b", NameFault::NotAName),
            (b"a\0b", NameFault::NotAName),
            (b"a\nb", NameFault::Control),
            (b"a\r", NameFault::Control),
            (b"\x1b[2J", NameFault::Control),
            (b"a\x7f", NameFault::Control),
            ("a\u{202e}cod".as_bytes(), NameFault::Control),
            ("\u{85}".as_bytes(), NameFault::Control),
            (b"\xff\xfe", NameFault::NotUtf8),
            (b"a\\b", NameFault::Separator),
            (b"a:b", NameFault::Separator),
            (b"a.", NameFault::Trailing),
            (b"a ", NameFault::Trailing),
            (b"CON", NameFault::Device),
            (b"aux.c", NameFault::Device),
            (b"nul .txt", NameFault::Device),
            (b"com1", NameFault::Device),
            ("LPT\u{b2}".as_bytes(), NameFault::Device),
            (&[b'a'; 256], NameFault::TooLong),
        ];
        for (name, fault) in table {
            assert_eq!(check(name), Err(*fault), "{}", escape(name));
        }
        for name in [
            "console.rs",
            "com10",
            "a b",
            "é",
            "-x",
            "...a",
            "\u{1f468}\u{200d}\u{1f469}",
            "$x",
            "a*",
        ] {
            assert!(check(name.as_bytes()).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_contained_link_cannot_climb_out() {
        for (target, depth) in [
            ("a", 0),
            ("./a/b", 0),
            ("../a", 1),
            ("../../a", 2),
            (".", 0),
            ("..", 1),
        ] {
            assert!(link_is_contained(target.as_bytes(), depth), "{target}");
        }
        for (target, depth) in [
            ("/etc/passwd", 3),
            ("..", 0),
            ("../a", 0),
            ("../../a", 1),
            ("a/../..", 5),
            ("", 0),
            (".git/config", 0),
            ("x/.GIT", 0),
            ("a\\..", 0),
            ("a\nb", 0),
        ] {
            assert!(!link_is_contained(target.as_bytes(), depth), "{target}");
        }
        assert!(!link_is_contained(b"\xff", 0));
    }

    #[test]
    fn escaped_paths_are_printable() {
        assert_eq!(escape(b"a/\xffb\n"), "a/\\xffb\\u{a}");
        assert_eq!(escape("é".as_bytes()), "é");
    }
}
