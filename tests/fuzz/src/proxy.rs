//! The proxy's own files that read what a command sends, under the name that they call their room by.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "files of another room: here only their parsers are needed"
)]

#[path = "../../../host/egress/src/proxy/head.rs"]
pub(crate) mod head;
#[path = "../../../host/egress/src/proxy/refusal.rs"]
pub(crate) mod refusal;
#[path = "../../../host/egress/src/proxy/target.rs"]
pub(crate) mod target;
#[path = "../../../host/egress/src/proxy/wire.rs"]
pub(crate) mod wire;
