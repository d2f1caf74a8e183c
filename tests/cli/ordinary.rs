//! The whole program as an ordinary user, where root runs the tests.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::house::{MOAT, told};

/// Nobody's on any machine.
const USER: u32 = 54_323;

pub struct Stranger {
    directory: TempDir,
}

impl Stranger {
    /// None where these tests run as an ordinary user anyway.
    pub fn new() -> Option<Stranger> {
        let own = std::fs::metadata("/proc/self").unwrap();
        if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
            return None;
        }
        let directory = TempDir::new().unwrap();
        let open_to_all = |path: &Path| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        open_to_all(directory.path());
        let program = directory.path().join("moat");
        std::fs::copy(MOAT, &program).unwrap();
        open_to_all(&program);
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        chown(&home, Some(USER), Some(USER)).unwrap();
        Some(Stranger { directory })
    }

    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The program.
    pub fn program(&self) -> String {
        self.directory.path().join("moat").display().to_string()
    }

    /// Makes a directory and all that is in it theirs.
    pub fn give(&self, path: &Path) {
        chown(path, Some(USER), Some(USER)).unwrap();
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap().flatten() {
                self.give(&entry.path());
            }
        }
    }

    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        self.command(program, args).output().unwrap()
    }

    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .current_dir(self.home())
            .gid(USER)
            .uid(USER);
        command
    }

    pub fn moat(&self, args: &[&str]) -> Output {
        self.run(&self.program(), args)
    }
}

#[test]
fn the_demo_is_deployed_and_the_doctor_is_content() {
    let Some(stranger) = Stranger::new() else {
        return;
    };
    let doctor = stranger.moat(&["doctor"]);
    assert_eq!(doctor.status.code(), Some(0), "{}", told(&doctor));
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let demo = stranger.moat(&["demo"]);
    assert_eq!(demo.status.code(), Some(0), "{}", told(&demo));
    assert!(told(&demo).contains("is healthy"), "{}", told(&demo));
    let left = std::fs::read_dir(stranger.home().join(".local/state/moat/runs"));
    assert!(
        !left.is_ok_and(|mut left| left.next().is_some()),
        "no view is left"
    );
}

#[test]
fn where_the_machine_cannot_confine_nothing_runs_and_the_doctor_says_why() {
    let Some(stranger) = Stranger::new() else {
        return;
    };
    // A user namespace in which no further one can be made: as on a machine that forbids them.
    let moat = stranger.directory.path().join("moat");
    let within = |args: &str| {
        let script = format!(
            "echo 0 > /proc/sys/user/max_user_namespaces && exec {} {args}",
            moat.display()
        );
        stranger.run("unshare", &["-Ur", "sh", "-c", &script])
    };
    let doctor = within("doctor");
    let text = told(&doctor);
    assert_eq!(doctor.status.code(), Some(3), "{text}");
    for words in [
        "MISSING",
        "user namespace",
        "mend:",
        "never runs them unconfined",
    ] {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let demo = within("demo");
    let text = told(&demo);
    assert!(
        !demo.status.success() && text.contains("user namespace"),
        "{text}"
    );
    assert!(!text.contains("is healthy"), "{text}");
}
