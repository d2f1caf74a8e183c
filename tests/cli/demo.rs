//! The demo goes the whole way and leaves nothing running.

use crate::house::{House, told};

#[test]
fn the_demo_deploys_a_service_that_answers_right() {
    let house = House::new();
    let output = house.moat(&["demo"]);
    let text = told(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains(r#"now answers 200: {"cents": 200, "minutes": 60}"#),
        "{text}"
    );
    for gate in ["protect     Pass", "tests       Pass", "base-tests  Pass"] {
        assert!(text.contains(gate), "{gate}: {text}");
    }
    let home = house.home().display().to_string();
    let alive = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let left = alive
        .filter(|line| String::from_utf8_lossy(line).contains(&home))
        .count();
    assert_eq!(left, 0, "processes are left");
}
