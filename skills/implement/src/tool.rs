//! The tools that the model is offered, and the strict reading of what it asks for.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::clip;
use crate::host::{Command, Tool};

/// One use of a tool, read and well-formed; paths, globs and names are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// `list_files`.
    ListFiles(ListFiles),
    /// `read_file`.
    ReadFile(ReadFile),
    /// `search`.
    Search(Search),
    /// `edit_file`.
    EditFile(EditFile),
    /// `write_file`.
    WriteFile(WriteFile),
    /// `delete_file`.
    DeleteFile(DeleteFile),
    /// `run_command`.
    RunCommand(RunCommand),
    /// `finish`.
    Finish(Finish),
    /// `give_up`.
    GiveUp(GiveUp),
}

/// Lists files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListFiles {
    /// Which.
    #[serde(default)]
    pub glob: Option<String>,
}

/// Reads lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadFile {
    /// Which.
    pub path: String,
    /// From 1.
    #[serde(default)]
    pub from_line: Option<u32>,
    /// How many.
    #[serde(default)]
    pub lines: Option<u32>,
}

/// Searches texts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// For what.
    pub pattern: String,
    /// Where.
    #[serde(default)]
    pub glob: Option<String>,
}

/// Replaces a text that stands once in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditFile {
    /// Where.
    pub path: String,
    /// What goes.
    pub old: String,
    /// What comes.
    pub new: String,
}

/// Writes a whole file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteFile {
    /// Where.
    pub path: String,
    /// All of it.
    pub content: String,
}

/// Deletes a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteFile {
    /// Which.
    pub path: String,
}

/// Runs a command of the project.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunCommand {
    /// Which.
    pub name: String,
    /// Appended.
    #[serde(default)]
    pub extra_args: Option<Vec<String>>,
}

/// Says that the work is done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// What and why.
    pub summary: String,
}

/// Says that it cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GiveUp {
    /// Why.
    pub reason: String,
}

/// The tools on offer. Without commands there is none to run them.
pub fn offered(commands: &[Command]) -> Vec<Tool> {
    let names: Vec<&str> = commands
        .iter()
        .map(|command| command.name.as_str())
        .collect();
    let text = |what: &str| json!({ "type": "string", "description": what });
    let count = |what: &str| json!({ "type": "integer", "minimum": 1, "description": what });
    let path = || text("Relative to the root of the repository, such as src/lib.rs.");
    let glob = || text("Only files that match, such as *.py or src/**/*.rs.");
    let object = |properties: serde_json::Value, required: &[&str]| {
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
            .to_string()
    };
    let tool = |name, description, schema| Tool {
        name,
        description,
        schema,
    };
    let mut tools = vec![
        tool(
            "list_files",
            "Lists the repository's files by their paths. When there are too many it lists folders with their numbers of files; give a glob then.",
            object(json!({ "glob": glob() }), &[]),
        ),
        tool(
            "read_file",
            "Reads lines of a text file. Each comes after its number and a tab, which are not part of the file. At most 400 lines and 32 KiB at a time.",
            object(
                json!({ "path": path(), "from_line": count("The first line to read; 1 when left out."), "lines": count("How many lines to read, at most 400.") }),
                &["path"],
            ),
        ),
        tool(
            "search",
            "Finds lines in all text files. The pattern is a regular expression without look-around and back-references; one that is none, or that matches nothing, is searched as plain text. At most 100 lines.",
            object(
                json!({ "pattern": text("What to find within a line."), "glob": glob() }),
                &["pattern"],
            ),
        ),
        tool(
            "edit_file",
            "Replaces `old` by `new` in a file. `old` must stand in the file exactly once, character for character, white space included: give enough lines around the place to make it unique. Line ends stay as the file has them.",
            object(
                json!({ "path": path(), "old": text("The text that stands there now."), "new": text("The text to put in its place; may be empty.") }),
                &["path", "old", "new"],
            ),
        ),
        tool(
            "write_file",
            "Writes a whole file, a new one or over an old one. To change a part of a file use edit_file.",
            object(
                json!({ "path": path(), "content": text("The whole content.") }),
                &["path", "content"],
            ),
        ),
        tool(
            "delete_file",
            "Deletes one file.",
            object(json!({ "path": path() }), &["path"]),
        ),
    ];
    if !names.is_empty() {
        tools.push(tool(
            "run_command",
            "Runs a command of the project on the files as they are now and shows its status and output. There is no shell and no network, and what the command writes into the repository is thrown away.",
            object(
                json!({
                    "name": { "type": "string", "enum": names },
                    "extra_args": { "type": "array", "items": { "type": "string" }, "description": "Arguments to append, such as the name of one test; not every command may be given any." },
                }),
                &["name"],
            ),
        ));
    }
    tools.push(tool(
        "finish",
        "Says that the work item is done. The whole test suite is run then; if it is red you see why and go on.",
        object(
            json!({ "summary": text("What was changed and why, for the commit message: one line, then details if they are needed.") }),
            &["summary"],
        ),
    ));
    tools.push(tool(
        "give_up",
        "Says that you cannot do the work item. A person reads the reason.",
        object(json!({ "reason": text("What stands in the way, what you found out and what you tried.") }), &["reason"]),
    ));
    tools
}

impl Call {
    /// Reads a use of a tool.
    ///
    /// # Errors
    /// What is wrong with it, for the model.
    pub fn read(name: &str, input: &str, offered: &[Tool]) -> Result<Call, String> {
        let Some(tool) = offered.iter().find(|tool| tool.name == name) else {
            let names: Vec<&str> = offered.iter().map(|tool| tool.name).collect();
            return Err(format!(
                "there is no tool {:?}; the tools are {}",
                clip::line(name, 64),
                names.join(", ")
            ));
        };
        // Some providers leave an empty object out.
        let input = if input.trim().is_empty() { "{}" } else { input };
        match name {
            "list_files" => parsed(input).map(Call::ListFiles),
            "read_file" => parsed(input).map(Call::ReadFile),
            "search" => parsed(input).map(Call::Search),
            "edit_file" => parsed(input).map(Call::EditFile),
            "write_file" => parsed(input).map(Call::WriteFile),
            "delete_file" => parsed(input).map(Call::DeleteFile),
            "run_command" => parsed(input).map(Call::RunCommand),
            "finish" => parsed(input).map(Call::Finish),
            "give_up" => parsed(input).map(Call::GiveUp),
            _ => Err("it is not known".into()),
        }
        .map_err(|why| {
            format!(
                "the input of {name} is wrong: {why}; it must fit {}",
                tool.schema
            )
        })
    }

    /// In a few words, for a watching person.
    pub fn doing(&self) -> String {
        let what = match self {
            Call::ListFiles(_) => "listing files".into(),
            Call::ReadFile(read) => format!("reading {}", read.path),
            Call::Search(search) => format!("searching {}", search.pattern),
            Call::EditFile(edit) => format!("editing {}", edit.path),
            Call::WriteFile(write) => format!("writing {}", write.path),
            Call::DeleteFile(delete) => format!("deleting {}", delete.path),
            Call::RunCommand(run) => format!(
                "running {} {}",
                run.name,
                run.extra_args
                    .iter()
                    .flatten()
                    .cloned()
                    .collect::<Vec<_>>()
                    .join(" ")
            ),
            Call::Finish(_) => "running test, since the model says that it is done".into(),
            Call::GiveUp(_) => "giving up".into(),
        };
        clip::line(what.trim_end(), 120)
    }
}

fn parsed<T: DeserializeOwned>(input: &str) -> Result<T, String> {
    // A list would be read as a record by the order of its fields: an object is what was asked for.
    if !input.trim_start().starts_with('{') {
        return Err("it is no JSON object".into());
    }
    serde_json::from_str(input).map_err(|error| clip::line(&error.to_string(), 300))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn all() -> Vec<Tool> {
        offered(&[Command {
            name: "test".into(),
            argv: vec![],
        }])
    }

    fn sample(property: &Value) -> Value {
        match property["type"].as_str().unwrap() {
            "integer" => json!(1),
            "array" => json!(["x"]),
            _ => json!("test"),
        }
    }

    #[test]
    fn what_the_schemas_promise_is_what_is_read() {
        let names: Vec<&str> = all().iter().map(|tool| tool.name).collect();
        assert_eq!(
            names,
            [
                "list_files",
                "read_file",
                "search",
                "edit_file",
                "write_file",
                "delete_file",
                "run_command",
                "finish",
                "give_up"
            ]
        );
        for tool in all() {
            let schema: Value = serde_json::from_str(&tool.schema).unwrap();
            assert_eq!(schema["additionalProperties"], json!(false));
            let properties = schema["properties"].as_object().unwrap();
            let required: Vec<&str> = schema["required"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap())
                .collect();
            let full: Map<String, Value> = properties
                .iter()
                .map(|(name, property)| (name.clone(), sample(property)))
                .collect();
            let read = |input: &Map<String, Value>| {
                Call::read(tool.name, &Value::Object(input.clone()).to_string(), &all())
            };
            assert!(read(&full).is_ok(), "{}", tool.name);
            for name in properties.keys() {
                let mut without = full.clone();
                without.remove(name);
                assert_eq!(
                    read(&without).is_ok(),
                    !required.contains(&name.as_str()),
                    "{} without {name}",
                    tool.name
                );
                let mut wrong = full.clone();
                wrong.insert(name.clone(), json!({ "x": 1 }));
                assert!(read(&wrong).is_err(), "{} with a wrong {name}", tool.name);
            }
            let mut more = full.clone();
            more.insert("more".into(), json!(1));
            assert!(read(&more).is_err(), "{} with more", tool.name);
        }
    }

    #[test]
    fn what_is_no_call_is_an_error_that_says_what_would_be() {
        let all = all();
        for (name, input) in [
            ("shell", "{}"),
            ("finish ", "{\"summary\":\"x\"}"),
            ("FINISH", "{\"summary\":\"x\"}"),
            ("finish", "[\"x\"]"),
            ("finish", "null"),
            ("finish", "{\"summary\":\"x\"} {}"),
            ("finish", "{\"summary\":\"x\",\"summary\":\"y\"}"),
            ("finish", "{\"summary\":\"x"),
            ("read_file", "{\"path\":\"a\",\"lines\":-1}"),
            ("read_file", "{\"path\":\"a\",\"lines\":1.5}"),
            ("read_file", "{\"path\":\"a\",\"lines\":99999999999}"),
        ] {
            let error = Call::read(name, input, &all).unwrap_err();
            assert!(
                error.contains("finish") || error.contains("\"path\""),
                "{error}"
            );
        }
        let deep = format!("{{\"summary\":{}", "[".repeat(100_000));
        assert!(Call::read("finish", &deep, &all).is_err());
        assert_eq!(
            Call::read("list_files", " ", &all),
            Ok(Call::ListFiles(ListFiles { glob: None }))
        );
        assert!(Call::read("run_command", "{\"name\":\"test\"}", &offered(&[])).is_err());
    }

    proptest! {
        #[test]
        fn no_input_panics(name in "[a-z_]{0,12}|read_file|edit_file", input in "[\\[\\]{}\":,a-z0-9\\\\ -]{0,40}") {
            let _ = Call::read(&name, &input, &all());
        }
    }
}
