//! Stores that are damaged, that lie about sizes, and attributes that would change or hide contents (attacks 117, 123, 129).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::Duration;

use repo::{Mirror, Source};

use crate::fixture::{Fixture, fixture, fixture_in_memory, raw_tree, write};

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(next).unwrap().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => left.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.sort();
    found
}

fn writable(path: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(path, mode).unwrap();
}

const FILES: [(&str, &str); 3] = [
    (
        "a",
        "the first file, long enough to be squeezed: aaaaaaaaaaaaaaaa",
    ),
    (
        "dir/b",
        "the second file, long enough as well: bbbbbbbbbbbbbbbb",
    ),
    ("c", "c"),
];

/// Every object in another's place: its name is the digest of its content, and that is looked at.
#[test]
fn no_object_is_taken_for_another() {
    let fixture = fixture(&FILES);
    let objects = below(&fixture.user().join(".git/objects"));
    let contents: Vec<_> = objects.iter().map(|path| fs::read(path).unwrap()).collect();
    for (n, object) in objects.iter().enumerate() {
        writable(object);
        fs::write(object, &contents[(n + 1) % contents.len()]).unwrap();
        let mirror = Mirror::open_or_create(&fixture.dir.path().join(format!("s{n}"))).unwrap();
        assert!(
            mirror.fetch(&fixture.source(), "main").is_err(),
            "{}",
            object.display()
        );
        fs::write(object, &contents[n]).unwrap();
    }
    assert!(fixture.mirror.fetch(&fixture.source(), "main").is_ok());
}

/// What one call may take: far more than it needs, and far less than for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a file is made into, and in which way.
type Damages = Vec<(String, Vec<u8>)>;

/// Tries every damage of every file of the user's store; each is an error, or does no harm.
fn damaged(fixture: Fixture, files: Vec<PathBuf>, damages: fn(&[u8]) -> Damages) {
    let good = {
        let (tip, tree) = fixture.fetch();
        (tip, fixture.files(&tree))
    };
    let (tell, told) = channel();
    let work = std::thread::spawn(move || {
        let mut refused = 0;
        for (n, file) in files.iter().enumerate() {
            let content = fs::read(file).unwrap();
            writable(file);
            for (m, (what, bytes)) in damages(&content).into_iter().enumerate() {
                let what = format!("{}: {what}", file.display());
                tell.send(what.clone()).unwrap();
                fs::write(file, bytes).unwrap();
                let path = fixture.dir.path().join(format!("d{n}-{m}"));
                let mirror = Mirror::open_or_create(&path).unwrap();
                let source = Source::open(&fixture.user());
                match source.and_then(|source| mirror.fetch(&source, "main")) {
                    Err(_) => refused += 1,
                    Ok(tip) => {
                        let tree = mirror.tree_of(&tip).unwrap();
                        let other = Fixture {
                            dir: tempfile::tempdir().unwrap(),
                            mirror,
                        };
                        assert_eq!((tip, other.files(&tree)), good, "{what}");
                    }
                }
                // What else reads the user's store comes back, whatever it says.
                let _ = Source::open(&fixture.user()).and_then(|source| source.inspect("main"));
                fs::remove_dir_all(path).unwrap();
            }
            fs::write(file, content).unwrap();
        }
        refused
    });
    let mut last = String::new();
    loop {
        match told.recv_timeout(PATIENCE) {
            Ok(what) => last = what,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("no answer: {last}"),
        }
    }
    assert!(work.join().unwrap() > 0, "no damage was noticed");
}

/// One bit of every byte, all bits of every byte, and the file cut there.
fn everything(content: &[u8]) -> Damages {
    let mut damages = Vec::new();
    for n in 0..content.len() {
        for mask in [1 << (n % 8), 0xff] {
            let mut bytes = content.to_vec();
            bytes[n] ^= mask;
            damages.push((format!("byte {n} ^ {mask:#x}"), bytes));
        }
        damages.push((format!("cut at {n}"), content[..n].to_vec()));
    }
    damages
}

/// Less of it: packs and their indexes are longer.
fn something(content: &[u8]) -> Damages {
    let is_index = !content.starts_with(b"PACK");
    let every = everything(content).into_iter().enumerate();
    // Of an index, most of which is a table of first bytes, every seventh; of a pack every second damage.
    let step = |n: usize| if is_index && n / 3 < 1100 { 7 } else { 2 };
    every
        .filter(|(n, _)| n % step(*n) == 0)
        .map(|(_, damage)| damage)
        .collect()
}

#[test]
fn a_damaged_loose_object_is_an_error_and_never_a_wait() {
    let fixture = fixture_in_memory(&FILES);
    let objects = below(&fixture.user().join(".git/objects"));
    assert_eq!(objects.len(), 6);
    damaged(fixture, objects, everything);
}

#[test]
fn a_damaged_pack_is_an_error_and_never_a_wait() {
    let text: String = (0..60).map(|n| format!("line {}\n", n * n)).collect();
    let fixture = fixture_in_memory(&[("a", &text)]);
    fixture.commit(&[("a", &format!("{text}more\n")), ("b", "b")]);
    fixture.run_git(&fixture.user(), &["repack", "-adfq"]);
    let files = named(&fixture, &["pack", "idx"]);
    assert_eq!(files.len(), 2);
    damaged(fixture, files, something);
}

#[test]
fn a_damaged_index_of_packs_or_commits_is_an_error_and_never_a_wait() {
    let fixture = fixture_in_memory(&[("a", "1")]);
    let user = fixture.user();
    fixture.run_git(&user, &["repack", "-adq"]);
    fixture.commit(&[("a", "2"), ("b", "2")]);
    fixture.commit(&[("a", "3")]);
    fixture.run_git(&user, &["repack", "-dq"]);
    fixture.run_git(&user, &["multi-pack-index", "write"]);
    fixture.run_git(&user, &["commit-graph", "write", "--reachable"]);
    let files = named(&fixture, &["multi-pack-index", "commit-graph"]);
    assert_eq!(files.len(), 2);
    damaged(fixture, files, something);
}

/// Files of the user's store by how they end.
fn named(fixture: &Fixture, ends: &[&str]) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        ends.iter().any(|end| name.ends_with(end))
    };
    let objects = below(&fixture.user().join(".git/objects"));
    objects.into_iter().filter(is_one).collect()
}

/// A copy in a pack is as good: the damaged loose one beside it is not asked.
#[test]
fn a_damaged_loose_object_beside_a_pack_that_has_it_does_no_harm() {
    let fixture = fixture(&FILES);
    fixture.run_git(&fixture.user(), &["repack", "-aq"]);
    for object in below(&fixture.user().join(".git/objects")) {
        if object.parent().unwrap().file_name().unwrap().len() == 2 {
            writable(&object);
            fs::write(object, "").unwrap();
        }
    }
    let (_, tree) = fixture.fetch();
    assert_eq!(fixture.files(&tree).len(), FILES.len());
}

fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

/// A loose object that says one size and unfolds to another.
#[test]
fn an_object_that_lies_about_its_size_is_neither_unfolded_nor_believed() {
    let fixture = fixture(&[("a", "1")]);
    let script = "import sys, zlib\nc = zlib.compressobj(9); out = open(sys.argv[1], 'wb')\nout.write(c.compress(sys.argv[2].encode() + b'\\0'))\n\
        for _ in range(int(sys.argv[3])): out.write(c.compress(bytes(1 << 20)))\nout.write(c.flush())";
    for (what, header, mebibytes) in [
        ("much more than it says", "blob 10", "1024"),
        ("far less than it says", "blob 1099511627776", "0"),
        ("another kind", "tree 10", "1"),
        ("no number", "blob -1", "1"),
        ("a number beyond all", "blob 99999999999999999999999", "1"),
        ("no header", &"b".repeat(100_000), "1"),
    ] {
        let repo = fixture.git();
        let id = git2::Oid::from_bytes(&[0xab; 20]).unwrap();
        let hex = id.to_string();
        let path = fixture
            .user()
            .join(".git/objects")
            .join(&hex[..2])
            .join(&hex[2..]);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let made = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .args([header, mebibytes])
            .status();
        assert!(made.unwrap().success());
        let tip = fixture.orphan(raw_tree(&repo, &[(0o100_644, b"bomb", id)]));
        let before = peak_bytes();
        let fetched = fixture.mirror.fetch_commit(&fixture.source(), &tip);
        assert!(fetched.is_err(), "{what}");
        assert!(!fixture.mirror.has_commit(&tip).unwrap(), "{what}");
        let grown = peak_bytes().saturating_sub(before);
        assert!(grown < 300 << 20, "{what}: {grown}");
    }
}

#[test]
fn attributes_neither_change_nor_hide_contents() {
    let attributes = "* text=auto eol=crlf ident working-tree-encoding=UTF-16LE filter=evil -diff export-subst\n*.rs binary -text\n";
    let content = "$Id$\n$Format:%H$\nunix\nwindows\r\n\u{feff}mark\n";
    let fixture = fixture(&[("a.txt", content), ("b.rs", content)]);
    // Not through the user's own index, which may do what it likes with them.
    let repo = fixture.git();
    let blob = |text: &str| repo.blob(text.as_bytes()).unwrap();
    fixture.commit_tree(raw_tree(
        &repo,
        &[
            (0o100_644, b".gitattributes", blob(attributes)),
            (0o100_644, b"a.txt", blob(content)),
            (0o100_644, b"b.rs", blob(content)),
        ],
    ));
    let (_, base) = fixture.fetch();
    let (path, _) = fixture.worktree(&base);
    for name in ["a.txt", "b.rs"] {
        assert_eq!(
            fs::read_to_string(path.join(name)).unwrap(),
            content,
            "{name}"
        );
    }
    assert_eq!(
        fixture.import(&path, &base).changed,
        [],
        "what was not touched is not changed"
    );
    let changed = format!("{content}$Id: mine $\r\nplanted\n");
    for name in ["a.txt", "b.rs"] {
        write(&path.join(name), &changed);
    }
    let report = fixture.import(&path, &base);
    let files = fixture.files(&report.tree);
    assert_eq!((&files["a.txt"], &files["b.rs"]), (&changed, &changed));
    let diff = fixture
        .mirror
        .diff(&base, &report.tree, &repo::DiffLimits::default())
        .unwrap();
    assert_eq!(diff.patch.matches("+planted").count(), 2, "{}", diff.patch);
}
