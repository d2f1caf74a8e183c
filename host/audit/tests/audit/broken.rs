//! A trail that someone changed: the first place is named.

use audit::{Anchor, Broken, Trail, TrailError};
use proptest::prelude::*;

use crate::{Place, fill, said};

fn broken(place: &Place, anchors: &[Anchor]) -> Broken {
    match place.trail().verify(anchors) {
        Err(TrailError::Broken(broken)) => broken,
        other => panic!("{other:?}"),
    }
}

fn at(broken: &Broken) -> (&str, u64) {
    (&broken.place.file, broken.place.line)
}

/// Five lines, changed, and given back.
fn changed(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Place {
    let place = Place::new();
    fill(&place.trail(), 5);
    let text = place.text();
    let mut lines: Vec<Vec<u8>> = text
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    change(&mut lines);
    std::fs::write(place.file(1), lines.concat()).unwrap();
    place
}

#[test]
fn a_line_changed_taken_out_put_in_or_moved_is_named() {
    let rewrite = |lines: &mut Vec<Vec<u8>>| {
        let text = String::from_utf8(lines[2].clone()).unwrap();
        lines[2] = text.replace("person 3", "person 9").into_bytes();
    };
    assert_eq!(at(&broken(&changed(rewrite), &[])), ("000001.jsonl", 3));
    let out = changed(|lines| {
        lines.remove(1);
    });
    assert_eq!(at(&broken(&out, &[])), ("000001.jsonl", 2));
    let first = changed(|lines| {
        lines.remove(0);
    });
    assert_eq!(at(&broken(&first, &[])), ("000001.jsonl", 1));
    let moved = changed(|lines| lines.swap(1, 3));
    assert_eq!(at(&broken(&moved, &[])), ("000001.jsonl", 2));
    let twice = changed(|lines| lines.insert(3, lines[3].clone()));
    assert_eq!(at(&broken(&twice, &[])), ("000001.jsonl", 5));
    let made_up = changed(|lines| lines.insert(1, b"{\"kind\":\"call\"}\n".to_vec()));
    assert_eq!(at(&broken(&made_up, &[])), ("000001.jsonl", 2));
    let last = changed(|lines| {
        let text = String::from_utf8(lines[4].clone()).unwrap();
        lines[4] = text.replace("person 5", "person 0").into_bytes();
    });
    assert_eq!(at(&broken(&last, &[])), ("000001.jsonl", 5));
}

/// Lines of another trail have right hashes and a wrong chain.
#[test]
fn lines_of_another_trail_do_not_fit() {
    let other = Place::new();
    let trail = other.trail();
    for number in 1..=5 {
        trail.append(number, said("someone else")).unwrap();
    }
    let theirs = other.text();
    let line = theirs
        .split_inclusive(|byte| *byte == b'\n')
        .nth(3)
        .unwrap();
    let place = changed(|lines| lines[3] = line.to_vec());
    assert_eq!(at(&broken(&place, &[])), ("000001.jsonl", 4));
}

#[test]
fn a_cut_tail_is_seen_and_nothing_is_appended_to_it() {
    for lines_left in 0..5 {
        let place = changed(|lines| lines.truncate(lines_left));
        let found = broken(&place, &[]);
        assert_eq!(at(&found), ("000001.jsonl", lines_left as u64));
        assert!(found.why.contains("cut off"), "{found}");
        let before = place.text();
        let refused = place.trail().append(0, said("me"));
        assert!(matches!(refused, Err(TrailError::Broken(_))), "{refused:?}");
        assert_eq!(place.text(), before);
    }
}

#[test]
fn a_trail_without_its_head_or_its_files_is_broken() {
    let place = changed(|_| {});
    std::fs::remove_file(place.trail().head_path()).unwrap();
    assert_eq!(at(&broken(&place, &[])), ("audit.head", 0));
    assert!(matches!(
        place.trail().append(0, said("me")),
        Err(TrailError::Broken(_))
    ));

    let place = changed(|_| {});
    std::fs::remove_dir_all(place.path()).unwrap();
    assert!(broken(&place, &[]).why.contains("entry 5"));
    assert!(matches!(
        place.trail().append(0, said("me")),
        Err(TrailError::Broken(_))
    ));

    let place = Place::new();
    let small = || Trail::with_files_of(&place.path(), 1).unwrap();
    fill(&small(), 4);
    std::fs::remove_file(place.file(2)).unwrap();
    let found = broken(&place, &[]);
    assert_eq!(
        (at(&found).0, found.why.as_str()),
        ("000003.jsonl", "000002.jsonl is missing")
    );
}

#[test]
fn an_empty_head_is_a_beginning_where_there_is_no_line_and_only_there() {
    // Its moat was killed between the making of the file and the first write to it.
    let place = Place::new();
    let head = place.trail().head_path();
    std::fs::write(&head, "").unwrap();
    assert_eq!(place.trail().append(0, said("me")).unwrap(), 1);

    std::fs::write(&head, "").unwrap();
    assert!(matches!(
        place.trail().append(0, said("me")),
        Err(TrailError::Unusable { .. })
    ));
}

#[test]
fn a_trail_written_anew_is_seen_with_an_anchor_from_before() {
    let place = changed(|_| {});
    let kept = place.trail().verify(&[]).unwrap().last;
    let again: Anchor = kept.to_string().parse().unwrap();
    assert_eq!(again, kept);
    fill(&place.trail(), 2);
    place.trail().verify(std::slice::from_ref(&kept)).unwrap();

    std::fs::remove_dir_all(place.path()).unwrap();
    std::fs::remove_file(place.trail().head_path()).unwrap();
    let trail = place.trail();
    for number in 0..9 {
        trail.append(number, said("nobody")).unwrap();
    }
    trail.verify(&[]).unwrap();
    let found = broken(&place, &[kept]);
    assert!(found.why.contains("entry 5"), "{found}");
}

#[test]
fn a_seal_excuses_only_the_bytes_that_it_names() {
    let place = Place::new();
    fill(&place.trail(), 3);
    let mut torn = place.text();
    torn.extend(b"{\"number\":4,\"at");
    std::fs::write(place.file(1), &torn).unwrap();
    fill(&place.trail(), 1);
    place.trail().verify(&[]).unwrap();
    let text = String::from_utf8(place.text()).unwrap();
    std::fs::write(
        place.file(1),
        text.replace("{\"number\":4,\"at~\n", "{\"number\":4,\"xx~\n"),
    )
    .unwrap();
    assert_eq!(at(&broken(&place, &[])), ("000001.jsonl", 4));
    std::fs::write(place.file(1), text.replace("{\"number\":4,\"at~\n", "")).unwrap();
    assert_eq!(at(&broken(&place, &[])), ("000001.jsonl", 4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done to the bytes of a trail that its head knows, it is not taken for the trail.
    #[test]
    fn no_edit_goes_unseen(from in 0usize..2000, length in 0usize..40, put in prop::collection::vec(any::<u8>(), 0..40)) {
        let place = Place::new();
        fill(&place.trail(), 4);
        let before = place.text();
        let from = from % before.len();
        let mut after = before.clone();
        after.splice(from..(from + length).min(before.len()), put);
        prop_assume!(after != before && !after.starts_with(&before));
        std::fs::write(place.file(1), &after).unwrap();
        prop_assert!(place.trail().verify(&[]).is_err());
    }
}
