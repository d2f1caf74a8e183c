//! The table of attacks: every line has its state, every named test exists, and docs/SECURITY.md says the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{root, sources};

/// So many vectors are listed in parts A to H.
const LINES: u32 = 141;

const BEGIN: &str =
    "<!-- attacks: begin (written by `UPDATE=1 cargo test -p tests --test tidy`) -->\n";
const END: &str = "<!-- attacks: end -->";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    part: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    letter: char,
    title: String,
    line: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Line {
    number: u32,
    what: String,
    /// `suite: function`: the suite is a folder of host/ or of tests/.
    #[serde(default)]
    tests: Vec<String>,
    /// What is checked by a file and no test function, such as the list of licences.
    #[serde(default)]
    files: Vec<String>,
    /// What is not stopped, or not tried.
    open: Option<String>,
    /// Why nothing of the kind can happen here.
    not_applicable: Option<String>,
}

fn table() -> Table {
    let text = std::fs::read_to_string(root().join("tests/attacks/lines.toml")).unwrap();
    toml::from_str(&text).unwrap()
}

/// The test functions of a suite, with their bodies.
fn functions(suite: &str) -> BTreeMap<String, String> {
    let mut files = Vec::new();
    let places = [
        format!("host/{suite}/src"),
        format!("host/{suite}/tests"),
        format!("tests/{suite}"),
    ];
    for place in places.iter().map(|place| root().join(place)) {
        if place.is_dir() {
            sources(&place, &mut files);
        }
    }
    let mut found = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let attribute = line.trim();
            if !(attribute.starts_with("#[test") || attribute.starts_with("#[tokio::test")) {
                continue;
            }
            let indent = &line[..line.len() - attribute.len()];
            let head = lines[at..]
                .iter()
                .find(|line| line.contains("fn "))
                .unwrap();
            let name = head.split("fn ").nth(1).unwrap();
            let name = name.split('(').next().unwrap();
            let end = format!("{indent}}}");
            let body = lines[at + 1..]
                .iter()
                .skip_while(|line| !line.ends_with('{'));
            let body: Vec<&str> = body
                .skip(1)
                .take_while(|line| **line != end)
                .copied()
                .collect();
            found.insert(name.to_owned(), body.join("\n"));
        }
    }
    found
}

fn rendered(table: &Table) -> String {
    let mut text = String::from(BEGIN);
    for part in &table.part {
        text.push_str(&format!(
            "\n**{} {}**\n\n| # | tried | what becomes of it |\n| --- | --- | --- |\n",
            part.letter, part.title
        ));
        for line in &part.line {
            let mut cell = Vec::new();
            if !line.tests.is_empty() || !line.files.is_empty() {
                let by = line.tests.iter().chain(&line.files);
                let by: Vec<_> = by.map(|name| format!("`{name}`")).collect();
                cell.push(format!("blocked: {}", by.join(", ")));
            }
            cell.extend(
                line.not_applicable
                    .iter()
                    .map(|why| format!("not applicable: {why}")),
            );
            cell.extend(line.open.iter().map(|why| format!("**open**: {why}")));
            text.push_str(&format!(
                "| {} | {} | {} |\n",
                line.number,
                line.what,
                cell.join("; ")
            ));
        }
    }
    text.push('\n');
    text.push_str(END);
    text
}

#[test]
fn every_attack_has_its_line_and_its_state() {
    let table = table();
    let numbers: Vec<u32> = table
        .part
        .iter()
        .flat_map(|part| &part.line)
        .map(|line| line.number)
        .collect();
    assert_eq!(
        numbers,
        (1..=LINES).collect::<Vec<_>>(),
        "each once, in order"
    );
    for line in table.part.iter().flat_map(|part| &part.line) {
        let is_blocked = !line.tests.is_empty() || !line.files.is_empty();
        assert!(
            is_blocked || line.open.is_some() || line.not_applicable.is_some(),
            "{} has no state",
            line.number
        );
        let words = [
            Some(&line.what),
            line.open.as_ref(),
            line.not_applicable.as_ref(),
        ];
        for text in words.into_iter().flatten() {
            assert!(
                text.len() > 3 && !text.contains(['\n', '|']),
                "{}: {text:?} is no cell",
                line.number
            );
        }
    }
}

#[test]
fn every_test_that_is_said_to_block_an_attack_is_there_and_does_something() {
    let mut known: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for line in table().part.iter().flat_map(|part| &part.line) {
        for name in &line.tests {
            let (suite, function) = name.split_once(": ").unwrap();
            let functions = known
                .entry(suite.to_owned())
                .or_insert_with(|| functions(suite));
            let body = functions.get(function);
            let says = |line: &str| !line.trim().is_empty() && !line.trim().starts_with("//");
            if !body.is_some_and(|body| body.lines().any(says)) {
                missing.insert(format!("{}: {name}", line.number));
            }
        }
        for name in &line.files {
            assert!(root().join(name).is_file(), "{name}");
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

#[test]
fn security_md_says_of_each_attack_what_the_table_says() {
    let path = root().join("docs/SECURITY.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let wanted = format!("{before}{}{after}", rendered(&table()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &wanted).unwrap();
        return;
    }
    assert!(
        text == wanted,
        "docs/SECURITY.md is not what tests/attacks/lines.toml says: `UPDATE=1 cargo test -p tests --test tidy` writes it anew"
    );
}
