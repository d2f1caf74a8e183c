//! What permissions decide, once more as an ordinary user, where root runs the tests: root may read and write whatever the mode says.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use tempfile::TempDir;

/// Nobody's on any machine.
const USER: u32 = 54_325;

#[test]
fn everything_holds_for_an_ordinary_user() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let place = TempDir::new().unwrap();
    let open_to_all = |path: &std::path::Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open_to_all(place.path());
    let (tests, home) = (place.path().join("tests"), place.path().join("home"));
    std::fs::copy(std::env::current_exe().unwrap(), &tests).unwrap();
    open_to_all(&tests);
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let output = Command::new(&tests)
        .args(["hostile::", "import::", "source::", "worktree::"])
        .env_clear()
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .current_dir(&home)
        .gid(USER)
        .uid(USER)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("nothing_outside_is_read_through_links ... ok"),
        "they did run: {said}"
    );
}
