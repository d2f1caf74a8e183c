//! Manifests and grants in sentences, for people.

use crate::grant::Grant;
use crate::manifest::{Manifest, Runnable};

fn with_terms(sentence: String, online: bool) -> String {
    if online {
        format!("on the network that it is granted, {sentence}")
    } else {
        sentence
    }
}

impl Manifest {
    /// What the skill asks for, in sentences with its reasons, for a reviewer.
    pub fn sentences(&self) -> Vec<String> {
        let mut out = Vec::new();
        for request in &self.files {
            let verb = if request.write {
                "read and change"
            } else {
                "read"
            };
            let place = if request.path.is_root() {
                "everything in the worktree".to_owned()
            } else {
                format!("`{}`", request.path)
            };
            let except = match request.except.patterns() {
                [] => String::new(),
                patterns => format!(", except {}", patterns.join(", ")),
            };
            out.push(format!("{verb} {place}{except}: {}", request.reason));
        }
        for request in &self.network {
            let rules: Vec<_> = request
                .rules
                .iter()
                .map(|rule| format!("`{rule}`"))
                .collect();
            out.push(format!(
                "send requests to {}: {}",
                rules.join(", "),
                request.reason
            ));
        }
        for request in &self.credentials {
            out.push(format!(
                "have the secret `{}` added to requests to {} (it never sees it): {}",
                request.name, request.origin, request.reason
            ));
        }
        for request in &self.processes {
            out.push(with_terms(
                match &request.what {
                    Runnable::Project {
                        name,
                        extra_args: true,
                    } => {
                        format!(
                            "run the project's command `{name}` with arguments of its choice: {}",
                            request.reason
                        )
                    }
                    Runnable::Project { name, .. } => {
                        format!("run the project's command `{name}`: {}", request.reason)
                    }
                    Runnable::Program { program, args } => {
                        let forms: Vec<_> = args
                            .iter()
                            .map(|pattern| format!("`{program} {}`", pattern.elements().join(" ")))
                            .collect();
                        format!("run {}: {}", forms.join(" or "), request.reason)
                    }
                },
                request.network,
            ));
        }
        for request in &self.env {
            out.push(format!(
                "see the project's variable `{}`: {}",
                request.name, request.reason
            ));
        }
        if let Some(model) = &self.model {
            out.push(format!(
                "call the model {} with up to {} output tokens a call: {}",
                model.aliases.join(" or "),
                model.max_tokens,
                model.reason
            ));
        }
        if let Some(reason) = &self.release {
            out.push(format!("stage, activate and probe releases: {reason}"));
        }
        out
    }
}

impl Grant {
    /// What the skill really may, in sentences: what the project and the policy left of the manifest.
    pub fn sentences(&self) -> Vec<String> {
        let mut out = Vec::new();
        let hidden = match self.hidden.patterns() {
            [] => String::new(),
            patterns => format!(", except {}", patterns.join(", ")),
        };
        for (path, write) in &self.files {
            let verb = if *write { "read and change" } else { "read" };
            let place = if path.is_root() {
                "everything in the worktree".to_owned()
            } else {
                format!("`{path}`")
            };
            out.push(format!("{verb} {place}{hidden}"));
        }
        for rule in &self.network {
            let private = if self.private.contains(rule) {
                ", private addresses included"
            } else {
                ""
            };
            out.push(format!("send requests to `{rule}`{private}"));
        }
        for one in &self.credentials {
            out.push(format!(
                "have the secret `{}` added to requests to {} (it never sees it)",
                one.name, one.origin
            ));
        }
        for (name, one) in &self.commands {
            let with = if one.extra_args {
                " with arguments of its choice"
            } else {
                ""
            };
            let sentence = format!("run the project's command `{name}`{with}");
            out.push(with_terms(sentence, one.running.network));
        }
        for (program, patterns) in &self.programs {
            let forms: Vec<_> = patterns
                .keys()
                .map(|pattern| format!("`{program} {}`", pattern.elements().join(" ")))
                .collect();
            let online = patterns.values().any(|running| running.network);
            out.push(with_terms(format!("run {}", forms.join(" or ")), online));
        }
        for name in &self.env {
            out.push(format!("see the project's variable `{name}`"));
        }
        if !self.models.is_empty() {
            let names: Vec<&str> = self.models.iter().map(String::as_str).collect();
            out.push(format!(
                "call the model {} with up to {} output tokens a call",
                names.join(" or "),
                self.max_tokens
            ));
        }
        if self.release {
            out.push("stage, activate and probe releases".into());
        }
        if out.is_empty() {
            out.push("nothing beyond telling its progress".into());
        }
        out
    }
}
