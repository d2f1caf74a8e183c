//! The linker, built from the grant: what is not granted is not there.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, Linker, ResourceTable, Val};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings;
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::message::HostCall;
use crate::message::http::INTERFACE as HTTP;
use crate::worker::http::Http;
use crate::worker::limiter::Limiter;
use crate::worker::waits::Tasks;
use crate::worker::{Account, Broker, rename, value, waits};

/// What the guest's store holds.
pub(crate) struct Guest {
    pub(crate) wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) broker: Broker,
    pub(crate) account: Account,
    pub(crate) http: Http,
    pub(crate) tasks: Tasks,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

struct Errors;

impl HasData for Errors {
    type Data<'a> = &'a mut ResourceTable;
}

/// Makes the linker for a component.
pub(crate) fn linker(
    engine: &Engine,
    component: &Component,
    interfaces: &[String],
) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi_base(&mut linker)?;
    if interfaces.iter().any(|one| one == HTTP) {
        // Types and the outgoing handler; a request has no way out but the broker.
        wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker)?;
    }
    for (name, item) in component.component_type().imports(engine) {
        let granted = name
            .strip_suffix("@0.1.0")
            .filter(|name| interfaces.iter().any(|one| one == name));
        let (Some(interface), ComponentItem::ComponentInstance(instance)) = (granted, item.ty)
        else {
            continue;
        };
        let mut link = linker.instance(name)?;
        for (function, item) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(_) = item.ty {
                let (interface, function_name) = (interface.to_owned(), function.to_owned());
                link.func_new(
                    function,
                    move |store: StoreContextMut<'_, Guest>, ty, params, results| {
                        let wanted = ty.results().next();
                        forward(
                            &store,
                            &interface,
                            &function_name,
                            params,
                            results,
                            wanted.as_ref(),
                        )
                    },
                )?;
            }
        }
    }
    Ok(linker)
}

/// One host call: to the broker and back.
fn forward(
    store: &StoreContextMut<'_, Guest>,
    interface: &str,
    function: &str,
    params: &[Val],
    results: &mut [Val],
    wanted: Option<&wasmtime::component::Type>,
) -> wasmtime::Result<()> {
    let args = params
        .iter()
        .map(|param| value::to_json(param, 0))
        .collect::<Result<_, _>>()
        .map_err(wasmtime::Error::msg)?;
    let guest = store.data();
    let answer = guest
        .broker
        .ask(&guest.account, HostCall::new(interface, function, args))?;
    if let (Some(slot), Some(ty)) = (results.first_mut(), wanted) {
        *slot = value::from_json(&answer, ty, "answer", 0).map_err(wasmtime::Error::msg)?;
    }
    Ok(())
}

/// The WASI 0.2 base without sockets: whatever is linked here gives nothing beyond the store's context.
fn wasi_base(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    use bindings::{cli, clocks, filesystem, random};

    wasmtime_wasi_io::bindings::wasi::io::error::add_to_linker::<Guest, Errors>(linker, |guest| {
        guest.ctx().table
    })?;
    waits::add_to_linker(linker)?;
    clocks::wall_clock::add_to_linker::<Guest, wasmtime_wasi::clocks::WasiClocks>(
        linker, clocks_of,
    )?;
    clocks::monotonic_clock::add_to_linker::<Guest, wasmtime_wasi::clocks::WasiClocks>(
        linker, clocks_of,
    )?;
    random::random::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    random::insecure::add_to_linker::<Guest, WasiRandom>(linker, |guest| guest.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<Guest, WasiRandom>(linker, |guest| {
        guest.ctx().ctx.random()
    })?;
    filesystem::preopens::add_to_linker::<Guest, WasiFilesystem>(linker, Guest::filesystem)?;
    bindings::sync::filesystem::types::add_to_linker::<Guest, WasiFilesystem>(
        linker,
        Guest::filesystem,
    )?;
    rename::add_to_linker(linker)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::environment::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::stdout::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::stderr::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(linker, Guest::cli)
}

fn clocks_of(guest: &mut Guest) -> wasmtime_wasi::clocks::WasiClocksCtxView<'_> {
    use wasmtime_wasi::clocks::WasiClocksView as _;
    guest.clocks()
}
