//! What one recorded call needed, and the manifest and grant that would give it just that.

use std::collections::BTreeSet;

use capability::power::Left;
use capability::{Capability, ConfigError, Denial, Grant, Manifest, Policy, ProjectGrant, Source};
use serde::Serialize;

use super::usage::{Use, Used, tightened};
use super::{Refused, Withheld};

/// What is known of a call that was recorded.
#[derive(Debug, Clone, Copy)]
pub struct Recorded<'a> {
    /// What it used.
    pub usage: &'a Use,
    /// What was refused to it; an interface that was not linked is one of these.
    pub denials: &'a [(Denial, u32)],
    /// Whether it had a result. Of one that trapped, met a limit, gave up or was not even loaded nobody knows what it would have used.
    pub ended: bool,
}

/// What comes of a recorded call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Proposal {
    /// Whether the call had a result. Without one nothing is taken away from the manifest.
    pub ended: bool,
    /// What it used and the project does not grant, with the line that would.
    pub needed: Vec<Withheld>,
    /// Interfaces that it imports and no line declares. What it would have asked of them is not known; in the proposal stands an example where the
    /// policy allows that, so that another call tells.
    pub imported: Vec<Refused>,
    /// What it was given for this call without a record of whether it used it: files and variables.
    pub unrecorded: Vec<String>,
    /// What was refused to it and is asked for in the proposal.
    pub added: Vec<Refused>,
    /// What was refused to it and stays so: the policy does not allow it, or no line of a manifest does.
    pub refused: Vec<Refused>,
    /// `skill.toml`: what is declared and was used or not recorded, and what was refused and the policy would allow.
    pub manifest: String,
    /// The `[[grant]]` of `moat.toml` that goes with it.
    pub grant: String,
}

/// The grant under which a call is recorded: all that the manifest declares and the policy allows. What the project hides, and its own limits, hold
/// as always; so does everything that nobody declares.
///
/// # Errors
/// [`ConfigError`] when the manifest's requests cannot be written as a grant, which no manifest can bring about.
pub fn recording(
    manifest: &Manifest,
    project: Option<&ProjectGrant>,
) -> Result<ProjectGrant, ConfigError> {
    let mut whole = whole(manifest)?;
    if let Some(project) = project {
        whole.except = project.except.clone();
        whole.max_tokens = project.max_tokens;
        whole.memory_bytes = project.memory_bytes;
        whole.wall_ms = project.wall_ms;
    }
    Ok(whole)
}

fn whole(manifest: &Manifest) -> Result<ProjectGrant, ConfigError> {
    let source = Source {
        file: "skill.toml",
        text: "",
    };
    manifest.whole_grant().check(source, 0..0)
}

impl Proposal {
    /// Draws up what a call that was recorded under [`recording`] asks for.
    ///
    /// # Errors
    /// As [`recording`].
    pub fn of(
        manifest: &Manifest,
        project: Option<&ProjectGrant>,
        policy: &Policy,
        recorded: Recorded<'_>,
    ) -> Result<Proposal, ConfigError> {
        let granted = Grant::compute(manifest, project, policy);
        let (needed, unrecorded) = missing(manifest, &granted, recorded);
        let tight = tightened(manifest, recorded.usage).filter(|_| recorded.ended);
        let mut proposed = tight.unwrap_or_else(|| manifest.clone());
        let (mut added, mut refused, mut imported) = (Vec::new(), Vec::new(), Vec::new());
        let mut lines = BTreeSet::new();
        for (denial, times) in recorded.denials {
            let one = Refused {
                what: format!("{}: {}", denial.capability, denial.what),
                line: denial.line.clone(),
                times: u64::from(*times),
            };
            let more = match proposed.with_denied(denial) {
                // Two interfaces may come by one line.
                _ if !lines.insert(&denial.line) => None,
                Some(more) if is_allowed(&proposed, &more, policy)? => Some(more),
                _ => None,
            };
            let is_undeclared =
                denial.capability == Capability::Interface && denial.line.starts_with("skill.toml");
            match more.is_some() {
                _ if is_undeclared => imported.push(one),
                true => added.push(one),
                false => refused.push(one),
            }
            proposed = more.unwrap_or(proposed);
        }
        let mut grant = proposed.whole_grant();
        if let Some(project) = project {
            grant.except = project.except.patterns().to_vec();
            grant.max_tokens = project.max_tokens;
            grant.memory = project.memory_bytes.map(capability::quantity::of_bytes);
            grant.time = project.wall_ms.map(capability::quantity::of_millis);
        }
        Ok(Proposal {
            ended: recorded.ended,
            needed,
            imported,
            unrecorded,
            added,
            refused,
            manifest: proposed.to_toml(),
            grant: grant.to_toml(),
        })
    }
}

/// Whether the policy leaves the manifest all that it asks for beyond another one.
fn is_allowed(before: &Manifest, more: &Manifest, policy: &Policy) -> Result<bool, ConfigError> {
    let old = before.powers();
    let grant = Grant::compute(more, Some(&whole(more)?), policy);
    let new = more.powers();
    let mut in_addition = new
        .iter()
        .filter(|one| !old.iter().any(|old| old.power.holds(&one.power)));
    Ok(in_addition.all(|one| grant.leaves(&one.power) == Left::All))
}

/// What was used beyond the project's grant, and what nobody can tell of.
fn missing(
    manifest: &Manifest,
    granted: &Grant,
    recorded: Recorded<'_>,
) -> (Vec<Withheld>, Vec<String>) {
    let (mut needed, mut unrecorded) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for asked in manifest.powers() {
        if granted.leaves(&asked.power) == Left::All {
            continue;
        }
        match recorded.usage.of(&asked.power) {
            Used::Times(_) => {
                for denial in granted.withheld_of(&asked.power) {
                    let one = Withheld {
                        capability: denial.capability.to_string(),
                        what: asked.power.to_string(),
                        line: denial.line.clone(),
                    };
                    if seen.insert((one.what.clone(), one.line.clone())) {
                        needed.push(one);
                    }
                }
            }
            Used::Never if recorded.ended => {}
            Used::Never | Used::Unknown => unrecorded.push(asked.power.to_string()),
        }
    }
    (needed, unrecorded)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use capability::RawProjectGrant;

    use super::*;

    const MANIFEST: &str = "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n[[files]]\npath = \"src\"\naccess = \"write\"\nreason = \"r\"\n[[processes]]\nproject = \"test\"\nreason = \"tests\"\n[[processes]]\nproject = \"build\"\nreason = \"builds\"\n[model]\naliases = [\"small\"]\nmax-tokens = 10\nreason = \"r\"\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n";

    const POLICY: &str = "hidden = []\n[[ceiling]]\nread = [\".\"]\nwrite = [\"src\"]\ncommands = [\"*\"]\nmodels = [\"small\"]\nmax-tokens = 10\nmemory = \"1GiB\"\ntime = \"1h\"\n";

    fn granted(text: &str) -> ProjectGrant {
        let raw: RawProjectGrant = toml::from_str(text).unwrap();
        raw.check(Source { file: "", text: "" }, 0..0).unwrap()
    }

    /// A call that ran `test`, and was refused a command, a program and a model.
    fn proposal(manifest: &str, project: Option<&ProjectGrant>, ended: bool) -> Proposal {
        let manifest = Manifest::parse(manifest, "skill.toml").unwrap();
        let policy = Policy::parse(POLICY, "policy.toml").unwrap();
        let grant = Grant::compute(
            &manifest,
            Some(&recording(&manifest, project).unwrap()),
            &policy,
        );
        let mut usage = Use {
            calls: 1,
            ..Use::detailed()
        };
        usage.add_host_call("moat:host/process.run", 3);
        usage.commands.as_mut().unwrap().insert("test".into(), 1);
        let denials = [
            grant.may_run_project("lint", &[]).unwrap_err(),
            grant
                .may_run_program("bash", &["-c".into(), "x".into()])
                .unwrap_err(),
            grant.may_use_model("large").unwrap_err(),
        ];
        let denials = denials.map(|one| (one, 1));
        let recorded = Recorded {
            usage: &usage,
            denials: &denials,
            ended,
        };
        Proposal::of(&manifest, project, &policy, recorded).unwrap()
    }

    fn powers(text: &str) -> Vec<String> {
        let manifest = Manifest::parse(text, "skill.toml").unwrap();
        let powers = manifest.powers();
        powers.iter().map(|one| one.power.to_string()).collect()
    }

    #[test]
    fn what_was_needed_is_proposed_as_far_as_the_policy_goes() {
        let project = granted(
            "skill = \"x\"\nread = [\"src\"]\nexcept = [\"src/secret\"]\ntime = \"500ms\"\n",
        );
        let found = proposal(MANIFEST, Some(&project), true);
        assert_eq!(
            powers(&found.manifest),
            [
                "read and change `src`",
                "run the project's command `test`",
                "run the project's command `lint`"
            ]
        );
        let whats = |list: &[Refused]| list.iter().map(|one| one.what.clone()).collect::<Vec<_>>();
        assert_eq!(whats(&found.added), ["processes: lint"]);
        assert_eq!(found.refused.len(), 2, "{found:?}");
        assert_eq!(found.needed.len(), 1);
        assert!(
            found.needed[0].line.contains("commands = [\"test\"]"),
            "{found:?}"
        );
        assert_eq!(found.unrecorded, ["read and change `src`"]);
        // What the project keeps from it, it goes on to keep from it.
        let text = found.grant.strip_prefix("[[grant]]\n").unwrap();
        let grant = granted(text);
        assert_eq!(
            (grant.except.patterns(), grant.wall_ms),
            (project.except.patterns(), Some(500))
        );
        assert_eq!(grant.commands, ["test", "lint"]);
    }

    #[test]
    fn a_call_without_a_result_takes_nothing_away() {
        let found = proposal(MANIFEST, None, false);
        assert_eq!(
            powers(&found.manifest),
            [
                "read and change `src`",
                "run the project's command `test`",
                "run the project's command `build`",
                "run the project's command `lint`",
                "call the model `small`"
            ]
        );
        assert_eq!(
            found.unrecorded,
            [
                "read and change `src`",
                "run the project's command `build`",
                "call the model `small`"
            ]
        );
    }

    #[test]
    fn a_command_that_only_lacks_its_network_is_told_the_line_for_that() {
        let network = MANIFEST.replace(
            "project = \"test\"\n",
            "project = \"test\"\nnetwork = true\n",
        ) + "[[network]]\nhost = \"x.example.com\"\nmethods = [\"GET\"]\nreason = \"r\"\n";
        let lines = |grant: &str| {
            let found = proposal(&network, Some(&granted(grant)), true);
            let lines = found.needed.into_iter().map(|one| one.line);
            lines.collect::<Vec<_>>()
        };
        let line = |addition| format!("moat.toml, [[grant]] skill = \"x\": {addition}");
        let (online, commands) = (line("online = [\"test\"]"), line("commands = [\"test\"]"));
        assert_eq!(
            lines("skill = \"x\"\ncommands = [\"test\"]\n"),
            vec![online.clone()]
        );
        assert_eq!(lines("skill = \"x\"\n"), vec![online, commands]);
    }

    #[test]
    fn an_interface_that_nobody_declares_is_asked_for_by_an_example() {
        let manifest = Manifest::parse(MANIFEST, "skill.toml").unwrap();
        let import = |name: &str, line: &str| (Denial::new(Capability::Interface, name, line), 1);
        let line = |name| capability::question::line_for_interface(name).unwrap();
        let requests = "wasi:http/outgoing-handler";
        let denials = [
            import("moat:host/release@0.1.0", line("moat:host/release")),
            import("wasi:http/outgoing-handler@0.2.6", line(requests)),
            import("wasi:http/types@0.2.6", line(requests)),
            import(
                "moat:host/model@0.1.0",
                "policy.toml, [[ceiling]] role = \"job\": models = [\"small\"]",
            ),
        ];
        let usage = Use::detailed();
        let recorded = Recorded {
            usage: &usage,
            denials: &denials,
            ended: false,
        };
        let wide = POLICY.replace("models", "network = [\"*.example.com\"]\nmodels");
        for (policy, asked) in [(POLICY, 0), (&wide, 1)] {
            let policy = Policy::parse(policy, "policy.toml").unwrap();
            let found = Proposal::of(&manifest, None, &policy, recorded).unwrap();
            let proposed = Manifest::parse(&found.manifest, "skill.toml").unwrap();
            assert_eq!(proposed.network.len(), asked, "{found:?}");
            assert!(proposed.release.is_none(), "the policy allows none");
            assert_eq!(found.imported.len(), 3);
            assert_eq!((found.added.len(), found.refused.len()), (0, 1));
        }
    }

    #[test]
    fn recording_is_not_a_call_without_a_wall() {
        let manifest = Manifest::parse(MANIFEST, "skill.toml").unwrap();
        let policy = Policy::parse(
            POLICY
                .replace("write = [\"src\"]", "write = [\"src/a\"]")
                .as_str(),
            "policy.toml",
        )
        .unwrap();
        let project = granted("skill = \"x\"\nexcept = [\"src/secret\"]\n");
        let grant = Grant::compute(
            &manifest,
            Some(&recording(&manifest, Some(&project)).unwrap()),
            &policy,
        );
        let path = |text: &str| text.parse().unwrap();
        assert!(
            grant.may_write(&path("src/a/b")).is_ok() && grant.may_read(&path("src/b")).is_ok()
        );
        assert!(grant.may_write(&path("src/b")).is_err(), "the policy holds");
        assert!(
            grant.may_read(&path("src/secret/x")).is_err(),
            "what the project hides is hidden"
        );
        assert!(
            grant.may_read(&path("docs/x")).is_err(),
            "nobody declared it"
        );
        assert!(
            grant.may_run_project("lint", &[]).is_err(),
            "nobody declared it"
        );
    }
}
