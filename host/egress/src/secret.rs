//! Secrets: values that can be sent to where they belong, and nowhere else.

use std::fmt;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

/// What is shorter is a word such as `test` or `EMPTY`: no secret, and taken out of answers it would spoil them.
const BYTES_MIN: usize = 8;

/// No key or token is longer.
const BYTES_MAX: usize = 8 * 1024;

/// A secret and the white space that a file has at its end; what is more is refused, and never read.
pub(crate) const RAW_BYTES_MAX: usize = BYTES_MAX + 64;

/// A secret value. It cannot be printed, compared, cloned or serialised, and is overwritten when dropped.
pub struct Secret(Zeroizing<String>);

/// Why a value cannot be a secret. Says nothing of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Not there.
    #[error("{from} is not there")]
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
    /// Too short, too long, or with white space, control or non-ASCII characters in it.
    #[error("{from} holds no usable secret: {why}")]
    Malformed {
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Secret {
    /// Takes a value that came from `from`; white space at its end, as files have it, is cut off.
    ///
    /// # Errors
    /// [`InvalidSecret::Malformed`].
    pub fn new(value: String, from: &str) -> Result<Secret, InvalidSecret> {
        Secret::of(&Zeroizing::new(value.into_bytes()), from)
    }

    /// As [`Secret::new`], for bytes that will be overwritten by their owner.
    pub(crate) fn of(value: &Zeroizing<Vec<u8>>, from: &str) -> Result<Secret, InvalidSecret> {
        let trimmed = value.trim_ascii_end();
        let refuse = |why| InvalidSecret::Malformed {
            from: from.into(),
            why,
        };
        if trimmed.len() < BYTES_MIN {
            return Err(refuse(
                "it is empty or shorter than 8 characters (a service that wants no key needs none)",
            ));
        }
        if trimmed.len() > BYTES_MAX {
            return Err(refuse("it is longer than 8192 characters"));
        }
        // White space and control characters could split a header, and others are read in more than one way.
        let visible = trimmed.iter().all(u8::is_ascii_graphic);
        let text = std::str::from_utf8(trimmed).ok().filter(|_| visible);
        text.map(|text| Secret(Zeroizing::new(text.to_owned())))
            .ok_or_else(|| refuse("it has white space, control or non-ASCII characters in it"))
    }

    /// Reads an environment variable of this process.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn from_env(name: &str) -> Result<Secret, InvalidSecret> {
        let from = format!("the environment variable {name}");
        match std::env::var_os(name) {
            Some(value) => Secret::of(&Zeroizing::new(value.into_encoded_bytes()), &from),
            None => Err(InvalidSecret::Absent { from }),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`InvalidSecret`].
    pub fn from_file(path: &Path) -> Result<Secret, InvalidSecret> {
        let from = format!("the file {}", path.display());
        let read = std::fs::File::open(path).and_then(read_whole);
        let value = read.map_err(|error| unreadable(&from, &error))?;
        Secret::of(&value, &from)
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

    /// Whether both are the same value; both are the owner's, so the time that it takes tells nobody anything.
    pub(crate) fn is_same(&self, other: &Secret) -> bool {
        *self.0 == *other.0
    }
}

/// Reads what may be a secret, to one byte more than any has, into a buffer that never grows: one that does leaves copies behind.
pub(crate) fn read_whole(mut from: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(vec![0; RAW_BYTES_MAX + 1]);
    let mut length = 0;
    while length < value.len() {
        match from.read(&mut value[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    value.truncate(length);
    Ok(value)
}

/// Why a file gives no secret.
pub(crate) fn unreadable(from: &str, error: &std::io::Error) -> InvalidSecret {
    let from = from.to_owned();
    match error.kind() {
        std::io::ErrorKind::NotFound => InvalidSecret::Absent { from },
        _ => InvalidSecret::Unreadable {
            from,
            why: error.to_string(),
        },
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
    fn a_secret_is_not_shown() {
        let secret = Secret::new("sk-canary-1\n".into(), "x").unwrap();
        assert!(!format!("{secret:?}").contains("canary"));
        assert_eq!(secret.expose(), "sk-canary-1");
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
