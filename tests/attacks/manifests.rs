//! Manifests that say two things at once, ask for what nobody gives, or are no manifests (lines 16, 21, 71, 79, 136, 137).

use crate::bench::{BROKER_BYTES_MAX, Bench, MANIFEST, command, watched};
use crate::house::git;

fn with(section: &str) -> String {
    format!("{MANIFEST}\n{section}\n")
}

fn files(path: &str) -> String {
    MANIFEST.replace("path = \".\"", &format!("path = {path:?}"))
}

fn named(name: &str) -> String {
    MANIFEST.replace("name = \"attack\"", &format!("name = {name:?}"))
}

fn limited(limit: &str) -> String {
    MANIFEST.replace("memory = \"64MiB\"", limit)
}

fn variable(name: &str) -> String {
    with(&format!("[[env]]\nname = {name:?}\nreason = \"test\""))
}

fn program(name: &str) -> String {
    with(&format!(
        "[[processes]]\nprogram = {name:?}\nargs = [[\"x\"]]\nreason = \"test\""
    ))
}

fn network(host: &str) -> String {
    with(&format!(
        "[[network]]\nhost = {host:?}\nmethods = [\"GET\"]\nreason = \"test\""
    ))
}

fn corpus() -> Vec<String> {
    let mut all = Vec::new();
    let paths = [
        "/",
        "~",
        "~/.ssh",
        "..",
        "../x",
        "a/../..",
        "a/./b",
        "./..",
        "/etc",
        "C:\\",
        "a\\b",
        "a//b",
        "a/",
        "",
        " ",
        ".git",
        ".GIT/hooks",
        "a/.git",
        "git~1",
        ".g\u{200c}it",
        "a\u{202e}b",
        "a\nb",
        "a\u{7f}",
        "CON",
        "nul.txt",
        "COM\u{b9}",
        "a.",
        "a ",
        "file:///",
        "$HOME",
        "%2e%2e/x\u{0}",
    ];
    // What stands for nothing but a name on this system may be a name.
    let harmless = [
        "~",
        "~/.ssh",
        "$HOME",
        "file:///",
        "CON",
        "nul.txt",
        "COM\u{b9}",
    ];
    all.extend(
        paths
            .iter()
            .filter(|path| !harmless.contains(path))
            .map(|path| files(path)),
    );
    for name in [
        "PATH",
        "HOME",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "LD_AUDIT",
        "DYLD_INSERT_LIBRARIES",
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "CARGO_HOME",
        "CARGO_TARGET_X_RUNNER",
        "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT",
        "GIT_DIR",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "BASH_ENV",
        "ENV",
        "PERL5OPT",
        "RUBYOPT",
        "JAVA_TOOL_OPTIONS",
        "MOAT_HOME",
        "IFS",
        "path",
        "A=B",
        "A B",
        "",
        "1A",
        "\u{410}",
    ] {
        all.push(variable(name));
    }
    for name in [
        "/bin/sh",
        "./sh",
        "../sh",
        "a/b",
        "sh ",
        " sh",
        "",
        "-c",
        ".",
        "..",
        "sh\n",
        "s\u{200b}h",
        "sh;id",
        "$(id)",
        "\u{455}h",
    ] {
        all.push(program(name));
    }
    for host in [
        "*",
        "**",
        "*.com.",
        "*.",
        "*.*.com",
        "a*.com",
        "https://a.com",
        "a.com/x",
        "u@a.com",
        "a.com:80",
        "a .com",
        "a\tcom",
        "a.com\r\n",
        "%61.com",
        "a..com",
        "\u{430}.com",
        "a\u{3002}com",
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "127.1",
        "::1",
        "[::1%lo]",
        "",
        "-a.com",
        "a_b.com\u{0}",
    ] {
        all.push(network(host));
    }
    for name in [
        "",
        "A",
        "a b",
        "a/b",
        "../a",
        ".",
        "-a",
        "a\u{200b}",
        "\u{430}ttack",
        "a\n",
        "attack\u{0}",
        "a_b\u{301}",
        &"a".repeat(500),
    ] {
        all.push(named(name));
    }
    for limit in [
        "memory = \"-1\"",
        "memory = 64",
        "memory = \"64\"",
        "memory = \"0MiB\"",
        "memory = \"1e9MiB\"",
        "memory = \"99999999999999999999MiB\"",
        "memory = \"64MB\"",
        "memory = \"64 MiB\"",
        "memory = \"0x40MiB\"",
        "memory = \"+64MiB\"",
        "memory = true",
        "memory = [\"64MiB\"]",
        "memory = \"64MiB\"\nmemory = \"1GiB\"",
        "memory = \"64MiB\"\nMemory = \"1GiB\"",
        "memory = \"64MiB\"\nfuel = -1",
        "memory = \"64MiB\"\nfuel = 1.5",
        "memory = \"64MiB\"\nfuel = inf",
        "memory = \"64MiB\"\nhandles = 99999999999999999999",
        "memory = \"64MiB\"\ncpu = 1",
        "memory = \"64MiB\"\nrequests = -5",
        "memory = \"64MiB\"\nreceived = \"1TiB\"",
    ] {
        all.push(limited(limit));
    }
    for section in [
        "[skill]\nname = \"other\"",
        "[skill.more]\na = 1",
        "[[filez]]\npath = \".\"",
        "[files]\npath = \".\"",
        "files = []",
        "[[files]]",
        "[[files]]\npath = \".\"\naccess = \"read\"",
        "[[files]]\npath = \"b\"\naccess = \"execute\"\nreason = \"r\"",
        "[[files]]\npath = \"b\"\naccess = \"read\"\nreason = \"\"",
        "[[files]]\npath = [\"b\"]\naccess = \"read\"\nreason = \"r\"",
        "include = \"/etc/passwd\"",
        "[include]\nfile = \"x\"",
        "[browser]",
        "[memory]",
        "[forge]",
        "[policy]\nhidden = []",
        "[[ceiling]]\nread = [\".\"]",
        "[[grant]]\nskill = \"attack\"",
        "[[credentials]]\nname = \"t\"\nhost = \"a.com\"\nheader = \"Host\"\nformat = \"{}\"\nreason = \"r\"",
        "[[credentials]]\nname = \"t\"\nhost = \"a.com\"\nheader = \"X-A\"\nformat = \"none\"\nreason = \"r\"",
        "[[credentials]]\nname = \"t\"\nhost = \"a.com\"\nheader = \"X-A\"\nformat = \"{}\\r\\nX: {}\"\nreason = \"r\"",
        "\u{0}",
        "\u{1b}[2J",
        "a = {a = {a =",
        "<<<<<<< HEAD",
        "[[[[",
        "'''",
        "a.b.c.d = 1",
        "= 1",
    ] {
        all.push(with(section));
    }
    // A mark that editors hide, another encoding, the deep, the wide and the long.
    all.push(format!("\u{feff}{MANIFEST}"));
    all.push(with(&format!(
        "x = {}{}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    )));
    all.push(with(&format!("{}x = 1", "a.".repeat(100_000))));
    all.push(with(&format!("x = \"{}\"", "x".repeat(2 << 20))));
    all.push(with(
        &"[[files]]\npath = \"a\"\naccess = \"read\"\nreason = \"r\"\n".repeat(5_000),
    ));
    all.push(MANIFEST.replace('\n', "\r"));
    all
}

#[test]
fn no_manifest_says_two_things_or_asks_for_what_nobody_gives() {
    let bench = Bench::new();
    let component = command("i32.const 0");
    let mut taken = Vec::new();
    for (at, manifest) in corpus().iter().enumerate() {
        let folder = bench.folder("skill", manifest, &component);
        let told = watched(bench.house.command(&["skill", "inspect", &folder]));
        assert!(!told.text.contains("panicked at"), "{at}: {}", told.text);
        assert!(
            told.broker_bytes < BROKER_BYTES_MAX,
            "{at}: {}",
            told.broker_bytes
        );
        let hidden = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        };
        assert!(
            !told.text.contains(hidden),
            "{at}: what it holds acts on the terminal: {:?}",
            told.text
        );
        if told.code == Some(0) {
            taken.push(format!("{at}: {:.300}", manifest.replace(MANIFEST, "")));
        }
    }
    assert!(taken.is_empty(), "taken: {taken:#?}");
    let folder = bench.folder("skill", MANIFEST, &component);
    assert_eq!(
        watched(bench.house.command(&["skill", "inspect", &folder])).code,
        Some(0)
    );
    // Not text at all.
    for bytes in [
        vec![0xff; 100],
        [MANIFEST.as_bytes(), b"# \xc3\x28\n"].concat(),
        vec![],
    ] {
        std::fs::write(bench.house.path("skill/skill.toml"), bytes).unwrap();
        assert_ne!(
            watched(bench.house.command(&["skill", "inspect", &folder])).code,
            Some(0)
        );
    }
}

#[test]
fn a_projects_file_sets_no_variable_that_steers_a_tool() {
    let bench = Bench::new();
    let repo = bench.house.path("meter");
    let file = repo.join("moat.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    for line in [
        "LD_PRELOAD = \"x\"",
        "PATH = \"/tmp\"",
        "RUSTC_WRAPPER = \"x\"",
        "GIT_SSH_COMMAND = \"x\"",
        "PYTHONPATH = \"/tmp\"",
        "NODE_OPTIONS = \"--require x\"",
        "BASH_ENV = \"x\"",
        "MOAT_HOME = \"/tmp\"",
        "\"A=B\" = \"x\"",
        "HTTPS_PROXY = \"http://x\"",
    ] {
        std::fs::write(&file, format!("{good}\n[env]\n{line}\n")).unwrap();
        git(&repo, &["commit", "-qam", "a variable"]);
        let told = watched(
            bench
                .house
                .command(&["gate", "run", "tests", "--repo", "meter"]),
        );
        told.refused(line, &["cannot be set for commands"]);
    }
}
