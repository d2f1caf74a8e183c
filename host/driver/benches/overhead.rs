//! The whole loop on the demo's sample, and where its time goes: `cargo bench -p driver --bench overhead`.
//!
//! Each measured run is what `moat run` does: open the house, open the run, drive it until it is merged. Spans of the rooms tell times apart;
//! a span's own time is its length without the spans within it. What is neither `command` (from a program's first to its last
//! moment) nor `guest` (waiting for a skill's worker, a wake-up included) is moat's own.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may stop at the first surprise, and prints"
)]

mod sample;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

const ROUNDS: usize = 10;

/// Not moat's.
const THEIRS: [&str; 2] = ["command", "guest"];

fn main() {
    confine::enter_if_asked();
    sandbox::enter_worker_if_asked();
    let times = Times::default();
    let subscriber = tracing_subscriber::registry().with(times.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    // As the program has it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut rounds = Vec::new();
    for round in 0..=ROUNDS {
        // A repository of its own, in the same house: its skills are compiled in the first round, which is not counted.
        let repository = directory.path().join(format!("sample-{round}"));
        sample::write(&repository);
        times.take();
        let begun = Instant::now();
        runtime.block_on(sample::drive(&directory.path().join("house"), &repository));
        let total = begun.elapsed();
        let mut own = times.take();
        let known: Duration = own.values().map(|(time, _)| *time).sum();
        own.insert("outside of all spans", (total.saturating_sub(known), 1));
        if round > 0 {
            rounds.push((total, own));
        }
    }
    tell(rounds);
}

type Round = (Duration, BTreeMap<&'static str, (Duration, u32)>);

/// The round in the middle, whole: medians of parts would not add up.
fn tell(mut rounds: Vec<Round>) {
    let own = |(total, spans): &Round| {
        let theirs = THEIRS.iter().filter_map(|name| spans.get(name));
        total.saturating_sub(theirs.map(|(time, _)| *time).sum())
    };
    rounds.sort_by_key(own);
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let least = own(&rounds[0]);
    let middle = &rounds[rounds.len() / 2];
    let (total, spans) = middle;
    println!("{ROUNDS} runs, the middle one by moat's own time; ms, and how often");
    let mut sorted: Vec<_> = spans.iter().collect();
    sorted.sort_by_key(|(name, (time, _))| (!THEIRS.contains(name), std::cmp::Reverse(*time)));
    for (name, (time, count)) in sorted {
        let whose = if THEIRS.contains(name) {
            "theirs"
        } else {
            "moat"
        };
        println!("{whose:7} {name:22} {:9.1} {count:6}", ms(*time));
    }
    println!("total                          {:9.1}", ms(*total));
    println!(
        "moat itself                    {:9.1}   {:.1} % of the total; at least {:.1}",
        ms(own(middle)),
        100.0 * ms(own(middle)) / ms(*total),
        ms(least)
    );
}

/// Each span name's own time and count.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<BTreeMap<&'static str, (Duration, u32)>>>);

impl Times {
    fn take(&self) -> BTreeMap<&'static str, (Duration, u32)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Kept with an open span: since when, and how much of it the spans within took.
struct Open(Instant, Duration);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Times {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        span.extensions_mut()
            .insert(Open(Instant::now(), Duration::ZERO));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        let (took, within) = match span.extensions().get::<Open>() {
            Some(Open(begun, within)) => (begun.elapsed(), *within),
            None => return,
        };
        let mut times = self.0.lock().unwrap();
        let (own, count) = times.entry(span.name()).or_default();
        *own += took.saturating_sub(within);
        *count += 1;
        drop(times);
        if let Some(parent) = span.parent()
            && let Some(open) = parent.extensions_mut().get_mut::<Open>()
        {
            open.1 += took;
        }
    }
}
