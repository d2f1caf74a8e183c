//! Bad input gets a clear error with the mend, exit code 2, and nothing half-done.

use crate::house::{House, git, told};

fn refused(house: &House, args: &[&str], says: &[&str]) {
    let output = house.moat(args);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    for words in says {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    let runs = told(&house.moat(&["runs", "--json"]));
    assert!(runs.starts_with("[]"), "no run was opened: {runs}");
}

#[test]
fn repositories_that_cannot_be_worked_on() {
    let house = House::new();
    std::fs::create_dir(house.path("plain")).unwrap();
    refused(
        &house,
        &["run", "--repo", "plain", "x y"],
        &["plain", "repository"],
    );
    git(house.path("plain").as_path(), &["init", "-q", "-b", "main"]);
    refused(&house, &["run", "--repo", "plain", "x y"], &["main"]);
    let repo = house.meter();
    std::fs::write(repo.join("meter/fees.py"), "changed").unwrap();
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["meter/fees.py", "commit"],
    );
    git(&repo, &["checkout", "-q", "."]);
    git(&repo, &["checkout", "-q", "--detach"]);
    refused(&house, &["run", "--repo", "meter", "x y"], &["branch"]);
}

#[test]
fn repositories_that_have_no_commit_or_hold_submodules() {
    let house = House::new();
    let empty = house.path("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir(house.path("none")).unwrap();
    git(&empty, &["init", "-q", "-b", "main"]);
    for args in [
        ["run", "--repo", "empty", "x y"].as_slice(),
        &["init", "--repo", "empty"],
        &["gate", "run", "--repo", "empty"],
    ] {
        refused(
            &house,
            args,
            &["no commit on main", "commit something first"],
        );
    }
    for args in [
        ["init", "--repo", "none"].as_slice(),
        &["gate", "run", "--repo", "none"],
    ] {
        refused(&house, args, &["no git repository", "top directory"]);
    }
    assert!(!empty.join("moat.toml").exists() && !house.path("none/moat.toml").exists());
    let repo = house.meter();
    let tip = git(&repo, &["rev-parse", "HEAD"]);
    let entry = format!("160000,{tip},vendored");
    std::fs::create_dir(repo.join("vendored")).unwrap();
    git(&repo, &["update-index", "--add", "--cacheinfo", &entry]);
    git(&repo, &["commit", "-q", "-m", "a submodule"]);
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["submodules", "vendored", "vendor their files"],
    );
}

/// The meter's whole repair with something odd in the repository.
fn repaired(house: &House, says: &[&str]) {
    let output = house.moat(&["run", "--repo", "meter", "one full hour is charged as two"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in says {
        assert!(text.contains(words), "{words:?} is not in: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text}");
}

#[test]
fn names_that_are_not_utf8_stay_as_they_are_and_are_told() {
    use std::os::unix::ffi::OsStrExt as _;
    let house = House::new();
    let repo = house.meter();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
    std::fs::write(repo.join(name), "content").unwrap();
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-q", "-m", "an old name"]);
    let before = git(&repo, &["rev-parse", "HEAD:./"]);
    repaired(&house, &["xe9.txt", "not UTF-8"]);
    assert_ne!(
        git(&repo, &["rev-parse", "HEAD:./"]),
        before,
        "it was merged"
    );
    let listed = git(
        &repo,
        &[
            "-c",
            "core.quotepath=true",
            "ls-tree",
            "--name-only",
            "HEAD",
        ],
    );
    assert!(listed.contains("caf\\351.txt"), "{listed}");
    assert_eq!(std::fs::read_to_string(repo.join(name)).unwrap(), "content");
    assert_eq!(git(&repo, &["status", "--porcelain"]), "");
}

#[test]
fn pointers_into_lfs_are_told_and_stay_pointers() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    let house = House::new();
    let repo = house.meter();
    std::fs::write(repo.join(".gitattributes"), "*.bin filter=lfs -text\n").unwrap();
    std::fs::write(repo.join("a.bin"), POINTER).unwrap();
    // Whatever a filter of the user's would do, it must not be asked.
    let clean = [
        "-c",
        "filter.lfs.clean=cat",
        "-c",
        "filter.lfs.process=",
        "-c",
        "filter.lfs.required=false",
    ];
    git(&repo, &[&clean[..], &["add", "-A"]].concat());
    git(
        &repo,
        &[&clean[..], &["commit", "-q", "-m", "a pointer"]].concat(),
    );
    repaired(&house, &["git-lfs", "a.bin", "plain files"]);
    assert_eq!(
        std::fs::read_to_string(repo.join("a.bin")).unwrap(),
        POINTER
    );
    assert_eq!(git(&repo, &["show", "HEAD:a.bin"]), POINTER.trim());
}

#[test]
fn a_file_of_a_gigabyte_in_the_checkout_is_none_of_moats_business() {
    let house = House::new();
    let repo = house.meter();
    // Sparse and not tracked: it must be neither read nor copied.
    let file = std::fs::File::create(repo.join("dump.bin")).unwrap();
    file.set_len(1 << 30).unwrap();
    repaired(&house, &[]);
    assert_eq!(
        std::fs::metadata(repo.join("dump.bin")).unwrap().len(),
        1 << 30
    );
    assert!(
        !house
            .home()
            .join("runs")
            .read_dir()
            .is_ok_and(|mut left| left.next().is_some()),
        "no view is left"
    );
}

#[test]
fn a_huge_file_on_the_branch_is_refused_before_anything_is_copied() {
    let house = House::new();
    let repo = house.meter();
    let file = std::fs::File::create(repo.join("dump.bin")).unwrap();
    file.set_len((256 << 20) + 1).unwrap();
    git(&repo, &["-c", "core.compression=1", "add", "dump.bin"]);
    git(&repo, &["commit", "-qm", "a dump"]);
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["dump.bin", "256 MiB", "git-lfs"],
    );
    assert!(
        !house.home().join("repositories").exists(),
        "nothing was fetched"
    );
}

#[test]
fn a_skill_without_a_component_or_with_another_file_for_it() {
    let house = House::new();
    let skill = house.path("skill");
    std::fs::create_dir(&skill).unwrap();
    std::fs::write(
        skill.join("skill.toml"),
        include_str!("../../skills/test/skill.toml"),
    )
    .unwrap();
    for args in [
        ["skill", "check", "skill"].as_slice(),
        &["skill", "inspect", "skill"],
    ] {
        refused(&house, args, &["no component", "component.wasm"]);
    }
    std::fs::write(skill.join("component.wasm"), "not wasm").unwrap();
    let output = house.moat(&["skill", "check", "skill"]);
    assert!(
        !output.status.success() && told(&output).contains("component"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_state_directory_that_others_can_write_or_own_is_not_used() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let house = House::new();
    let state = house.path("shared");
    std::fs::create_dir(&state).unwrap();
    let runs = || {
        let output = house
            .command(&["runs"])
            .env("MOAT_HOME", &state)
            .output()
            .unwrap();
        (output.status.success(), told(&output))
    };
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (ran, text) = runs();
    assert!(!ran && text.contains("chmod o-w"), "{text}");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Only root can give it away.
    if chown(&state, Some(54_324), None).is_ok() {
        let (ran, text) = runs();
        assert!(!ran && text.contains("another user"), "{text}");
        assert_eq!(
            state.read_dir().unwrap().count(),
            0,
            "nothing was made in it"
        );
        chown(&state, Some(0), None).unwrap();
    }
    assert!(runs().0);
}

/// A small disk of its own; only root can have one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn at(path: std::path::PathBuf, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = std::process::Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=700"),
                "tmpfs",
            ])
            .arg(&path)
            .output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        is_mounted.then(|| SmallDisk(path))
    }

    fn resize(&self, size: &str) {
        let resized = std::process::Command::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(&self.0)
            .status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_with_words_and_goes_on_when_there_is_room() {
    let house = House::new();
    let repo = house.meter();
    let tip = git(&repo, &["rev-parse", "HEAD"]);
    let _ = std::fs::remove_dir_all(house.home());
    let Some(disk) = SmallDisk::at(house.home(), "64k") else {
        return;
    };
    let run = ["run", "--repo", "meter", "one full hour is charged as two"];
    // Whoever meets it first: the journal says so itself.
    let says = ["No space left", "is full: make room"];
    for size in ["64k", "1m"] {
        disk.resize(size);
        let output = house.moat(&run);
        let text = told(&output);
        assert!(
            !output.status.success() && says.iter().any(|words| text.contains(words)),
            "{size}: {text}"
        );
        assert!(!text.contains("panicked"), "{text}");
        assert_eq!(git(&repo, &["rev-parse", "HEAD"]), tip, "nothing half-done");
        assert_eq!(git(&repo, &["status", "--porcelain"]), "");
    }
    disk.resize("64m");
    let output = house.moat(&run);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_ne!(git(&repo, &["rev-parse", "HEAD"]), tip);
}

#[test]
fn init_writes_into_the_checkout_and_nowhere_else() {
    let house = House::new();
    let repo = house.meter();
    git(&repo, &["rm", "-q", "moat.toml"]);
    let elsewhere = house.path("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, repo.join("moat.toml")).unwrap();
    // What tells a project's kind may be anything as well.
    std::os::unix::fs::symlink("/dev/zero", repo.join("package.json")).unwrap();
    git(&repo, &["add", "-A"]);
    git(&repo, &["commit", "-qm", "links"]);
    let output = house.moat(&["init", "--repo", "meter"]);
    assert!(!output.status.success(), "{}", told(&output));
    assert!(!elsewhere.exists());
    git(&repo, &["rm", "-q", "moat.toml"]);
    let output = house.moat(&["init", "--repo", "meter"]);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_defect() {
    let house = House::new();
    let script = format!("{} skill list | true", crate::house::MOAT);
    for _ in 0..5 {
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .env("MOAT_HOME", house.home())
            .output()
            .unwrap();
        assert!(!told(&output).contains("panicked"), "{}", told(&output));
    }
}

#[test]
fn files_that_are_missing_or_wrong() {
    let house = House::new();
    let repo = house.meter();
    let good = std::fs::read_to_string(repo.join("moat.toml")).unwrap();
    let with = |text: &str| {
        std::fs::write(repo.join("moat.toml"), text).unwrap();
        git(&repo, &["commit", "-qam", "change moat.toml"]);
    };
    with(&good.replace("attempts = 3", "attempts = 3\ntokns = 5"));
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["moat.toml:", "unknown field `tokns`", "mend"],
    );
    with(&good.replace("implement = \"search-repair\"", "implement = \"wizard\""));
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["wizard", "moat skill list"],
    );
    with(&good.replace("implement = \"search-repair\"", "implement = \"triage\""));
    refused(&house, &["run", "--repo", "meter", "x y"], &["role triage"]);
    with(&good.replace("test = [\"python3\"", "test = [\"no-such-program\""));
    refused(
        &house,
        &["run", "--repo", "meter", "x y"],
        &["no-such-program", "PATH"],
    );
    git(&repo, &["rm", "-q", "moat.toml"]);
    git(&repo, &["commit", "-qm", "away"]);
    refused(&house, &["run", "--repo", "meter", "x y"], &["moat init"]);
}

#[test]
fn words_that_are_no_command() {
    let house = House::new();
    refused(&house, &["run"], &["Usage"]);
    refused(&house, &["runs", "show", "../../etc/passwd"], &["run id"]);
    refused(&house, &["runs", "show", "r1"], &["no run r1"]);
    refused(&house, &["runs", "resume", "r1"], &["no run r1"]);
    let init = house.moat(&["init", "--repo", "."]);
    assert_ne!(init.status.code(), Some(0));
}

#[test]
fn a_state_directory_or_policy_that_cannot_be_used_stops_everything() {
    let house = House::new();
    house.meter();
    std::fs::create_dir_all(house.home()).unwrap();
    std::fs::write(
        house.home().join("policy.toml"),
        "hidden = []\nunknown = 1\n",
    )
    .unwrap();
    let output = house.moat(&["run", "--repo", "meter", "x y"]);
    assert!(
        !output.status.success() && told(&output).contains("policy.toml:2"),
        "{}",
        told(&output)
    );
    std::fs::write(house.home().join("policy.toml"), "hidden = []\n").unwrap();
    let output = house.moat(&["run", "--repo", "meter", "one full hour is charged as two"]);
    assert!(
        !output.status.success(),
        "a policy without ceilings grants nothing: {}",
        told(&output)
    );
    let output = house
        .command(&["runs"])
        .env("MOAT_HOME", "/proc/nowhere")
        .output()
        .unwrap();
    assert!(told(&output).contains("MOAT_HOME"), "{}", told(&output));
}
