//! The reviewer's view, updates and approvals: of a bundled skill, and of one whose author wants to be read otherwise.

use std::path::{Path, PathBuf};

use catalog::Catalog;
use insta::assert_snapshot;

use crate::house::{House, git, told};

/// A component that imports these names and holds no code.
fn component(imports: &[&str]) -> Vec<u8> {
    let mut section = vec![imports.len() as u8];
    for name in imports {
        section.extend([0, name.len() as u8]);
        section.extend(name.as_bytes());
        // An instance of type 0.
        section.extend([5, 0]);
    }
    // A component with an empty instance type, and the imports.
    let mut bytes = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\0".to_vec();
    bytes.push(10);
    // The length in two bytes, whatever it is.
    bytes.extend([
        section.len() as u8 & 0x7f | 0x80,
        (section.len() >> 7) as u8,
    ]);
    bytes.extend(section);
    bytes
}

fn folder(house: &House, name: &str, manifest: &str, imports: &[&str]) -> PathBuf {
    let folder = house.path(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("skill.toml"), manifest).unwrap();
    std::fs::write(folder.join("component.wasm"), component(imports)).unwrap();
    folder
}

/// Everything that text can try: markup, links, escapes, direction marks, and paths and reasons that end a code span or a table.
const HOSTILE: &str = r##"
[skill]
name = "helper"
version = "1.0.0"
role = "implement"
description = "<script>alert(1)</script> Safe & reviewed. [approved](https://evil.example) ![x](//evil.example/p.png) @team `x"

[[files]]
path = "a`<img src=x onerror=alert(1)>"
access = "write"
except = ["**/<b>`*"]
reason = "**trusted** </code></dl></li></ul><h2>Verdict: low risk</h2> \" onmouseover='x' www.evil.example"

[[network]]
host = "*.example.com"
methods = ["GET", "POST"]
reason = "# fetches <!-- the rest is a comment"

[[credentials]]
name = "key"
host = "api.example.com"
header = "Authorization"
format = "<i>`{}`</i>"
reason = "1. nothing to see | here"

[[processes]]
program = "bash"
args = [["-c", "**"], ["`--x`", "\u00a0<u>", "\u202eevil"]]
network = true
reason = "- runs `"

[[env]]
name = "TOKEN"
reason = "]( javascript:alert(1) )"

[limits]
memory = "128MiB"
time = "60s"
"##;

const HOSTILE_IMPORTS: &[&str] = &[
    "moat:host/process@0.1.0",
    "moat:host/model@0.1.0",
    "evil:\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gnp<script>alert(2)</script>`/x",
    "wasi:sockets/tcp@0.2.6",
];

/// Paths and digests differ from run to run.
fn plain(house: &House, text: &str) -> String {
    let place = house.home().parent().unwrap().display().to_string();
    let text = text.replace(&place, "[PLACE]");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("sha256:") {
        out.push_str(before);
        out.push_str("sha256:[DIGEST]");
        rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out.push_str(rest);
    out
}

fn shown(house: &House, args: &[&str]) -> String {
    let mut command = house.command(args);
    let output = command.env("COLUMNS", "80").output().unwrap();
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}",
        told(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_review_is_read_in_a_minute_in_every_format() {
    let house = House::new();
    for format in ["terminal", "markdown", "html"] {
        let text = shown(
            &house,
            &["skill", "review", "implement", "--format", format],
        );
        assert_snapshot!(format!("review-implement-{format}"), plain(&house, &text));
    }
    let flag = shown(&house, &["skill", "review", "implement", "--json"]);
    let format = shown(
        &house,
        &["skill", "review", "implement", "--format", "json"],
    );
    assert_eq!(flag, format);
    let value: serde_json::Value = serde_json::from_str(&flag).unwrap();
    assert_eq!(
        (&value["risk"], &value["imports"]["refused"]),
        (&"moderate".into(), &serde_json::json!([]))
    );
}

#[test]
fn what_a_hostile_author_wrote_is_text_in_every_format() {
    let house = House::new();
    folder(&house, "hostile", HOSTILE, HOSTILE_IMPORTS);
    for format in ["terminal", "markdown", "html", "json"] {
        let text = shown(
            &house,
            &["skill", "review", "./hostile", "--format", format],
        );
        let acts = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        };
        assert!(!text.chars().any(acts), "{format}: {text:?}");
        if format == "html" {
            assert_only_ours(&text);
        }
        if format != "json" {
            assert_snapshot!(format!("review-hostile-{format}"), plain(&house, &text));
        }
    }
}

/// Every tag is one that the page itself writes, without an attribute of anybody else's.
fn assert_only_ours(html: &str) {
    for tag in html
        .split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap())
    {
        let name = tag
            .trim_start_matches('/')
            .split([' ', '\n'])
            .next()
            .unwrap();
        let ours = [
            "!doctype", "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "b",
            "ul", "li", "dl", "dt", "dd", "code", "pre",
        ];
        assert!(ours.contains(&name), "<{tag}>");
        for attribute in tag
            .split_once(' ')
            .map_or("", |(_, rest)| rest)
            .split("\" ")
        {
            let key = attribute.split('=').next().unwrap();
            assert!(
                [
                    "",
                    "lang",
                    "class",
                    "charset",
                    "http-equiv",
                    "content",
                    "name",
                    "html"
                ]
                .contains(&key),
                "<{tag}>"
            );
        }
    }
    assert!(html.contains("default-src 'none'"));
}

/// The search under another name, from a folder on the branch, with some more asked for.
fn own_skill(repo: &Path, more: &str) {
    let catalog = Catalog::bundled().unwrap();
    let bundled = catalog.find(&"search-repair".parse().unwrap()).unwrap();
    let folder = repo.join("tools/own");
    std::fs::create_dir_all(&folder).unwrap();
    let manifest = bundled
        .manifest_text
        .replace("name = \"search-repair\"", "name = \"fixer\"");
    std::fs::write(folder.join("skill.toml"), manifest + more).unwrap();
    std::fs::write(folder.join("component.wasm"), &bundled.component).unwrap();
}

fn commit(repo: &Path, message: &str) {
    git(repo, &["add", "-Af"]);
    git(repo, &["commit", "-qm", message]);
}

const MORE: &str = "\n[[env]]\nname = \"SHOWN\"\nreason = \"<b>wants</b> to see it\"\n";

#[test]
fn an_update_that_asks_for_more_stays_off_until_somebody_approves_it() {
    let house = House::new();
    let repo = house.meter();
    let path = repo.join("moat.toml");
    let file = std::fs::read_to_string(&path).unwrap();
    let file = file
        .replace(
            "implement = \"search-repair\"",
            "implement = \"fixer\"\n\n[skills]\nfixer = \"tools/own\"",
        )
        .replace("skill = \"search-repair\"", "skill = \"fixer\"");
    std::fs::write(&path, file).unwrap();
    own_skill(&repo, "");
    commit(&repo, "a skill of our own");
    let run = |text: &str| house.moat(&["run", "--repo", "meter", text]);
    let first = run("one full hour is charged as two");
    assert_eq!(first.status.code(), Some(0), "{}", told(&first));
    let runs = || told(&house.moat(&["runs"])).lines().count();
    let before = runs();

    own_skill(&repo, MORE);
    commit(&repo, "an update");
    let refused = run("x y");
    let text = told(&refused);
    assert_eq!(refused.status.code(), Some(3), "{text}");
    assert!(
        text.contains("see the project's variable `SHOWN`")
            && text.contains("moat skill approve fixer --repo"),
        "{text}"
    );
    assert_eq!(runs(), before, "no run was opened");

    // What the error says to do is what helps.
    let line = text
        .lines()
        .find(|line| line.contains("moat skill approve"))
        .unwrap();
    let command = line
        .split('`')
        .find(|part| part.starts_with("moat skill approve"))
        .unwrap();
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    let approved = house.moat(&args);
    assert!(
        approved.status.success() && told(&approved).contains("SHOWN"),
        "{}",
        told(&approved)
    );
    let after = run("one full hour is charged as two");
    assert_ne!(after.status.code(), Some(3), "{}", told(&after));
    assert_eq!(runs(), before + 1);

    // The review knows of both runs, and of what was never used.
    let review = shown(
        &house,
        &["skill", "review", "fixer", "--repo", "meter", "--json"],
    );
    let review: serde_json::Value = serde_json::from_str(&review).unwrap();
    assert!(review["usage"]["calls"].as_u64().unwrap() >= 1, "{review}");
    assert!(
        review["usage"]["host-calls"]["moat:host/process.run"]
            .as_u64()
            .unwrap()
            >= 1,
        "{review}"
    );
    assert!(review["withheld"].to_string().contains("SHOWN"), "{review}");
}

#[test]
fn a_diff_says_what_an_update_widens_and_its_exit_code_does_too() {
    let house = House::new();
    let wider = HOSTILE.replace("access = \"write\"", "access = \"read\"");
    folder(&house, "before", &wider, &HOSTILE_IMPORTS[..1]);
    let after = HOSTILE
        .replace("1.0.0", "1.1.0")
        .replace("methods = [\"GET\", \"POST\"]", "methods = [\"GET\"]")
        .replace("- runs `", "- runs more");
    folder(&house, "after", &after, HOSTILE_IMPORTS);
    for format in ["terminal", "markdown", "html"] {
        let text = shown(
            &house,
            &["skill", "diff", "./before", "./after", "--format", format],
        );
        assert_snapshot!(format!("diff-{format}"), plain(&house, &text));
        if format == "html" {
            assert_only_ours(&text);
        }
    }
    let code =
        |before: &str, after: &str| house.moat(&["skill", "diff", before, after]).status.code();
    assert_eq!(code("./before", "./after"), Some(3));
    assert_eq!(code("./before", "./before"), Some(0));
    let narrower = wider.replace(
        "[[env]]\nname = \"TOKEN\"\nreason = \"]( javascript:alert(1) )\"\n",
        "",
    );
    assert_ne!(narrower, wider);
    folder(&house, "narrower", &narrower, &[]);
    assert_eq!(code("./before", "./narrower"), Some(0));
    assert_eq!(code("./narrower", "./before"), Some(3));
}

#[test]
fn a_packaged_component_can_be_reviewed_from_its_file() {
    let house = House::new();
    let catalog = Catalog::bundled().unwrap();
    let package = catalog.find(&"deploy".parse().unwrap()).unwrap();
    std::fs::write(house.path("skill.wasm"), &package.component).unwrap();
    let text = shown(&house, &["skill", "review", "skill.wasm"]);
    assert!(
        text.starts_with("deploy ") && text.contains("High risk"),
        "{text}"
    );
    std::fs::write(house.path("bare.wasm"), component(&[])).unwrap();
    let output = house.moat(&["skill", "review", "bare.wasm"]);
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}
