//! The WASI test suite as jobs and under bare wasmtime: the same results, but for the differences listed here and in `docs/wasi.md`.
//!
//! The suite's binaries are other people's and not part of this repository: `MOAT_WASI_TESTSUITE` names a checkout of it whose programs
//! were wrapped into components, as `docs/wasi.md` says. Without it there is nothing to compare.
#![allow(
    clippy::print_stderr,
    reason = "it says what it leaves out, and what differs"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capability::Grant;
use flow::id::Role;
use sandbox::{Call, CallError, LoadError, View};
use serde_json::{Value, json};
use tempfile::TempDir;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::sync::Command;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};

use crate::place::{MANIFEST, Place, grant};

/// Where results differ, and why. `docs/wasi.md` says the same in more words.
const DIFFERENCES: &[(&str, &str)] = &[
    ("assemblyscript/args_get-multiple-arguments", NO_ARGUMENTS),
    (
        "assemblyscript/args_sizes_get-multiple-arguments",
        NO_ARGUMENTS,
    ),
];

const NO_ARGUMENTS: &str =
    "a job has no arguments but its name: its input is JSON on standard input";

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    /// With a status, after printing this.
    Exited(i32, String),
    /// It did not end by itself, after printing this.
    Trapped(String),
    /// It was not loaded.
    Refused(String),
}

/// One program of the suite, and what its description asks for.
struct Program {
    name: String,
    component: Vec<u8>,
    root: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

impl Program {
    /// What the suite's own runner gives as the first argument.
    fn file_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap()
    }
}

#[tokio::test]
async fn the_wasi_test_suite_ends_as_under_bare_wasmtime() {
    let Some(suite) = std::env::var_os("MOAT_WASI_TESTSUITE").map(PathBuf::from) else {
        eprintln!("left out: MOAT_WASI_TESTSUITE names no checkout of the WASI test suite");
        return;
    };
    let programs = programs(&suite);
    assert!(programs.len() > 60, "{} programs", programs.len());
    let place = Place::new();
    let bare = Bare::new();
    let mut differences = BTreeMap::new();
    let mut passed = 0;
    for program in &programs {
        let expected = bare.run(program);
        let found = job(&place, program).await;
        passed += usize::from(matches!(found, Ended::Exited(0, _)));
        if !matches!(found, Ended::Exited(0, _)) {
            eprintln!("{}: {found:?}", program.name);
        }
        if expected != found {
            eprintln!("{}: {expected:?} bare, {found:?} as a job", program.name);
            differences.insert(program.name.clone(), ());
        }
    }
    eprintln!(
        "{} programs, {passed} exit with 0 as jobs, {} differ",
        programs.len(),
        differences.len()
    );
    let known: BTreeMap<String, ()> = DIFFERENCES
        .iter()
        .map(|(name, _)| ((*name).to_owned(), ()))
        .collect();
    assert_eq!(differences, known);
}

/// The programs for WASI preview 1.
fn programs(suite: &Path) -> Vec<Program> {
    let mut found = Vec::new();
    for language in ["assemblyscript", "c", "rust"] {
        let directory = suite.join(format!("tests/{language}/testsuite/wasm32-wasip1"));
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "wasm")
            {
                found.push(program(language, &path));
            }
        }
    }
    found.sort_by(|one, two| one.name.cmp(&two.name));
    found
}

fn program(language: &str, path: &Path) -> Program {
    let described = std::fs::read_to_string(path.with_extension("json"));
    let described: Value = described.map_or(json!({}), |text| serde_json::from_str(&text).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let args = described["args"].as_array();
    let env = described["env"].as_object();
    Program {
        name: format!("{language}/{}", path.file_stem().unwrap().to_str().unwrap()),
        component: std::fs::read(path).unwrap(),
        root: described["root"]
            .as_str()
            .map(|root| path.parent().unwrap().join(root)),
        args: args.into_iter().flatten().map(text).collect(),
        env: env
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
    }
}

/// A copy of a program's directory, which it may write to.
fn root(program: &Program) -> Option<TempDir> {
    let root = program.root.as_ref()?;
    let copy = TempDir::new().unwrap();
    copied(root, copy.path());
    Some(copy)
}

fn copied(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copied(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// As a job: its root is the view, all of it writable.
async fn job(place: &Place, program: &Program) -> Ended {
    let root = root(program);
    let grant = job_grant(root.is_some());
    let loaded = match place.sandbox.load(&program.component, &grant).await {
        Ok(loaded) => loaded,
        Err(LoadError::Unknown { import }) => return Ended::Refused(import),
        Err(error) => panic!("{}: {error}", program.name),
    };
    let call = Call {
        role: Role::Job,
        input: json!({}),
        view: root.as_ref().map(|root| View {
            tree: confine::Tree::Directory(root.path().into()),
            writable: grant.writable(),
        }),
        grant,
        env: program.env.clone(),
        recording: None,
    };
    match place.sandbox.call(&loaded, call, place.seen.clone()).await {
        Ok(answer) => Ended::Exited(0, answer.printed),
        // It ended well and printed no JSON, as no program of the suite does.
        Err(CallError::InvalidOutput { printed, .. }) => Ended::Exited(0, printed),
        Err(CallError::Trap { message, printed }) => {
            match message.strip_prefix("the command exited with ") {
                Some(status) => Ended::Exited(status.parse().unwrap(), printed),
                None if message == "the command failed" => Ended::Exited(1, printed),
                None => Ended::Trapped(printed),
            }
        }
        Err(error) => panic!("{}: {error}", program.name),
    }
}

fn job_grant(files: bool) -> Arc<Grant> {
    let begin = MANIFEST.find("[[files]]").unwrap();
    let end = MANIFEST.find("[limits]").unwrap();
    let files = if files {
        "[[files]]\npath = \".\"\naccess = \"write\"\nreason = \"test\"\n"
    } else {
        ""
    };
    let limits = MANIFEST[end..]
        .replace("2s", "20s")
        .replace("64MiB", "256MiB");
    grant(&format!("{}{files}{limits}", &MANIFEST[..begin]))
}

/// wasmtime and its WASI alone.
struct Bare {
    engine: Engine,
    linker: Linker<Guest>,
}

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Bare {
    fn new() -> Bare {
        let engine = Engine::default();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        Bare { engine, linker }
    }

    /// On a thread of its own: it blocks, and makes a runtime for it.
    fn run(&self, program: &Program) -> Ended {
        std::thread::scope(|scope| scope.spawn(|| self.run_here(program)).join().unwrap())
    }

    fn run_here(&self, program: &Program) -> Ended {
        let root = root(program);
        let printed = MemoryOutputPipe::new(1 << 20);
        let mut wasi = WasiCtx::builder();
        wasi.stdin(MemoryInputPipe::new("{}"))
            .stdout(printed.clone())
            .stderr(printed.clone())
            .envs(&program.env)
            .arg(format!("{}.wasm", program.file_name()))
            .args(&program.args);
        if let Some(root) = &root {
            wasi.preopened_dir(root.path(), "/", FsPerms::ReadWrite)
                .unwrap();
        }
        let guest = Guest {
            wasi: wasi.build(),
            table: ResourceTable::new(),
        };
        let component = Component::new(&self.engine, &program.component).unwrap();
        let mut store = Store::new(&self.engine, guest);
        let command = Command::instantiate(&mut store, &component, &self.linker).unwrap();
        let ended = command.wasi_cli_run().call_run(&mut store);
        let printed = String::from_utf8_lossy(&printed.contents()).into_owned();
        match ended {
            Ok(result) => Ended::Exited(i32::from(result.is_err()), printed),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(status)) => Ended::Exited(*status, printed),
                None => Ended::Trapped(printed),
            },
        }
    }
}
