//! `[[grant]]`: one a skill, and only of what the file itself declares.

use std::collections::BTreeMap;

use capability::{ConfigError, ProjectGrant, Source};
use toml::Spanned;

/// What a grant may name.
pub(crate) struct Names<'a> {
    pub(crate) commands: &'a BTreeMap<String, Vec<String>>,
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) models: &'a BTreeMap<String, String>,
}

pub(crate) fn grants(
    raw: Vec<Spanned<capability::RawProjectGrant>>,
    names: &Names<'_>,
    source: Source<'_>,
) -> Result<Vec<ProjectGrant>, ConfigError> {
    let mut found: Vec<ProjectGrant> = Vec::new();
    for one in raw {
        let span = one.span();
        let grant = one.into_inner().check(source, span.clone())?;
        if let Some(name) = grant
            .commands
            .iter()
            .find(|name| !names.commands.contains_key(*name))
        {
            return Err(source.error(
                span,
                format!("the command `{name}` is granted, but [commands] does not have it"),
                "add the command or take the grant out",
            ));
        }
        if let Some(alias) = grant
            .models
            .iter()
            .find(|alias| !names.models.contains_key(*alias))
        {
            return Err(source.error(
                span,
                format!("the model alias `{alias}` is granted, but [models] does not have it"),
                "add the alias or take the grant out",
            ));
        }
        if let Some(name) = grant.env.iter().find(|name| !names.env.contains_key(*name)) {
            return Err(source.error(
                span,
                format!("the variable `{name}` is granted, but [env] does not have it"),
                "add it or take the grant out",
            ));
        }
        if found.iter().any(|other| other.skill == grant.skill) {
            return Err(source.error(
                span,
                format!("skill {} has two [[grant]]s", grant.skill),
                "make them one",
            ));
        }
        found.push(grant);
    }
    Ok(found)
}
