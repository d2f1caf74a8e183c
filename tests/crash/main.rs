//! `kill -9` at every call by which moat changes the world: a run that is taken up again ends where one that was left alone does.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may stop at the first surprise"
)]

mod call;
mod filter;
#[path = "../cli/house.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod house;
mod matrix;
mod outcome;
mod plan;
#[path = "../cli/planned.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod planned;
mod subject;
mod supervisor;

use subject::{Kind, Subject};

#[test]
fn the_demo_killed_at_any_call_ends_as_if_it_had_not_been() {
    plan::of(&Subject::new(Kind::Demo)).carry_out();
}

#[test]
fn a_run_with_three_red_attempts_killed_at_any_call_ends_as_if_it_had_not_been() {
    plan::of(&Subject::new(Kind::ThreeRed)).carry_out();
}

#[test]
fn eight_tasks_killed_at_any_call_end_as_if_they_had_not_been() {
    plan::of(&Subject::new(Kind::EightTasks)).carry_out();
}

#[test]
fn a_run_with_effects_killed_at_any_call_has_each_of_them_once() {
    plan::of(&Subject::new(Kind::Effects)).carry_out();
}
