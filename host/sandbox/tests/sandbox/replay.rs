//! Calls that are interrupted wherever something becomes durable, and taken up again: nothing is done twice, and the guest cannot tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use sandbox::{Answer, CallError, Note, Recorder, Recording};
use serde_json::{Value, json};

use crate::place::{MANIFEST, PROBE, Place, grant, hostile_worker};

/// Holds a record in memory, and fails at a given write as a machine does that loses power: before it, or right after it.
#[derive(Default)]
struct Memory {
    notes: Mutex<Vec<Note>>,
    writes: Mutex<usize>,
    fails: Option<(usize, bool)>,
}

#[async_trait]
impl Recorder for Memory {
    async fn record(&self, notes: Vec<Note>) -> Result<(), String> {
        let mut writes = self.writes.lock().unwrap();
        let now = self.fails.filter(|(at, _)| at == &*writes);
        *writes += 1;
        if now.is_none_or(|(_, after)| after) {
            self.notes.lock().unwrap().extend(notes);
        }
        now.map_or(Ok(()), |_| Err("the power failed".into()))
    }
}

impl Memory {
    fn failing(before: &[Note], fails: Option<(usize, bool)>) -> Arc<Memory> {
        Arc::new(Memory {
            notes: Mutex::new(before.to_vec()),
            writes: Mutex::default(),
            fails,
        })
    }

    /// As they come out of a journal.
    fn notes(&self) -> Vec<Note> {
        let through = |note: &Note| serde_json::from_slice(&serde_json::to_vec(note).unwrap());
        let notes = self.notes.lock().unwrap();
        notes.iter().map(|note| through(note).unwrap()).collect()
    }

    fn recording(self: &Arc<Memory>) -> Recording {
        Recording {
            recorder: self.clone(),
            notes: self.notes(),
            resolved: BTreeMap::new(),
        }
    }
}

/// With time for a machine that has much else to do.
fn patient() -> String {
    MANIFEST.replace("2s", "20s")
}

fn story(steps: &[Value]) -> Value {
    json!({"do": "story", "steps": steps})
}

fn fetch(method: &str, path: &str) -> Value {
    json!({"do": "fetch", "method": method, "url": format!("https://api.example.com/v1{path}")})
}

async fn call(
    place: &Place,
    manifest: &str,
    input: &Value,
    recording: Recording,
) -> Result<Answer, CallError> {
    place
        .recorded(grant(manifest), input.clone(), Some(recording))
        .await
}

fn told(answer: &Answer) -> Vec<Value> {
    serde_json::from_str(answer.output["ok"].as_str().unwrap()).unwrap()
}

/// Everything that reached the services.
fn done(place: &Place) -> (usize, usize, usize) {
    let (chats, commands) = (&place.seen.chats, &place.seen.commands);
    (
        chats.lock().unwrap().len(),
        commands.lock().unwrap().len(),
        place.seen.web.count(),
    )
}

/// What was asked for, in the order of its numbers, but for the pieces of bodies: of those there may be more, or fewer.
fn order(notes: &[Note]) -> Vec<(u32, String)> {
    let questions = notes.iter().filter_map(|note| match note {
        Note::Began(_) => None,
        Note::Asked(asked) => Some(&asked.question),
        Note::Answered(answered) => Some(&answered.question),
    });
    let by_number: BTreeMap<_, _> = questions.map(|one| (one.number, one)).collect();
    let asked = by_number.into_values();
    let asked = asked.filter(|one| one.function != "read-body");
    asked.map(|one| (one.lane, one.function.clone())).collect()
}

/// A whole story, interrupted at each write, and taken up until it is told.
async fn interrupted_everywhere(manifest: &str, steps: &[Value], check: impl Fn(&Place, &[Value])) {
    let input = story(steps);
    let whole = Memory::failing(&[], None);
    let answer = call(&Place::new(), manifest, &input, whole.recording()).await;
    let asked = order(&whole.notes());
    let (whole, writes) = (told(&answer.unwrap()), *whole.writes.lock().unwrap());
    assert!(writes > 2, "{writes}");
    for fails in (0..writes).flat_map(|at| [(at, false), (at, true)]) {
        let place = Place::new();
        let first = Memory::failing(&[], Some(fails));
        let ended = call(&place, manifest, &input, first.recording()).await;
        assert!(
            matches!(ended, Err(CallError::Unrecorded { .. })),
            "{fails:?}: {ended:?}"
        );
        let second = Memory::failing(&first.notes(), None);
        let answer = call(&place, manifest, &input, second.recording()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{fails:?}: {error}"));
        let story = told(&answer);
        assert_eq!(story.len(), whole.len());
        assert_eq!(order(&second.notes()), asked, "{fails:?}");
        check(&place, &story);

        // Once more, from the whole record: the very same, and nothing is done.
        let before = done(&place);
        let third = Memory::failing(&second.notes(), None);
        let again = call(&place, manifest, &input, third.recording()).await;
        let again = again.unwrap_or_else(|error| panic!("{fails:?} again: {error}"));
        assert_eq!(told(&again), story, "{fails:?}");
        assert_eq!(again.usage.fuel, answer.usage.fuel, "{fails:?}");
        assert_eq!(again.usage.host_calls, answer.usage.host_calls);
        assert_eq!(done(&place), before, "{fails:?}");
    }
}

/// What the model was asked, by number: once more only with the same words.
fn chats(place: &Place) -> BTreeMap<u64, String> {
    let mut by_number = BTreeMap::new();
    let (chats, numbers) = (&place.seen.chats, &place.seen.numbers);
    for (request, number) in chats.lock().unwrap().iter().zip(&*numbers.lock().unwrap()) {
        let system = request.system.clone().unwrap();
        let first = by_number.entry(*number).or_insert(system.clone());
        assert_eq!(*first, system, "the same key with other words");
    }
    by_number
}

#[tokio::test]
async fn a_call_that_is_taken_up_goes_on_as_if_nothing_had_happened() {
    let chat = || json!({"do": "chat"});
    let clock = || json!({"do": "clock"});
    let steps = [
        json!({"do": "random"}),
        clock(),
        chat(),
        json!({"do": "look", "times": 1000}),
        clock(),
        json!({"do": "run"}),
        json!({"do": "aliases"}),
        chat(),
        fetch("GET", "/counted/5"),
        clock(),
        json!({"do": "random"}),
        json!({"do": "commands"}),
        clock(),
        chat(),
    ];
    interrupted_everywhere(&patient(), &steps, |place, story| {
        let chats: Vec<String> = chats(place).into_values().collect();
        let asked: Vec<&str> = [2, 7, 13]
            .iter()
            .map(|at| story[*at][0].as_str().unwrap())
            .collect();
        assert_eq!(chats, asked, "what the guest says that it asked");
        let times = place.seen.chats.lock().unwrap().len();
        assert!(times <= 4, "three, and the one whose answer was lost");
        let clocks = [1, 4, 9, 12].map(|at| story[at][0].as_str().unwrap().parse::<u64>().unwrap());
        assert!(clocks.is_sorted_by(|a, b| a < b), "{clocks:?}");
        assert_ne!(story[0], story[10]);
        let body = story[8]["body"].as_str().unwrap();
        assert_eq!(body.len(), 5 * (64 << 10));
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_under_way_at_once_are_told_apart() {
    let part = |path: &str| json!({"authority": "api.example.com", "path": path});
    let pair = json!({"do": "pair", "one": part("/v1/counted/9"), "two": part("/v1/counted/5")});
    let steps = [
        pair.clone(),
        json!({"do": "chat"}),
        pair,
        json!({"do": "chat"}),
    ];
    interrupted_everywhere(&patient(), &steps, |place, story| {
        let whole = json!([9 * (64 << 10), 5 * (64 << 10)]);
        assert_eq!((&story[0], &story[2]), (&whole, &whole));
        assert_eq!(chats(place).len(), 2);
    })
    .await;
}

#[tokio::test]
async fn how_long_a_request_takes_does_not_decide_which_others_are_asked() {
    let part = |path: &str| json!({"authority": "api.example.com", "path": path});
    // The first is slower than the guest sleeps, but for the time when its answer is recorded.
    let mut pair = json!({"do": "pair", "one": part("/v1/late/100"), "two": part("/v1/counted/2")});
    pair["sleep-ms"] = json!(20);
    pair["chat"] = json!(true);
    let steps = [pair, json!({"do": "chat"})];
    interrupted_everywhere(&patient(), &steps, |place, story| {
        assert_eq!(story[0], json!([5, 2 * (64 << 10)]));
        assert!(done(place).0 <= 3, "two, and the one whose answer was lost");
    })
    .await;
}

#[tokio::test]
async fn what_may_have_happened_is_not_done_again_before_a_person_has_spoken() {
    let online = patient().replacen(
        "project = \"test\"",
        "project = \"test\"\nnetwork = true",
        1,
    );
    let table = [
        (fetch("POST", "/x"), "POST https://api.example.com/v1/x"),
        (json!({"do": "run"}), "the command `test"),
    ];
    for (effect, named) in table {
        let input = story(&[json!({"do": "chat"}), effect, json!({"do": "chat"})]);
        // Chat asked and answered; then the effect is asked for, done, and answered.
        let (mut not_known, mut known) = (0, 0);
        for fails in (0..6).flat_map(|at| [(at, false), (at, true)]) {
            let place = Place::new();
            let first = Memory::failing(&[], Some(fails));
            call(&place, &online, &input, first.recording())
                .await
                .unwrap_err();
            let times = |place: &Place| done(place).1 + done(place).2;
            let happened = times(&place);
            let mut second = Memory::failing(&first.notes(), None);
            let mut ended = call(&place, &online, &input, second.recording()).await;
            assert!(times(&place) <= 1, "{fails:?}");
            if let Err(CallError::Unknown { number, what }) = &ended {
                assert!(what.contains(named), "{what}");
                assert_eq!(times(&place), happened, "{fails:?}: nothing is done");
                not_known += 1;
                second = Memory::failing(&first.notes(), None);
                let mut recording = second.recording();
                recording.resolved.insert(*number, happened == 1);
                ended = call(&place, &online, &input, recording).await;
            } else {
                known += 1;
            }
            let story = told(&ended.unwrap());
            assert_eq!(times(&place), 1, "{fails:?}");
            let lost = story[1].to_string();
            let is_lost = lost.contains("BrokeOff") || lost.contains("output is lost");
            assert_eq!(is_lost, fails == (3, false), "{fails:?}: {lost}");
            assert_eq!(chats(&place).len(), 2);
        }
        // After it was asked for durably, and until its answer is.
        assert_eq!((not_known, known), (2, 10));
    }
}

#[tokio::test]
async fn what_was_used_of_the_network_is_told_when_it_is_given_from_the_record() {
    let online = patient().replacen(
        "project = \"test\"",
        "project = \"test\"\nnetwork = true",
        1,
    );
    let mut post = fetch("POST", "/x");
    post["body"] = json!("four");
    let refused = fetch("GET", "/error/out-of-budget");
    let lost = fetch("GET", "/error/timed-out");
    let steps = [
        post,
        json!({"do": "run"}),
        fetch("GET", "/counted/2"),
        refused,
        lost,
    ];
    let first = Memory::failing(&[], None);
    let answer = call(&Place::new(), &online, &story(&steps), first.recording()).await;
    let answer = answer.unwrap();
    // A second process: nothing was used in it.
    let place = Place::new();
    let second = Memory::failing(&first.notes(), None);
    let again = call(&place, &online, &story(&steps), second.recording()).await;
    assert_eq!(told(&again.unwrap()), told(&answer));
    assert_eq!(done(&place), (0, 0, 0));
    let before = *place.seen.before.lock().unwrap();
    // Three requests that left, and four of the command's.
    assert_eq!((before.requests, before.sent), (7, 4));
    let heads = 2 * ("content-type".len() + "text/plain".len()) as u64;
    assert_eq!(
        before.received,
        heads + "hello".len() as u64 + 2 * (64 << 10)
    );
}

#[tokio::test]
async fn what_is_done_once_more_by_a_persons_word_is_not_known_a_second_time() {
    let input = story(&[fetch("POST", "/x")]);
    let place = Place::new();
    let first = Memory::failing(&[], Some((0, true)));
    call(&place, &patient(), &input, first.recording())
        .await
        .unwrap_err();
    assert_eq!(place.seen.web.count(), 0);
    // It did not happen; so it is done, and the power fails again before its answer is kept.
    let second = Memory::failing(&first.notes(), Some((1, false)));
    let resolved: BTreeMap<u64, bool> = [(1, false)].into();
    let recording = |memory: &Arc<Memory>| Recording {
        resolved: resolved.clone(),
        ..memory.recording()
    };
    call(&place, &patient(), &input, recording(&second))
        .await
        .unwrap_err();
    assert_eq!(place.seen.web.count(), 1);
    let third = Memory::failing(&second.notes(), None);
    let ended = call(&place, &patient(), &input, recording(&third)).await;
    assert!(
        matches!(ended, Err(CallError::Unknown { number: 2, .. })),
        "{ended:?}"
    );
    assert_eq!(place.seen.web.count(), 1);
}

#[tokio::test]
async fn a_guest_that_asks_otherwise_is_told_of_with_both_questions() {
    let mind = |place: &Place, text: &str| std::fs::write(place.view.path().join("mind"), text);
    let chat = || json!({"do": "chat"});
    let heed = json!({"do": "heed", "path": "mind"});
    let fickle = [heed, chat(), json!({"do": "run"})];
    let table = [
        // By what it read.
        (fickle.to_vec(), fickle.to_vec()),
        // Something else altogether, something in between, less.
        (vec![chat(), json!({"do": "run"})], vec![chat(), chat()]),
        (
            vec![chat(), chat()],
            vec![chat(), fetch("GET", "/x"), chat()],
        ),
        (vec![fetch("GET", "/x"), chat()], vec![chat()]),
        (
            vec![chat(), chat(), fetch("GET", "/x")],
            vec![chat(), chat()],
        ),
        (vec![chat(), chat()], vec![chat()]),
    ];
    for (n, (before, after)) in table.into_iter().enumerate() {
        let place = Place::new();
        mind(&place, "one").unwrap();
        let first = Memory::failing(&[], None);
        call(&place, &patient(), &story(&before), first.recording())
            .await
            .unwrap();
        mind(&place, "two").unwrap();
        let done_before = done(&place);
        let second = Memory::failing(&first.notes(), None);
        let ended = call(&place, &patient(), &story(&after), second.recording()).await;
        let Err(CallError::Diverged {
            recorded, asked, ..
        }) = &ended
        else {
            panic!("{n}: {ended:?}")
        };
        assert_ne!(recorded, asked);
        assert_eq!(done(&place), done_before, "{n}: nothing is done");
        if n == 0 {
            assert!(recorded.contains("\\\"one\\\"") && asked.contains("\\\"two\\\""));
        }
        if n == 1 {
            assert!(recorded.contains("process.run") && asked.contains("model.chat"));
        }
    }
}

#[tokio::test]
async fn the_rest_of_an_answer_is_asked_for_again_and_must_be_the_same_answer() {
    // The head is durable at once, pieces with what comes after them: the connection is lost in between.
    for (path, whole) in [("/counted/40", true), ("/changing/200", false)] {
        let input = story(&[fetch("GET", path)]);
        let place = Place::new();
        let first = Memory::failing(&[], Some((2, false)));
        call(&place, &patient(), &input, first.recording())
            .await
            .err();
        let notes = first.notes();
        assert!(notes.len() > 2, "{}", notes.len());
        let cut = Memory::failing(&notes[..notes.len().min(12)], None);
        let answer = call(&place, &patient(), &input, cut.recording()).await;
        let story = told(&answer.unwrap());
        assert_eq!(place.seen.web.count(), 2);
        assert_eq!(story[0]["body"].is_string(), whole, "{}", story[0]);
        if whole {
            assert_eq!(story[0]["body"].as_str().unwrap().len(), 40 * (64 << 10));
        }
        assert_eq!(place.seen.web.open(), 0);
    }
}

#[tokio::test]
async fn an_answer_to_what_is_not_asked_twice_is_kept_with_its_body() {
    let input = story(&[fetch("POST", "/counted/5"), json!({"do": "chat"})]);
    let place = Place::new();
    let first = Memory::failing(&[], None);
    let whole = call(&place, &patient(), &input, first.recording()).await;
    let notes = first.notes();
    // Its beginning, that it is asked, and its head.
    let cut = Memory::failing(&notes[..3], None);
    let again = call(&place, &patient(), &input, cut.recording()).await;
    assert_eq!(told(&again.unwrap())[0], told(&whole.unwrap())[0]);
    assert_eq!(place.seen.web.count(), 1);
}

#[tokio::test]
async fn a_call_that_does_nothing_outside_is_not_written() {
    let place = Place::new();
    let memory = Memory::failing(&[], None);
    let input = story(&[
        json!({"do": "random"}),
        json!({"do": "aliases"}),
        json!({"do": "clock"}),
    ]);
    call(&place, &patient(), &input, memory.recording())
        .await
        .unwrap();
    assert_eq!(*memory.writes.lock().unwrap(), 0);
}

#[tokio::test]
async fn two_calls_have_nothing_random_in_common() {
    let place = Place::new();
    let input = story(&[json!({"do": "random"})]);
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let answer = place.call(input.clone()).await.unwrap();
        for one in told(&answer)[0].as_array().unwrap() {
            assert!(seen.insert(one.to_string()), "{one}");
        }
    }
}

#[tokio::test]
async fn what_a_worker_tells_of_time_is_checked() {
    let honest = Place::new();
    let hostile = Place::with_worker(&honest.cache, &hostile_worker());
    honest.sandbox.load(&PROBE, &grant(MANIFEST)).await.unwrap();
    for (time, is_possible) in [
        (json!({"readings": 3, "ticks": [[1, 5], [3, 9]]}), true),
        (json!({"readings": 3, "ticks": [[1, 5], [1, 9]]}), false),
        (json!({"readings": 3, "ticks": [[1, 5], [2, 5]]}), false),
        (json!({"readings": 3, "ticks": [[4, 5]]}), false),
        (json!({"readings": 3, "more": 1}), false),
    ] {
        let input = json!({"do": format!("time {time}")});
        let memory = Memory::failing(&[], None);
        let recording = Some(memory.recording());
        let ended = hostile.recorded(grant(MANIFEST), input, recording).await;
        match is_possible {
            true => assert!(ended.is_ok(), "{time}: {ended:?}"),
            false => assert!(
                matches!(ended, Err(CallError::Protocol { .. })),
                "{time}: {ended:?}"
            ),
        }
    }
}

#[tokio::test]
async fn a_record_that_makes_no_sense_is_refused() {
    let place = Place::new();
    let input = story(&[json!({"do": "chat"})]);
    let memory = Memory::failing(&[], None);
    call(&place, &patient(), &input, memory.recording())
        .await
        .unwrap();
    let notes = memory.notes();
    for wrong in [&notes[1..], &[notes[0].clone(), notes[0].clone()]] {
        let again = Memory::failing(wrong, None);
        let ended = call(&place, &patient(), &input, again.recording()).await;
        assert!(matches!(ended, Err(CallError::Unreadable)), "{ended:?}");
    }
    assert_eq!(done(&place), (1, 0, 0));
}
