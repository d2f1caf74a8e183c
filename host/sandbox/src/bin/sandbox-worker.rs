//! A launcher and a worker and nothing else, for tests.

fn main() {
    confine::enter_if_asked();
    sandbox::enter_worker_if_asked();
}
