//! What a guest tries through the interfaces that it has.

use std::path::Path;
use std::process::Command as Program;

use sandbox::CallError;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::place::{MANIFEST, Place, grant, writing};

/// Everything below a directory, with content and target: the world that must not change.
pub fn digest(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).unwrap().flatten() {
            let path = entry.path();
            let data = std::fs::symlink_metadata(&path).unwrap();
            let what = if data.is_symlink() {
                std::fs::read_link(&path).unwrap().display().to_string()
            } else if data.is_dir() {
                left.push(path.clone());
                "directory".into()
            } else {
                std::fs::read_to_string(&path).unwrap_or_default()
            };
            let changed = data.modified().unwrap();
            lines.push(format!("{} {what} {changed:?}", path.display()));
        }
    }
    lines.sort();
    lines
}

/// The view as it begins: one file, and links to places outside.
fn populate(view: &Path, links: &[(&str, std::path::PathBuf)]) {
    std::fs::remove_dir_all(view.join("src")).unwrap();
    std::fs::create_dir(view.join("src")).unwrap();
    for (name, target) in links {
        std::os::unix::fs::symlink(target, view.join(name)).unwrap();
    }
    let _ = std::fs::remove_file(view.join("a"));
    std::fs::write(view.join("a"), "content of a").unwrap();
}

#[tokio::test]
async fn no_verb_leads_out_of_the_view_by_any_spelling() {
    nothing_leads_out(&Place::new()).await;
}

#[tokio::test]
async fn no_verb_leads_out_of_a_view_in_layers() {
    nothing_leads_out(&Place::layered()).await;
}

/// Where the kernel has no openat2, or a container forbids it, paths are walked by hand: as strictly.
#[test]
fn no_verb_leads_out_of_the_view_without_openat2() {
    // On a thread of its own: what it forbids itself, its children are forbidden, launcher and worker among them.
    let tried = std::thread::spawn(|| {
        forbid_openat2();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let place = Place::new();
            let input = json!({"do": "read", "path": "a"});
            let read = place.job(writing("."), input).await;
            assert!(read["failed"].is_null(), "{read}");
            nothing_leads_out(&place).await;
        });
    });
    tried.join().unwrap();
}

fn forbid_openat2() {
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = seccompiler::SeccompFilter::new(
        [(libc::SYS_openat2, vec![])].into(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(libc::ENOSYS as u32),
        arch,
    );
    let program: seccompiler::BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    let (flags, mode) = (rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty());
    let resolve = rustix::fs::ResolveFlags::BENEATH;
    let tried = rustix::fs::openat2(rustix::fs::CWD, ".", flags, mode, resolve);
    assert_eq!(tried.unwrap_err(), rustix::io::Errno::NOSYS);
}

async fn nothing_leads_out(place: &Place) {
    let outside = TempDir::new().unwrap();
    std::fs::create_dir(outside.path().join("dir")).unwrap();
    std::fs::write(outside.path().join("canary"), "CANARY").unwrap();
    let view = place.view.path();
    let links = [
        ("src/out", outside.path().to_owned()),
        ("src/up", "../../../../../../../".into()),
        ("src/proc", "/proc/self/root".into()),
        ("src/file", outside.path().join("canary")),
        ("src/loop", "loop".into()),
    ];
    populate(view, &links);
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    let absolute = outside.path().display().to_string();
    let spellings = [
        "src/out/canary".to_owned(),
        "src/out//canary".into(),
        "src/out/./canary".into(),
        "src/out/../canary".into(),
        "src/file".into(),
        "src/file/".into(),
        "src/file/.".into(),
        format!("src/up/tmp/{name}/canary"),
        format!("src/proc{absolute}/canary"),
        format!("{absolute}/canary"),
        format!("../../../../..{absolute}/canary"),
        format!("src/../../../..{absolute}/canary"),
        "src/loop".into(),
        "src/loop/x".into(),
        "src/out".into(),
        "src/out/dir".into(),
        "src/out/new".into(),
        "..".into(),
        "../x".into(),
        "/../x".into(),
        "src/a\0b".into(),
        "a".repeat(5000),
        "a/".repeat(5000),
    ];
    let before = digest(outside.path());
    let grant = writing(".");
    for path in &spellings {
        for verb in [
            "read", "write", "list", "truncate", "resize", "times", "make", "rmdir",
        ] {
            let answer = place
                .job(
                    grant.clone(),
                    json!({"do": verb, "path": path, "text": "x"}),
                )
                .await;
            assert!(answer["failed"].is_string(), "{verb} {path:.80}: {answer}");
        }
        // Within the view names may come and go, those of links among them; where the links lead to is not the view's.
        for (from, to) in [(path.as_str(), "src/mine"), ("a", path.as_str())] {
            for verb in ["link", "rename"] {
                let input = json!({"do": verb, "path": from, "to": to});
                place.job(grant.clone(), input).await;
                let mine = json!({"do": "read", "path": "src/mine"});
                assert!(
                    place.job(grant.clone(), mine).await["failed"].is_string(),
                    "{verb} {from:.80}"
                );
            }
            populate(view, &links);
            place.clear_layer();
        }
        assert_eq!(digest(outside.path()), before, "{path:.80}");
    }
}

#[tokio::test]
async fn only_what_is_granted_of_a_view_can_be_changed_in_either_form() {
    for place in [Place::new(), Place::layered()] {
        let grant = writing("src");
        std::fs::write(place.view.path().join("src/b"), "content of b").unwrap();
        let all = |grant: &std::sync::Arc<capability::Grant>, verb: &str, path: &str| {
            let input = json!({"do": verb, "path": path, "to": "src/moved", "text": "x"});
            place.job(grant.clone(), input)
        };
        for verb in ["write", "remove", "rename", "truncate", "link"] {
            let refused = all(&grant, verb, "a").await;
            assert!(refused["failed"].is_string(), "{verb}: {refused}");
        }
        for (verb, path) in [
            ("write", "src/new"),
            ("rename", "src/new"),
            ("remove", "src/moved"),
            ("write", "src/b"),
        ] {
            let done = all(&grant, verb, path).await;
            assert!(done["failed"].is_null(), "{verb} {path}: {done}");
        }
        let read = std::fs::read_to_string(place.changes().join("src/b")).unwrap();
        assert_eq!(read, "x");
        if place.layer.is_some() {
            let base = std::fs::read_to_string(place.view.path().join("src/b")).unwrap();
            assert_eq!(base, "content of b", "the base is shared");
        }
        // Read-only as a whole.
        for verb in ["write", "remove"] {
            let refused = all(&crate::place::grant(MANIFEST), verb, "src/b").await;
            assert!(refused["failed"].is_string(), "{verb}: {refused}");
        }
    }
}

/// A directory beneath a layer is not renamed in one step by the kernel; a guest need not know.
#[tokio::test]
async fn directories_are_renamed_in_either_form() {
    let mut came = vec![];
    for place in [Place::new(), Place::layered()] {
        let view = place.view.path();
        for directory in ["one/deep/er", "two", "empty"] {
            std::fs::create_dir_all(view.join("src").join(directory)).unwrap();
        }
        for file in ["one/a", "one/deep/b", "one/deep/er/c", "two/d"] {
            std::fs::write(view.join("src").join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("deep/b", view.join("src/one/link")).unwrap();
        let mut told = vec![];
        for (verb, path, to) in [
            ("rename", "src/one", "src/two"),
            ("rename", "src/one", "src/two/d"),
            ("rename", "src/one", "src/one/deep/in"),
            ("rename", "src/one", "one"),
            ("rename", "src/one", "src/empty"),
            ("read", "src/empty/deep/er/c", ""),
            ("read", "src/empty/link", ""),
            ("list", "src/empty", ""),
            ("list", "src", ""),
            ("rename", "src/empty/deep", "src/two/deep"),
            ("list", "src/two/deep", ""),
            ("rename", "src/two", "src/one"),
            ("read", "src/one/deep/er/c", ""),
            ("rename", "src/one", "src/one-and-on"),
            ("list", "src", ""),
            ("rename", "src/none", "src/x"),
        ] {
            let input = json!({"do": verb, "path": path, "to": to});
            told.push((verb, path, to, place.job(writing("src"), input).await));
        }
        came.push(told);
    }
    assert_eq!(came[0][5].3, "one/deep/er/c", "{:?}", came[0]);
    assert_eq!(came[0][14].3, json!(["empty", "one-and-on"]));
    assert_eq!(came[0], came[1]);
}

#[tokio::test]
async fn special_files_are_not_waited_for() {
    let place = Place::new();
    let made = Program::new("mkfifo")
        .arg(place.view.path().join("pipe"))
        .status();
    assert!(made.unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(place.view.path().join("socket")).unwrap();
    for path in ["pipe", "socket"] {
        let answer = place.call(json!({"do": "read", "path": path})).await;
        match answer {
            Ok(answer) => assert!(answer.output["err"].is_object(), "{path}: {answer:?}"),
            // A pipe without a writer may take the guest's own time, and no one else's.
            Err(CallError::OutOfTime { .. }) => {}
            Err(other) => panic!("{path}: {other}"),
        }
    }
}

fn writing_for_long(path: &str) -> std::sync::Arc<capability::Grant> {
    let text = MANIFEST
        .replace(
            "path = \".\"\naccess = \"read\"",
            &format!("path = \"{path}\"\naccess = \"write\""),
        )
        .replace("time = \"2s\"", "time = \"5m\"");
    grant(&text)
}

#[tokio::test]
async fn one_file_can_be_only_so_large() {
    for place in [Place::new(), Place::layered()] {
        let input = json!({"do": "fill", "path": "src/f", "bytes": 3u64 << 30});
        let answer = place.call_with(writing_for_long("src"), input).await;
        assert!(matches!(answer, Err(CallError::DiskFull)), "{answer:?}");
        let written = std::fs::metadata(place.changes().join("src/f")).unwrap();
        assert!(written.len() <= 1 << 30, "{}", written.len());
    }
}

/// A small disk of its own; only root can have one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn at(path: std::path::PathBuf) -> Option<SmallDisk> {
        let mounted = Program::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m,nr_inodes=2000", "tmpfs"])
            .arg(&path)
            .output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        is_mounted.then(|| SmallDisk(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_guest_that_fills_the_disk_is_stopped() {
    for input in [
        json!({"do": "fill", "path": "src/f", "bytes": 1u64 << 50, "stubborn": true}),
        json!({"do": "many", "path": "src", "count": 1u64 << 40}),
    ] {
        let place = Place::new();
        let Some(_disk) = SmallDisk::at(place.view.path().join("src")) else {
            return;
        };
        let answer = place
            .call_with(writing_for_long("src"), input.clone())
            .await;
        assert!(
            matches!(answer, Err(CallError::DiskFull)),
            "{input}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn large_and_deep_values_are_errors_of_the_guest() {
    let place = Place::new();
    let large = grant(
        &MANIFEST
            .replace("64MiB", "256MiB")
            .replace("time = \"2s\"", "time = \"20s\""),
    );
    let stdin = |bytes: u64| json!({"do": "run", "name": "test", "stdin": bytes});
    let answer = place.job(large.clone(), stdin(256 << 10)).await;
    assert_eq!(answer["stdout"], "ran");
    let answer = place.job(large.clone(), stdin((256 << 10) + 1)).await;
    assert!(
        answer["error"].as_str().unwrap().contains("Invalid"),
        "{answer}"
    );
    for input in [
        stdin(40 << 20),
        json!({"do": "note", "bytes": 100u64 << 20}),
    ] {
        let answer = place.call_with(large.clone(), input.clone()).await;
        assert!(
            matches!(answer, Err(CallError::Trap { .. })),
            "{input}: {answer:?}"
        );
    }
    // A job's own JSON is a text to the host, and read by whoever wants it.
    let deep = json!({"do": "nest", "depth": 100_000});
    place.call_with(large, deep).await.unwrap();
    assert_eq!(place.seen.commands.lock().unwrap().len(), 1);
    assert_eq!(
        place
            .job(grant(MANIFEST), json!({"do": "echo", "value": 1}))
            .await,
        Value::from(1)
    );
}
