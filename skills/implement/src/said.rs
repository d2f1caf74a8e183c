//! What the model said, as it may be sent back to its provider.
//!
//! Providers refuse a whole conversation for a tool's name with a dot, an input that is no object, or an id that comes twice in a turn. A model that
//! invents such things is told so by the answer; its turn is kept in a form that can be sent.

use std::collections::BTreeSet;

use crate::host::{Content, ToolUse};

/// A turn of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// For the conversation.
    pub content: Vec<Content>,
    /// The uses of tools in it, in their order: names and inputs as the model wrote them, ids as in `content`.
    pub uses: Vec<ToolUse>,
}

impl Said {
    /// Reads a turn. Empty texts and what is not the model's to say are left out.
    pub fn new(content: Vec<Content>) -> Said {
        let mut said = Said {
            content: Vec::new(),
            uses: Vec::new(),
        };
        let mut ids = BTreeSet::new();
        for part in content {
            match part {
                Content::Text(text) if text.trim().is_empty() => {}
                Content::Text(text) => said.content.push(Content::Text(text)),
                Content::ToolResult(_) => {}
                Content::ToolUse(mut tool) => {
                    if tool.id.is_empty() || ids.contains(&tool.id) {
                        tool.id = free_id(&ids);
                    }
                    ids.insert(tool.id.clone());
                    said.content.push(Content::ToolUse(ToolUse {
                        id: tool.id.clone(),
                        name: sendable_name(&tool.name),
                        input: sendable_input(&tool.input),
                    }));
                    said.uses.push(tool);
                }
            }
        }
        said
    }
}

fn free_id(taken: &BTreeSet<String>) -> String {
    (0u32..)
        .map(|number| format!("call-{number}"))
        .find(|id| !taken.contains(id))
        .unwrap_or_default()
}

fn sendable_name(name: &str) -> String {
    let clean: String = name
        .chars()
        .take(64)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    if clean.is_empty() {
        "unknown".into()
    } else {
        clean
    }
}

fn sendable_input(input: &str) -> String {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(input) {
        Ok(_) => input.to_owned(),
        Err(_) => "{}".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(id: &str, name: &str, input: &str) -> Content {
        Content::ToolUse(ToolUse {
            id: id.into(),
            name: name.into(),
            input: input.into(),
        })
    }

    #[test]
    fn what_a_provider_would_refuse_is_made_sendable_and_read_as_it_was() {
        let said = Said::new(vec![
            Content::Text("\n".into()),
            tool("a", "read_file", "{\"path\": \"x\"}"),
            tool("a", "functions.read file", "{\"path\": "),
            tool("", "", "[1]"),
            Content::Text("Now.".into()),
        ]);
        assert_eq!(
            said.content,
            [
                tool("a", "read_file", "{\"path\": \"x\"}"),
                tool("call-0", "functions_read_file", "{}"),
                tool("call-1", "unknown", "{}"),
                Content::Text("Now.".into()),
            ]
        );
        let raw: Vec<Content> = said.uses.into_iter().map(Content::ToolUse).collect();
        assert_eq!(
            raw,
            [
                tool("a", "read_file", "{\"path\": \"x\"}"),
                tool("call-0", "functions.read file", "{\"path\": "),
                tool("call-1", "", "[1]"),
            ]
        );
    }
}
