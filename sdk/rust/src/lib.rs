//! What a moat skill in Rust is written with: one module a role, and the host's capabilities.
//!
//! A skill enables the feature of its role, implements the module's `Guest` and exports it:
//!
//! ```ignore
//! use moat_sdk::job::{Guest, SkillError};
//!
//! struct Skill;
//!
//! impl Guest for Skill {
//!     fn run(input: String) -> Result<String, SkillError> {
//!         Ok(input)
//!     }
//! }
//!
//! moat_sdk::job::export!(Skill with_types_in moat_sdk::job);
//! ```
//!
//! Each module has its own `host` bindings. A component embeds the world of every role that it links, so enable just one.

#![allow(
    missing_docs,
    reason = "the bindings' documentation is that of the WIT files"
)]

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "report")]
pub mod report;

macro_rules! roles {
    ($($(#[$doc:meta])* $feature:literal $name:ident $world:literal;)*) => {$(
        $(#[$doc])*
        #[cfg(feature = $feature)]
        #[allow(unsafe_code, clippy::all, unreachable_pub, reason = "generated")]
        pub mod $name {
            wit_bindgen::generate!({
                path: ["../../wit/host", "../../wit/skill"],
                world: $world,
                generate_all,
                pub_export_macro: true,
                export_macro_name: "export",
                additional_derives: [PartialEq],
            });

            pub use exports::moat::skill::$name::*;
            pub use moat::host;

            /// `?` on a request: a program acts on the case, a person reads the text.
            #[cfg(feature = "http")]
            impl From<crate::http::Error> for SkillError {
                fn from(error: crate::http::Error) -> SkillError {
                    match error {
                        crate::http::Error::Denied => SkillError::Denied(error.to_string()),
                        crate::http::Error::OutOfBudget => SkillError::OutOfBudget(error.to_string()),
                        _ if error.may_pass() => SkillError::Retryable(error.to_string()),
                        _ => SkillError::Failed(error.to_string()),
                    }
                }
            }

            /// Tells a watching person, in a few words, what is going on.
            pub fn note(text: impl AsRef<str>) {
                host::progress::note(text.as_ref());
            }

            /// Runs a command of the project at the root of the view, with arguments appended where the grant allows it.
            pub fn run_project(
                name: &str,
                extra_args: &[String],
                timeout_ms: Option<u64>,
            ) -> Result<host::process::Output, host::process::ProcessError> {
                use host::process::{Command, Invocation, ProjectInvocation};
                let what = Invocation::Project(ProjectInvocation { name: name.to_owned(), extra_args: extra_args.to_vec() });
                host::process::run(&Command { what, directory: String::new(), stdin: Vec::new(), timeout_ms })
            }
        }
    )*};
}

roles! {
    /// A report becomes a work item.
    "triage" triage "moat:skill/triage-skill";
    /// A work item becomes tasks.
    "plan" plan "moat:skill/plan-skill";
    /// A worktree is changed until the item is true.
    "implement" implement "moat:skill/implement-skill";
    /// A project command's tests are reported.
    "test" test "moat:skill/test-skill";
    /// A candidate is judged.
    "evaluate" evaluate "moat:skill/evaluate-skill";
    /// A red candidate is explained.
    "diagnose" diagnose "moat:skill/diagnose-skill";
    /// A merged tree is brought into service.
    "deploy" deploy "moat:skill/deploy-skill";
    /// JSON in, JSON out.
    "job" job "moat:skill/job-skill";
}
