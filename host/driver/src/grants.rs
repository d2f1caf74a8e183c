//! The grants of a run: as they were pinned, whether the policy still allows them, what a step lacked, and new ones when a person gave them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use capability::{Beyond, Capability, Denial, Grant, Origin, Policy};
use catalog::Package;
use flow::Run;
use flow::event::Cause;
use flow::grant::{Asked, Blocked, Blocking, Need, PinnedPolicy, Regrant};
use flow::id::{Digest, SkillName};
use flow::role::SkillError;
use journal::JournalError;
use project::Project;
use repo::{Mirror, Source};
use sandbox::LoadError;

use crate::context::DriveError;
use crate::house::House;
use crate::open::is_no_command_here;

/// Skills of a run with what they may do.
pub(crate) type Granted = BTreeMap<SkillName, (Package, Arc<Grant>)>;

/// How the pinned grants stand under the policy of today.
pub(crate) enum Standing {
    /// They hold, exactly as pinned: a wider policy widens no run.
    Holds(Granted),
    /// The policy no longer allows all of one of them.
    Narrowed(Blocked),
}

fn gone(what: impl Into<String>) -> DriveError {
    DriveError::Gone { what: what.into() }
}

fn package(house: &House, skill: &flow::pipeline::Skill) -> Result<Package, DriveError> {
    let component = house
        .journal
        .get_blob(&skill.digest)?
        .ok_or_else(|| gone(format!("skill {}", skill.name)))?;
    Ok(Package::from_component(&component)?)
}

/// Reads a `moat.toml` that was kept.
pub(crate) fn kept_project(house: &House, digest: &Digest) -> Result<Project, DriveError> {
    let text = house
        .journal
        .get_blob(digest)?
        .ok_or_else(|| gone("its moat.toml"))?;
    Ok(Project::parse(
        &String::from_utf8_lossy(&text),
        project::FILE,
    )?)
}

/// The policy as a run pins it.
pub(crate) fn pinned_policy(house: &House) -> Result<PinnedPolicy, DriveError> {
    Ok(PinnedPolicy {
        file: house.policy.file.clone(),
        text: house.journal.put_blob(house.policy_text().as_bytes())?,
    })
}

/// Keeps a grant for as long as there is a run that has it: what it was is read then, whatever a later moat would compute.
pub(crate) fn keep(house: &House, grant: &Grant) -> Result<Digest, JournalError> {
    house.journal.put_blob(grant.canonical().as_bytes())
}

/// A grant that was kept.
fn kept(house: &House, digest: &Digest) -> Result<Option<Grant>, DriveError> {
    let text = house.journal.get_blob(digest)?;
    let read = |text: Vec<u8>| Grant::read(&String::from_utf8_lossy(&text)).ok();
    Ok(text.and_then(read))
}

/// The grant of a skill as it was pinned. Runs of a moat that kept none have theirs computed under the policy of then.
fn pinned_grant(
    house: &House,
    run: &Run,
    skill: &flow::pipeline::Skill,
    package: &Package,
    project: &Project,
) -> Result<Grant, DriveError> {
    let pinned = run.grant_of(skill);
    if let Some(grant) = kept(house, pinned)? {
        return Ok(grant);
    }
    let compute =
        |policy: &Policy| Grant::compute(&package.manifest, project.grant_of(&skill.name), policy);
    let now = compute(&house.policy);
    if now.digest() == *pinned {
        return Ok(now);
    }
    let changed = || DriveError::GrantChanged {
        skill: skill.name.clone(),
    };
    let policy = run.granting_policy().ok_or_else(changed)?;
    let text = house
        .journal
        .get_blob(&policy.text)?
        .ok_or_else(|| gone("the policy that it was opened under"))?;
    let then = compute(&Policy::parse(
        &String::from_utf8_lossy(&text),
        &policy.file,
    )?);
    // A moat that reads the same files otherwise than the one that pinned them cannot tell what was meant.
    if then.digest() == *pinned {
        Ok(then)
    } else {
        Err(changed())
    }
}

/// Gathers the grants that were pinned, and sees whether today's policy still allows each of them.
pub(crate) fn standing(house: &House, run: &Run) -> Result<Standing, DriveError> {
    let project = kept_project(house, run.granting_project())?;
    let mut granted = Granted::new();
    for skill in run.opened.pipeline.skills() {
        let package = package(house, skill)?;
        let pinned = pinned_grant(house, run, skill, &package, &project)?;
        let now = Grant::compute(
            &package.manifest,
            project.grant_of(&skill.name),
            &house.policy,
        );
        let lost = pinned.beyond(&now);
        if !lost.is_empty() {
            return Ok(Standing::Narrowed(narrowed(house, &skill.name, lost)));
        }
        granted.insert(skill.name.clone(), (package, Arc::new(pinned)));
    }
    Ok(Standing::Holds(granted))
}

fn narrowed(house: &House, skill: &SkillName, lost: Vec<Beyond>) -> Blocked {
    let need = |beyond: Beyond| Need {
        what: beyond.what,
        line: beyond
            .line
            .unwrap_or_else(|| format!("{}: as it was", house.policy.file)),
        declared: true,
        asked: vec![],
    };
    Blocked {
        skill: skill.clone(),
        by: Blocking::PolicyNarrowed,
        why: "the policy allows less than when the run got its grants".into(),
        needs: lost.into_iter().map(need).collect(),
        left: None,
    }
}

/// How a call of a skill ended without a result.
pub(crate) enum Ending<'a> {
    /// Its component was not loaded.
    NotLoaded(&'a LoadError),
    /// It said so itself.
    Said(&'a SkillError),
    /// Otherwise.
    Failed,
}

/// What a step lacked that ended without a result, if that is what ended it.
///
/// The skill's word alone is not enough: something must have been refused to it, or withheld from it where it could not ask. A failure of another
/// kind is laid to a refusal only where a grant could have prevented it: an agent that tries what its manifest does not declare just hears no.
pub(crate) fn lacked(
    package: &Package,
    project: &Project,
    grant: &Grant,
    denials: &[(Denial, u32)],
    ending: &Ending<'_>,
    cause: Cause,
) -> Option<Blocked> {
    let manifest = &package.manifest;
    let withheld: Vec<&Denial> = grant
        .withheld()
        .iter()
        .filter(|denial| !is_no_command_here(project, manifest, denial))
        .collect();
    // What the door refuses by itself is no grant's to give.
    let refused = || {
        let all = denials.iter().map(|(denial, _)| denial);
        all.filter(|one| {
            one.line.starts_with("skill.toml") || one.capability != Capability::Network
        })
    };
    let declared = || {
        let of = |denial| Some(need_of(grant.withheld_for(denial)?, denial));
        refused().filter_map(of)
    };
    let (why, mut needs): (String, Vec<Need>) = match ending {
        Ending::NotLoaded(error @ LoadError::NotGranted { import, line }) => {
            let behind = withheld.iter().filter(|one| opens(one.capability, import));
            let mut needs: Vec<Need> = behind.map(|one| need(one, true)).collect();
            if needs.is_empty() {
                let denial = Denial::new(Capability::Interface, import, line);
                needs.push(need(&denial, false));
            }
            (format!("it cannot be loaded: {error}"), needs)
        }
        Ending::Said(error @ SkillError::Denied(_)) => {
            let mut needs: Vec<Need> = declared().collect();
            if needs.is_empty() {
                needs.extend(refused().map(|one| need(one, false)));
            }
            if needs.is_empty() {
                // Variables and files that are withheld are just not there: no call tells of them.
                let silent = withheld
                    .iter()
                    .filter(|one| matches!(one.capability, Capability::Env | Capability::Files));
                needs.extend(silent.map(|one| need(one, true)));
            }
            (error.to_string(), needs)
        }
        Ending::Said(_) | Ending::Failed if cause == Cause::Skill => {
            let needs = declared().collect();
            ("it failed after something was refused to it".into(), needs)
        }
        _ => return None,
    };
    needs.sort_by(|a, b| a.what.cmp(&b.what));
    needs.dedup_by(|later, first| {
        let is_same = later.what == first.what;
        if is_same {
            first.asked.append(&mut later.asked);
            first.asked.truncate(NEEDS_MAX);
        }
        is_same
    });
    needs.truncate(NEEDS_MAX);
    (!needs.is_empty()).then(|| Blocked {
        skill: manifest.name.clone(),
        by: Blocking::Refused,
        why,
        needs,
        left: None,
    })
}

/// More lines than a person reads.
const NEEDS_MAX: usize = 20;

fn need(denial: &Denial, declared: bool) -> Need {
    Need {
        what: named(denial),
        line: denial.line.clone(),
        declared,
        asked: vec![],
    }
}

/// What was withheld, and the request that was refused for want of it.
fn need_of(withheld: &Denial, refused: &Denial) -> Need {
    let asked = refused.request().map(|request| Asked {
        origin: request.origin.to_string(),
        method: request.method,
        path: request.path,
    });
    Need {
        asked: asked.into_iter().collect(),
        ..need(withheld, true)
    }
}

/// Whether a grant allows all the requests that were refused for want of something; where none is known, nobody can say.
fn allows_all(grant: &Grant, asked: &[Asked]) -> bool {
    let allows = |one: &Asked| {
        let (scheme, authority) = one.origin.split_once("://")?;
        let origin = Origin::parse(scheme, authority).ok()?;
        grant.may_request(&origin, &one.method, &one.path).ok()
    };
    !asked.is_empty() && asked.iter().all(|one| allows(one).is_some())
}

fn named(denial: &Denial) -> String {
    format!("{}: {}", denial.capability, denial.what)
}

/// Whether a capability is what links an interface.
fn opens(capability: Capability, import: &str) -> bool {
    let interface = import.split('@').next().unwrap_or(import);
    match capability {
        Capability::Processes => interface == "moat:host/process",
        Capability::Model => interface == "moat:host/model",
        Capability::Release => interface == "moat:host/release",
        Capability::Network => interface.starts_with("wasi:http/"),
        _ => false,
    }
}

/// Looks at the protected branch and the policy as they are now: new grants for the run, if they cover what it lacked.
///
/// Of the branch's `moat.toml` only the `[[grant]]`s count: pipeline, gates, commands and environment stay those of the run.
///
/// # Errors
/// [`DriveError::StillBlocked`] with what is still missing.
pub(crate) fn regrant(house: &House, run: &Run, blocked: &Blocked) -> Result<Regrant, DriveError> {
    let source = Source::open(&PathBuf::from(&run.opened.repository))?;
    let mirror = Mirror::open_or_create(&house.mirror_dir(&run.opened.repository))?;
    let tip = mirror.fetch(&source, &run.opened.pipeline.branch)?;
    let text = mirror
        .read(&mirror.tree_of(&tip)?, project::FILE, 1 << 20)?
        .ok_or_else(|| gone("moat.toml on the branch"))?;
    let project = Project::parse(&String::from_utf8_lossy(&text), project::FILE)?;
    let mut grants = BTreeMap::new();
    for skill in run.opened.pipeline.skills() {
        let package = package(house, skill)?;
        let grant = Grant::compute(
            &package.manifest,
            project.grant_of(&skill.name),
            &house.policy,
        );
        if skill.name == blocked.skill {
            let missing = match blocked.by {
                Blocking::Refused => still_withheld(blocked, &grant),
                Blocking::PolicyNarrowed => {
                    let then = kept_project(house, run.granting_project())?;
                    let pinned = pinned_grant(house, run, skill, &package, &then)?;
                    narrowed(house, &skill.name, pinned.beyond(&grant)).needs
                }
            };
            if !missing.is_empty() {
                return Err(DriveError::StillBlocked(Box::new(Blocked {
                    needs: missing,
                    ..blocked.clone()
                })));
            }
        }
        grants.insert(skill.name.clone(), keep(house, &grant)?);
    }
    Ok(Regrant {
        project: house.journal.put_blob(&text)?,
        policy: pinned_policy(house)?,
        grants,
    })
}

fn still_withheld(blocked: &Blocked, grant: &Grant) -> Vec<Need> {
    let missing = |wanted: &Need| {
        if !wanted.declared {
            return Some(wanted.clone());
        }
        if allows_all(grant, &wanted.asked) {
            return None;
        }
        let mut withheld = grant.withheld().iter();
        let still = withheld.find(|one| named(one) == wanted.what)?;
        Some(Need {
            asked: wanted.asked.clone(),
            ..need(still, true)
        })
    };
    blocked.needs.iter().filter_map(missing).collect()
}
