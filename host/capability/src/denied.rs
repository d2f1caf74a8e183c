//! From a denial back to a manifest that asks for what was denied.

use crate::denial::{Capability, Denial};
use crate::manifest::{Manifest, ProcessRequest, Runnable};

/// What a request is given as its reason until its author gives one.
pub const REASON_WANTED: &str = "seen while recording: say here what it is for";

/// The same where only an interface is known to be wanted, and not what of it: the request is an example.
pub const REASON_EXAMPLE: &str =
    "an example, as the component imports it: put in what it needs, and say what for";

impl Manifest {
    /// The manifest with the request that the denial's line names. `None` where the line names none, such as one of `moat.toml` or one that was
    /// cut, and where the request is none that this manifest can have.
    #[must_use]
    pub fn with_denied(&self, denial: &Denial) -> Option<Manifest> {
        let line = denial.line.strip_prefix("skill.toml: ")?;
        let (header, rest) = match line.strip_prefix("[[") {
            Some(rest) => rest
                .split_once("]] ")
                .map(|(name, rest)| (format!("[[{name}]]"), rest)),
            None => line
                .strip_prefix('[')?
                .split_once("] ")
                .map(|(name, rest)| (format!("[{name}]"), rest)),
        }?;
        let mut keys: Vec<String> = pairs(rest)?;
        keys.retain(|pair| !pair.starts_with("reason ="));
        let reason = match denial.capability {
            Capability::Interface => REASON_EXAMPLE,
            _ => REASON_WANTED,
        };
        keys.push(format!("reason = \"{reason}\""));
        if header == "[model]" && !keys.iter().any(|pair| pair.starts_with("max-tokens")) {
            keys.push("max-tokens = 4000".into());
        }
        let text = format!(
            "[skill]\nname = \"x\"\nversion = \"0.0.0\"\nrole = \"job\"\ndescription = \"x\"\n{header}\n{}\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n",
            keys.join("\n")
        );
        let wanted = Manifest::parse(&text, "skill.toml").ok()?;
        let mut more = self.clone();
        more.files.extend(wanted.files);
        more.network.extend(wanted.network);
        more.env.extend(wanted.env);
        wanted
            .processes
            .into_iter()
            .for_each(|one| more.add_process(one));
        match (&mut more.model, wanted.model) {
            (Some(model), Some(wanted)) => model.aliases.extend(wanted.aliases),
            (model, wanted) => *model = model.take().or(wanted),
        }
        more.release = more.release.or(wanted.release);
        // What cannot be written cannot be asked for: overlapping files, and the like.
        Manifest::parse(&more.to_toml(), "skill.toml").ok()
    }

    /// A command is declared once: what is asked in addition goes to the declaration that is there.
    fn add_process(&mut self, wanted: ProcessRequest) {
        for one in &mut self.processes {
            match (&mut one.what, &wanted.what) {
                (
                    Runnable::Project { name, extra_args },
                    Runnable::Project {
                        name: other,
                        extra_args: more,
                    },
                ) if name == other => {
                    *extra_args |= more;
                    return;
                }
                (
                    Runnable::Program { program, args },
                    Runnable::Program {
                        program: other,
                        args: more,
                    },
                ) if program == other => {
                    args.extend(more.iter().cloned());
                    return;
                }
                _ => {}
            }
        }
        self.processes.push(wanted);
    }
}

/// Takes `key = value key = value` apart: a value ends where the next key begins outside of quotes and brackets.
fn pairs(text: &str) -> Option<Vec<String>> {
    let mut pairs = vec![String::new()];
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    let mut has_value = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' => depth += 1,
            ']' => depth = depth.checked_sub(1)?,
            '=' => has_value = false,
            ' ' if depth == 0 && has_value => {
                pairs.push(String::new());
                has_value = false;
                continue;
            }
            _ => {}
        }
        let last = pairs.last_mut()?;
        // A value has begun once something other than a space follows the `=`.
        has_value = has_value || (last.contains('=') && c != ' ' && c != '=');
        last.push(c);
    }
    (!quoted && depth == 0).then_some(pairs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::compare::Comparison;
    use crate::{Grant, Origin, Policy};

    const BARE: &str = "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"implement\"\ndescription = \"d\"\n[[processes]]\nproject = \"test\"\nreason = \"tests\"\n[[processes]]\nprogram = \"cargo\"\nargs = [[\"tree\"]]\nreason = \"r\"\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n";

    /// What was denied is asked for afterwards, and nothing else.
    #[test]
    fn each_line_of_a_denial_can_be_taken_up() {
        let manifest = Manifest::parse(BARE, "skill.toml").unwrap();
        let policy = Policy::builtin().unwrap();
        let grant = |manifest: &Manifest| {
            let source = crate::Source { file: "", text: "" };
            let whole = manifest.whole_grant().check(source, 0..0).unwrap();
            Grant::compute(manifest, Some(&whole), &policy)
        };
        let before = grant(&manifest);
        let args = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let origin = Origin::parse("https", "api.example.com:8443").unwrap();
        let denials = [
            before.may_run_project("lint", &[]).unwrap_err(),
            before
                .may_run_project("test", &args(&["-x y", "a\"b"]))
                .unwrap_err(),
            before
                .may_run_program("cargo", &args(&["metadata", "--a=[b c]", "\"q\""]))
                .unwrap_err(),
            before.may_run_program("rustc", &[]).unwrap_err(),
            before.may_use_model("coder").unwrap_err(),
            before.may_read(&"src/a b".parse().unwrap()).unwrap_err(),
            before.may_write(&"src".parse().unwrap()).unwrap_err(),
            before.may_request(&origin, "GET", "/x").unwrap_err(),
            before.may_release().unwrap_err(),
        ];
        for denial in &denials {
            let more = manifest
                .with_denied(denial)
                .unwrap_or_else(|| unreachable!("{denial}"));
            let widens = Comparison::of(&manifest, &more).widens;
            assert_eq!(
                widens
                    .iter()
                    .filter(|one| !one.what.starts_with("output tokens"))
                    .count(),
                1,
                "{denial}: {widens:?}"
            );
        }
        let more = denials[..5]
            .iter()
            .fold(manifest.clone(), |all, one| all.with_denied(one).unwrap());
        let after = grant(&more);
        assert!(after.may_run_project("lint", &[]).is_ok());
        assert!(
            after
                .may_run_project("test", &args(&["-x y", "a\"b"]))
                .is_ok()
        );
        assert!(
            after
                .may_run_program("cargo", &args(&["metadata", "--a=[b c]", "\"q\""]))
                .is_ok()
        );
        assert!(
            after
                .may_run_program("cargo", &args(&["metadata"]))
                .is_err()
        );
        assert!(after.may_use_model("coder").is_ok());
        let other = Denial::new(
            denials[0].capability,
            "x",
            "moat.toml, [[grant]] skill = \"x\": commands = [\"lint\"]",
        );
        assert_eq!(manifest.with_denied(&other), None);
    }

    #[test]
    fn a_guests_words_make_no_other_request() {
        let manifest = Manifest::parse(BARE, "skill.toml").unwrap();
        let policy = Policy::builtin().unwrap();
        let grant = Grant::compute(&manifest, None, &policy);
        for words in [
            "\" ] ] [release]",
            "x\n[release]\nreason = \"r\"",
            "]]\" extra-args = true",
            "\\",
            "\u{202e}",
            "**",
        ] {
            for denial in [
                grant
                    .may_run_program("cargo", &[words.to_owned()])
                    .unwrap_err(),
                grant.may_run_project(words, &[]).unwrap_err(),
                grant.may_use_model(words).unwrap_err(),
            ] {
                if let Some(more) = manifest.with_denied(&denial) {
                    assert!(
                        more.release.is_none() && more.files.is_empty() && more.network.is_empty(),
                        "{denial}"
                    );
                }
            }
        }
    }
}
