//! The engine's configuration: the same for compiling and for running, or compiled code is not loaded.

use wasmtime::{Config, Engine, Strategy, WasmBacktraceDetails};

/// The stack of a guest. Recursion beyond it is a trap; the worker's own thread has far more.
const STACK_BYTES: usize = 1 << 20;

/// A change here changes what compiled code may do: count it up with each.
const REVISION: u32 = 1;

/// What compiled code depends on apart from the component.
pub(crate) fn identity() -> String {
    format!(
        "wasmtime 48.0.8 {} {} revision {REVISION}",
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

/// Makes the engine. One in a process.
pub(crate) fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .wasm_component_model(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true)
        // Proposals that skills do not need, each of them more surface: threads, garbage collection, WASI 0.3's async.
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_memory64(false)
        .wasm_stack_switching(false)
        .concurrency_support(false);
    Engine::new(&config)
}
