//! What of the host must be visible so that compilers and interpreters on its PATH run inside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::command::Mount;
use crate::error::ConfineError;

/// Directories of a distribution: programs and libraries, no one's data.
const SYSTEM: [&str; 9] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/lib32",
    "/libx32",
    "/opt",
    "/nix/store",
];

/// The files of /etc that programs need to start; nothing with secrets.
const ETC: [&str; 9] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/mime.types",
];

/// Of a directory that holds tools, what the tools need. The directory itself may be somebody's home or work, with all that lies there.
const PARTS: [&str; 8] = [
    "bin", "lib", "lib64", "libexec", "include", "share", "conf", "jmods",
];

/// Of a Python, whose directory is often `~/.local`: there `share` holds keys and moat's own state.
const PYTHON_PARTS: [&str; 4] = ["bin", "lib", "lib64", "include"];

/// The tools of this machine.
#[derive(Debug, Clone)]
pub struct Toolchains {
    /// Directories on the PATH inside, in order; program look-up goes by them alone.
    path: Vec<PathBuf>,
    read_only: Vec<PathBuf>,
    overlaid: Vec<PathBuf>,
    env: BTreeMap<String, String>,
    /// Never shown as a whole, nor anything that it lies in.
    home: Option<PathBuf>,
}

impl Toolchains {
    /// Finds the tools by the host's environment (`PATH`, `HOME`, `CARGO_HOME`, `RUSTUP_HOME`, `GOROOT`, `GOPATH`).
    pub fn discover(host: &dyn Fn(&str) -> Option<OsString>) -> Toolchains {
        let home = host("HOME").map(PathBuf::from);
        let mut tools = Toolchains {
            path: Vec::new(),
            read_only: Vec::new(),
            overlaid: Vec::new(),
            env: BTreeMap::new(),
            home: home
                .as_ref()
                .map(|home| std::fs::canonicalize(home).unwrap_or_else(|_| home.clone())),
        };
        let under_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let dir = |key: &str, name: &str| {
            host(key)
                .map(PathBuf::from)
                .or_else(|| under_home(name))
                .filter(|path| path.is_dir())
        };
        tools.rust(dir("RUSTUP_HOME", ".rustup"), dir("CARGO_HOME", ".cargo"));
        let on_path: Vec<PathBuf> = host("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default();
        tools.python(&on_path, under_home(".pyenv").filter(|path| path.is_dir()));
        if let Some(go) = dir("GOROOT", ".go") {
            tools.add(go.join("bin"), &[go]);
        }
        if let Some(modules) = dir("GOPATH", "go")
            .map(|path| path.join("pkg/mod"))
            .filter(|path| path.is_dir())
        {
            tools
                .env
                .insert("GOMODCACHE".into(), modules.display().to_string());
            tools.overlaid.push(modules);
        }
        for directory in on_path
            .into_iter()
            .filter(|directory| directory.is_absolute())
        {
            let system = SYSTEM.iter().any(|prefix| directory.starts_with(prefix));
            if system && directory.is_dir() && !tools.path.contains(&directory) {
                tools.path.push(directory);
            } else if let Some(prefix) = self_contained(&directory) {
                tools.add(directory, &parts(&prefix, &PARTS));
            }
        }
        for fallback in ["/usr/local/bin", "/usr/bin", "/bin"] {
            if !tools.path.iter().any(|path| path == Path::new(fallback)) {
                tools.path.push(fallback.into());
            }
        }
        tools
    }

    /// Real toolchains go ahead of rustup's proxies: those would obey a `rust-toolchain.toml` that an agent wrote.
    fn rust(&mut self, rustup: Option<PathBuf>, cargo: Option<PathBuf>) {
        if let Some(rustup) = rustup {
            let default = std::fs::read_to_string(rustup.join("settings.toml"))
                .ok()
                .and_then(|text| {
                    let line = text
                        .lines()
                        .find(|line| line.trim_start().starts_with("default_toolchain"))?;
                    line.split('"').nth(1).map(str::to_owned)
                });
            let chosen = default
                .map(|name| rustup.join("toolchains").join(name))
                .filter(|path| path.join("bin/cargo").exists());
            if let Some(toolchain) = chosen {
                self.add(toolchain.join("bin"), &[rustup.join("toolchains")]);
            }
        }
        if let Some(cargo) = cargo {
            self.env
                .insert("CARGO_HOME".into(), cargo.display().to_string());
            for cache in ["registry", "git"] {
                let path = cargo.join(cache);
                if path.is_dir() {
                    self.overlaid.push(path);
                }
            }
        }
    }

    /// Version managers put shell scripts on the PATH; the interpreters behind them are what is wanted.
    fn python(&mut self, on_path: &[PathBuf], pyenv: Option<PathBuf>) {
        for directory in on_path {
            if directory.ends_with("shims") {
                let Some(pyenv) = &pyenv else { continue };
                let version = std::fs::read_to_string(pyenv.join("version")).unwrap_or_default();
                let named = version.lines().map(str::trim).find(|line| !line.is_empty());
                let prefix = named
                    .map(|name| pyenv.join("versions").join(name))
                    .filter(|path| path.join("bin/python3").exists());
                if let Some(prefix) = prefix {
                    self.add(prefix.join("bin"), &parts(&prefix, &PYTHON_PARTS));
                }
            } else if let Ok(real) = std::fs::canonicalize(directory.join("python3")) {
                // A virtual environment's interpreter is a link; both ends are needed.
                let venv = directory
                    .parent()
                    .filter(|parent| parent.join("pyvenv.cfg").is_file());
                if let Some(venv) = venv {
                    let mut shown = parts(venv, &PARTS);
                    shown.push(venv.join("pyvenv.cfg"));
                    self.add(directory.clone(), &shown);
                }
                if let Some(prefix) = real
                    .parent()
                    .and_then(Path::parent)
                    .filter(|prefix| !is_system(prefix) && has_standard_library(prefix))
                {
                    self.add(prefix.join("bin"), &parts(prefix, &PYTHON_PARTS));
                }
            }
        }
    }

    /// Takes a directory of programs with what must be shown for them, unless that would show the home directory.
    fn add(&mut self, bin: PathBuf, shown: &[PathBuf]) {
        if shown.iter().any(|path| self.holds_home(path)) {
            return;
        }
        if !self.path.contains(&bin) {
            self.path.push(bin);
        }
        for path in shown {
            if !is_system(path) && !self.read_only.contains(path) {
                self.read_only.push(path.clone());
            }
        }
    }

    fn holds_home(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        self.home
            .as_ref()
            .is_some_and(|home| home.starts_with(&real))
    }

    /// The path of a program, the same on the host and inside.
    ///
    /// # Errors
    /// [`ConfineError::NotFound`] when no directory of the PATH inside has it.
    pub fn resolve(&self, name: &str) -> Result<PathBuf, ConfineError> {
        let plain = !name.is_empty()
            && !name.contains('/')
            && !name.contains('\0')
            && name != "."
            && name != "..";
        let found = self
            .path
            .iter()
            .map(|directory| directory.join(name))
            .find(|path| plain && is_program(path));
        found.ok_or_else(|| ConfineError::NotFound {
            name: name.chars().take(80).collect(),
        })
    }

    /// Mounts for one step; changes to package caches go to directories below `scratch` and are thrown away with it.
    ///
    /// # Errors
    /// When a directory below `scratch` cannot be made.
    pub fn mounts(&self, scratch: &Path) -> std::io::Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for path in SYSTEM.iter().chain(&ETC).map(Path::new) {
            match std::fs::symlink_metadata(path) {
                Ok(data) if data.is_symlink() && !path.starts_with("/etc") => {
                    let target = std::fs::read_link(path)?;
                    mounts.push(Mount::Link {
                        target,
                        inside: path.into(),
                    });
                }
                Ok(_) => mounts.push(Mount::ReadOnly {
                    host: std::fs::canonicalize(path)?,
                    inside: path.into(),
                }),
                Err(_) => {}
            }
        }
        let text = |inside: &str, content: &str| Mount::Text {
            inside: inside.into(),
            content: content.into(),
        };
        mounts.push(text(
            "/etc/passwd",
            "agent:x:1000:1000:agent:/tmp/home:/bin/sh\n",
        ));
        mounts.push(text("/etc/group", "agent:x:1000:\n"));
        mounts.push(text(
            "/etc/hosts",
            "127.0.0.1 localhost moat\n::1 localhost\n",
        ));
        for path in &self.read_only {
            mounts.push(Mount::ReadOnly {
                host: path.clone(),
                inside: path.clone(),
            });
        }
        for (at, path) in self.overlaid.iter().enumerate() {
            let (upper, work) = (
                scratch.join(format!("upper-{at}")),
                scratch.join(format!("work-{at}")),
            );
            std::fs::create_dir_all(&upper)?;
            std::fs::create_dir_all(&work)?;
            mounts.push(Mount::Overlay {
                lower: vec![path.clone()],
                upper,
                work,
                inside: path.clone(),
            });
        }
        Ok(mounts)
    }

    /// Changes when tools are installed, removed or chosen otherwise, as far as the directories on the PATH show it.
    pub fn state(&self) -> String {
        let changed = |path: &PathBuf| {
            let data = std::fs::metadata(path).ok()?;
            Some((data.ino(), data.mtime(), data.mtime_nsec()))
        };
        let path: Vec<_> = self.path.iter().map(|path| (path, changed(path))).collect();
        format!("{path:?} {:?}", self.env)
    }

    /// The environment inside, apart from what a project adds.
    pub fn env(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        let path = std::env::join_paths(&self.path).unwrap_or_default();
        for (name, value) in [
            ("PATH", path.to_string_lossy().as_ref()),
            ("HOME", "/tmp/home"),
            ("TMPDIR", "/tmp"),
            ("LANG", "C.UTF-8"),
            ("TERM", "dumb"),
            ("NO_COLOR", "1"),
            ("CARGO_NET_OFFLINE", "true"),
            ("GOFLAGS", "-mod=mod"),
            ("GOPROXY", "off"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONHASHSEED", "0"),
            // Panics say where they came from; the errors that programs make themselves stay as they are.
            ("RUST_BACKTRACE", "1"),
            ("RUST_LIB_BACKTRACE", "0"),
        ] {
            env.insert(name.into(), value.into());
        }
        env
    }
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|prefix| path.starts_with(prefix)) || path == Path::new("/")
}

fn parts(prefix: &Path, names: &[&str]) -> Vec<PathBuf> {
    names
        .iter()
        .map(|name| prefix.join(name))
        .filter(|path| path.is_dir())
        .collect()
}

/// What a Python looks for to know its own directory; a script of that name in `~/bin` has none.
fn has_standard_library(prefix: &Path) -> bool {
    std::fs::read_dir(prefix.join("lib")).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            entry.file_name().to_string_lossy().starts_with("python")
                && entry.path().join("os.py").is_file()
        })
    })
}

/// `~/tool-1.2/bin` stands for a tool in a directory of its own; `~/bin` would show the home directory.
fn self_contained(directory: &Path) -> Option<PathBuf> {
    let prefix = directory.parent().filter(|_| directory.ends_with("bin"))?;
    let alone = prefix.join("lib").is_dir()
        && prefix.components().count() > 3
        && !prefix.join(".ssh").exists();
    (alone && !prefix.ends_with(".cargo") && !prefix.ends_with(".local")).then(|| prefix.to_owned())
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}
