//! Components made to keep the compiler busy, to fill memory while they are read, or to run before anything is called (lines 42, 43, 48, 49).

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use wasm_encoder::{
    BlockType, CodeSection, Component, CustomSection, Function, FunctionSection, Instruction,
    Module, ModuleSection, TypeSection, ValType,
};

use crate::bench::{Bench, command, command_text, wat};

/// What the compiling worker may take of these sizes is 30 s and a little, a minute for the largest; the rest is for a busy machine.
const LOAD_MAX: Duration = Duration::from_secs(150);

/// An honest command with the module beside it: without a role it would be refused before anything is compiled.
fn component(module: &Module) -> Vec<u8> {
    let mut component = Component::new();
    component.section(&ModuleSection(module));
    let mut bytes = command("i32.const 0");
    bytes.extend_from_slice(&component.finish()[8..]);
    bytes
}

/// A module of `count` functions with this body.
fn functions(count: u32, locals: u32, body: impl Fn(u32, &mut Function)) -> Vec<u8> {
    let (mut types, mut functions, mut code) = (
        TypeSection::new(),
        FunctionSection::new(),
        CodeSection::new(),
    );
    types.ty().function([], []);
    for at in 0..count {
        functions.function(0);
        let mut function = Function::new([(locals, ValType::I64)]);
        body(at, &mut function);
        function.instruction(&Instruction::End);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&code);
    component(&module)
}

fn empty_loops(count: usize) -> Vec<u8> {
    functions(1, 0, |_, function| {
        for _ in 0..count {
            function.instruction(&Instruction::Loop(BlockType::Empty));
            function.instruction(&Instruction::End);
        }
    })
}

fn nested_blocks(depth: usize) -> Vec<u8> {
    functions(1, 0, |_, function| {
        for _ in 0..depth {
            function.instruction(&Instruction::Block(BlockType::Empty));
        }
        for _ in 0..depth {
            function.instruction(&Instruction::End);
        }
    })
}

fn jump_table(targets: u32, depth: u32) -> Vec<u8> {
    functions(1, 0, |_, function| {
        for _ in 0..depth {
            function.instruction(&Instruction::Block(BlockType::Empty));
        }
        function.instruction(&Instruction::I32Const(1));
        let table: Vec<u32> = (0..targets).map(|at| at % depth).collect();
        function.instruction(&Instruction::BrTable(table.into(), 0));
        for _ in 0..depth {
            function.instruction(&Instruction::End);
        }
    })
}

/// Every local is alive at every of many joins.
fn live_locals(locals: u32, joins: u32) -> Vec<u8> {
    functions(1, locals, |_, function| {
        for join in 0..joins {
            function.instruction(&Instruction::Loop(BlockType::Empty));
            for local in (join % 7..locals).step_by(7) {
                function.instruction(&Instruction::LocalGet(local));
                function.instruction(&Instruction::LocalSet((local * 31 + join) % locals));
            }
            function.instruction(&Instruction::I32Const(0));
            function.instruction(&Instruction::BrIf(0));
            function.instruction(&Instruction::End);
        }
    })
}

fn types(count: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    for at in 0..count {
        types
            .ty()
            .function(vec![ValType::I32; (at % 100) as usize], [ValType::I64]);
    }
    let mut module = Module::new();
    module.section(&types);
    component(&module)
}

/// One function with a body beyond what any compiler takes.
fn giant(bytes: usize) -> Vec<u8> {
    functions(1, 0, |_, function| {
        for _ in 0..bytes / 3 {
            function.instruction(&Instruction::I32Const(0));
            function.instruction(&Instruction::Drop);
        }
    })
}

/// A type whose size doubles with each name.
fn alias_bomb(doublings: usize) -> Vec<u8> {
    let mut text = String::from("(type $t0 (tuple u64 u64))");
    for at in 0..doublings {
        write!(text, "(type $t{} (tuple $t{at} $t{at}))", at + 1).unwrap();
    }
    write!(
        text,
        "(import \"wasi:random/random@0.2.6\" (instance (export \"f\" (func (param \"a\" $t{doublings})))))"
    )
    .unwrap();
    wat(&command_text(&text, "", "", "", "i32.const 0"))
}

fn nested(levels: usize) -> Vec<u8> {
    let mut inner = Component::new().finish();
    for _ in 0..levels {
        let mut outer = Component::new();
        outer.section(&wasm_encoder::RawSection {
            id: 4,
            data: &inner,
        });
        inner = outer.finish();
    }
    inner
}

fn instances(count: usize) -> Vec<u8> {
    let mut text = String::new();
    for at in 0..count {
        write!(text, "(core instance $i{at} (instantiate $libc))").unwrap();
    }
    wat(&command_text("", &text, "", "", "i32.const 0"))
}

#[test]
fn compile_bombs_end_within_their_limits_and_cost_the_broker_nothing() {
    let bench = Bench::new();
    let bombs = [
        ("20,000 empty loops", empty_loops(20_000)),
        ("15,000 blocks within each other", nested_blocks(15_000)),
        (
            "a jump table of a million targets",
            jump_table(1_000_000, 1_000),
        ),
        ("50,000 locals", functions(1, 50_000, |_, _| {})),
        ("live locals", live_locals(2_000, 200)),
        ("100,000 functions", functions(100_000, 3, |_, _| {})),
        ("a million types", types(1_000_000)),
        ("a function of 20 MB", giant(20 << 20)),
        ("a type that doubles", alias_bomb(40)),
        ("a thousand components within each other", nested(1_000)),
        ("10,000 instances", instances(10_000)),
    ];
    for (at, (what, bomb)) in bombs.iter().enumerate() {
        let told = bench.load(&format!("bomb-{at}"), bomb);
        told.is_sound(what);
        assert!(told.took < LOAD_MAX, "{what}: {:?}", told.took);
        // Not something else that is wrong with it.
        let is_bomb = [
            "it compiles",
            "exceeds",
            "too large",
            "nested too deep",
            "takes longer than",
            "worker died",
        ];
        assert!(
            is_bomb.iter().any(|words| told.text.contains(words)),
            "{what}: {}",
            told.text
        );
    }
}

#[test]
fn others_go_on_while_a_bomb_is_compiled() {
    let bench = Bench::new();
    let good = command("i32.const 0");
    bench.call("good", &good).ran("good");
    let bomb = live_locals(4_000, 1_000);
    std::thread::scope(|scope| {
        let loading = scope.spawn(|| bench.load("bomb", &bomb));
        let mut meanwhile = 0;
        while !loading.is_finished() && meanwhile < 5 {
            let told = bench.call("good", &good);
            told.ran("as it should be");
            meanwhile += 1;
        }
        let told = loading.join().unwrap();
        told.is_sound("bomb");
        assert!(meanwhile > 0);
    });
}

#[test]
fn a_loop_before_anything_is_called_meets_the_deadline() {
    let bench = Bench::new();
    for (what, module) in [
        ("start", "(func $spin (loop br 0)) (start $spin)"),
        (
            "recursion in start",
            "(func $spin (call $spin)) (start $spin)",
        ),
        (
            "tail calls",
            "(func $spin (return_call $spin)) (start $spin)",
        ),
    ] {
        let component = wat(&command_text("", "", "", module, "i32.const 0"));
        let told = bench.call("start", &component);
        told.refused(what, &["deadline", "fuel", "trapped"]);
        assert!(
            told.took < Duration::from_secs(60),
            "{what}: {:?}",
            told.took
        );
    }
}

#[test]
fn a_component_of_a_gigabyte_is_not_even_read() {
    let bench = Bench::new();
    let folder = bench.folder("large", crate::bench::MANIFEST, &command("i32.const 0"));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(bench.house.path("large/component.wasm"))
        .unwrap();
    // One custom section that says it goes on for a gigabyte; the file is sparse.
    file.set_len(1 << 30).unwrap();
    let begun = Instant::now();
    let told = crate::bench::watched(bench.house.command(&["skill", "check", &folder]));
    told.refused("a gigabyte", &["larger than a skill's files are"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
    // As much as is taken, in one custom section.
    let mut component = Component::new();
    let data = vec![0; 100 << 20];
    component.section(&CustomSection {
        name: "padding".into(),
        data: (&data).into(),
    });
    let mut bytes = component.finish();
    bytes.extend_from_slice(&command("i32.const 0")[8..]);
    let told = bench.load("padded", &bytes);
    assert!(!told.text.contains("panicked at"), "{}", told.text);
    assert!(told.broker_bytes < 1 << 30, "{}", told.broker_bytes);
}
