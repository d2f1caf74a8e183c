//! The same attacks once more as an ordinary user, where root runs them: both must hold.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::house::{MOAT, told};

/// Nobody's on any machine.
const USER: u32 = 54_325;

#[test]
fn everything_holds_for_an_ordinary_user() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return;
    }
    let place = TempDir::new().unwrap();
    let open_to_all = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    open_to_all(place.path());
    let at = |name: &str| place.path().join(name);
    for (from, to) in [
        (std::env::current_exe().unwrap(), at("tests")),
        (MOAT.into(), at("moat")),
    ] {
        std::fs::copy(from, &to).unwrap();
        open_to_all(&to);
    }
    std::fs::write(at("guest.wasm"), crate::documents::GUEST.as_slice()).unwrap();
    open_to_all(&at("guest.wasm"));
    let home = at("home");
    std::fs::create_dir(&home).unwrap();
    chown(&home, Some(USER), Some(USER)).unwrap();
    let output = Command::new(at("tests"))
        .args(["--skip", "everything_holds_for_an_ordinary_user"])
        .env_clear()
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("MOAT_TEST_PROGRAM", at("moat"))
        .env("MOAT_TEST_GUEST", at("guest.wasm"))
        .current_dir(&home)
        .gid(USER)
        .uid(USER)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let last = "others_go_on_while_a_bomb_is_compiled ... ok";
    assert!(
        told(&output).contains(last),
        "they did run: {}",
        told(&output)
    );
}
