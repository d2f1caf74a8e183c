//! Which version of a skill people have let in. An update that asks for more stays off until somebody approves it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use audit::{Decided, Decision, Entry, TrailError};
use capability::compare::Change;
use capability::{Comparison, Manifest};
use catalog::Package;
use flow::id::{Digest, SkillName};
use serde::{Deserialize, Serialize};

use crate::clock::now_ms;
use crate::house::{House, key, private_dir};

/// The ledger in the state directory: one file a skill.
#[derive(Debug)]
pub struct Approvals {
    directory: PathBuf,
}

/// Lets exactly this component in, whatever its manifest asks for, by a person's word. Gives what it asks for beyond the version before it; absent
/// where there is none.
///
/// # Errors
/// [`ApprovalError`]; nothing was approved.
pub fn approve_skill(
    house: &House,
    scope: &Scope,
    package: &Package,
    by: &str,
    note: &str,
) -> Result<Option<Comparison>, ApprovalError> {
    let approvals = house.approvals();
    let comparison = approvals.compare(scope, package)?;
    let decided = Decided::SkillApproved {
        skill: package.manifest.name.clone(),
        digest: package.digest.clone(),
    };
    let decision = Entry::Decision(Decision {
        by: by.into(),
        run: None,
        decided,
    });
    // A word that left no trace is none, so the trail comes first.
    house.trail.append(now_ms(), decision)?;
    approvals.approve(scope, package, by, note)?;
    Ok(comparison)
}

/// Where a skill's name means this skill: skills of two repositories may share a name and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// A skill that comes with moat.
    Machine,
    /// A skill that a repository holds, by the repository's absolute path.
    Repository(String),
}

/// Why a version of a skill is not let in.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// It asks for more than the version before it.
    #[error(
        "skill {skill} asks for more than the version that was used before ({before}):\n{}\nlook at it with `moat skill review {named}`, then let it in with `moat skill approve {named} --digest {digest}`, or go back to the version before",
        listed(widens)
    )]
    Widens {
        /// The skill.
        skill: SkillName,
        /// The version before.
        before: String,
        /// What it could do in addition.
        widens: Vec<Change>,
        /// The skill as the command line names it.
        named: String,
        /// This version.
        digest: Digest,
    },
    /// The record cannot be understood: by this version of moat, or by nobody.
    #[error(
        "{path} cannot be understood ({why}): nothing is known of what was approved for this skill. Look at it with `moat skill review {named}`, remove the file, and let the skill in with `moat skill approve {named}`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The skill as the command line names it.
        named: String,
    },
    /// The audit trail.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// The directory or the file.
    #[error("{path} cannot be used: {error}")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
}

/// An error has room for so many lines; the rest is in the review.
const LINES_MAX: usize = 8;

fn listed(widens: &[Change]) -> String {
    let mut lines: Vec<String> = widens
        .iter()
        .take(LINES_MAX)
        .map(|one| format!("  - {one}"))
        .collect();
    if widens.len() > LINES_MAX {
        lines.push(format!("  - and {} more", widens.len() - LINES_MAX));
    }
    lines.join("\n")
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Record {
    format: u32,
    skill: SkillName,
    /// What the next version is compared with.
    last: Version,
    /// Exact components that people let in, whatever came before or after them.
    approved: Vec<Approved>,
}

const FORMAT: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Version {
    version: String,
    digest: Digest,
    manifest: String,
    at_ms: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Approved {
    digest: Digest,
    by: String,
    note: String,
    at_ms: u64,
}

impl Version {
    fn of(package: &Package) -> Version {
        Version {
            version: package.manifest.version.clone(),
            digest: package.digest.clone(),
            manifest: package.manifest_text.clone(),
            at_ms: now_ms(),
        }
    }
}

impl Approvals {
    /// The ledger in a directory, which is made when something is first recorded.
    pub fn at(directory: PathBuf) -> Approvals {
        Approvals { directory }
    }

    /// Lets versions in that ask for no more than the last ones, or that somebody approved, and records them as the last. The first version of a
    /// skill is let in as it is: the project's grant and the policy hold it. All are let in, or none.
    ///
    /// # Errors
    /// [`ApprovalError`] for the first that is not let in.
    pub fn admit(&self, packages: &[(Scope, &Package)]) -> Result<(), ApprovalError> {
        let _lock = self.lock()?;
        let mut changed = Vec::new();
        for (scope, package) in packages {
            if let Some(record) = self.admitted(scope, package)? {
                changed.push((self.path(scope, &package.manifest.name), record));
            }
        }
        for (path, record) in changed {
            write(&path, &record)?;
        }
        Ok(())
    }

    /// The record with this version as the last; `None` where it is so already.
    fn admitted(&self, scope: &Scope, package: &Package) -> Result<Option<Record>, ApprovalError> {
        let Some(mut record) = self.read(scope, package)? else {
            return Ok(Some(first(package)));
        };
        if record.last.digest == package.digest {
            return Ok(None);
        }
        if !record
            .approved
            .iter()
            .any(|one| one.digest == package.digest)
        {
            let comparison = self.compared(scope, package, &record)?;
            if comparison.is_wider() {
                return Err(ApprovalError::Widens {
                    skill: package.manifest.name.clone(),
                    before: record.last.version,
                    widens: comparison.widens,
                    named: named(scope, package),
                    digest: package.digest.clone(),
                });
            }
        }
        record.last = Version::of(package);
        Ok(Some(record))
    }

    /// What a version asks for beyond the last one; `None` where there was none.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub fn compare(
        &self,
        scope: &Scope,
        package: &Package,
    ) -> Result<Option<Comparison>, ApprovalError> {
        match self.read(scope, package)? {
            Some(record) => Ok(Some(self.compared(scope, package, &record)?)),
            None => Ok(None),
        }
    }

    /// Lets exactly this component in, whatever its manifest asks for.
    ///
    /// # Errors
    /// [`ApprovalError`]; nothing was approved.
    pub(crate) fn approve(
        &self,
        scope: &Scope,
        package: &Package,
        by: &str,
        note: &str,
    ) -> Result<(), ApprovalError> {
        let _lock = self.lock()?;
        let mut record = match self.read(scope, package)? {
            Some(record) => record,
            None => first(package),
        };
        record.approved.retain(|one| one.digest != package.digest);
        record.approved.push(Approved {
            digest: package.digest.clone(),
            by: by.to_owned(),
            note: note.to_owned(),
            at_ms: now_ms(),
        });
        write(&self.path(scope, &package.manifest.name), &record)
    }

    fn compared(
        &self,
        scope: &Scope,
        package: &Package,
        record: &Record,
    ) -> Result<Comparison, ApprovalError> {
        let file = "skill.toml (of the version before)";
        let before = Manifest::parse(&record.last.manifest, file)
            .map_err(|error| self.damaged(scope, package, error.to_string()))?;
        Ok(Comparison::of(&before, &package.manifest))
    }

    fn read(&self, scope: &Scope, package: &Package) -> Result<Option<Record>, ApprovalError> {
        let path = self.path(scope, &package.manifest.name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ApprovalError::Unusable { path, error }),
        };
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| self.damaged(scope, package, error.to_string()))?;
        if record.format != FORMAT || record.skill != package.manifest.name {
            let why = format!(
                "it is of format {} and for skill {}",
                record.format, record.skill
            );
            return Err(self.damaged(scope, package, why));
        }
        Ok(Some(record))
    }

    fn damaged(&self, scope: &Scope, package: &Package, why: String) -> ApprovalError {
        ApprovalError::Damaged {
            path: self.path(scope, &package.manifest.name),
            why,
            named: named(scope, package),
        }
    }

    fn path(&self, scope: &Scope, skill: &SkillName) -> PathBuf {
        let directory = match scope {
            Scope::Machine => self.directory.clone(),
            Scope::Repository(path) => self.directory.join(key(path)),
        };
        directory.join(format!("{skill}.json"))
    }

    /// Two that let versions in at once would each compare with what the other is about to replace.
    fn lock(&self) -> Result<File, ApprovalError> {
        let unusable = |error| ApprovalError::Unusable {
            path: self.directory.clone(),
            error,
        };
        private_dir(&self.directory).map_err(unusable)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.directory.join("lock"))
            .map_err(unusable)?;
        locks::exclusive(&file).map_err(|error| unusable(error.into()))?;
        Ok(file)
    }
}

fn first(package: &Package) -> Record {
    Record {
        format: FORMAT,
        skill: package.manifest.name.clone(),
        last: Version::of(package),
        approved: Vec::new(),
    }
}

fn named(scope: &Scope, package: &Package) -> String {
    let name = &package.manifest.name;
    match scope {
        Scope::Machine => name.to_string(),
        Scope::Repository(path) => format!("{name} --repo {path}"),
    }
}

/// Replaces a record as a whole: whoever is killed here leaves the old one or the new one.
fn write(path: &Path, record: &Record) -> Result<(), ApprovalError> {
    let unusable = |error| ApprovalError::Unusable {
        path: path.to_owned(),
        error,
    };
    let made = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        private_dir(directory)?;
        let next = path.with_extension("next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        File::open(directory)?.sync_all()
    };
    made().map_err(unusable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A version of a skill that may read some paths, with some code.
    fn version(paths: &[&str], code: u8) -> Package {
        let files: String = paths
            .iter()
            .map(|path| {
                format!("[[files]]\npath = \"{path}\"\naccess = \"read\"\nreason = \"r\"\n")
            })
            .collect();
        let manifest = format!(
            "[skill]\nname = \"x\"\nversion = \"0.1.{}\"\nrole = \"job\"\ndescription = \"d\"\n{files}[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n",
            paths.len()
        );
        // A custom section of one byte more than its name.
        let component = [EMPTY, &[0, 3, 1, b'c', code]].concat();
        Package::assemble(&manifest, &component, "x").unwrap()
    }

    fn ledger() -> (tempfile::TempDir, Approvals) {
        let directory = tempfile::tempdir().unwrap();
        let approvals = Approvals::at(directory.path().join("approvals"));
        (directory, approvals)
    }

    fn let_in(approvals: &Approvals, package: &Package) -> bool {
        match approvals.admit(&[(Scope::Machine, package)]) {
            Ok(()) => true,
            Err(ApprovalError::Widens { .. }) => false,
            Err(error) => unreachable!("{error}"),
        }
    }

    #[test]
    fn a_wider_version_waits_for_its_approval_and_equal_and_narrower_ones_pass() {
        let (_directory, approvals) = ledger();
        let (narrow, wide) = (version(&["a"], 0), version(&["a", "b"], 0));
        assert!(let_in(&approvals, &narrow));
        assert!(
            let_in(&approvals, &version(&["a"], 1)),
            "other code, same rights"
        );
        assert!(!let_in(&approvals, &wide));
        assert!(!let_in(&approvals, &wide), "asking twice is no approval");
        approvals.approve(&Scope::Machine, &wide, "me", "").unwrap();
        // What is used meanwhile does not use the approval up.
        assert!(let_in(&approvals, &narrow));
        assert!(let_in(&approvals, &wide));
        assert!(let_in(&approvals, &narrow));
        assert!(let_in(&approvals, &wide));
    }

    #[test]
    fn an_approval_is_for_one_component() {
        let (_directory, approvals) = ledger();
        assert!(let_in(&approvals, &version(&["a"], 0)));
        let approved = version(&["a", "b"], 0);
        approvals
            .approve(&Scope::Machine, &approved, "me", "")
            .unwrap();
        assert!(
            !let_in(&approvals, &version(&["a", "b"], 1)),
            "the same rights for other code"
        );
        assert!(!let_in(&approvals, &version(&["a", "b", "c"], 0)));
        assert!(let_in(&approvals, &approved));
    }

    #[test]
    fn giving_rights_up_is_for_good() {
        let (_directory, approvals) = ledger();
        assert!(let_in(&approvals, &version(&["a", "b"], 0)));
        assert!(let_in(&approvals, &version(&["a"], 0)));
        assert!(!let_in(&approvals, &version(&["a", "b"], 0)));
    }

    #[test]
    fn repositories_and_the_machine_keep_apart() {
        let (_directory, approvals) = ledger();
        let (narrow, wide) = (version(&["a"], 0), version(&["a", "b"], 0));
        let other = Scope::Repository("/other".into());
        assert!(let_in(&approvals, &narrow));
        assert!(approvals.admit(&[(other.clone(), &wide)]).is_ok());
        approvals.approve(&other, &wide, "me", "").unwrap();
        assert!(!let_in(&approvals, &wide));
    }

    #[test]
    fn all_are_let_in_or_none() {
        let (_directory, approvals) = ledger();
        let (narrow, wide) = (version(&["a"], 0), version(&["a", "b"], 0));
        let other = Scope::Repository("/other".into());
        assert!(let_in(&approvals, &narrow));
        assert!(
            approvals
                .admit(&[(other.clone(), &wide), (Scope::Machine, &wide)])
                .is_err()
        );
        assert!(approvals.compare(&other, &wide).unwrap().is_none());
    }

    #[test]
    fn a_damaged_record_lets_nothing_in() {
        let (directory, approvals) = ledger();
        let package = version(&["a"], 0);
        assert!(let_in(&approvals, &package));
        let path = directory.path().join("approvals/x.json");
        let good = fs::read_to_string(&path).unwrap();
        for damaged in [
            String::new(),
            good.replace("\"format\": 1", "\"format\": 2"),
            good.replace("\"skill\": \"x\"", "\"skill\": \"y\""),
            good.replace("\"approved\"", "\"aproved\""),
            good.replace("path = ", "paths = ")
                .replace(package.digest.hex(), &"0".repeat(64)),
        ] {
            assert_ne!(damaged, good);
            fs::write(&path, damaged).unwrap();
            let answer = approvals.admit(&[(Scope::Machine, &package)]);
            assert!(
                matches!(answer, Err(ApprovalError::Damaged { .. })),
                "{answer:?}"
            );
        }
        fs::write(&path, good).unwrap();
        assert!(let_in(&approvals, &package));
    }
}
