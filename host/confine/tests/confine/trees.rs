//! Trees, whether in one directory or in layers: what is seen of them, what can be changed, and where that goes.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use confine::{Command, ConfineError, Ending, Found, Mount, Tree, probe_layers, remove_tree};
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

use crate::place::{Place, text};

const WALL: Duration = Duration::from_secs(60);

/// A tree in all forms, in a directory of its own.
struct Forms {
    place: TempDir,
}

impl Forms {
    fn new() -> Forms {
        Forms {
            place: TempDir::new().unwrap(),
        }
    }

    /// In a directory, as a layer over one, and as a layer over two that make it up together.
    fn all(&self) -> [Tree; 3] {
        let part = |name: &str| {
            let path = self.place.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (directory, lower, below, between) = (
            part("directory"),
            part("lower"),
            part("below"),
            part("between"),
        );
        for root in [&directory, &lower] {
            populate(root);
        }
        populate_in_two(&between, &below);
        let layers = |lower, name: &str| Tree::Layers {
            lower,
            upper: part(&format!("{name}-upper")),
            work: part(&format!("{name}-work")),
        };
        [
            Tree::Directory(directory),
            layers(vec![lower], "one"),
            layers(vec![between, below], "two"),
        ]
    }
}

impl Drop for Forms {
    fn drop(&mut self) {
        // The kernel leaves a directory without permissions.
        remove_tree(self.place.path()).unwrap();
    }
}

fn populate(root: &Path) {
    for directory in ["src/deep", "docs", "gone"] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in ["a", "b", "src/a", "src/b", "src/deep/a", "docs/a", "gone/a"] {
        std::fs::write(root.join(file), "old").unwrap();
    }
    symlink("src", root.join("link")).unwrap();
    symlink("/etc", root.join("etc")).unwrap();
}

/// The upper one changes a file of the lower one, adds some, makes a directory of a file and a file of a directory, and takes some away.
fn populate_in_two(upper: &Path, lower: &Path) {
    populate(lower);
    let absent = |path: &str| {
        let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
        rustix::fs::mknodat(CWD, upper.join(path), kind, mode, 0).unwrap();
    };
    std::fs::create_dir_all(upper.join("src/deep")).unwrap();
    for (path, was) in [("a", "older"), ("src/deep/a", "older")] {
        std::fs::write(lower.join(path), was).unwrap();
        std::fs::write(upper.join(path), "old").unwrap();
    }
    for path in ["older", "src/older", "src/deep/older"] {
        std::fs::write(lower.join(path), "older").unwrap();
        absent(path);
    }
    std::fs::create_dir(lower.join("older-too")).unwrap();
    std::fs::write(lower.join("older-too/a"), "older").unwrap();
    absent("older-too");
    std::fs::remove_dir_all(lower.join("docs")).unwrap();
    std::fs::write(lower.join("docs"), "older").unwrap();
    std::fs::create_dir(upper.join("docs")).unwrap();
    std::fs::write(upper.join("docs/a"), "old").unwrap();
    std::fs::remove_file(lower.join("b")).unwrap();
    std::fs::create_dir_all(lower.join("b/inside")).unwrap();
    std::fs::write(upper.join("b"), "old").unwrap();
}

fn command(place: &Place, script: &str, mount: Mount) -> Command {
    let mut command = place.command("sh", &["-c", script], WALL);
    // Some run beside each other, and must not share what takes their changes.
    let overlay = |mount: &Mount| matches!(mount, Mount::Overlay { .. });
    command.mounts.retain(|mount| !overlay(mount));
    command.mounts.push(mount);
    command
}

fn tree(tree: &Tree, writable: &[&str]) -> Mount {
    Mount::Tree {
        tree: tree.clone(),
        writable: writable.iter().map(PathBuf::from).collect(),
        inside: "/tree".into(),
    }
}

async fn said(place: &Place, script: &str, mount: Mount) -> String {
    let finished = place.launcher.run(command(place, script, mount)).await;
    let finished = finished.unwrap();
    let errors = text(&finished.stderr);
    assert_eq!(finished.ending, Ending::Exited(0), "{script}: {errors}");
    text(&finished.stdout)
}

/// What each deed came to, and all that is seen at the end.
const DEEDS: &str = "cd /tree; for deed in 'echo x > a' 'echo x > new' 'rm b' 'echo x > docs/a' 'echo x > src/a' 'echo x > src/new' 'rm src/b' \
    'mv src/deep src/moved' 'rm -r gone' 'mkdir gone' 'echo x > gone/new' 'chmod +x docs/a' 'ln src/a docs/hard' 'mv src/a docs/a' 'mv docs src' 'mv a src'; \
    do if (eval \"$deed\") 2>/dev/null; then echo \"done: $deed\"; else echo \"not: $deed\"; fi; done; find . | sort; find . -type f | sort | xargs cat";

#[tokio::test]
async fn only_the_writable_parts_of_a_tree_can_be_changed() {
    for writable in [
        &[][..],
        &["src"],
        &["src", "gone", "a"],
        &["src/deep", "docs/a"],
        &[""],
    ] {
        let place = Place::new();
        let forms = Forms::new();
        let mut came = vec![];
        for form in forms.all() {
            came.push(said(&place, DEEDS, tree(&form, writable)).await);
        }
        for other in &came[1..] {
            assert_eq!(&came[0], other, "{writable:?}");
        }
        let done = |deed: &str| came[0].contains(&format!("done: {deed}\n"));
        let all = writable.contains(&"");
        assert_eq!(done("echo x > new"), all, "{writable:?}");
        assert_eq!(done("echo x > docs/a"), all || writable.contains(&"docs/a"));
        assert_eq!(done("echo x > src/a"), all || writable.contains(&"src"));
        assert_eq!(done("echo x > a"), all || writable.contains(&"a"));
        assert_eq!(done("chmod +x docs/a"), all || writable.contains(&"docs/a"));
    }
}

#[tokio::test]
async fn changes_go_to_the_layer_and_its_base_stays() {
    let place = Place::new();
    let forms = Forms::new();
    let [_, layers, _] = forms.all();
    let Tree::Layers { lower, upper, .. } = &layers else {
        unreachable!()
    };
    said(
        &place,
        "echo 1 > /tree/src/a; rm /tree/src/b",
        tree(&layers, &["src"]),
    )
    .await;
    // Mounted once more it is as it was left.
    let script = "cat /tree/src/a; test ! -e /tree/src/b; echo 2 > /tree/src/c";
    assert_eq!(said(&place, script, tree(&layers, &["src"])).await, "1\n");
    assert_eq!(std::fs::read_to_string(upper.join("src/a")).unwrap(), "1\n");
    assert_eq!(std::fs::read_to_string(upper.join("src/c")).unwrap(), "2\n");
    assert_eq!(
        std::fs::read_to_string(lower[0].join("src/a")).unwrap(),
        "old"
    );
    assert!(lower[0].join("src/b").exists());
    assert!(!lower[0].join("src/c").exists());
}

/// A symbolic link would lead to whatever the host has there.
#[tokio::test]
async fn no_part_lies_behind_a_symbolic_link_or_outside() {
    let place = Place::new();
    for part in [
        "link",
        "link/deep",
        "etc",
        "etc/passwd",
        "..",
        "/etc",
        "src/../docs",
        "none",
    ] {
        let forms = Forms::new();
        for form in forms.all() {
            let run = place
                .launcher
                .run(command(&place, "true", tree(&form, &[part])));
            let ended = run.await;
            assert!(
                matches!(&ended, Err(ConfineError::Setup { step, .. }) if step == "writable part"),
                "{part}: {ended:?}"
            );
        }
    }
}

/// A command sees what was done right before it, while whoever did it stands still and holds the layer; what it does itself nobody sees.
#[tokio::test]
async fn an_overlay_over_a_layer_in_use_shows_what_was_done_to_it() {
    const DO: [&str; 4] = [
        "echo new > a; echo made > made; rm b; mv src/a src/renamed; mv gone kept; touch step1",
        "echo newer > a; rm made; echo back > b; mv src/renamed src/again; rm -r kept; touch step2",
        "rm -r src; mkdir src; echo only > src/only; chmod +x a; touch step3",
        "rm -r docs; echo file > docs; rm b; ln -s a b; touch step4",
    ];
    const LOOK: &str = "cd /tree; find . ! -name . -printf '%P %y %m %l\\n' | sort; find . -type f | sort | xargs cat; echo poison > a; rm -rf src docs; echo x > planted";
    let place = Place::new();
    let forms = Forms::new();
    let mut seen = vec![];
    for (at, form) in forms.all().into_iter().enumerate() {
        let gate = TempDir::new_in(forms.place.path()).unwrap();
        let steps = DO.iter().zip(1..).map(|(step, number)| {
            format!("{step}; until test -e /gate/{number}; do sleep 0.01; done")
        });
        let steps: Vec<String> = steps.collect();
        let script = format!("cd /tree; {}", steps.join("; "));
        let mut held = command(&place, &script, tree(&form, &[""]));
        held.mounts.push(Mount::ReadOnly {
            host: gate.path().into(),
            inside: "/gate".into(),
        });
        let launcher = place.launcher.clone();
        let holder = tokio::spawn(async move { launcher.run(held).await });
        let mut looks = vec![];
        for step in 1..=DO.len() {
            while !form.changes().join(format!("step{step}")).exists() {
                assert!(!holder.is_finished(), "it should hold on");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let over = |name: &str| {
                let path = forms.place.path().join(format!("{name}-{at}-{step}"));
                std::fs::create_dir(&path).unwrap();
                path
            };
            let mount = Mount::Overlay {
                lower: form.layers(),
                upper: over("over"),
                work: over("over-work"),
                inside: "/tree".into(),
            };
            looks.push(said(&place, LOOK, mount).await);
            std::fs::write(gate.path().join(step.to_string()), "").unwrap();
        }
        assert_eq!(holder.await.unwrap().unwrap().ending, Ending::Exited(0));
        seen.push(looks);
    }
    assert!(seen[0][3].contains("step4"), "{}", seen[0][3]);
    assert!(!seen[0][3].contains("planted"));
    for other in &seen[1..] {
        assert_eq!(&seen[0], other);
    }
}

/// The kernel takes no text of more than 255 bytes for an option, and some of what is in a name means something there.
#[tokio::test]
async fn layers_may_lie_far_down() {
    let place = Place::new();
    let forms = Forms {
        place: TempDir::with_prefix("far").unwrap(),
    };
    let down = forms.place.path().join("down,far:and\\/".repeat(30));
    std::fs::create_dir_all(&down).unwrap();
    let part = |name: &str| {
        let path = down.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (between, below) = (part("between"), part("below"));
    populate_in_two(&between, &below);
    let layers = Tree::Layers {
        lower: vec![between, below],
        upper: part("upper"),
        work: part("work"),
    };
    let script = "cd /tree; cat a src/deep/a; test ! -e older && echo new > b";
    assert_eq!(said(&place, script, tree(&layers, &[""])).await, "oldold");
    let mount = Mount::Overlay {
        lower: layers.layers(),
        upper: part("over"),
        work: part("over-work"),
        inside: "/tree".into(),
    };
    assert_eq!(said(&place, "cat /tree/b", mount).await, "new\n");
}

#[tokio::test]
async fn what_is_wrong_with_a_layer_is_told_as_it_is() {
    let place = Place::new();
    let forms = Forms::new();
    let [directory, ..] = forms.all();
    let layers = Tree::Layers {
        lower: vec![directory.changes().into(), forms.place.path().join("gone")],
        upper: forms.place.path().join("one-upper"),
        work: forms.place.path().join("one-work"),
    };
    let run = (place.launcher).run(command(&place, "true", tree(&layers, &[""])));
    let ended = run.await;
    assert!(
        matches!(&ended, Err(ConfineError::Setup { error, .. }) if error.kind() == std::io::ErrorKind::NotFound),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_trial_tells_whether_layers_work() {
    let place = Place::new();
    let scratch = TempDir::new().unwrap();
    let found = probe_layers(&place.launcher, scratch.path()).await;
    assert!(matches!(found, Found::Works(_)), "{found:?}");
    remove_tree(scratch.path()).unwrap();
    let found = probe_layers(&place.launcher, Path::new("/proc")).await;
    assert!(matches!(found, Found::Missing { .. }), "{found:?}");
}
