//! A page for people, before it is known whether they read it in a terminal, as Markdown or as HTML.
//!
//! Whatever stands in a page may be a stranger's text: each writer escapes all of it, and nothing else does.

mod html;
mod markdown;
mod terminal;

pub use terminal::Look;

/// What is told, the most important first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// Lines below the title.
    pub about: Vec<String>,
    /// All of it in one line.
    pub verdict: Item,
    /// The rest.
    pub sections: Vec<Section>,
}

/// A part with a heading.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// A sentence before the items.
    pub intro: String,
    /// Its items.
    pub items: Vec<Item>,
    /// A text that is copied as it is.
    pub code: String,
}

/// One thing, with what there is to say about it.
#[derive(Debug, Clone, Default)]
pub struct Item {
    /// How it is meant.
    pub tone: Tone,
    /// A word before it; empty for none.
    pub label: String,
    /// A sentence. What stands between two backticks is a name or a piece of code.
    pub text: String,
    /// More sentences, each with a word before it.
    pub notes: Vec<(&'static str, String)>,
}

/// How something is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Harmless.
    Good,
    /// To be looked at.
    Moderate,
    /// To be looked at first.
    High,
}

impl Item {
    /// A sentence by itself.
    pub fn plain(text: impl Into<String>) -> Item {
        Item {
            text: text.into(),
            ..Item::default()
        }
    }

    /// A sentence with a word before it.
    pub fn labelled(tone: Tone, label: impl Into<String>, text: impl Into<String>) -> Item {
        Item {
            tone,
            label: label.into(),
            text: text.into(),
            notes: Vec::new(),
        }
    }

    /// Adds a note, if there is something to note.
    #[must_use]
    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Item {
        let text = text.into();
        if !text.is_empty() {
            self.notes.push((label, text));
        }
        self
    }
}

impl Section {
    /// A section of items.
    pub fn of(heading: impl Into<String>, intro: impl Into<String>, items: Vec<Item>) -> Section {
        Section {
            heading: heading.into(),
            intro: intro.into(),
            items,
            code: String::new(),
        }
    }
}

impl Page {
    /// For a terminal.
    pub fn terminal(&self, look: Look) -> String {
        terminal::write(self, look)
    }

    /// As Markdown (CommonMark, as GitHub shows it).
    pub fn markdown(&self) -> String {
        markdown::write(self)
    }

    /// As one HTML page that loads and runs nothing.
    pub fn html(&self) -> String {
        html::write(self)
    }
}

/// A sentence in turns of words and code, words first. An odd backtick marks nothing.
fn parts(text: &str) -> Vec<&str> {
    if text.matches('`').count().is_multiple_of(2) {
        text.split('`').collect()
    } else {
        vec![text]
    }
}
