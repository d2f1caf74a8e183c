//! What a repository's branch says: its `moat.toml`, and the skills that it holds itself.

use std::path::Path;

use capability::config::SIZE_BYTES_MAX;
use catalog::Package;
use flow::id::{SkillName, TreeId};
use project::Project;
use repo::{Mirror, Source};

use crate::house::House;
use crate::open::OpenError;

/// The `moat.toml` of the branch that a repository is on.
///
/// # Errors
/// [`OpenError`].
pub fn project_of(house: &House, repository: &Path) -> Result<Project, OpenError> {
    Ok(look(house, repository)?.2)
}

/// A skill that `[skills]` of that `moat.toml` names, as the branch holds it.
///
/// # Errors
/// [`OpenError`].
pub fn own_skill(
    house: &House,
    repository: &Path,
    name: &SkillName,
) -> Result<Option<Package>, OpenError> {
    let (mirror, tree, project) = look(house, repository)?;
    if !project.skills.contains_key(name) {
        return Ok(None);
    }
    let own = own_skills(house, &project, &mirror, &tree)?;
    Ok(own.into_iter().find(|one| one.manifest.name == *name))
}

fn look(house: &House, repository: &Path) -> Result<(Mirror, TreeId, Project), OpenError> {
    let source = Source::open(repository)?;
    let branch = source.current_branch()?;
    let path = source.path().display().to_string();
    let mirror = Mirror::open_or_create(&house.mirror_dir(&path))?;
    let tip = mirror.fetch(&source, &branch)?;
    let tree = mirror.tree_of(&tip)?;
    let text = mirror
        .read(&tree, project::FILE, 1 << 20)?
        .ok_or_else(|| OpenError::NoProject {
            branch: branch.clone(),
        })?;
    let project = protected(&text, branch)?;
    Ok((mirror, tree, project))
}

/// Reads the `moat.toml` of a branch that it calls the protected one: what another branch grants is nobody's word.
///
/// # Errors
/// [`OpenError`].
pub fn protected(text: &[u8], branch: String) -> Result<Project, OpenError> {
    let project = Project::parse(&String::from_utf8_lossy(text), project::FILE)?;
    if project.branch == branch {
        return Ok(project);
    }
    Err(OpenError::OtherBranch {
        here: branch,
        named: project.branch,
    })
}

/// The skills that the branch itself holds, packaged from their folders.
pub(crate) fn own_skills(
    house: &House,
    project: &Project,
    mirror: &Mirror,
    tree: &TreeId,
) -> Result<Vec<Package>, OpenError> {
    let mut own = Vec::new();
    for (name, folder) in &project.skills {
        if house.catalog.find(name).is_some() {
            return Err(OpenError::NameTaken { name: name.clone() });
        }
        let read = |file: &str, bytes_max: usize| {
            mirror
                .read(tree, &format!("{folder}/{file}"), bytes_max)?
                .ok_or_else(|| OpenError::NoOwnSkill {
                    name: name.clone(),
                    path: format!("{folder}/{file}"),
                })
        };
        let manifest = read("skill.toml", SIZE_BYTES_MAX + 1)?;
        let component = read("component.wasm", catalog::COMPONENT_BYTES_MAX as usize)?;
        let file = format!("{folder}/skill.toml");
        let package = Package::assemble(&String::from_utf8_lossy(&manifest), &component, &file)?;
        if package.manifest.name != *name {
            return Err(OpenError::OtherName {
                name: name.clone(),
                is: package.manifest.name,
                file,
            });
        }
        own.push(package);
    }
    Ok(own)
}
