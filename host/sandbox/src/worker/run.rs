//! One compilation, or one component opened and each call of it, from its files to its outcome.

use std::time::Duration;

use chacha20::rand_core::{Rng as _, SeedableRng as _};
use chacha20::{ChaCha8Rng, ChaCha20Rng};
use flow::id::Role;
use serde_json::Value;
use wasmtime::component::{Component, Instance, InstancePre, ResourceTable, Val};
use wasmtime::{Engine, Store, Trap};
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder};

use crate::imports::role_interface;
use crate::message::{Done, Failure, Files, OpenRequest, RunRequest};
use crate::worker::http::Http;
use crate::worker::limiter::Limiter;
use crate::worker::link::{Guest, linker};
use crate::worker::waits::Tasks;
use crate::worker::{Account, Broker, COMPILED, COMPONENT, OUT, VIEW, engine, value};

/// How often a running guest is asked whether its time is up.
const TICK: Duration = Duration::from_millis(10);

/// A guest's one argument. Its input is its parameter, or what a command reads from standard input.
const PROGRAM: &str = "component.wasm";

/// Compiles `/component.wasm`.
pub(crate) fn compile() -> Result<(), String> {
    let bytes = std::fs::read(COMPONENT).map_err(|error| error.to_string())?;
    let compiled = engine::engine()
        .and_then(|engine| engine.precompile_component(&bytes))
        .map_err(|error| format!("{error:#}"))?;
    std::fs::write(format!("{OUT}/component.cwasm"), compiled).map_err(|error| error.to_string())
}

/// What all calls of this worker share: nothing that a guest can write to.
pub(crate) struct Opened {
    engine: Engine,
    component: InstancePre<Guest>,
    files: Files,
    broker: Broker,
}

impl Opened {
    /// Loads and links `/component.cwasm`, and begins to count its calls' time.
    pub(crate) fn open(broker: &Broker, request: &OpenRequest) -> wasmtime::Result<Opened> {
        let engine = engine::engine()?;
        #[expect(
            unsafe_code,
            reason = "compiled code is trusted because the broker made it and checked its keyed digest"
        )]
        // SAFETY: the broker mounts here, read-only, a file that its own compile worker wrote and whose keyed digest it has just checked.
        let component = unsafe { Component::deserialize_file(&engine, COMPILED) }?;
        let component =
            linker(&engine, &component, &request.interfaces)?.instantiate_pre(&component)?;
        tick(&engine);
        Ok(Opened {
            engine,
            component,
            files: request.files,
            broker: broker.clone(),
        })
    }

    /// Runs one call in a fresh store.
    pub(crate) fn run(&self, request: RunRequest) -> Done {
        let printed = MemoryOutputPipe::new(request.limits.output_bytes as usize);
        let mut store = match self.store(&request, &printed) {
            Ok(store) => store,
            Err(error) => return never_ran(Failure::Trap(format!("{error:#}"))),
        };
        let outcome = {
            // What a guest begins beside itself belongs to its call, wherever it is begun.
            let handle = store.data().tasks.handle();
            let _here = handle.enter();
            self.call(&mut store, &request)
        };
        let begun = store.data().account.begun();
        let fuel = request.limits.fuel - store.get_fuel().unwrap_or(0).min(request.limits.fuel);
        let limiter = &store.data().limiter;
        let outcome = outcome.map_err(|failure| match failure {
            // A guest that is refused memory aborts in its own way; the cause is the refusal.
            Failure::Trap(_) if limiter.refused => Failure::OutOfMemory,
            other => other,
        });
        let peak_memory_bytes = limiter.peak_bytes();
        store.into_data().tasks.end();
        Done {
            begun,
            outcome,
            fuel,
            peak_memory_bytes,
            printed: String::from_utf8_lossy(&printed.contents()).into_owned(),
        }
    }

    /// A store with this call's files, environment and limits.
    fn store(
        &self,
        request: &RunRequest,
        printed: &MemoryOutputPipe,
    ) -> wasmtime::Result<Store<Guest>> {
        let limits = &request.limits;
        let account = Account::new(&request.began, request.recorded.clone());
        let mut wasi = WasiCtx::builder();
        chance(&mut wasi, request.began.seed);
        wasi.allow_blocking_current_thread(true)
            .wall_clock(account.clock.clone())
            .monotonic_clock(account.clock.clone())
            .max_random_size(64 * 1024)
            .stdout(printed.clone())
            .stderr(printed.clone())
            // Programs take it for granted that the first argument is their own name.
            .arg(PROGRAM)
            .envs(&request.env);
        if request.role == Role::Job.as_str() {
            wasi.stdin(MemoryInputPipe::new(request.input.to_string()));
        }
        match self.files {
            Files::None => {}
            Files::ReadOnly => drop(wasi.preopened_dir(VIEW, "/", FsPerms::ReadOnly)?),
            Files::ReadWrite => drop(wasi.preopened_dir(VIEW, "/", FsPerms::ReadWrite)?),
        }
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles as usize);
        let guest = Guest {
            wasi: wasi.build(),
            table,
            limiter: Limiter::new(limits.memory_bytes),
            broker: self.broker.clone(),
            http: Http::new(self.broker.clone(), account.clone(), limits.sent_bytes),
            account,
            tasks: Tasks::new()?,
        };
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_fuel(limits.fuel)?;
        store.set_epoch_deadline(limits.wall_ms / TICK.as_millis() as u64 + 1);
        store.epoch_deadline_trap();
        store.set_hostcall_fuel(16 << 20);
        store.set_max_component_handles(limits.handles as usize);
        Ok(store)
    }

    fn call(&self, store: &mut Store<Guest>, request: &RunRequest) -> Result<Value, Failure> {
        let role = request
            .role
            .parse()
            .map_err(|_| Failure::InvalidInput("no such role".into()))?;
        let instance = self
            .component
            .instantiate(&mut *store)
            .map_err(|error| failure(&error))?;
        if let Some(function) = exported(store, &instance, role) {
            return role_function(store, function, role, &request.input);
        }
        let run = exported_run(store, &instance)
            .ok_or_else(|| Failure::InvalidInput("the role's function is not exported".into()))?;
        let mut results = [Val::Bool(false)];
        match run.call(&mut *store, &[], &mut results) {
            Ok(()) if matches!(results[0], Val::Result(Ok(_))) => Ok(Value::Null),
            Ok(()) => Err(Failure::Trap("the command failed".into())),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(0)) => Ok(Value::Null),
                Some(I32Exit(code)) => {
                    Err(Failure::Trap(format!("the command exited with {code}")))
                }
                None => Err(failure(&error)),
            },
        }
    }
}

/// All that is random to a guest, from one seed.
fn chance(wasi: &mut WasiCtxBuilder, seed: [u8; 32]) {
    let mut source = ChaCha20Rng::from_seed(seed);
    let mut seed = [0; 16];
    source.fill_bytes(&mut seed);
    wasi.insecure_random_seed(u128::from_le_bytes(seed))
        .insecure_random(ChaCha8Rng::from_rng(&mut source))
        .secure_random(source);
}

/// The end of something that never ran.
fn never_ran(failure: Failure) -> Done {
    Done {
        begun: 0,
        outcome: Err(failure),
        fuel: 0,
        peak_memory_bytes: 0,
        printed: String::new(),
    }
}

/// Counts the engine's epochs up; the thread ends with the engine.
fn tick(engine: &Engine) {
    let engine = engine.weak();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    });
}

fn exported(
    store: &mut Store<Guest>,
    instance: &Instance,
    role: Role,
) -> Option<wasmtime::component::Func> {
    let outer = instance.get_export_index(&mut *store, None, &role_interface(role))?;
    let name = if role == Role::Job {
        "run"
    } else {
        role.as_str()
    };
    let inner = instance.get_export_index(&mut *store, Some(&outer), name)?;
    instance.get_func(&mut *store, inner)
}

fn exported_run(
    store: &mut Store<Guest>,
    instance: &Instance,
) -> Option<wasmtime::component::Func> {
    (0..=20).find_map(|patch| {
        let outer =
            instance.get_export_index(&mut *store, None, &format!("wasi:cli/run@0.2.{patch}"))?;
        let inner = instance.get_export_index(&mut *store, Some(&outer), "run")?;
        instance.get_func(&mut *store, inner)
    })
}

fn role_function(
    store: &mut Store<Guest>,
    function: wasmtime::component::Func,
    role: Role,
    input: &Value,
) -> Result<Value, Failure> {
    let ty = function.ty(&*store);
    // A job takes and gives its JSON as text.
    let text = Value::String(input.to_string());
    let given = if role == Role::Job { &text } else { input };
    let params = ty
        .params()
        .map(|(name, ty)| value::from_json(given, &ty, name, 0))
        .collect::<Result<Vec<_>, _>>();
    let params = params.map_err(Failure::InvalidInput)?;
    if params.len() != 1 {
        return Err(Failure::InvalidInput(
            "the role's function takes one value".into(),
        ));
    }
    let mut results = [Val::Bool(false)];
    function
        .call(&mut *store, &params, &mut results)
        .map_err(|error| failure(&error))?;
    value::to_json(&results[0], 0).map_err(Failure::InvalidOutput)
}

fn failure(error: &wasmtime::Error) -> Failure {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Failure::OutOfFuel,
        Some(Trap::Interrupt) => Failure::OutOfTime,
        _ => Failure::Trap(format!("{error:#}").chars().take(4000).collect()),
    }
}
