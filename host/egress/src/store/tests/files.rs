//! Files: who else could have read them, and what they hold.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use super::*;
use crate::secret::InvalidSecret;
use crate::store::file;

fn with_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn only_a_file_of_its_owner_alone_gives_its_secret() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("token");
    std::fs::write(&path, "canary-value-1\n").unwrap();
    for (mode, taken) in [
        (0o600, true),
        (0o400, true),
        (0o700, true),
        (0o640, false),
        (0o604, false),
        (0o620, false),
        (0o602, false),
        (0o610, false),
        (0o644, false),
        (0o666, false),
    ] {
        with_mode(&path, mode);
        let got = file::read(&path);
        assert_eq!(got.is_ok(), taken, "{mode:o}: {got:?}");
        if let Err(error) = got {
            let told = error.to_string();
            assert!(told.contains("chmod 600"), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }
    with_mode(&path, 0o600);
    // As orchestrators lay them out.
    symlink(&path, place.path().join("link")).unwrap();
    assert!(file::read(&place.path().join("link")).is_ok());
    with_mode(&path, 0o644);
    assert!(file::read(&place.path().join("link")).is_err());
    if is_root() {
        with_mode(&path, 0o600);
        chown(&path, Some(54_399), None).unwrap();
        let told = file::read(&path).unwrap_err().to_string();
        assert!(told.contains("another user"), "{told}");
    }
}

#[test]
fn what_is_no_file_is_none_and_holds_nobody_up() {
    let place = tempfile::tempdir().unwrap();
    let absent = file::read(&place.path().join("none")).unwrap_err();
    assert!(matches!(
        absent,
        Unavailable::Value(InvalidSecret::Absent { .. })
    ));
    let fifo = place.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    for path in [place.path(), &fifo, Path::new("/dev/zero")] {
        let error = file::read(path).unwrap_err().to_string();
        assert!(error.contains("no plain file"), "{error}");
    }
    let huge = place.path().join("huge");
    std::fs::write(&huge, "x".repeat(1 << 20)).unwrap();
    with_mode(&huge, 0o600);
    let error = file::read(&huge).unwrap_err().to_string();
    assert!(error.contains("longer"), "{error}");
}

#[test]
fn secrets_toml_is_its_owners_alone_to_write() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(FILE);
    assert_eq!(Config::load(&path).unwrap(), None);
    std::fs::write(&path, COMMAND).unwrap();
    for (mode, taken) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false)] {
        with_mode(&path, mode);
        let got = Config::load(&path);
        assert_eq!(got.is_ok(), taken, "{mode:o}");
        if let Err(error) = got {
            assert!(error.mend.contains("chmod go-w"), "{error}");
        }
    }
    with_mode(&path, 0o600);
    if is_root() {
        chown(&path, Some(54_399), None).unwrap();
        assert!(Config::load(&path).is_err());
        chown(&path, Some(0), None).unwrap();
    }
    std::fs::write(&path, "[secrets.a]\nhosts = 1\n").unwrap();
    assert_eq!(Config::load(&path).unwrap_err().line, 2);
    std::fs::write(&path, b"# \xff\n").unwrap();
    assert!(Config::load(&path).is_err());
    std::fs::write(&path, "#".repeat(1 << 20)).unwrap();
    assert!(Config::load(&path).unwrap_err().message.contains("larger"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(Config::load(&path).is_err());
}
