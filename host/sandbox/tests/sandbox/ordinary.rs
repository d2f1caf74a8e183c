//! The same tests once more as an ordinary user, where root runs them: both must hold.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command as Program;

use tempfile::TempDir;

use crate::place::{PROBE, hostile_worker, worker};

/// Nobody's on any machine.
const USER: u32 = 54_322;

fn open_to_all(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn everything_holds_for_an_ordinary_user() {
    if std::fs::metadata("/proc/self")
        .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0)
    {
        return;
    }
    let place = TempDir::new().unwrap();
    open_to_all(place.path());
    let copy = |from: &Path, name: &str| {
        let to = place.path().join(name);
        std::fs::copy(from, &to).unwrap();
        open_to_all(&to);
        to
    };
    let tests = copy(&std::env::current_exe().unwrap(), "tests");
    copy(&worker(), "sandbox-worker");
    copy(&hostile_worker(), "sandbox-hostile-worker");
    let (home, probe) = (place.path().join("home"), place.path().join("probe.wasm"));
    std::fs::write(&probe, PROBE.as_slice()).unwrap();
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let output = Program::new(&tests)
        .args(["--skip", "everything_holds_for_an_ordinary_user"])
        .env_clear()
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("MOAT_TEST_PROGRAMS", place.path())
        .env("MOAT_TEST_PROBE", &probe)
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
        said.contains("only_the_granted_part_can_be_changed ... ok"),
        "they did run: {said}"
    );
}
