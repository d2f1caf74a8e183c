//! A simulated world: runs, their tasks, people, a busy branch, crashes, and events that come late or twice; after each event every invariant
//! is looked at.
//!
//! `MOAT_SIMULATE=SEED` looks at one seed, `MOAT_REPLAY=1,2,3` at one list of choices, as a failure prints them.

mod choices;
mod drivers;
mod invariants;
mod world;

use choices::{Choices, shortened};
use world::World;

/// Events of all worlds together.
const EVENTS: u64 = 1_000_000;

/// After so many notches a world is given up for the next.
const NOTCHES: usize = 900;

/// Lives one world to its end; gives its events, or what was broken.
fn live(choices: &mut Choices) -> (World, Result<(), String>) {
    let mut world = World::new(choices);
    for _ in 0..NOTCHES {
        if choices.is_over() || world.is_over() {
            break;
        }
        if let Err(broken) = world.notch(choices) {
            return (world, Err(broken));
        }
    }
    let at_the_end = world.replays();
    (world, at_the_end)
}

/// What a person needs to see it again.
fn told(seed: u64, choices: Vec<u32>, broken: &str) -> String {
    let name = broken.split(':').next().unwrap_or(broken).to_owned();
    let fails = |choices: &[u32]| {
        let (_, lived) = live(&mut Choices::given(choices));
        lived.is_err_and(|broken| broken.split(':').next() == Some(&name))
    };
    let short = shortened(choices, fails);
    let (world, lived) = live(&mut Choices::given(&short));
    let list: Vec<String> = short.iter().map(u32::to_string).collect();
    format!(
        "seed {seed} breaks {broken}\nshortened to {} choices, it breaks {}:\n{}\nreplay: MOAT_REPLAY={} cargo test -p tests --test flow simulation",
        short.len(),
        lived.err().unwrap_or_default(),
        world.story(),
        list.join(",")
    )
}

#[test]
fn a_million_events_break_no_invariant() {
    if let Ok(list) = std::env::var("MOAT_REPLAY") {
        let choices: Vec<u32> = list.split(',').map(|one| one.parse().unwrap()).collect();
        let (world, lived) = live(&mut Choices::given(&choices));
        assert!(lived.is_ok(), "{}\n{}", lived.unwrap_err(), world.story());
        return;
    }
    let one: Option<u64> = std::env::var("MOAT_SIMULATE")
        .ok()
        .map(|seed| seed.parse().unwrap());
    let mut seed = one.unwrap_or(1);
    let mut seen = world::Seen::default();
    while seen.events < EVENTS {
        let mut choices = Choices::of_seed(seed);
        let (world, lived) = live(&mut choices);
        if let Err(broken) = lived {
            panic!("{}", told(seed, choices.taken, &broken));
        }
        seen.add(&world);
        if one.is_some() {
            return;
        }
        seed += 1;
    }
    // A world in which nothing goes wrong, or nothing right, proves nothing.
    eprintln!("{seed} worlds: {seen:?}");
    seen.is_enough();
}
