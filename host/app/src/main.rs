//! The `moat` program.
fn main() {}
