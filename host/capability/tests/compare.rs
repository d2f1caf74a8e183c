//! Comparing manifests, and writing them: what is called no widening never gives more, whatever project and policy say.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use capability::network::Method;
use capability::{Comparison, Grant, Manifest, Origin, Policy, ProjectGrant, RelPath, Source};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

const PATHS: [&str; 5] = [".", "src", "src/a", "docs", "docs/b"];
const GLOBS: [&str; 3] = ["**/*.pem", "src/a/**", "docs"];
const ARGS: [&str; 6] = [
    r#"[]"#,
    r#"["a"]"#,
    r#"["a", "*"]"#,
    r#"["a", "**"]"#,
    r#"["**"]"#,
    r#"["a", "-b"]"#,
];
const HOSTS: [&str; 4] = [
    "api.example.com",
    "*.example.com",
    "*.api.example.com",
    "10.0.0.1",
];
const TERMS: [&str; 4] = [
    "",
    "network = true\n",
    "time = \"5s\"\n",
    "time = \"9s\"\nmemory = \"1MiB\"\nnetwork = true\n",
];
const METHODS: [&str; 3] = [r#"["GET"]"#, r#"["GET", "POST"]"#, r#"["PUT"]"#];
const URLS: [&str; 4] = [
    "",
    "paths = [\"/v1\"]\n",
    "paths = [\"/v1/x\", \"/v2\"]\n",
    "port = 8443\n",
];

/// Any manifest of a small world, in which two of them often have something in common.
fn manifests() -> impl Strategy<Value = Manifest> {
    let files = (
        subsequence(&PATHS[..], 0..=2),
        any::<(bool, bool)>(),
        subsequence(&GLOBS[..], 0..=3),
    );
    let network = prop::collection::vec((0..4usize, 0..3usize, 0..4usize), 0..=2);
    let programs = prop::option::of((subsequence(&ARGS[..], 1..=3), 0..4usize));
    let commands = prop::option::of((any::<bool>(), 0..4usize));
    let small = (
        any::<bool>(),
        subsequence(&["A", "B"][..], 0..=2),
        subsequence(&["small", "large"][..], 0..=2),
        1..3u32,
        any::<bool>(),
    );
    let limits = (1..3u32, 1..3u32, 1..3u32);
    (files, network, programs, commands, small, limits)
        .prop_filter_map("a manifest that is none", |(files, network, programs, commands, small, limits)| {
            let mut text = String::from("[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n");
            let (paths, (one, two), globs) = files;
            for (path, write) in paths.iter().zip([one, two]) {
                let access = if write { "write" } else { "read" };
                text += &format!("[[files]]\npath = \"{path}\"\naccess = \"{access}\"\nexcept = {globs:?}\nreason = \"r\"\n");
            }
            for (host, methods, rest) in &network {
                text += &format!("[[network]]\nhost = \"{}\"\nmethods = {}\n{}reason = \"r\"\n", HOSTS[*host], METHODS[*methods], URLS[*rest]);
            }
            let (credential, env, models, tokens, release) = small;
            if credential {
                text += "[[credentials]]\nname = \"c\"\nhost = \"api.example.com\"\nheader = \"x-key\"\nformat = \"{}\"\nreason = \"r\"\n";
            }
            if let Some((args, terms)) = programs {
                text += &format!("[[processes]]\nprogram = \"p\"\nargs = [{}]\n{}reason = \"r\"\n", args.join(", "), TERMS[terms]);
            }
            if let Some((extra, terms)) = commands {
                text += &format!("[[processes]]\nproject = \"test\"\nextra-args = {extra}\n{}reason = \"r\"\n", TERMS[terms]);
            }
            for name in env {
                text += &format!("[[env]]\nname = \"{name}\"\nreason = \"r\"\n");
            }
            if !models.is_empty() {
                text += &format!("[model]\naliases = {models:?}\nmax-tokens = {tokens}\nreason = \"r\"\n");
            }
            if release {
                text += "[release]\nreason = \"r\"\n";
            }
            text += &format!("[limits]\nmemory = \"{}MiB\"\ntime = \"{}s\"\nhost-calls = {}\n", limits.0, limits.1, limits.2);
            Manifest::parse(&text, "skill.toml").ok()
        })
}

/// The first manifest with one section of the second: most pairs of whole manifests are wider in too many ways to tell one from another.
fn spliced(a: &Manifest, b: &Manifest, how: usize) -> Option<Manifest> {
    let mut mixed = a.clone();
    match how {
        0 => mixed.files.clone_from(&b.files),
        1 => mixed.network.clone_from(&b.network),
        2 => mixed.processes.clone_from(&b.processes),
        3 => mixed.model.clone_from(&b.model),
        4 => mixed.env.clone_from(&b.env),
        5 => mixed.limits = b.limits,
        6 => {
            // The same command on other terms.
            let terms = b.processes.first()?;
            for one in &mut mixed.processes {
                (one.network, one.wall_ms, one.memory_bytes) =
                    (terms.network, terms.wall_ms, terms.memory_bytes);
            }
        }
        7 => mixed
            .credentials
            .iter_mut()
            .for_each(|one| one.format = "Bearer {}".into()),
        _ => {
            mixed
                .files
                .iter_mut()
                .zip(&b.files)
                .for_each(|(one, other)| one.except.clone_from(&other.except));
        }
    }
    // A mixture can be a manifest that nobody can write.
    Manifest::parse(&mixed.to_toml(), "skill.toml").ok()
}

fn policies() -> impl Strategy<Value = Policy> {
    (subsequence(&PATHS[..], 0..=3), subsequence(&PATHS[..], 0..=3), subsequence(&GLOBS[..], 0..=1), subsequence(&["GET *", "*.example.com/v1", "10.0.0.1", "*"][..], 0..=3), any::<[bool; 6]>(), 1..4u32).prop_map(
        |(read, write, hidden, network, on, number)| {
            let all = |on: bool| if on { "[\"*\"]" } else { "[]" };
            let text = format!(
                "hidden = {hidden:?}\n[[ceiling]]\nread = {read:?}\nwrite = {write:?}\nnetwork = {network:?}\nprivate = [\"10.0.0.1\"]\ncommands = {}\nprograms = {}\nonline = {}\nmodels = {}\nenv = {}\ncredentials = {}\nrelease = {}\nmax-tokens = {number}\nmemory = \"{number}MiB\"\ntime = \"{number}s\"\n",
                all(on[0]), all(on[1]), all(on[2]), all(on[3]), all(on[4]), all(on[5]), on[0]
            );
            Policy::parse(&text, "policy.toml").unwrap()
        },
    )
}

fn checked(raw: capability::RawProjectGrant) -> ProjectGrant {
    let source = Source {
        file: "moat.toml",
        text: "",
    };
    raw.check(source, 0..0).unwrap()
}

fn projects() -> impl Strategy<Value = ProjectGrant> {
    (
        subsequence(&PATHS[..], 0..=3),
        subsequence(&PATHS[..], 0..=3),
        subsequence(&GLOBS[..], 0..=1),
        subsequence(
            &[
                "GET api.example.com",
                "*.example.com",
                "10.0.0.1",
                "*.example.com:8443",
            ][..],
            0..=4,
        ),
        any::<[bool; 4]>(),
    )
        .prop_map(|(read, write, except, network, on)| {
            let own = |list: &[&str], on: bool| {
                if on {
                    list.iter().map(|one| (*one).to_owned()).collect()
                } else {
                    vec![]
                }
            };
            checked(capability::RawProjectGrant {
                skill: "x".into(),
                read: own(&read, true),
                write: own(&write, true),
                except: own(&except, true),
                network: own(&network, true),
                commands: own(&["test"], on[0]),
                programs: own(&["p"], on[0]),
                online: own(&["test", "p"], on[1]),
                credentials: own(&["c"], on[2]),
                env: own(&["A", "B"], on[2]),
                models: own(&["small", "large"], on[3]),
                release: on[3],
                ..capability::RawProjectGrant::default()
            })
        })
}

/// All that a grant allows in the small world, a word each; numbers apart.
fn allowed(grant: &Grant) -> Vec<String> {
    let mut found = Vec::new();
    let mut add = |word: String, allowed: bool| found.extend(allowed.then_some(word));
    for text in [
        "src/a/x",
        "src/b",
        "src/a/k.pem",
        "docs/b/x",
        "docs/c",
        "top",
    ] {
        let path: RelPath = text.parse().unwrap();
        add(format!("read {text}"), grant.may_read(&path).is_ok());
        add(format!("write {text}"), grant.may_write(&path).is_ok());
    }
    for (authority, path) in [
        ("api.example.com", "/v1/x"),
        ("api.example.com", "/v2"),
        ("b.api.example.com", "/v1"),
        ("10.0.0.1", "/"),
        ("api.example.com:8443", "/z"),
        ("api.example.com", "/v1//x"),
    ] {
        let origin = Origin::parse("https", authority).unwrap();
        for method in ["GET", "POST", "PUT"] {
            let _: Method = method.parse().unwrap();
            if let Ok(reach) = grant.may_request(&origin, method, path) {
                add(format!("{method} {authority}{path}"), true);
                add(format!("{method} {authority}{path} private"), reach.private);
                add(
                    format!("{method} {authority}{path} credential"),
                    !reach.credentials.is_empty(),
                );
            }
        }
    }
    for args in [
        &[][..],
        &["a"],
        &["a", "b"],
        &["a", "-b"],
        &["a", "b", "c"],
        &["-z"],
    ] {
        let args: Vec<String> = args.iter().map(|one| (*one).to_owned()).collect();
        for (name, answer) in [
            ("p", grant.may_run_program("p", &args)),
            ("test", grant.may_run_project("test", &args)),
        ] {
            if let Ok(running) = answer {
                let word = format!("{name} {args:?}");
                add(format!("{word} online"), running.network);
                for seconds in [5, 9, 100] {
                    add(
                        format!("{word} for {seconds}"),
                        running.wall_ms.is_none_or(|ms| ms >= seconds * 1000),
                    );
                }
                add(format!("{word} large"), running.memory_bytes.is_none());
                add(word, true);
            }
        }
    }
    for alias in ["small", "large"] {
        add(alias.into(), grant.may_use_model(alias).is_ok());
    }
    grant
        .env()
        .for_each(|name| add(format!("env {name}"), true));
    add("release".into(), grant.may_release().is_ok());
    found
}

fn numbers(grant: &Grant) -> [u64; 4] {
    let limits = grant.limits();
    // Tokens say nothing where no model can be called.
    let tokens = if grant.models().next().is_some() {
        grant.max_tokens()
    } else {
        0
    };
    [
        limits.memory_bytes,
        limits.wall_ms,
        limits.host_calls,
        tokens.into(),
    ]
}

/// A manifest with some of its requests left out or lowered, so that narrower ones are not found by luck alone.
fn lessened(manifest: &Manifest, at: Index, how: usize) -> Manifest {
    let mut less = manifest.clone();
    match how {
        0 if !less.files.is_empty() => {
            let at = at.index(less.files.len());
            less.files.remove(at);
        }
        1 => less.files.iter_mut().for_each(|one| one.write = false),
        2 if !less.network.is_empty() => {
            let at = at.index(less.network.len());
            less.network.remove(at);
        }
        3 => less.model = None,
        4 => less.processes.iter_mut().for_each(|one| {
            one.network = false;
            one.wall_ms = Some(1000);
        }),
        5 => less.limits.memory_bytes = 1 << 19,
        6 => less.credentials.clear(),
        _ => less.processes.truncate(1),
    }
    less
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_differs_from_itself(a in manifests()) {
        let same = Comparison::of(&a, &a);
        prop_assert!(same.is_empty(), "{same:?}");
    }

    #[test]
    fn what_is_no_widening_never_gives_more(a in manifests(), b in manifests(), at in any::<Index>(), how in 0..9usize, project in projects(), policy in policies()) {
        for b in [Some(lessened(&a, at, how)), spliced(&a, &b, how), Some(b)].into_iter().flatten() {
            if Comparison::of(&a, &b).is_wider() {
                continue;
            }
            let (before, after) = (Grant::compute(&a, Some(&project), &policy), Grant::compute(&b, Some(&project), &policy));
            let had = allowed(&before);
            for word in allowed(&after) {
                prop_assert!(had.contains(&word), "{word} was not allowed before\n{}\n{}", a.to_toml(), b.to_toml());
            }
            for (old, new) in numbers(&before).into_iter().zip(numbers(&after)) {
                prop_assert!(new <= old);
            }
        }
    }

    #[test]
    fn less_is_no_widening_and_comes_back_as_one(a in manifests(), at in any::<Index>(), how in 0..9usize) {
        let b = lessened(&a, at, how);
        let there = Comparison::of(&a, &b);
        prop_assert!(!there.is_wider() || b.files.len() < a.files.len(), "{there:?}");
        let back = Comparison::of(&b, &a);
        prop_assert_eq!(there.narrows.len(), back.widens.len());
    }

    #[test]
    fn what_is_no_widening_in_two_steps_is_none_in_one(a in manifests(), one in any::<Index>(), two in any::<Index>(), how in 0..9usize, then in 0..9usize) {
        let b = lessened(&a, one, how);
        let c = lessened(&b, two, then);
        if !Comparison::of(&a, &b).is_wider() && !Comparison::of(&b, &c).is_wider() {
            prop_assert!(!Comparison::of(&a, &c).is_wider());
        }
    }

    #[test]
    fn a_manifest_that_was_written_is_read_as_the_same(a in manifests()) {
        let text = a.to_toml();
        prop_assert_eq!(&Manifest::parse(&text, "skill.toml").unwrap(), &a, "{}", text);
    }

    #[test]
    fn the_whole_grant_withholds_nothing_and_can_be_written(a in manifests()) {
        let wide = Policy::parse("hidden = []\n[[ceiling]]\nread = [\".\"]\nwrite = [\".\"]\ncommands = [\"*\"]\nprograms = [\"*\"]\nonline = [\"*\"]\nmodels = [\"*\"]\nenv = [\"*\"]\ncredentials = [\"*\"]\nnetwork = [\"*\"]\nrelease = true\nmax-tokens = 9\nmemory = \"1GiB\"\ntime = \"1h\"\n", "policy.toml").unwrap();
        let raw = a.whole_grant();
        let text = raw.to_toml();
        let read: std::collections::BTreeMap<String, Vec<capability::RawProjectGrant>> = toml::from_str(&text).unwrap();
        prop_assert_eq!(&read["grant"][0], &raw, "{}", text);
        let grant = Grant::compute(&a, Some(&checked(raw)), &wide);
        prop_assert!(grant.withheld().is_empty(), "{:?}", grant.withheld());
    }
}

const BASE: &str = "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"Does it\"\n[[files]]\npath = \"src\"\naccess = \"read\"\nexcept = [\"**/*.pem\"]\nreason = \"reads\"\n[[processes]]\nproject = \"test\"\nreason = \"tests\"\n[model]\naliases = [\"coder\"]\nmax-tokens = 10\nreason = \"asks\"\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n";

/// Each key that can give more is seen, from either side.
#[test]
fn every_key_is_compared() {
    let before = Manifest::parse(BASE, "a").unwrap();
    for (from, to, what) in [
        ("name = \"x\"", "name = \"y\"", "the name `x` becomes `y`"),
        (
            "role = \"job\"",
            "role = \"test\"",
            "the role `job` becomes `test`",
        ),
        ("path = \"src\"", "path = \".\"", "read everything"),
        (
            "access = \"read\"",
            "access = \"write\"",
            "read and change `src`",
        ),
        ("except = [\"**/*.pem\"]\n", "", "see `**/*.pem`"),
        (
            "project = \"test\"",
            "project = \"test\"\nextra-args = true",
            "arguments of its choice",
        ),
        (
            "project = \"test\"",
            "program = \"sh\"\nargs = [[\"**\"]]",
            "run `sh **`",
        ),
        (
            "[\"coder\"]",
            "[\"coder\", \"large\"]",
            "call the model `large`",
        ),
        ("max-tokens = 10", "max-tokens = 11", "10 become 11"),
        ("1MiB", "2MiB", "memory: 1MiB becomes 2MiB"),
        ("\"1s\"", "\"2m\"", "time: 1s becomes 2m"),
        (
            "[limits]",
            "[limits]\nhandles = 1001",
            "handles: 1000 becomes 1001",
        ),
        (
            "[limits]",
            "[limits]\nsent = \"2MiB\"",
            "bytes sent: 1MiB becomes 2MiB",
        ),
        (
            "[limits]",
            "[release]\nreason = \"r\"\n[limits]",
            "stage, activate",
        ),
        (
            "[limits]",
            "[[env]]\nname = \"A\"\nreason = \"r\"\n[limits]",
            "variable `A`",
        ),
        (
            "[limits]",
            "[[network]]\nhost = \"a.b\"\nmethods = [\"GET\"]\nreason = \"r\"\n[limits]",
            "requests to `GET a.b`",
        ),
    ] {
        assert!(BASE.contains(from), "{from}");
        let after = Manifest::parse(&BASE.replacen(from, to, 1), "b").unwrap();
        let there = Comparison::of(&before, &after);
        assert!(
            there.widens.iter().any(|one| one.what.contains(what)),
            "{what}: {there:?}"
        );
        assert_eq!(there.widens.len(), 1, "{there:?}");
    }
}

const ONLINE: &str = "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n[[network]]\nhost = \"*.example.com\"\nmethods = [\"GET\"]\npaths = [\"/v1\"]\nreason = \"r\"\n[[credentials]]\nname = \"c\"\nhost = \"api.example.com\"\nheader = \"x-key\"\nformat = \"{}\"\nreason = \"r\"\n[[processes]]\nprogram = \"p\"\nargs = [[\"a\", \"*\"]]\ntime = \"5s\"\nmemory = \"1GiB\"\nreason = \"r\"\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n";

#[test]
fn every_key_of_the_network_and_of_programs_is_compared() {
    let before = Manifest::parse(ONLINE, "a").unwrap();
    for (from, to) in [
        ("\"GET\"", "\"GET\", \"POST\""),
        ("paths = [\"/v1\"]", ""),
        ("\"/v1\"", "\"/v1\", \"/v2\""),
        ("methods", "port = 8443\nmethods"),
        ("name = \"c\"", "name = \"d\""),
        ("host = \"api.", "host = \"b."),
        ("x-key", "authorization"),
        ("\"{}\"", "\"Bearer {}\""),
        ("[\"a\", \"*\"]", "[\"a\", \"-b\"]"),
        ("[\"a\", \"*\"]", "[\"a\", \"**\"]"),
        ("[\"a\", \"*\"]", "[]"),
        ("program = \"p\"", "program = \"q\""),
        ("time = \"5s\"", "time = \"6s\""),
        ("time = \"5s\"\n", ""),
        ("memory = \"1GiB\"\n", ""),
        ("time = \"5s\"", "time = \"5s\"\nnetwork = true"),
    ] {
        assert!(ONLINE.contains(from), "{from}");
        let text = ONLINE.replacen(from, to, 1);
        // A credential goes where its host is.
        let text = if to.contains("port") {
            text.replace("format = \"{}\"", "port = 8443\nformat = \"{}\"")
        } else {
            text
        };
        let after = Manifest::parse(&text, "b").unwrap();
        assert!(
            Comparison::of(&before, &after).is_wider(),
            "{from} becomes {to}"
        );
    }
    for (from, to) in [
        ("\"*.example.com\"", "\"api.example.com\""),
        ("\"/v1\"", "\"/v1/x\""),
        ("[\"a\", \"*\"]", "[\"a\", \"b\"]"),
        ("time = \"5s\"", "time = \"4s\""),
    ] {
        let after = Manifest::parse(&ONLINE.replacen(from, to, 1), "b").unwrap();
        let there = Comparison::of(&before, &after);
        assert!(
            !there.is_wider() && there.narrows.len() == 1,
            "{to}: {there:?}"
        );
    }
}

#[test]
fn words_are_compared_and_give_nothing() {
    let before = Manifest::parse(BASE, "a").unwrap();
    let after = BASE
        .replace("Does it", "Does more")
        .replace("\"asks\"", "\"sends\"");
    let there = Comparison::of(&before, &Manifest::parse(&after, "b").unwrap());
    assert!(!there.is_wider() && there.narrows.is_empty());
    let words: Vec<&str> = there.rewords.iter().map(|one| one.what.as_str()).collect();
    assert_eq!(
        words,
        [
            "the description: \u{201c}Does it\u{201d} becomes \u{201c}Does more\u{201d}",
            "the reason to call the model `coder`: \u{201c}asks\u{201d} becomes \u{201c}sends\u{201d}"
        ]
    );
}
