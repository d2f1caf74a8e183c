//! Components that break the rules of the interface between guest and host (lines 30 to 36).

use crate::bench::{Bench, command_text, command_with_realloc, wat};

const RANDOM: &str = r#"(import "wasi:random/random@0.2.6" (instance $random
    (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))"#;
const LOWER_RANDOM: &str = r#"(core func $f (canon lower (func $random "get-random-bytes") (memory $libc "memory") (realloc (func $libc "realloc"))))"#;
const GIVEN: &str = r#"(with "host" (instance (export "f" (func $f))))"#;
const IMPORT_RANDOM: &str =
    r#"(import "libc" "memory" (memory 1)) (import "host" "f" (func $f (param i64 i32)))"#;

fn random(realloc: &str, body: &str) -> Vec<u8> {
    wat(&command_with_realloc(
        realloc,
        RANDOM,
        LOWER_RANDOM,
        GIVEN,
        IMPORT_RANDOM,
        body,
    ))
}

const NOTE: &str = r#"(import "moat:host/progress@0.1.0" (instance $progress
    (export "note" (func (param "text" string)))))"#;

fn note(encoding: &str, module: &str, body: &str) -> Vec<u8> {
    let lowered = format!(
        r#"(core func $f (canon lower (func $progress "note") (memory $libc "memory") (realloc (func $libc "realloc")) string-encoding={encoding}))"#
    );
    let module = format!(
        r#"(import "libc" "memory" (memory 1)) (import "host" "f" (func $f (param i32 i32))) {module}"#
    );
    wat(&command_text(NOTE, &lowered, GIVEN, &module, body))
}

#[test]
fn texts_that_are_none_or_lie_outside_of_memory_are_traps() {
    let bench = Bench::new();
    // The guest's memory has two pages: 131072 bytes.
    for (what, encoding, bytes, at, length) in [
        ("no UTF-8", "utf8", r"\ff\fe\fd", 100, 3),
        ("half a character", "utf8", r"\e2\82", 100, 2),
        ("a surrogate", "utf8", r"\ed\a0\80", 100, 3),
        ("too long a form", "utf8", r"\c0\af", 100, 2),
        ("half a pair", "utf16", r"\00\d8\41\00", 100, 2),
        ("an odd address", "utf16", r"\41\00", 101, 1),
        ("beyond the end", "utf8", "", 131_071, 2),
        ("at the very end", "utf8", "", -1, 1),
        ("around the end", "utf8", "", -4, 16),
        ("all of it and more", "utf8", "", 0, -1),
        ("2^31 units", "utf16", "", 0, 0x7fff_ffff),
        (
            "tagged, beyond the end",
            "latin1+utf16",
            "",
            131_070,
            0x8000_0002_u32 as i32,
        ),
        ("an odd address, tagged", "latin1+utf16", "", 101, 4),
    ] {
        let module = format!(
            r#"(data (memory 0) (i32.const {}) "{bytes}")"#,
            if bytes.is_empty() { 0 } else { at }
        );
        let body = format!("(call $f (i32.const {at}) (i32.const {length})) i32.const 0");
        let told = bench.call("text", &note(encoding, &module, &body));
        told.refused(what, &["trapped"]);
    }
    let module = r#"(data (i32.const 100) "fine")"#;
    let told = bench.call(
        "text",
        &note(
            "utf8",
            module,
            "(call $f (i32.const 100) (i32.const 4)) i32.const 0",
        ),
    );
    told.ran("as it should be");
}

#[test]
fn an_allocator_that_lies_or_calls_back_is_a_trap() {
    let bench = Bench::new();
    let call = "(call $f (i64.const 64) (i32.const 16)) i32.const 0";
    let allocator = |body: &str| {
        format!("(func $realloc (export \"realloc\") (param i32 i32 i32 i32) (result i32) {body})")
    };
    for (what, body) in [
        ("outside of memory", "i32.const 131071"),
        ("far outside", "i32.const -1"),
        ("nothing", "unreachable"),
        ("without end", "(loop br 0) i32.const 0"),
        (
            "itself",
            "(call $realloc (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1))",
        ),
    ] {
        let told = bench.call("realloc", &random(&allocator(body), call));
        told.refused(what, &["trapped", "deadline", "fuel"]);
    }
    // The host's own function, while the host waits for the allocator: by a table, for the allocator is there before anything is lowered.
    let asks = |how: &str| {
        let allocator = format!(
            r#"(table (export "table") 1 funcref) (type $f (func (param i64 i32)))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) {how} (i32.const 4096))"#
        );
        let module = format!(
            r#"{IMPORT_RANDOM} (import "libc" "table" (table 1 funcref)) (elem (i32.const 0) $f)"#
        );
        let (imports, lowered) = (RANDOM, LOWER_RANDOM);
        command_with_realloc(&allocator, imports, lowered, GIVEN, &module, call)
    };
    let again = "(call_indirect (type $f) (i64.const 8) (i32.const 16) (i32.const 0))";
    let told = bench.call("realloc", &wat(&asks(again)));
    told.refused("the host", &["trapped"]);
    bench
        .call("realloc", &wat(&asks("")))
        .ran("which does not ask");
    // Over its own result's place: what it gets is its own loss.
    let told = bench.call("realloc", &random(&allocator("i32.const 16"), call));
    told.is_sound("on itself");
    // A result that the guest wants written outside of its memory.
    for at in ["131070", "-4", "17"] {
        let body = format!("(call $f (i64.const 64) (i32.const {at})) i32.const 0");
        let told = bench.call("result", &random(&allocator("i32.const 4096"), &body));
        told.refused(at, &["trapped"]);
    }
}

#[test]
fn a_gigabyte_of_random_numbers_is_not_given_at_once() {
    let bench = Bench::new();
    let allocator =
        "(func (export \"realloc\") (param i32 i32 i32 i32) (result i32) (i32.const 4096))";
    for bytes in ["1073741824", "65537", "-1"] {
        let body = format!("(call $f (i64.const {bytes}) (i32.const 16)) i32.const 0");
        bench
            .call("random", &random(allocator, &body))
            .refused(bytes, &["trapped"]);
    }
    let told = bench.call(
        "random",
        &random(
            allocator,
            "(call $f (i64.const 65536) (i32.const 16)) i32.const 0",
        ),
    );
    told.ran("as it should be");
}

const POLL: &str = r#"(import "wasi:io/poll@0.2.6" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $own (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))"#;
const LOWER_POLL: &str = r#"(core func $f (canon lower (func $clock "subscribe-duration")))
  (core func $drop (canon resource.drop $pollable))
  (core func $block (canon lower (func $poll "[method]pollable.block")))"#;
const GIVEN_POLL: &str = r#"(with "host" (instance (export "f" (func $f)) (export "drop" (func $drop)) (export "block" (func $block))))"#;
const IMPORT_POLL: &str = r#"(import "host" "f" (func $f (param i64) (result i32)))
  (import "host" "drop" (func $drop (param i32))) (import "host" "block" (func $block (param i32)))
  (global $last (mut i32) (i32.const 0))"#;

fn pollables(body: &str) -> Vec<u8> {
    wat(&command_text(
        POLL,
        LOWER_POLL,
        GIVEN_POLL,
        IMPORT_POLL,
        body,
    ))
}

#[test]
fn handles_that_are_made_up_or_dropped_are_traps() {
    let bench = Bench::new();
    for (what, body) in [
        ("made up", "(call $block (i32.const 7))"),
        ("none", "(call $block (i32.const 0))"),
        ("negative", "(call $block (i32.const -1))"),
        (
            "dropped twice",
            "(global.set $last (call $f (i64.const 1))) (call $drop (global.get $last)) (call $drop (global.get $last))",
        ),
        (
            "used after",
            "(global.set $last (call $f (i64.const 1))) (call $drop (global.get $last)) (call $block (global.get $last))",
        ),
        ("a drop of nothing", "(call $drop (i32.const 12345))"),
    ] {
        let told = bench.call("handle", &pollables(&format!("{body} i32.const 0")));
        told.refused(what, &["trapped"]);
    }
    let told = bench.call("handle", &pollables("(global.set $last (call $f (i64.const 1))) (call $block (global.get $last)) (call $drop (global.get $last)) i32.const 0"));
    told.ran("as it should be");
}

#[test]
fn resources_without_end_meet_their_limit() {
    let bench = Bench::new();
    let told = bench.call(
        "many",
        &pollables("(loop (drop (call $f (i64.const 1))) br 0) i32.const 0"),
    );
    told.refused("a million", &["trapped"]);
    // Made and dropped in turn they are never many; it is the deadline that ends them.
    let told = bench.call(
        "turn",
        &pollables("(loop (call $drop (call $f (i64.const 1))) br 0) i32.const 0"),
    );
    told.refused("in turn", &["deadline", "fuel"]);
    let told = bench.call(
        "wait",
        &pollables("(call $block (call $f (i64.const -1))) i32.const 0"),
    );
    told.refused("waiting", &["deadline"]);
}

#[test]
fn answers_out_of_range_are_traps() {
    let bench = Bench::new();
    for (what, answer) in [
        ("a result's case", "i32.const 2"),
        ("far off", "i32.const -1"),
    ] {
        bench
            .call("answer", &crate::bench::command(answer))
            .refused(what, &["trapped"]);
    }
    bench
        .call("answer", &crate::bench::command("i32.const 1"))
        .refused("an error", &["failed"]);
    // The exit status is a flag: what is neither true nor false counts as true, and is no harm.
    let exit = wat(&command_text(
        r#"(import "wasi:cli/exit@0.2.6" (instance $exit (export "exit" (func (param "status" (result))))))"#,
        r#"(core func $f (canon lower (func $exit "exit")))"#,
        GIVEN,
        r#"(import "host" "f" (func $f (param i32)))"#,
        "(call $f (i32.const 9)) i32.const 0",
    ));
    bench
        .call("exit", &exit)
        .refused("a case that is none", &["trapped"]);
}
