//! `[skills]`: skills of the project's own, by the folder that they lie in.

use std::collections::BTreeMap;

use capability::{ConfigError, RelPath, Source};
use flow::id::SkillName;
use toml::Spanned;

/// The folder is protected as a glob, so it holds nothing that a glob would read otherwise.
fn is_plain(path: &RelPath) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    path.as_str().bytes().all(plain)
}

pub(crate) fn skills(
    raw: BTreeMap<String, Spanned<String>>,
    source: Source<'_>,
) -> Result<BTreeMap<SkillName, RelPath>, ConfigError> {
    let check = |(name, path): (String, Spanned<String>)| {
        let span = path.span();
        let name: SkillName = name.parse().map_err(|error: flow::id::InvalidId| {
            source.error(
                span.clone(),
                error.to_string(),
                "name it as its skill.toml does",
            )
        })?;
        let folder = path
            .get_ref()
            .parse::<RelPath>()
            .ok()
            .filter(|path| !path.is_root() && is_plain(path))
            .ok_or_else(|| {
                source.error(
                    span,
                    format!("{:?} is no folder of the repository", path.get_ref()),
                    "name a folder with skill.toml and component.wasm, such as \"tools/my-skill\"",
                )
            })?;
        Ok((name, folder))
    };
    raw.into_iter().map(check).collect()
}
