//! Files of configuration that are no plain files, say two things, or say what sounds like something else.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use support::canary::assert_free;

use super::{Plan, Yard, fetch, network, policy, server, within};
use crate::house::told;

fn pipe(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

/// Puts each thing that is no plain file of configuration in this one's place.
fn replaced(path: &Path, canary: &Path, mut look: impl FnMut(&str)) {
    let before = std::fs::read(path).ok();
    type Make<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let makes: Vec<Make<'_>> = vec![
        ("a pipe", Box::new(|| pipe(path))),
        (
            "a directory",
            Box::new(|| std::fs::create_dir(path).unwrap()),
        ),
        (
            "a link to zeros",
            Box::new(|| symlink("/dev/zero", path).unwrap()),
        ),
        (
            "a link to a secret",
            Box::new(|| symlink(canary, path).unwrap()),
        ),
        (
            "a link to itself",
            Box::new(|| symlink(path, path).unwrap()),
        ),
        (
            "a link to nothing",
            Box::new(|| symlink("/nowhere/at/all", path).unwrap()),
        ),
        (
            "a sparse giant",
            Box::new(|| {
                std::fs::File::create(path)
                    .unwrap()
                    .set_len(1 << 40)
                    .unwrap()
            }),
        ),
        (
            "bytes",
            Box::new(|| std::fs::write(path, b"\xff\xfe\0\0[").unwrap()),
        ),
    ];
    for (what, make) in makes {
        let _ = std::fs::remove_file(path);
        make();
        look(what);
        let _ = std::fs::remove_dir(path);
        let _ = std::fs::remove_file(path);
    }
    if let Some(before) = before {
        std::fs::write(path, before).unwrap();
    }
}

const CANARY: &str = "canary-of-a-file-5e1d";

#[test]
fn parts_of_a_skills_folder_that_are_no_plain_files_are_refused_at_once() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let canary = yard.house.path("canary");
    std::fs::write(&canary, CANARY).unwrap();
    let input = yard.house.path("input.json");
    std::fs::write(
        &input,
        fetch(&format!("http://localhost:{}/v1", server.port)).to_string(),
    )
    .unwrap();
    let input = input.to_str().unwrap();
    for name in ["skill.toml", "component.wasm"] {
        replaced(&yard.repo.join("tools/asker").join(name), &canary, |what| {
            for args in [
                &["skill", "check", "./meter/tools/asker"][..],
                &["skill", "review", "./meter/tools/asker"],
                &["skill", "diff", "./meter/tools/asker", "triage"],
                &[
                    "skill",
                    "run",
                    "./meter/tools/asker",
                    "--repo",
                    "meter",
                    "--input",
                    input,
                ],
            ] {
                let output = within(yard.house.command(args));
                let text = told(&output);
                assert!(
                    matches!(output.status.code(), Some(1..=3)),
                    "{name} is {what}: {args:?}: {text}"
                );
                assert!(!text.contains("panicked"), "{text}");
                assert_free(what, text.as_bytes(), CANARY);
            }
        });
    }
    assert!(server.seen().is_empty());
}

#[test]
fn a_state_directory_by_a_link_is_judged_by_where_it_leads() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let input = fetch(&format!("http://localhost:{}/v1", server.port));
    let (home, link) = (yard.house.home(), yard.house.path("link"));
    symlink(&home, &link).unwrap();
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o777)).unwrap();
    for place in [
        link.clone(),
        link.join("."),
        link.join("../home"),
        home.join("audit/.."),
    ] {
        let mut command = yard.command(&input);
        command.env("MOAT_HOME", &place);
        within(command);
        let mut command = yard.command(&input);
        command.env_remove("MOAT_HOME").arg("--home").arg(&place);
        within(command);
    }
    assert!(server.seen().is_empty(), "{:?}", server.seen());
    std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(yard.answered(&input)["status"], 200, "this test can fail");
}

#[test]
fn a_policy_says_one_thing_or_nothing() {
    let server = server();
    let plan = Plan::asking(server.port);
    let yard = Yard::new(&plan);
    let input = fetch(&format!("http://localhost:{}/v1", server.port));
    let good = policy(&plan.ceiling);
    let port = server.port;
    for bad in [
        format!("least-confinement = \"none\"\n{good}"),
        format!("least-confinement = \"FULL\"\n{good}"),
        format!("least-confinement = \"\"\n{good}"),
        format!("least-confinement = false\n{good}"),
        format!("least_confinement = \"full\"\n{good}"),
        good.replace("[[ceiling]]", "[ceiling]"),
        good.replace("[[ceiling]]", "[[ceilings]]"),
        good.replace("[[ceiling]]", "[[ceiling]]\nskill = \"*\""),
        good.replace("[[ceiling]]", "[[ceiling]]\nskill = \"other\""),
        good.replace("[[ceiling]]", "[[ceiling]]\nrole = \"implement\""),
        good.replace("[[ceiling]]", "[[ceiling]]\nrole = \"Job\""),
        good.replace("[[ceiling]]", "[[ceiling]]\nrole = [\"job\"]"),
        format!("{good}network = [\"*\"]\n"),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            "network = [\"http://*\"]",
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            "network = [\"*\"]",
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            "network = [\"http://*.localhost\"]",
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            &format!("network = [\"http://*:{port}\"]"),
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            &format!("network = \"http://localhost:{port}\""),
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            "Network = [\"*\"]",
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            &format!("network = [\"http://127.0.0.1:{port}\"]"),
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            &format!("network = [\"http://localhost:{port}/v2\"]"),
        ),
        good.replace(
            &format!("network = [\"http://localhost:{port}\"]"),
            &format!("network = [\"POST http://localhost:{port}\"]"),
        ),
        good.replace("time = \"10m\"", "time = \"10 minutes\""),
        good.replace("memory = \"1GiB\"", "memory = \"-1GiB\""),
        good.replace("memory = \"1GiB\"", "memory = \"99999999999999999999GiB\""),
        format!("\u{feff}{good}[[ceiling]]\nskill = \"asker\"\n"),
        format!("{good}\0"),
        format!("{}\n{good}", "#".repeat(64 << 20)),
        String::new(),
        "hidden = []\n".into(),
    ] {
        yard.policy(&bad);
        let output = within(yard.command(&input));
        assert!(!told(&output).contains("panicked"), "{}", told(&output));
        let shown = &bad[..bad.len().min(2000)];
        assert!(server.seen().is_empty(), "{shown}");
    }
    yard.policy(&good);
    assert_eq!(yard.answered(&input)["status"], 200, "this test can fail");
}

/// Runs moat where a secret is to be had from a program that leaves a mark when it is run.
fn asked_for(yard: &Yard, hosts: &str) -> (bool, Option<i32>) {
    let (mark, program) = (yard.house.path("mark"), yard.house.path("program"));
    let _ = std::fs::remove_file(&mark);
    std::fs::write(
        &program,
        format!("#!/bin/sh\necho x > {}\necho {CANARY}\n", mark.display()),
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = yard.house.home().join("secrets.toml");
    std::fs::write(
        &file,
        format!(
            "[secrets.token]\nhosts = [{hosts}]\ncommand = [\"{}\"]\n",
            program.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = within(yard.house.command(&["secret", "check"]));
    assert_free(hosts, told(&output).as_bytes(), CANARY);
    (mark.exists(), output.status.code())
}

#[test]
fn a_secrets_owner_names_whole_origins_over_tls_or_none() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    assert_eq!(
        asked_for(&yard, "\"https://api.example.com\""),
        (true, Some(0)),
        "this test can fail"
    );
    for host in [
        "http://api.example.com",
        "https://*.example.com",
        "https://*",
        "*",
        "api.example.com",
        "https://api.example.com/v1",
        "https://api.example.com?x",
        "https://api.example.com#x",
        "https://user@api.example.com",
        "https://user:pass@api.example.com",
        "https://api.example.com:0",
        "https://api.example.com:99999",
        "https://api.example.com:",
        "https://\u{430}pi.example.com",
        "https://api.example.com\\u0000.evil.example",
        "https://api.example.com\\n",
        "https://api.example.com https://evil.example",
        "https://api.example.com,https://evil.example",
        "https://",
        "https:///api.example.com",
        "HTTPS:api.example.com",
        "https://api.example.com\\\\@evil.example",
        "https://%61pi.example.com",
        "https://1.2.3",
        "https://0x7f000001",
        "wss://api.example.com",
        "",
    ] {
        let (ran, code) = asked_for(&yard, &format!("\"{host}\""));
        assert!(!ran && code != Some(0), "{host}: {code:?}");
    }
    for hosts in [
        "",
        "\"https://api.example.com\", \"http://api.example.com\"",
        "\"https://api.example.com\", \"*\"",
    ] {
        let (ran, code) = asked_for(&yard, hosts);
        assert!(!ran && code != Some(0), "{hosts}: {code:?}");
    }
}

#[test]
fn a_secret_does_not_go_to_a_listener_in_the_clear() {
    let server = server();
    let port = server.port;
    for (scheme, credentials, granted, hosts) in [
        (
            "http",
            format!("host = \"localhost\"\nport = {port}\n"),
            true,
            format!("\"https://localhost:{port}\""),
        ),
        (
            "http",
            format!("host = \"localhost\"\nport = {port}\n"),
            false,
            format!("\"https://localhost:{port}\""),
        ),
        (
            "http",
            "host = \"localhost\"\n".to_owned(),
            true,
            format!("\"https://localhost\", \"https://localhost:{port}\""),
        ),
        (
            "http",
            format!("host = \"127.0.0.1\"\nport = {port}\n"),
            true,
            format!("\"https://127.0.0.1:{port}\""),
        ),
        (
            "https",
            format!("host = \"localhost\"\nport = {port}\n"),
            true,
            format!("\"https://localhost:{port}\""),
        ),
    ] {
        let mut plan = Plan::asking(port);
        plan.manifest = network(port, scheme, "\"GET\"");
        if scheme == "https" {
            plan.grant = format!("network = [\"GET localhost:{port}/v1\"]\n");
            plan.ceiling =
                format!("network = [\"localhost:{port}\"]\nprivate = [\"localhost:{port}\"]\n");
        }
        plan.manifest += &format!(
            "\n[[credentials]]\nname = \"token\"\n{credentials}header = \"X-Token\"\nformat = \"{{}}\"\nreason = \"test\"\n"
        );
        if granted {
            plan.grant += "credentials = [\"token\"]\n";
            plan.ceiling += "credentials = [\"*\"]\n";
        }
        let yard = Yard::new(&plan);
        asked_for(&yard, &hosts);
        for scheme in ["http", "https"] {
            let answer = yard.call(&fetch(&format!("{scheme}://localhost:{port}/v1")));
            assert_free("the answer", answer.to_string().as_bytes(), CANARY);
        }
        for (path, content) in super::snapshot(&yard.house.home()) {
            assert_free(&path.display().to_string(), &content, CANARY);
        }
    }
    for request in server.seen() {
        assert_free("a request", format!("{request:?}").as_bytes(), CANARY);
    }
}

#[test]
fn an_input_of_any_shape_is_taken_or_refused() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let deep =
        |open: &str, close: &str| format!("{}1{}", open.repeat(1_000_000), close.repeat(1_000_000));
    for (what, text) in [
        ("deep lists", deep("[", "]").into_bytes()),
        ("deep tables", deep("{\"a\":", "}").into_bytes()),
        ("open for ever", "[".repeat(5_000_000).into_bytes()),
        (
            "a long string",
            format!(
                "{{\"do\": \"echo\", \"value\": \"{}\"}}",
                "x".repeat(100 << 20)
            )
            .into_bytes(),
        ),
        (
            "a long number",
            format!("{{\"do\": \"echo\", \"value\": 1{}}}", "0".repeat(10 << 20)).into_bytes(),
        ),
        (
            "half a surrogate",
            br#"{"do": "echo", "value": "\ud800"}"#.to_vec(),
        ),
        ("no text", b"{\"do\": \"\xff\xfe\"}".to_vec()),
        ("a mark first", "\u{feff}{\"do\": \"count\"}".into()),
        (
            "doubled keys",
            format!(
                "{{\"do\": \"count\", \"do\": \"fetch\", \"url\": \"http://localhost:{}/v2\"}}",
                server.port
            )
            .into_bytes(),
        ),
        (
            "two values",
            b"{\"do\": \"count\"} {\"do\": \"panic\"}".to_vec(),
        ),
        (
            "not a number",
            b"{\"do\": \"echo\", \"value\": NaN}".to_vec(),
        ),
        ("nothing", vec![]),
        ("zeros", vec![0; 1 << 20]),
    ] {
        let file = yard.house.path("odd.json");
        std::fs::write(&file, text).unwrap();
        let output = within(yard.house.command(&[
            "skill",
            "run",
            "asker",
            "--repo",
            "meter",
            "--input",
            file.to_str().unwrap(),
        ]));
        assert!(
            output.status.code().is_some_and(|code| code < 5),
            "{what}: {:?}",
            output.status
        );
        assert!(!told(&output).contains("panicked"), "{what}");
    }
    assert!(server.seen().is_empty());
    assert_eq!(yard.answered(&json!({"do": "echo", "value": 7})), 7);
    yard.verifies();
}

#[test]
fn a_policy_or_models_file_that_others_can_write_gives_nothing() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let input = fetch(&format!("http://localhost:{}/v1", server.port));
    for name in ["policy.toml", "models.toml"] {
        let path = yard.house.home().join(name);
        for mode in [0o666, 0o622, 0o664] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            yard.call(&input);
            assert!(
                server.seen().is_empty(),
                "{name} of mode {mode:o} was believed"
            );
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    assert_eq!(yard.answered(&input)["status"], 200, "this test can fail");
}

#[test]
fn a_state_directory_whose_files_are_something_else_lets_nothing_out() {
    let server = server();
    let yard = Yard::new(&Plan::asking(server.port));
    let canary = yard.house.path("canary");
    std::fs::write(&canary, CANARY).unwrap();
    let input = fetch(&format!("http://localhost:{}/v1", server.port));
    for name in ["policy.toml", "secrets.toml", "models.toml"] {
        replaced(&yard.house.home().join(name), &canary, |what| {
            let output = within(yard.command(&input));
            let text = told(&output);
            assert!(!text.contains("panicked"), "{name} is {what}: {text}");
            assert_free(what, text.as_bytes(), CANARY);
            assert!(
                server.seen().is_empty(),
                "{name} is {what}: {:?}",
                server.seen()
            );
        });
    }
    let before = server.seen().len();
    assert_eq!(yard.answered(&input)["status"], 200);
    assert_eq!(server.seen().len(), before + 1);
}
