//! Secrets: values that can be sent to where they belong, and nowhere else.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// What is shorter is a word such as `test` or `EMPTY`: no secret, and taken out of answers it would spoil them.
const BYTES_MIN: usize = 8;

/// No key or token is longer.
const BYTES_MAX: usize = 8 * 1024;

/// What stands where a secret was.
const SCRUBBED: &str = "[secret]";

/// A secret value. It cannot be printed, compared, cloned or serialised, and is overwritten when dropped.
pub struct Secret(Zeroizing<String>);

/// Why a value cannot be a secret. Says nothing of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Not there.
    #[error("{from} is not set")]
    Absent {
        /// Where it was looked for.
        from: String,
    },
    /// A file that cannot be read.
    #[error("{from} cannot be read: {why}")]
    Unreadable {
        /// The file.
        from: String,
        /// What the system says.
        why: String,
    },
    /// Too short, too long, or with white space, control or non-ASCII characters in it (a header could be split by them).
    #[error(
        "{from} holds no usable secret: it must be {BYTES_MIN} to {BYTES_MAX} visible ASCII characters (a service that wants no key needs none)"
    )]
    Malformed {
        /// Where it came from.
        from: String,
    },
}

impl Secret {
    /// Takes a value that came from `from`; white space at its end, as files have it, is cut off.
    ///
    /// # Errors
    /// [`InvalidSecret::Malformed`].
    pub fn new(value: String, from: &str) -> Result<Secret, InvalidSecret> {
        let value = Zeroizing::new(value);
        let trimmed = Zeroizing::new(value.trim_end().to_owned());
        let usable = (BYTES_MIN..=BYTES_MAX).contains(&trimmed.len())
            && trimmed.bytes().all(|b| b.is_ascii_graphic());
        if !usable {
            return Err(InvalidSecret::Malformed { from: from.into() });
        }
        Ok(Secret(trimmed))
    }

    /// Reads an environment variable of this process.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn from_env(name: &str) -> Result<Secret, InvalidSecret> {
        let from = format!("the environment variable {name}");
        match std::env::var(name) {
            Ok(value) => Secret::new(value, &from),
            Err(std::env::VarError::NotPresent) => Err(InvalidSecret::Absent { from }),
            Err(std::env::VarError::NotUnicode(_)) => Err(InvalidSecret::Malformed { from }),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn from_file(path: &Path) -> Result<Secret, InvalidSecret> {
        let from = format!("the file {}", path.display());
        match std::fs::read_to_string(path) {
            Ok(value) => Secret::new(value, &from),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(InvalidSecret::Absent { from })
            }
            Err(error) => Err(InvalidSecret::Unreadable {
                from,
                why: error.to_string(),
            }),
        }
    }

    /// The value, for the door alone.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// A header's value with the secret where `format` has its `{}`. It shows nothing of itself, is in no index of HTTP/2, and its one copy of
    /// the value is overwritten with the last clone.
    ///
    /// # Errors
    /// When the format has not exactly one `{}`, or holds what no header may hold.
    pub(crate) fn header(&self, format: &str) -> Result<HeaderValue, &'static str> {
        let (before, after) = format
            .split_once("{}")
            .filter(|(_, after)| !after.contains("{}"))
            .ok_or("the credential's format needs {} once, where the secret stands")?;
        let parts = [before, self.expose(), after];
        // Large enough from the beginning: a buffer that grows leaves copies behind.
        let mut value = Zeroizing::new(Vec::with_capacity(parts.iter().map(|one| one.len()).sum()));
        parts
            .iter()
            .for_each(|one| value.extend_from_slice(one.as_bytes()));
        let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(value))
            .map_err(|_| "the credential's format holds what no header may hold")?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Takes the value out of a text that came back from outside.
    pub fn scrub(&self, text: &str) -> String {
        text.replace(self.expose(), SCRUBBED)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn a_secret_is_not_shown_and_is_taken_out_of_what_comes_back() {
        let secret = Secret::new("sk-canary-1\n".into(), "x").unwrap();
        assert!(!format!("{secret:?}").contains("canary"));
        assert_eq!(
            secret.scrub("your key sk-canary-1 is bad"),
            "your key [secret] is bad"
        );
    }

    #[test]
    fn what_could_split_a_header_is_no_secret() {
        for bad in [
            "",
            " ",
            "a b long enough",
            "a\r\nb-long-enough",
            "a\0",
            "schlüssel-lang",
            "a\tb-long-enough",
            "EMPTY",
        ] {
            assert!(Secret::new(bad.into(), "x").is_err(), "{bad:?}");
        }
        assert!(Secret::new("x".repeat(BYTES_MAX + 1), "x").is_err());
    }

    #[test]
    fn a_file_gives_its_secret_or_says_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(matches!(
            Secret::from_file(&path),
            Err(InvalidSecret::Absent { .. })
        ));
        std::fs::write(&path, "k1-canary\n").unwrap();
        assert_eq!(Secret::from_file(&path).unwrap().expose(), "k1-canary");
        assert!(matches!(
            Secret::from_file(dir.path()),
            Err(InvalidSecret::Unreadable { .. })
        ));
    }
}
