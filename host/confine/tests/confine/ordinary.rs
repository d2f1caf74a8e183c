//! The same tests once more as an ordinary user, where root runs them: both must hold.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command as Program;

use tempfile::TempDir;

use crate::place::{Turn, launcher};

/// Nobody's on any machine.
const USER: u32 = 54_321;

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn everything_holds_for_an_ordinary_user() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let _turn = Turn::alone();
    let place = TempDir::new().unwrap();
    open_to_all(place.path());
    let (tests, program, faulty, home) = (
        place.path().join("tests"),
        place.path().join("launcher"),
        place.path().join("faulty"),
        place.path().join("home"),
    );
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    std::fs::copy(launcher(), &program).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_confine-faulty-launcher"), &faulty).unwrap();
    for copied in [&tests, &program, &faulty] {
        open_to_all(copied);
    }
    std::fs::create_dir_all(home.join(".ssh")).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let output = Program::new(&tests)
        .args(["--skip", "everything_holds_for_an_ordinary_user"])
        .env_clear()
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("MOAT_TEST_LAUNCHER", &program)
        .env("MOAT_TEST_FAULTY_LAUNCHER", &faulty)
        .current_dir(&home)
        .gid(USER)
        .uid(USER)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        said.contains("a_deadline_takes_the_whole_tree ... ok"),
        "they did run: {said}"
    );
}
