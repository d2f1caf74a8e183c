//! What is no skill, asks for what was not granted, or uses more of WebAssembly than skills may (lines 27, 28, 44, 45, 47).

use crate::bench::{Bench, command, command_text, wat};

fn with_module(module: &str) -> Vec<u8> {
    wat(&command_text("", "", "", module, "i32.const 0"))
}

#[test]
fn what_skills_do_not_need_of_webassembly_is_not_compiled() {
    let bench = Bench::new();
    for (what, module) in [
        ("shared memory", "(memory 1 1 shared)"),
        ("64-bit memory", "(memory i64 1)"),
        (
            "atomics",
            "(memory 1 1 shared) (func (drop (i32.atomic.load (i32.const 0))))",
        ),
        ("structures", "(type (struct (field i32)))"),
        (
            "arrays",
            "(type $a (array (mut i32))) (func (drop (array.new_default $a (i32.const 1000000))))",
        ),
        (
            "typed references",
            "(type $f (func)) (func (param (ref $f)) (call_ref $f (local.get 0)))",
        ),
        ("exceptions", "(tag $t) (func (throw $t))"),
        (
            "stack switching",
            "(type $f (func)) (type $k (cont $f)) (func (drop (cont.new $k (ref.null $f))))",
        ),
    ] {
        let told = bench.load("feature", &with_module(module));
        told.refused(what, &["cannot be compiled", "not a WebAssembly component"]);
    }
    for (what, text) in [
        (
            "an async lift",
            r#"(component (core module $m (func (export "run") (result i32) i32.const 0) (func (export "cb") (param i32 i32 i32) (result i32) i32.const 0))
            (core instance $m (instantiate $m))
            (func $run async (result (result)) (canon lift (core func $m "run") async (callback (func $m "cb"))))
            (instance $api (export "run" (func $run))) (export "wasi:cli/run@0.2.6" (instance $api)))"#,
        ),
        (
            "streams",
            "(component (type (stream u8)) (core func (canon stream.new 0)))",
        ),
        (
            "threads",
            "(component (core type $t (shared (func (param i32)))) (core func (canon thread.spawn-ref $t)))",
        ),
    ] {
        let Ok(component) = ::wat::parse_str(text) else {
            panic!("{what} is no text form");
        };
        bench.load("feature", &component).refused(
            what,
            &[
                "cannot be compiled",
                "not a WebAssembly component",
                "instead of",
            ],
        );
    }
}

#[test]
fn memories_and_tables_beyond_the_limit_are_not_made() {
    let bench = Bench::new();
    for (what, module) in [
        ("all memory", "(memory 65536)"),
        ("many memories", "(memory 600) (memory 600) (memory 600)"),
        ("a table", "(table 100000000 funcref)"),
        ("the largest table", "(table 4294967295 funcref)"),
    ] {
        let told = bench.call("memory", &with_module(module));
        told.refused(what, &["bytes of memory", "trapped", "cannot be compiled"]);
    }
    // What cannot be had is refused to the guest, and a guest that goes on all the same has no more than before.
    for body in [
        "(if (i32.ne (memory.grow (i32.const 65000)) (i32.const -1)) (then unreachable)) i32.const 0",
        "(if (i32.ne (table.grow (ref.null func) (i32.const -1)) (i32.const -1)) (then unreachable)) i32.const 0",
    ] {
        let component = wat(&command_text(
            "",
            "",
            "",
            "(memory 1) (table 1 funcref)",
            body,
        ));
        let told = bench.call("grow", &component);
        told.ran(body);
    }
}

#[test]
fn imports_that_are_not_granted_or_only_look_like_it_are_named_and_refused() {
    let bench = Bench::new();
    let import = |name: &str| {
        let imports = format!("(import \"{name}\" (instance (export \"f\" (func))))");
        wat(&command_text(&imports, "", "", "", "i32.const 0"))
    };
    for name in [
        "moat:host/process@0.1.0",
        "moat:host/model@0.1.0",
        "moat:host/release@0.1.0",
        "moat:host/progress@0.1.1",
        "moat:host/files@0.1.0",
        "moat:hosts/progress@0.1.0",
        "wasi:http/outgoing-handler@0.2.6",
        "wasi:http/types@0.2.6",
        "wasi:http/incoming-handler@0.2.6",
        "wasi:sockets/tcp@0.2.6",
        "wasi:sockets/udp@0.2.6",
        "wasi:sockets/ip-name-lookup@0.2.6",
        "wasi:sockets/instance-network@0.2.6",
        "wasi:keyvalue/store@0.2.0",
        "wasi:cli/environment@0.3.0",
        "wasi:clix/environment@0.2.6",
        "wasi-cli:x/environment@0.2.6",
    ] {
        let told = bench.load("import", &import(name));
        told.refused(name, &[name]);
    }
    // Of the base's own names only what is linked is there.
    for name in [
        "wasi:filesystem/escape@0.2.6",
        "wasi:cli/run@0.2.6",
        "wasi:io/streams@0.2.6",
    ] {
        bench
            .call("import", &import(name))
            .refused(name, &["import", "could not be opened"]);
    }
    for (what, component) in [
        ("a core module", b"\0asm\x01\0\0\0".to_vec()),
        ("nothing", vec![]),
        ("compiled code", b"\x7fELF\x02\x01\x01\0".to_vec()),
        ("no role", wat("(component)")),
        (
            "a role of another kind",
            wat("(component (component $c) (export \"wasi:cli/run@0.2.6\" (component $c)))"),
        ),
        ("half of a component", command("i32.const 0")[..60].to_vec()),
    ] {
        let told = bench.call("none", &component);
        told.refused(what, &["component", "instead of", "role", "export"]);
    }
}

/// What moat itself compiled, given back as if it were a skill, or put in another's place.
#[test]
fn compiled_code_is_neither_a_skill_nor_anothers() {
    let bench = Bench::new();
    let (good, trap) = (command("i32.const 0"), command("unreachable"));
    bench.call("good", &good).ran("good");
    let compiled = |bench: &Bench| -> Vec<std::path::PathBuf> {
        let mut left = vec![bench.house.home()];
        let mut found = vec![];
        while let Some(next) = left.pop() {
            for entry in std::fs::read_dir(next).unwrap().flatten() {
                let path = entry.path();
                match entry.file_type().unwrap().is_dir() {
                    true => left.push(path),
                    false if path.extension().is_some_and(|ext| ext == "cwasm") => found.push(path),
                    false => {}
                }
            }
        }
        found
    };
    let first = compiled(&bench);
    assert_eq!(first.len(), 1);
    let bytes = std::fs::read(&first[0]).unwrap();
    bench
        .load("native", &bytes)
        .refused("compiled code", &["component"]);
    bench.call("trap", &trap).refused("trap", &["trapped"]);
    let other = compiled(&bench)
        .into_iter()
        .find(|path| *path != first[0])
        .unwrap();
    std::fs::copy(&first[0], &other).unwrap();
    let macs = [&first[0], &other].map(|path| path.with_extension("mac"));
    std::fs::copy(&macs[0], &macs[1]).unwrap();
    // It still does what its own component does: the other's code was not taken for it.
    bench.call("trap", &trap).refused("swapped", &["trapped"]);
}
