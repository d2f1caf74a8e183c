//! What parses bytes of strangers, one function a parser: each takes any bytes, and panics only where a promise is broken.
//!
//! The replay test calls them with the corpus, the fuzzer with whatever it finds. Parsers that are private to their room are compiled here
//! from the room's own files, so that nothing becomes public for the sake of being tried, and no engine is linked.
// The files of other rooms bring their own tests, which belong there.
#![cfg(not(test))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a target tells of a broken promise by a panic"
)]

mod brokered;
mod component;
mod configuration;
mod journal;
mod network;
mod proxied;
mod proxy;
mod scrubbed;
mod stream;
mod text;
mod trail;
mod tree;
mod worker;

use std::path::{Path, PathBuf};

/// The rooms' own files, under the names that they call each other by.
macro_rules! private {
    ($($name:ident = $path:literal)*) => {$(
        #[allow(dead_code, unreachable_pub, reason = "a file of another room: here only its parser is needed")]
        #[path = $path]
        mod $name;
    )*};
}

private! {
    anthropic = "../../../host/model/src/anthropic.rs"
    broker = "../../../host/sandbox/src/broker/mod.rs"
    conversation = "../../../host/model/src/conversation.rs"
    imports = "../../../host/sandbox/src/imports.rs"
    load_error = "../../../host/sandbox/src/error.rs"
    message = "../../../host/sandbox/src/message/mod.rs"
    openai = "../../../host/model/src/openai.rs"
    package = "../../../host/catalog/src/package.rs"
    recording = "../../../host/sandbox/src/recording.rs"
    reading = "../../../host/egress/src/reading.rs"
    reply = "../../../host/model/src/reply.rs"
    report = "../../../sdk/rust/src/report.rs"
    request = "../../../host/egress/src/request.rs"
    scrub = "../../../host/egress/src/scrub.rs"
    services = "../../../host/sandbox/src/services.rs"
    shown = "../../../host/app/src/show/text.rs"
    story = "../../../host/sandbox/src/story.rs"
    sse = "../../../host/model/src/sse.rs"
    transcript = "../../../host/sandbox/src/transcript.rs"
}

/// What the model's files take from their room's configuration.
mod config {
    pub(crate) use model::OutputLimit;
}

/// The errors of both rooms whose files say `crate::error`.
mod error {
    pub(crate) use crate::load_error::LoadError;
    pub(crate) use model::ModelError;
}

/// What the scrubber takes of a secret.
mod secret {
    pub(crate) struct Secret(&'static str);

    impl Secret {
        pub(crate) fn of(value: &'static str) -> Secret {
            Secret(value)
        }

        pub(crate) fn expose(&self) -> &str {
            self.0
        }
    }
}

/// A parser's name, which is that of its corpus, and the function that tries it.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("manifest", configuration::manifest),
    ("policy", configuration::policy),
    ("project", configuration::project),
    ("models", configuration::models),
    ("secrets", configuration::secrets),
    ("origin", network::origin),
    ("rule", network::rule),
    ("endpoint", network::endpoint),
    ("proxy", proxied::proxied),
    ("scrub", scrubbed::scrubbed),
    ("worker", worker::worker),
    ("broker", brokered::brokered),
    ("component", component::component),
    ("tree", tree::tree),
    ("names", tree::names),
    ("journal", journal::journal),
    ("trail", trail::trail),
    ("stream", stream::stream),
    ("report", text::report),
    ("terminal", text::terminal),
];

/// The text of an input, where it is one.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Where files of an input are written: in memory, where the machine has such a place.
fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    match memory.is_dir() {
        true => memory.to_owned(),
        false => std::env::temp_dir(),
    }
}
