//! Reading TOML files that grant things: strict, bounded, and with errors that name file, line and mend.

use std::fmt;
use std::ops::Range;

use serde::de::DeserializeOwned;

/// No configuration file needs more; a larger one is a mistake or an attack on the parser.
pub const SIZE_BYTES_MAX: usize = 256 * 1024;

/// What is wrong with a configuration file. The file is refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file, as the user knows it.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// From 1; 0 when the line as a whole is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if self.column > 0 {
            write!(f, ":{}", self.column)?;
        }
        write!(f, ": {}", self.message)?;
        if !self.mend.is_empty() {
            write!(f, " (mend: {})", self.mend)?;
        }
        Ok(())
    }
}

/// A file's text with its name, for errors that point into it.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The file, as the user knows it.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
}

impl Source<'_> {
    /// An error at a byte range of the text, as `toml::Spanned` gives it.
    pub fn error(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .map_or(0, |last| last.chars().count())
            + 1;
        ConfigError {
            file: self.file.into(),
            line,
            column,
            message: message.into(),
            mend: mend.into(),
        }
    }

    /// An error about the file as a whole.
    pub fn whole(&self, message: impl Into<String>, mend: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.into(),
            line: 0,
            column: 0,
            message: message.into(),
            mend: mend.into(),
        }
    }
}

/// Whether a character acts on whoever shows it, or hides something from whoever reads it: controls, bidirectional and zero-width characters, tags.
pub fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Reads a file of the form `T`, whose keys are closed by `deny_unknown_fields`.
///
/// # Errors
/// [`ConfigError`] for what is no TOML, has unknown or missing keys, or is too large.
pub fn parse<T: DeserializeOwned>(source: Source<'_>) -> Result<T, ConfigError> {
    if source.text.len() > SIZE_BYTES_MAX {
        return Err(source.whole(
            format!("is larger than {SIZE_BYTES_MAX} bytes"),
            "split it or take the bulk out",
        ));
    }
    if let Some(at) = source.text.find(['\u{feff}', '\0']) {
        return Err(source.error(
            at..at,
            "has a byte-order mark or NUL in it",
            "save it as plain UTF-8",
        ));
    }
    toml::from_str(source.text).map_err(|error| {
        let message = error.message().trim().replace('\n', "; ");
        let mend = mend_for(&message);
        match error.span() {
            Some(span) => source.error(span, message, mend),
            None => source.whole(message, mend),
        }
    })
}

fn mend_for(message: &str) -> &'static str {
    if message.contains("unknown field") {
        "take the key out or correct its spelling; keys are written with hyphens"
    } else if message.contains("missing field") {
        "add the key"
    } else if message.contains("duplicate") {
        "keep one of the two"
    } else if message.contains("invalid type")
        || message.contains("invalid value")
        || message.contains("unknown variant")
    {
        "give a value of the expected form"
    } else {
        "correct the TOML"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct One {
        #[allow(dead_code, reason = "only its presence matters")]
        a: u8,
    }

    fn error(text: &str) -> ConfigError {
        parse::<One>(Source {
            file: "x.toml",
            text,
        })
        .unwrap_err()
    }

    #[test]
    fn errors_name_line_column_and_mend() {
        let unknown = error("a = 1\nbb = 2\n");
        assert_eq!((unknown.line, unknown.column), (2, 1));
        assert!(
            unknown
                .to_string()
                .starts_with("x.toml:2:1: unknown field `bb`"),
            "{unknown}"
        );
        assert_eq!(error("a = 300\n").line, 1);
        assert!(error("a = 1\na = 2\n").message.contains("duplicate"));
    }

    #[test]
    fn oversized_marked_and_binary_files_are_refused() {
        assert!(
            error(&"#".repeat(SIZE_BYTES_MAX + 1))
                .message
                .contains("larger")
        );
        assert!(error("\u{feff}a = 1").message.contains("byte-order mark"));
        assert!(error("a = 1\n#\0").message.contains("NUL"));
    }
}
