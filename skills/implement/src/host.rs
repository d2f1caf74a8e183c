//! What the loop needs of the host, apart from the bindings: a model, commands, a clock, and a line for a watching person.

/// The host's services; in tests, a script.
pub trait Host {
    /// Sends a conversation and waits for the whole answer.
    ///
    /// # Errors
    /// See [`ModelError`].
    fn chat(&mut self, request: Request<'_>) -> Result<Response, ModelError>;
    /// Runs a command of the project on the view.
    ///
    /// # Errors
    /// See [`CommandError`].
    fn run(
        &mut self,
        name: &str,
        extra_args: &[String],
        timeout_ms: u64,
    ) -> Result<Output, CommandError>;
    /// Tells a watching person what is going on.
    fn note(&mut self, text: &str);
    /// Milliseconds since the skill was called.
    fn elapsed_ms(&mut self) -> u64;
}

/// A tool on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name.
    pub name: &'static str,
    /// For the model.
    pub description: &'static str,
    /// JSON Schema of its input.
    pub schema: String,
}

/// The model asks for a tool. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolUse {
    /// Names this use in its answer.
    pub id: String,
    /// The tool's name, as the model says it.
    pub name: String,
    /// JSON, as the model wrote it.
    pub input: String,
}

/// The answer to a [`ToolUse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The use that this answers.
    pub id: String,
    /// The answer.
    pub text: String,
    /// Whether it says what went wrong.
    pub is_error: bool,
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Words.
    Text(String),
    /// The model asks for a tool.
    ToolUse(ToolUse),
    /// The skill answers.
    ToolResult(ToolResult),
}

/// Whose turn a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The skill's.
    User,
    /// The model's.
    Assistant,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose.
    pub speaker: Speaker,
    /// Its parts.
    pub content: Vec<Content>,
}

/// One call of the model.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The system prompt.
    pub system: &'a str,
    /// The conversation; it begins and ends with the skill's turn.
    pub messages: &'a [Message],
    /// Tools on offer.
    pub tools: &'a [Tool],
    /// Output tokens at most.
    pub max_tokens: u32,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It said all.
    EndTurn,
    /// It waits for tools.
    ToolUse,
    /// It reached its limit: what it said last may be cut.
    MaxTokens,
    /// It refused.
    Refusal,
}

/// What the model answered. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Its parts.
    pub content: Vec<Content>,
    /// Why it stopped.
    pub stop: Stop,
    /// Tokens of the input, cached ones included; 0 where the provider does not say.
    pub input_tokens: u64,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelError {
    /// Not granted.
    Denied,
    /// The project configures no model.
    NotConfigured,
    /// A budget is used up.
    OutOfBudget,
    /// The request was refused as malformed.
    Invalid(String),
    /// The provider is not there; later it may be.
    Unavailable(String),
    /// The provider's answer made no sense; the next may.
    Broken(String),
}

/// A command that the project offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Its name.
    pub name: String,
    /// Program and arguments, for display.
    pub argv: Vec<String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// At its deadline.
    Deadline,
}

/// What a command left behind. Untrusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub ending: Ending,
    /// Its output.
    pub stdout: String,
    /// Its errors.
    pub stderr: String,
}

/// Why a command was not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandError {
    /// Not granted, or not with these arguments.
    Denied,
    /// The project declares no such command.
    NotFound,
    /// Malformed.
    Invalid(String),
    /// A budget of the step is used up.
    OutOfBudget,
    /// The host could not start it.
    Unavailable(String),
}
