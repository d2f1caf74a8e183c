//! `[[resource]]`: what there is only a few of, such as databases and test accounts, and the commands that need one.

use std::collections::BTreeMap;

use capability::{ConfigError, Source};
use toml::Spanned;

use crate::file::Resource;
use crate::raw::RawResource;

const COUNT_MAX: u32 = 1000;

pub(crate) fn resources(
    raw: Vec<Spanned<RawResource>>,
    commands: &BTreeMap<String, Vec<String>>,
    source: Source<'_>,
) -> Result<Vec<Resource>, ConfigError> {
    let mut found: Vec<Resource> = Vec::new();
    for one in raw {
        let span = one.span();
        let raw = one.into_inner();
        let refuse =
            |message: String| source.error(span.clone(), message, "correct this [[resource]]");
        if !is_name(&raw.name) {
            return Err(refuse(format!(
                "{:?} is no resource: lower-case letters, digits and `-`, at most 40",
                raw.name
            )));
        }
        if found.iter().any(|other| other.name == raw.name) {
            return Err(refuse(format!("resource {} stands twice", raw.name)));
        }
        if !(1..=COUNT_MAX).contains(&raw.count) {
            return Err(refuse(format!(
                "there are {} of {}: `count` is from 1 to {COUNT_MAX}",
                raw.count, raw.name
            )));
        }
        if raw.commands.is_empty() {
            return Err(refuse(format!("no command needs {}", raw.name)));
        }
        if let Some(name) = (raw.commands.iter()).find(|name| !commands.contains_key(*name)) {
            return Err(refuse(format!(
                "the command `{name}` needs {}, but [commands] does not have it",
                raw.name
            )));
        }
        found.push(Resource {
            name: raw.name,
            count: raw.count,
            commands: raw.commands,
        });
    }
    // Whoever needs several takes them in this order, or two could wait for each other.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=40).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
