//! `[models]` and `[budget]`: which models skills may ask for, and what a run may use.

use std::collections::BTreeMap;

use capability::manifest::is_plain_name;
use capability::{ConfigError, Source, quantity};
use flow::money::Micros;
use flow::pipeline::Budget;
use toml::Spanned;

use crate::raw::RawBudget;

pub(crate) fn models(
    raw: BTreeMap<String, Spanned<String>>,
    source: Source<'_>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let check = |(alias, model): (String, Spanned<String>)| {
        if is_plain_name(&alias) && is_plain_name(model.get_ref()) {
            return Ok((alias, model.into_inner()));
        }
        Err(source.error(
            model.span(),
            "an alias and a model have plain names",
            "write coder = \"NAME\", with a [model.NAME] in models.toml of moat's state directory",
        ))
    };
    raw.into_iter().map(check).collect()
}

/// A compile that waits for a lock or a slow disk takes some processor time within it.
const IDLE_MS: u64 = 10 * 60_000;

pub(crate) fn idle(raw: &Spanned<RawBudget>, source: Source<'_>) -> Result<u64, ConfigError> {
    let refuse = |message: String| source.error(raw.span(), message, "correct [budget]");
    let stated = raw.get_ref().idle.as_deref().map(quantity::millis);
    match stated {
        None => Ok(IDLE_MS),
        Some(Ok(ms @ 1_000..=86_400_000)) => Ok(ms),
        Some(Ok(_)) => Err(refuse("`idle` is from 1s to 24h".into())),
        Some(Err(error)) => Err(refuse(error.to_string())),
    }
}

/// Enough for the outputs of a large build.
const DISK_BYTES: u64 = 8 << 30;

pub(crate) fn disk(raw: &Spanned<RawBudget>, source: Source<'_>) -> Result<u64, ConfigError> {
    let refuse = |message: String| source.error(raw.span(), message, "correct [budget]");
    match raw.get_ref().disk.as_deref().map(quantity::bytes) {
        None => Ok(DISK_BYTES),
        Some(Ok(bytes)) if (1 << 20..=1 << 40).contains(&bytes) => Ok(bytes),
        Some(Ok(_)) => Err(refuse("`disk` is from 1MiB to 1024GiB".into())),
        Some(Err(error)) => Err(refuse(error.to_string())),
    }
}

/// Dollars; a run that may cost more is a slip.
const MONEY_MAX: f64 = 100_000.0;

pub(crate) fn budget(
    raw: Spanned<RawBudget>,
    with_models: bool,
    source: Source<'_>,
) -> Result<Budget, ConfigError> {
    let span = raw.span();
    let raw = raw.into_inner();
    let refuse = |message: String| source.error(span.clone(), message, "correct [budget]");
    let active_ms = quantity::millis(&raw.time).map_err(|e| refuse(e.to_string()))?;
    if raw.attempts == 0 || raw.attempts > 100 || active_ms == 0 {
        return Err(refuse(
            "a budget has from 1 to 100 attempts and some time".into(),
        ));
    }
    let (tokens, money) = match (raw.tokens, raw.money, with_models) {
        (Some(tokens), Some(money), true) => (tokens, money),
        (None, None, false) => (0, 0.0),
        (_, _, true) => {
            return Err(refuse(
                "with [models], a budget has `tokens` and `money`, such as tokens = 2000000 and money = 5".into(),
            ));
        }
        (_, _, false) => {
            return Err(refuse(
                "`tokens` and `money` bound models, but there is no [models]".into(),
            ));
        }
    };
    if !(0.0..=MONEY_MAX).contains(&money) {
        return Err(refuse(format!("`money` is from 0 to {MONEY_MAX} dollars")));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be from 0 to 100 000 dollars"
    )]
    let money = Micros((money * 1e6).round() as u64);
    Ok(Budget {
        attempts: raw.attempts,
        tokens,
        money,
        active_ms,
    })
}
