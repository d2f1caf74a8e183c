//! `moat:host/effects`: a skill's account of what it does outside, as records.

use serde::{Deserialize, Serialize};

/// How an effect stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is intended now, by this call.
    Fresh,
    /// It has happened; what came of it.
    Confirmed(String),
    /// It was intended, and nobody knows more; what it was.
    Unconfirmed(String),
}

/// One entry of the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Effect {
    /// The skill's name for it.
    pub key: String,
    /// What it is.
    pub what: String,
    /// How it stands.
    pub standing: Standing,
}

/// Why an account was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EffectsError {
    /// Nobody intended it.
    NotIntended,
    /// It has happened.
    AlreadyConfirmed,
    /// Malformed, or too much.
    Invalid(String),
    /// There is none, or it cannot be read or written.
    Unavailable(String),
}
