//! Commits with an identity that the caller gives, and messages in which outside text cannot pass for more than text.

use flow::id::{CommitId, TreeId};
use git2::{ObjectType, Oid, Signature, Time};

use crate::error::{Doing, StoreError};
use crate::mirror::Mirror;
use crate::objects;

/// A subject longer than this is cut.
const SUBJECT_CHARS_MAX: usize = 120;
/// A body longer than this is cut.
const BODY_CHARS_MAX: usize = 16_000;
/// A name or address longer than this is nobody's.
const IDENTITY_BYTES_MAX: usize = 200;

/// Who commits. Never read from any configuration of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    name: String,
    email: String,
}

/// A name or address that git cannot take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be the {part} of a commit's author: no control characters, no < or >, not empty, at most 200 bytes"
)]
pub struct InvalidIdentity {
    /// `name` or `email`.
    pub part: &'static str,
    /// The text, cut at 80 characters.
    pub text: String,
}

impl Identity {
    /// Checks a name and an address.
    pub fn new(name: &str, email: &str) -> Result<Self, InvalidIdentity> {
        for (part, text) in [("name", name), ("email", email)] {
            let bad = text.trim().is_empty()
                || text.len() > IDENTITY_BYTES_MAX
                || text
                    .chars()
                    .any(|c| is_hidden(c) || matches!(c, '<' | '>' | '\n'))
                || (part == "email" && text.contains(char::is_whitespace));
            if bad {
                return Err(InvalidIdentity {
                    part,
                    text: text.chars().take(80).collect(),
                });
            }
        }
        Ok(Self {
            name: name.trim().to_owned(),
            email: email.to_owned(),
        })
    }
}

impl Identity {
    /// Name and address.
    pub(crate) fn parts(&self) -> (&str, &str) {
        (&self.name, &self.email)
    }
}

/// A commit message.
///
/// Subject and body are untrusted: control characters go, lengths are capped, and a line of the body that git or a
/// forge would take for a trailer (`Signed-off-by:`, `Co-authored-by:`, `Fixes:`) is quoted with `> `.
/// Trailers are the host's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    subject: String,
    body: String,
    trailers: Vec<(String, String)>,
}

impl Message {
    /// Makes a message of a subject and a body, both of which may hold anything.
    pub fn new(subject: &str, body: &str) -> Self {
        let subject = line(subject, SUBJECT_CHARS_MAX);
        let subject = if subject.is_empty() {
            "(no subject)".to_owned()
        } else {
            subject
        };
        let mut text = String::new();
        for raw in body
            .chars()
            .take(BODY_CHARS_MAX)
            .collect::<String>()
            .lines()
        {
            let clean: String = raw
                .chars()
                .map(|c| if c == '\t' { ' ' } else { c })
                .filter(|c| !is_hidden(*c))
                .collect();
            if is_trailer(&clean) {
                text.push_str("> ");
            }
            text.push_str(clean.trim_end());
            text.push('\n');
        }
        Self {
            subject,
            body: text.trim().to_owned(),
            trailers: Vec::new(),
        }
    }

    /// Adds a trailer of the host's own, such as `Moat-Run: r-1`; one line each.
    #[must_use]
    pub fn with_trailer(mut self, name: &str, value: &str) -> Self {
        let name: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
            .collect();
        self.trailers.push((name, line(value, SUBJECT_CHARS_MAX)));
        self
    }

    /// The text as it is committed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.subject);
        if !self.body.is_empty() {
            text.push_str(&format!("\n{}\n", self.body));
        }
        if !self.trailers.is_empty() {
            text.push('\n');
            for (name, value) in &self.trailers {
                text.push_str(&format!("{name}: {value}\n"));
            }
        }
        text
    }
}

impl Mirror {
    /// Writes a commit of a tree. The same arguments make the same commit, so a repeated step changes nothing.
    ///
    /// `time` is in seconds since 1970, UTC.
    #[tracing::instrument(level = "debug", skip_all)]
    pub fn commit(
        &self,
        tree: &TreeId,
        parents: &[CommitId],
        identity: &Identity,
        message: &Message,
        time: i64,
    ) -> Result<CommitId, StoreError> {
        let repo = self.repository()?;
        let tree =
            repo.find_tree(objects::oid(tree.as_str())?)
                .map_err(|_| StoreError::Missing {
                    kind: "tree",
                    id: tree.to_string(),
                })?;
        let ids: Vec<Oid> = parents
            .iter()
            .map(|p| objects::oid(p.as_str()))
            .collect::<Result<_, _>>()?;
        let parents: Vec<_> = ids
            .iter()
            .map(|id| objects::find_commit(&repo, *id))
            .collect::<Result<_, _>>()?;
        let who = Signature::new(&identity.name, &identity.email, &Time::new(time, 0))
            .doing("name the author")?;
        let data = repo
            .commit_create_buffer(
                &who,
                &who,
                &message.text(),
                &tree,
                &parents.iter().collect::<Vec<_>>(),
            )
            .doing("make a commit")?;
        let odb = repo.odb().doing("open the objects")?;
        let id = odb
            .write(ObjectType::Commit, &data)
            .doing("write a commit")?;
        objects::flush(&self.objects_dir(), &[id])?;
        objects::commit_id(id)
    }
}

fn line(text: &str, chars_max: usize) -> String {
    let spaced = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c });
    let clean: String = spaced.filter(|c| !is_hidden(*c)).collect();
    let words: Vec<&str> = clean.split_whitespace().collect();
    let words = words.join(" ");
    if words.chars().count() <= chars_max {
        return words;
    }
    words
        .chars()
        .take(chars_max.saturating_sub(1))
        .chain(['…'])
        .collect()
}

/// Control characters, and characters that change the direction of text or cannot be seen.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn is_trailer(text: &str) -> bool {
    let Some((name, _)) = text.trim_start().split_once(':') else {
        return false;
    };
    let name = name.trim_end().to_ascii_lowercase();
    name.ends_with("-by")
        || name.starts_with("moat-")
        || matches!(
            name.as_str(),
            "cc" | "fixes"
                | "closes"
                | "resolves"
                | "change-id"
                | "link"
                | "bug"
                | "issue"
                | "refs"
                | "git-svn-id"
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    #[test]
    fn outside_text_cannot_pass_for_more() {
        let message = Message::new(
            "Fix\nSigned-off-by: Mallory <m@x>\x1b[2J",
            "why\r\n\nSigned-off-by: Mallory\n  co-authored-by : Eve\nMoat-Run: forged\nplain: kept\n\u{202e}evil\0",
        )
        .with_trailer("Moat-Run", "r-1\nSigned-off-by: x");
        assert_eq!(
            message.text(),
            "Fix Signed-off-by: Mallory <m@x>[2J\n\nwhy\n\n> Signed-off-by: Mallory\n>   co-authored-by : Eve\n> Moat-Run: forged\nplain: kept\nevil\n\nMoat-Run: r-1 Signed-off-by: x\n"
        );
    }

    #[test]
    fn messages_are_never_empty_nor_endless() {
        assert_eq!(Message::new(" \n\0", "\n\n").text(), "(no subject)\n");
        let long = Message::new(&"s".repeat(10_000), &"b\n".repeat(100_000)).text();
        assert!(long.len() < 20_000, "{}", long.len());
    }

    #[test]
    fn identities_are_checked() {
        assert!(Identity::new("moat", "moat@localhost").is_ok());
        for (name, email) in [
            ("", "a@b"),
            ("a\nb", "a@b"),
            ("a<b", "a@b"),
            ("a", ""),
            ("a", "a b@c"),
            ("a", "a@b>\n"),
            ("a\0", "a@b"),
        ] {
            assert!(Identity::new(name, email).is_err(), "{name:?} {email:?}");
        }
    }
}
