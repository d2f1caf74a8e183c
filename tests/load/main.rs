//! Many agents at once on one repository, killed and stopped at random: nothing is lost, and nothing is left.
//!
//! `cargo test` has a few of them for seconds; [`plan`] says how there are hundreds for minutes.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop at the first surprise, and these tell what they measured"
)]

mod agents;
mod chaos;
mod check;
#[path = "../cli/house.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod house;
mod measure;
mod place;
mod plan;
mod procs;
mod waves;

use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{getpid, set_child_subreaper};

/// Orphans come to this process, and one test must not take those of another for its own.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    set_child_subreaper(Some(getpid())).unwrap();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn many_runs_in_one_process() {
    let _alone = alone();
    chaos::of(chaos::Form::One, plan::load());
}

#[test]
fn several_processes_on_one_repository() {
    let _alone = alone();
    chaos::of(chaos::Form::Several, plan::load());
}

#[test]
fn many_tasks_of_one_run() {
    let _alone = alone();
    chaos::of(chaos::Form::Tasks, plan::load());
}

#[test]
fn a_moat_that_goes_on_keeps_nothing_of_what_has_ended() {
    let _alone = alone();
    waves::of(plan::load());
}
