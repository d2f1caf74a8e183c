//! The trail against crowds, crashes and people with an editor.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

mod broken;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use audit::{
    Confinement, Decided, Decision, Denied, Entry, Filter, Kind, Outcome, Refused, Trail,
    TrailError, Used,
};
use capability::Capability;
use tempfile::TempDir;

pub(crate) struct Place {
    pub(crate) directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            directory: TempDir::new().unwrap(),
        }
    }

    pub(crate) fn trail(&self) -> Trail {
        Trail::open(&self.path()).unwrap()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("audit")
    }

    pub(crate) fn file(&self, number: u32) -> PathBuf {
        self.path().join(format!("{number:06}.jsonl"))
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        std::fs::read(self.file(1)).unwrap()
    }
}

pub(crate) fn said(by: &str) -> Entry {
    Entry::Decision(Decision {
        by: by.into(),
        run: None,
        decided: Decided::Resume,
    })
}

fn refused(what: &str) -> Refused {
    Refused {
        capability: Capability::Processes,
        what: what.into(),
        line: "moat.toml".into(),
    }
}

pub(crate) fn fill(trail: &Trail, entries: u64) {
    for number in 1..=entries {
        let appended = trail.append(number, said(&format!("person {number}")));
        assert!(appended.is_ok(), "{appended:?}");
    }
}

#[test]
fn many_writers_make_one_chain_over_many_files() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 30;
    let place = Place::new();
    let open = |path: &Path| Trail::with_files_of(path, 4 << 10).unwrap();
    let path = place.path();
    // Each opens the trail for itself, as processes do: the file lock is theirs alone.
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = &path;
            scope.spawn(move || {
                for number in 0..EACH {
                    open(path)
                        .append(0, said(&format!("{writer}/{number}")))
                        .unwrap();
                }
            });
        }
    });
    let trail = open(&path);
    let verified = trail.verify(&[]).unwrap();
    assert_eq!(verified.entries, WRITERS * EACH);
    assert!(verified.files > 5, "{verified:?}");
    let listing = trail.entries(&Filter::default()).unwrap();
    let said: BTreeSet<_> = listing
        .entries
        .iter()
        .map(|one| serde_json::to_string(&one.entry).unwrap())
        .collect();
    assert_eq!(said.len() as u64, WRITERS * EACH, "each one, once");
    let numbers: Vec<_> = listing.entries.iter().map(|one| one.number).collect();
    assert_eq!(numbers, (1..=WRITERS * EACH).collect::<Vec<_>>());
    assert!(listing.unreadable.is_empty());
}

#[test]
fn what_is_there_is_never_written_again() {
    let place = Place::new();
    let trail = place.trail();
    let mut before = Vec::new();
    for number in 0..20 {
        trail.append(number, said("me")).unwrap();
        let text = place.text();
        assert!(text.starts_with(&before));
        before = text;
    }
}

#[test]
fn only_the_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let trail = place.trail();
    fill(&trail, 1);
    for path in [place.path(), place.file(1), trail.head_path()] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} {mode:o}", path.display());
    }
}

#[test]
fn a_torn_line_stays_and_is_told_of_by_the_next() {
    let whole = {
        let place = Place::new();
        fill(&place.trail(), 4);
        place.text()
    };
    let line = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    // As a crash may leave it: any beginning of the fourth line, whose append never returned, so that the head is at the third.
    for cut in (line + 1..whole.len()).rev().step_by(11) {
        let place = Place::new();
        fill(&place.trail(), 3);
        std::fs::write(place.file(1), &whole[..cut]).unwrap();
        let torn = place.trail().verify(&[]).unwrap();
        assert_eq!((torn.entries, torn.torn.len()), (3, 1), "cut at {cut}");

        let trail = place.trail();
        fill(&trail, 1);
        let text = place.text();
        assert!(text.starts_with(&whole[..cut]), "nothing was rewritten");
        let verified = trail.verify(&[]).unwrap();
        assert_eq!((verified.entries, verified.torn.len()), (5, 1));
        assert_eq!(verified.torn[0].line, 4);
        let sealed = trail.entries(&Filter {
            kind: Some(Kind::Sealed),
            ..Filter::default()
        });
        match &sealed.unwrap().entries[..] {
            [one] => {
                let Entry::Sealed(sealed) = &one.entry else {
                    panic!("{one:?}")
                };
                assert_eq!(sealed.bytes as usize, cut - line + 1);
            }
            other => panic!("{other:?}"),
        }
        // Torn again, in the middle of the seal.
        let end = text[cut..].len() / 4;
        let place = Place::new();
        fill(&place.trail(), 3);
        std::fs::write(place.file(1), &text[..cut + end]).unwrap();
        let trail = place.trail();
        fill(&trail, 1);
        assert_eq!(trail.verify(&[]).unwrap().entries, 5);
    }
}

#[test]
fn hostile_text_is_bounded_and_stays_in_its_place() {
    let place = Place::new();
    let trail = place.trail();
    let hostile = "\n{\"number\":1}\n\u{1b}]0;x\u{7}\u{202e}".repeat(10_000);
    let skill: flow::id::SkillName = "s".parse().unwrap();
    let denied = |n: u64| (refused(&format!("{n}{hostile}")), n);
    let used = Entry::Used(Used {
        call: 1,
        run: None,
        skill: skill.clone(),
        outcome: Outcome::Ended(hostile.as_str().into()),
        host_calls: (0..10_000)
            .map(|n| (format!("{n}{hostile}").as_str().into(), 1))
            .collect(),
        commands: vec![],
        models: vec![],
        network: vec![],
        denied: (0..1000).map(denied).collect(),
        fuel: 0,
        wall_ms: 0,
        left_out: 3,
    });
    trail.append(0, used).unwrap();
    let first = Denied {
        call: 1,
        run: None,
        skill,
        refused: refused(&hostile),
    };
    trail.append(0, Entry::Denied(first)).unwrap();
    let text = place.text();
    assert!(text.len() < 1 << 20, "{}", text.len());
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 2);
    assert!(
        text.iter()
            .all(|byte| *byte == b'\n' || (b' '..=b'~').contains(byte))
    );
    trail.verify(&[]).unwrap();
    let listing = trail.entries(&Filter::default()).unwrap();
    let Entry::Used(used) = &listing.entries[0].entry else {
        panic!("{listing:?}")
    };
    assert_eq!(used.denied.len(), 64);
    assert_eq!(used.left_out, 3 + (10_000 - 64) + (1000 - 64));
}

#[test]
fn a_filter_lets_through_what_fits_all_of_it() {
    let place = Place::new();
    let trail = place.trail();
    let denied = |run: &str, skill: &str| {
        Entry::Denied(Denied {
            call: 1,
            run: Some(run.parse().unwrap()),
            skill: skill.parse().unwrap(),
            refused: refused("x"),
        })
    };
    for (at, entry) in [
        denied("r1", "a"),
        denied("r2", "a"),
        denied("r1", "b"),
        said("me"),
    ]
    .into_iter()
    .enumerate()
    {
        trail.append(at as u64, entry).unwrap();
    }
    let found = |filter: Filter| {
        let listing = trail.entries(&filter).unwrap();
        let numbers = listing.entries.iter().map(|one| one.number);
        numbers.collect::<Vec<_>>()
    };
    let run = Some("r1".parse().unwrap());
    let skill = Some("a".parse().unwrap());
    let any = Filter::default;
    assert_eq!(found(any()), [1, 2, 3, 4]);
    assert_eq!(
        found(Filter {
            run: run.clone(),
            ..any()
        }),
        [1, 3]
    );
    assert_eq!(
        found(Filter {
            skill: skill.clone(),
            ..any()
        }),
        [1, 2]
    );
    assert_eq!(
        found(Filter {
            run,
            skill,
            ..any()
        }),
        [1]
    );
    assert_eq!(
        found(Filter {
            kind: Some(Kind::Decision),
            ..any()
        }),
        [4]
    );
    assert_eq!(
        found(Filter {
            since_ms: Some(2),
            ..any()
        }),
        [3, 4]
    );
}

#[test]
fn where_it_cannot_be_written_nothing_is_appended_and_the_error_says_so() {
    let place = Place::new();
    let trail = place.trail();
    fill(&trail, 2);
    let before = place.text();
    // Root may write anything: a directory where the file should be stops root as well.
    let aside = place.directory.path().join("aside");
    std::fs::rename(place.file(1), &aside).unwrap();
    std::fs::create_dir(place.file(1)).unwrap();
    assert!(matches!(
        trail.append(0, said("me")),
        Err(TrailError::Unusable { .. })
    ));
    std::fs::remove_dir(place.file(1)).unwrap();
    std::fs::rename(&aside, place.file(1)).unwrap();
    assert_eq!(place.text(), before);
    trail.append(0, said("me")).unwrap();
    trail.verify(&[]).unwrap();
}

/// A small disk of its own; only root can have one.
struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_an_error_and_afterwards_the_chain_goes_on() {
    let place = Place::new();
    std::fs::create_dir(place.path()).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
        .arg(place.path())
        .output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return;
    }
    let _disk = SmallDisk(place.path());
    let trail = place.trail();
    let ballast = place.path().join("ballast");
    std::fs::write(&ballast, vec![0; 32 << 10]).unwrap();
    let mut appended = 0;
    let error = loop {
        match trail.append(0, said(&"x".repeat(200))) {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TrailError::Full { .. }), "{error}");
    assert_eq!(trail.verify(&[]).unwrap().entries, appended);
    std::fs::remove_file(&ballast).unwrap();
    trail.append(0, said("me")).unwrap();
    let verified = trail.verify(&[]).unwrap();
    assert!(verified.entries > appended && verified.torn.len() <= 1);
}

#[test]
fn levels_of_confinement_are_told_by_their_names() {
    assert_eq!(
        serde_json::to_string(&[Confinement::Full, Confinement::Namespaces]).unwrap(),
        "[\"full\",\"namespaces\"]"
    );
}
