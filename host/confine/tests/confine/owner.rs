//! Programs of the machine's owner: what they get, what is taken of them, and what is left of them.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use confine::owner::{OwnerError, OwnerProgram, output};
use tempfile::TempDir;

use crate::place::{alive, gone};

fn program(path: impl AsRef<Path>, args: &[&str]) -> OwnerProgram {
    OwnerProgram {
        program: path.as_ref().into(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: [("ONLY".to_owned(), "this".into())].into(),
        wall: Duration::from_secs(20),
        output_bytes_max: 1000,
    }
}

fn sh(script: &str) -> OwnerProgram {
    program("/bin/sh", &["-c", script])
}

#[tokio::test]
async fn what_a_program_prints_is_taken_and_nothing_else() {
    let printed = output(sh("echo printed; echo error >&2")).await.unwrap();
    assert_eq!(&**printed, b"printed\n");
    assert!(output(sh("true")).await.unwrap().is_empty());
    let whole = output(sh("head -c 1000 /dev/zero")).await.unwrap();
    assert_eq!(whole.len(), 1000);
    assert!(matches!(
        output(sh("echo printed; exit 3")).await,
        Err(OwnerError::Exited(3))
    ));
    assert!(matches!(
        output(sh("echo printed; kill -9 $$")).await,
        Err(OwnerError::Signalled)
    ));
    for endless in ["head -c 1001 /dev/zero", "exec cat /dev/zero"] {
        let error = output(sh(endless)).await.unwrap_err();
        assert!(matches!(error, OwnerError::TooMuch { bytes_max: 1000 }));
    }
}

#[tokio::test]
async fn it_gets_the_environment_of_its_caller_and_no_input_or_shell() {
    let printed = output(sh("env; pwd; cat; ls /proc/self/fd")).await.unwrap();
    let printed = String::from_utf8(printed.to_vec()).unwrap();
    let lines: Vec<_> = printed
        .lines()
        // The shell's own.
        .filter(|line| {
            !["PWD=", "SHLVL=", "_=", "OLDPWD="]
                .iter()
                .any(|own| line.starts_with(own))
        })
        .collect();
    assert_eq!(
        lines,
        ["ONLY=this", "/", "0", "1", "2", "3"],
        "3 is ls's own"
    );
    let printed = output(program("/bin/echo", &["$(id)", "; id", "*"]))
        .await
        .unwrap();
    assert_eq!(&**printed, b"$(id) ; id *\n");
}

#[tokio::test]
async fn a_deadline_or_a_dropped_call_takes_what_it_started_along() {
    // A number of seconds that nobody else sleeps.
    let mark = |n: u32| format!("7{n}{}", std::process::id());
    let script = |mark: &str| sh(&format!("sleep {mark} & sleep {mark}"));
    let late = mark(1);
    let mut slow = script(&late);
    slow.wall = Duration::from_secs(1);
    let error = output(slow).await.unwrap_err();
    assert!(
        matches!(error, OwnerError::Deadline { seconds: 1 }),
        "{error}"
    );
    gone(&late).await;
    let dropped = mark(2);
    let under_way = tokio::spawn(output(script(&dropped)));
    while alive(&dropped) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    under_way.abort();
    gone(&dropped).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_holds_nobody_up() {
    let printed = output(sh("echo printed; setsid sleep 5 &")).await.unwrap();
    assert_eq!(&**printed, b"printed\n");
}

#[tokio::test]
async fn a_program_that_others_could_have_written_is_not_run() {
    let place = TempDir::new().unwrap();
    let (path, ran) = (place.path().join("program"), place.path().join("ran"));
    std::fs::write(
        &path,
        format!("#!/bin/sh\necho x > {}\necho printed\n", ran.display()),
    )
    .unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for mode in [0o775, 0o757, 0o777] {
        with_mode(mode);
        let refused = output(program(&path, &[])).await;
        assert!(matches!(refused, Err(OwnerError::Refused(_))), "{mode:o}");
    }
    with_mode(0o755);
    for path in [Path::new("sh"), Path::new("./sh"), place.path()] {
        let refused = output(program(path, &[])).await;
        assert!(
            matches!(refused, Err(OwnerError::Refused(_))),
            "{}",
            path.display()
        );
    }
    let absent = output(program(place.path().join("none"), &[])).await;
    assert!(matches!(absent, Err(OwnerError::System(_))));
    if rustix::process::getuid().is_root() {
        chown(&path, Some(54_399), None).unwrap();
        let refused = output(program(&path, &[])).await;
        assert!(matches!(refused, Err(OwnerError::Refused(_))));
        chown(&path, Some(0), None).unwrap();
    }
    assert!(!ran.exists(), "none of them ran");
    assert!(output(program(&path, &[])).await.is_ok() && ran.exists());
}
