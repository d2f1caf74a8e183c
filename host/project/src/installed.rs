//! `[project] installed`: what the project's own tools install inside the worktree.

use capability::{ConfigError, RelPath, Source};
use toml::Spanned;

/// Each is a layer of its own beneath the worktree.
const COUNT_MAX: usize = 8;

pub(crate) fn installed(
    raw: Option<Spanned<Vec<String>>>,
    source: Source<'_>,
) -> Result<Vec<RelPath>, ConfigError> {
    let Some(raw) = raw else { return Ok(vec![]) };
    let refuse = |what: String, mend: &str| Err(source.error(raw.span(), what, mend));
    let mut paths: Vec<RelPath> = Vec::new();
    for text in raw.get_ref() {
        let path = text.parse::<RelPath>().ok().filter(|path| !path.is_root());
        let Some(path) = path else {
            return refuse(
                format!("{text:?} is no directory within the repository"),
                "name one by its path from the root, such as \"web/node_modules\"",
            );
        };
        if let Some(other) = paths
            .iter()
            .find(|other| other.holds(&path) || path.holds(other))
        {
            return refuse(
                format!("of \"{other}\" and \"{path}\" one lies within the other"),
                "name the outer one alone",
            );
        }
        paths.push(path);
    }
    if paths.len() > COUNT_MAX {
        return refuse(
            format!("there are {} directories", paths.len()),
            "name at most 8",
        );
    }
    Ok(paths)
}
