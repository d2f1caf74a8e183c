//! What the trail tells: one entry a line. A new meaning takes a new kind; old lines stay readable.

use std::collections::BTreeMap;

use capability::Capability;
use flow::event::Answer;
use flow::id::{Digest, GateName, Role, RunId, SkillName, TreeId};
use flow::verdict::Finding;
use serde::{Deserialize, Serialize};

use crate::text::Text;

/// Things of one sort that one entry names; the rest is counted.
const LIST_MAX: usize = 64;

/// The same of the network: all that the door tells apart in a call, so that a skill cannot choose what is left out.
const NETWORK_MAX: usize = 256;

/// An entry with its place in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recorded {
    /// 1 for the first of the trail, without gaps.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The version of moat that wrote it.
    pub moat: Text,
    /// What is told.
    #[serde(flatten)]
    pub entry: Entry,
    /// The hash of the line before; zeros before the first.
    pub previous: Digest,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Entry {
    /// A skill is about to be called. Without a `used` that names its number, the call was interrupted.
    Call(Call),
    /// A skill was refused something, for the first time in this call.
    Denied(Denied),
    /// A call ended: what it used, and what was refused to it, each with how often.
    Used(Used),
    /// A gate answered.
    Verdict(Verdict),
    /// A person decided.
    Decision(Decision),
    /// What lies before this line was never a whole line.
    Sealed(Sealed),
}

/// The kinds of entries, for those who look for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Entry::Call`].
    Call,
    /// [`Entry::Denied`].
    Denied,
    /// [`Entry::Used`].
    Used,
    /// [`Entry::Verdict`].
    Verdict,
    /// [`Entry::Decision`].
    Decision,
    /// [`Entry::Sealed`].
    Sealed,
}

/// How strongly a worker or a command was confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confinement {
    /// Namespaces, seccomp, Landlock and limits.
    Full,
    /// Namespaces, seccomp and limits; the kernel has no Landlock.
    Namespaces,
}

/// A skill call that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Call {
    /// The run; absent for a call by hand.
    pub run: Option<RunId>,
    /// The step of the run.
    pub step: Option<Text>,
    /// The skill.
    pub skill: SkillName,
    /// Its component and manifest.
    pub digest: Digest,
    /// Its effective grant.
    pub grant: Digest,
    /// The policy under which the grant was computed.
    pub policy: Digest,
    /// The role in which it is called.
    pub role: Role,
    /// Of its worker.
    pub confinement: Confinement,
    /// Model aliases that it may call, and the models of this machine that they stand for.
    pub models: BTreeMap<Text, Text>,
}

/// The first refusal of its kind in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Denied {
    /// The number of the `call`.
    pub call: u64,
    /// The run.
    pub run: Option<RunId>,
    /// The skill.
    pub skill: SkillName,
    /// What was refused.
    #[serde(flatten)]
    pub refused: Refused,
}

/// Something that was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Refused {
    /// The kind of capability.
    pub capability: Capability,
    /// What was asked; may be a guest's words.
    pub what: Text,
    /// The line that would have allowed it.
    pub line: Text,
}

/// A skill call that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Used {
    /// The number of the `call`.
    pub call: u64,
    /// The run.
    pub run: Option<RunId>,
    /// The skill.
    pub skill: SkillName,
    /// How it ended.
    pub outcome: Outcome,
    /// Host calls by `interface.function`, refused ones included.
    pub host_calls: BTreeMap<Text, u64>,
    /// Commands, by name.
    pub commands: Vec<CommandUse>,
    /// Models, by alias.
    pub models: Vec<ModelUse>,
    /// Requests, by origin and method.
    pub network: Vec<NetworkUse>,
    /// What was refused, and how often.
    pub denied: Vec<(Refused, u64)>,
    /// Units of work in WebAssembly; 0 when the call ended before it could be told.
    pub fuel: u64,
    /// Wall clock.
    pub wall_ms: u64,
    /// Things that the lists above do not name, because they are too many.
    pub left_out: u64,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", content = "why")]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// With an error of the skill's own: its kind.
    Refused(Text),
    /// Without an answer: a trap, a limit, a lost worker.
    Ended(Text),
}

/// Runs of one command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CommandUse {
    /// A project command's or a program's name.
    pub name: Text,
    /// The weakest confinement of any of the runs.
    pub confinement: Confinement,
    /// How often it was run.
    pub times: u64,
}

/// Calls of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ModelUse {
    /// The alias.
    pub alias: Text,
    /// How often it was called.
    pub times: u64,
}

/// Requests of one method to one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NetworkUse {
    /// `https://host[:port]`.
    pub origin: Text,
    /// The method.
    pub method: Text,
    /// The beginning of the path, without anything that may be a secret.
    pub path: Text,
    /// Names of the credentials that the host added.
    pub credentials: Vec<Text>,
    /// Requests.
    pub requests: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// A gate's answer. The verdict itself is in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// The run; absent for a gate by hand.
    pub run: Option<RunId>,
    /// The gate.
    pub gate: GateName,
    /// Its definition.
    pub definition: Digest,
    /// The candidate.
    pub tree: TreeId,
    /// The base.
    pub base: TreeId,
    /// What it found.
    pub finding: Finding,
    /// Of the whole verdict, its evidence included.
    pub verdict: Digest,
    /// Of its command, where it runs one.
    pub confinement: Option<Confinement>,
}

/// A person's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Decision {
    /// The person, as the host knows them.
    pub by: Text,
    /// The run, where it is about one.
    pub run: Option<RunId>,
    /// What was decided.
    pub decided: Decided,
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Decided {
    /// A word for a gate, on one exact tree.
    Answer {
        /// The gate.
        gate: GateName,
        /// The tree.
        tree: TreeId,
        /// Approved or rejected.
        answer: Answer,
        /// In their words.
        note: Text,
    },
    /// A parked run goes on.
    Resume,
    /// A run is ended.
    Cancel,
    /// Something that was interrupted happened, or did not.
    Happened {
        /// Whether it did.
        happened: bool,
        /// What it was.
        effect: Text,
    },
    /// A run goes on with another grant for a skill, by the committed `moat.toml` and the policy.
    Grant {
        /// The skill.
        skill: SkillName,
        /// The grant so far.
        from: Digest,
        /// The grant from now on.
        to: Digest,
        /// The policy that was read.
        policy: Digest,
        /// The `moat.toml` that was read.
        project: Digest,
    },
    /// A skill may be used from now on.
    SkillApproved {
        /// The skill.
        skill: SkillName,
        /// Its component and manifest.
        digest: Digest,
    },
}

/// The beginning of a line that a crash cut off, with the `~` that marks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sealed {
    /// How many bytes lie there.
    pub bytes: u64,
    /// Their digest.
    pub digest: Digest,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 6] = [
        Kind::Call,
        Kind::Denied,
        Kind::Used,
        Kind::Verdict,
        Kind::Decision,
        Kind::Sealed,
    ];

    /// The kind's name in a line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Call => "call",
            Kind::Denied => "denied",
            Kind::Used => "used",
            Kind::Verdict => "verdict",
            Kind::Decision => "decision",
            Kind::Sealed => "sealed",
        }
    }
}

impl Entry {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Entry::Call(_) => Kind::Call,
            Entry::Denied(_) => Kind::Denied,
            Entry::Used(_) => Kind::Used,
            Entry::Verdict(_) => Kind::Verdict,
            Entry::Decision(_) => Kind::Decision,
            Entry::Sealed(_) => Kind::Sealed,
        }
    }

    /// The run that it is about.
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Entry::Call(call) => call.run.as_ref(),
            Entry::Denied(denied) => denied.run.as_ref(),
            Entry::Used(used) => used.run.as_ref(),
            Entry::Verdict(verdict) => verdict.run.as_ref(),
            Entry::Decision(decision) => decision.run.as_ref(),
            Entry::Sealed(_) => None,
        }
    }

    /// The skill that it is about.
    pub fn skill(&self) -> Option<&SkillName> {
        match self {
            Entry::Call(call) => Some(&call.skill),
            Entry::Denied(denied) => Some(&denied.skill),
            Entry::Used(used) => Some(&used.skill),
            Entry::Decision(decision) => match &decision.decided {
                Decided::Grant { skill, .. } | Decided::SkillApproved { skill, .. } => Some(skill),
                _ => None,
            },
            Entry::Verdict(_) | Entry::Sealed(_) => None,
        }
    }

    /// Bounds its lists: a guest that makes up ever new names fills no disk.
    pub(crate) fn bounded(mut self) -> Entry {
        match &mut self {
            Entry::Used(used) => used.bound(),
            Entry::Call(call) => {
                cut_map(&mut call.models);
            }
            _ => {}
        }
        self
    }
}

impl Used {
    fn bound(&mut self) {
        let mut left_out = cut_map(&mut self.host_calls)
            + cut(&mut self.commands, LIST_MAX)
            + cut(&mut self.models, LIST_MAX)
            + cut(&mut self.network, NETWORK_MAX)
            + cut(&mut self.denied, LIST_MAX);
        for one in &mut self.network {
            left_out += cut(&mut one.credentials, LIST_MAX);
        }
        self.left_out = self.left_out.saturating_add(left_out);
    }
}

fn cut<T>(list: &mut Vec<T>, max: usize) -> u64 {
    let over = list.len().saturating_sub(max);
    list.truncate(max);
    over as u64
}

fn cut_map<T>(map: &mut BTreeMap<Text, T>) -> u64 {
    let over = map.len().saturating_sub(LIST_MAX);
    for _ in 0..over {
        map.pop_last();
    }
    over as u64
}
