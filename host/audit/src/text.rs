//! Texts of the trail: bounded, whoever wrote them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Characters kept of one text.
const CHARS_MAX: usize = 240;

/// A text that may come from outside, cut at 240 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct Text(String);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        if text.chars().nth(CHARS_MAX).is_none() {
            return Text(text.to_owned());
        }
        let mut cut: String = text.chars().take(CHARS_MAX - 1).collect();
        cut.push('…');
        Text(cut)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text::from(text.as_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
