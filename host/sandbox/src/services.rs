//! What the broker needs from the rest of the host. The driver implements it; the grant was asked before each call.

use async_trait::async_trait;
use capability::{Denial, Running};
use serde_json::Value;

use crate::message::effects::{Effect, EffectsError, Standing};
use crate::message::http::{self, Head, HttpError, Piece};
use crate::message::model::{Alias, ModelError, Request, Response};
use crate::message::process::{Command, Output, ProcessError, ProjectCommand};
use crate::message::release::{Health, ReleaseError, Version};
use crate::recording::{Answered, Traffic};
use crate::transcript::Entry;

/// The doors behind the host interfaces. Cancel-safe: a dropped call undoes or finishes what it began.
#[async_trait]
pub trait Services: Send + Sync {
    /// Hears of every host call when it is done or refused, before the guest has its answer. So whoever keeps a record has it whatever becomes of
    /// the call. An error, which says why nothing can be recorded, ends the call.
    async fn heard(&self, call: &Entry, denial: Option<&Denial>) -> Result<(), String>;
    /// Learns of a host call that is answered from the record: nothing is done, and it counts as it did.
    fn replayed(&self, answered: &Answered, args: &[Value]);
    /// Learns of a request of which that is so, and how many bytes of its answer were given. Where it is made once more under the same number, for
    /// the rest of its answer, it counts once all the same.
    fn requested_before(&self, request: http::Request, number: u64, received: u64);
    /// Learns that so many more bytes of its answer are given from the record.
    fn received_before(&self, number: u64, bytes: u64);
    /// Runs a command on the step's view, on the terms that the grant has for it. What was refused to it has been recorded by its end.
    async fn run_command(&self, command: Command, terms: Running) -> Result<Ran, ProcessError>;
    /// Gives a project command's arguments, if the project declares it.
    fn project_command(&self, name: &str) -> Option<ProjectCommand>;
    /// Calls a model; `max_tokens` is within the grant. `number` is the host call's: the same when it is made once more because its answer was lost.
    async fn chat(&self, request: Request, number: u64) -> Result<Response, ModelError>;
    /// Tells about an alias, if the project configures it.
    fn alias(&self, name: &str) -> Option<Alias>;
    /// Makes a request that the grant allows, once and without following where the answer points to. The body stays open until it is read to its
    /// end or to an error, or closed. `number` is as for [`Services::chat`].
    async fn request(&self, request: http::Request, number: u64) -> Result<Head, HttpError>;
    /// Waits for what comes next of an open body.
    async fn read_body(&self, id: u64) -> Result<Piece, HttpError>;
    /// Gives up a body, if it is open.
    fn close_body(&self, id: u64);
    /// Tells a watching person; the text is one short clean line.
    fn note(&self, text: String);
    /// Enters into the skill's account that something is about to be done; `number` is as for [`Services::chat`]. Keys and texts are bounded.
    async fn intend(
        &self,
        key: String,
        what: String,
        number: u64,
    ) -> Result<Standing, EffectsError>;
    /// Enters that it happened.
    async fn confirm(&self, key: String, outcome: String) -> Result<(), EffectsError>;
    /// Enters that it did not happen.
    async fn withdraw(&self, key: String) -> Result<(), EffectsError>;
    /// Lists the account.
    async fn effects(&self) -> Result<Vec<Effect>, EffectsError>;
    /// Lists releases.
    async fn versions(&self) -> Result<Vec<Version>, ReleaseError>;
    /// Stages the merged tree.
    async fn stage(&self) -> Result<String, ReleaseError>;
    /// Makes a release current.
    async fn activate(&self, name: String) -> Result<(), ReleaseError>;
    /// Stops the service.
    async fn deactivate(&self) -> Result<(), ReleaseError>;
    /// Probes the service.
    async fn probe(&self) -> Result<Health, ReleaseError>;
}

/// A command that ran to its end.
#[derive(Debug)]
pub struct Ran {
    /// What the guest sees of it.
    pub output: Output,
    /// What the command asked of the network and was refused, and how often.
    pub denials: Vec<(Denial, u32)>,
    /// What it used of the call's network.
    pub traffic: Traffic,
}
