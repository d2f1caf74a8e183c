//! A launcher and nothing else, for tests.

fn main() {
    confine::enter_if_asked();
}
