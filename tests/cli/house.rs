//! A state directory and a repository of its own for each test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub const MOAT: &str = env!("CARGO_BIN_EXE_moat");

pub const FEES: &str = include_str!("../../host/app/demo/meter/fees.py");
const FILES: &[(&str, &str)] = &[
    ("meter/__init__.py", ""),
    ("meter/fees.py", FEES),
    (
        "meter/server.py",
        include_str!("../../host/app/demo/meter/server.py"),
    ),
    ("tests/__init__.py", ""),
    (
        "tests/test_fees.py",
        include_str!("../../host/app/demo/tests/test_fees.py"),
    ),
];

/// What a test works with; gone at its end.
pub struct House {
    directory: TempDir,
}

impl House {
    pub fn new() -> House {
        House {
            directory: TempDir::new().unwrap(),
        }
    }

    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn moat(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        // Another copy where the tests run as somebody else.
        let program = std::env::var_os("MOAT_TEST_PROGRAM").unwrap_or_else(|| MOAT.into());
        let mut command = Command::new(program);
        command
            .args(args)
            .env("MOAT_HOME", self.home())
            .env("USER", "tester")
            .current_dir(self.directory.path());
        command
    }

    /// A repository with the parking meter, its bug, and a committed moat.toml.
    pub fn meter(&self) -> PathBuf {
        let path = self.path("meter");
        for (name, text) in FILES {
            let file = path.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        git(&path, &["init", "-q", "-b", "main"]);
        git(&path, &["add", "-A"]);
        git(&path, &["commit", "-q", "-m", "a meter"]);
        let output = self.moat(&["init", "--repo", path.to_str().unwrap()]);
        assert!(output.status.success(), "{}", told(&output));
        git(&path, &["add", "moat.toml"]);
        git(&path, &["commit", "-q", "-m", "let moat work here"]);
        path
    }
}

/// The component of a guest, built as the catalog builds skills. Where an ordinary user runs this, somebody else has built it.
pub fn guest(package: &str, file: &str) -> Vec<u8> {
    if let Some(path) = std::env::var_os("MOAT_TEST_GUEST") {
        return std::fs::read(path).unwrap();
    }
    let target = Path::new(MOAT).ancestors().nth(2).unwrap().join("skills");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", package])
        .args(["--target", "wasm32-wasip2", "--profile", "skill"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_remove("RUSTFLAGS")
        .status()
        .unwrap();
    assert!(built.success(), "rustup target add wasm32-wasip2");
    std::fs::read(target.join("wasm32-wasip2/skill").join(file)).unwrap()
}

/// The user's own git, on repositories that only this test writes.
pub fn git(path: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=t",
            "-c",
            "user.email=t@t",
            "-c",
            "commit.gpgsign=false",
        ])
        .args(args)
        .current_dir(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn told(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
