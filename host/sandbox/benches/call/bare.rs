//! The same guest in this process: wasmtime without a worker, a broker, a grant or JSON.

use std::path::{Path, PathBuf};

use http::{Request, Response};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, InstancePre, Lift, Linker, ResourceTable, Val,
};
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::engine;

type Sent = Result<(Response<WasiBody>, Finished), Error>;
type Finished = Box<dyn Future<Output = Result<(), Error>> + Send>;

/// One component, linked once; a fresh store for each call.
pub(crate) struct Bare {
    engine: Engine,
    component: InstancePre<Guest>,
    view: PathBuf,
}

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    hooks: NoRequests,
}

struct NoRequests;

impl WasiHttpHooks for NoRequests {
    fn send_request(
        &mut self,
        _: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Finished,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(async { Err(Error::HttpRequestDenied) })
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

#[derive(Debug, ComponentType, Lift)]
#[component(variant)]
#[allow(
    dead_code,
    reason = "the contract's cases; the bench meets none of them"
)]
enum SkillError {
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "out-of-budget")]
    OutOfBudget(String),
    #[component(name = "invalid-input")]
    InvalidInput(String),
    #[component(name = "retryable")]
    Retryable(String),
    #[component(name = "failed")]
    Failed(String),
}

impl Bare {
    pub(crate) fn new(component: &[u8], view: &Path) -> Bare {
        let engine = engine::engine().unwrap();
        let component = Component::new(&engine, component).unwrap();
        let mut linker: Linker<Guest> = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).unwrap();
        wasmtime_wasi_http::p2::add_only_http_to_linker_sync(&mut linker).unwrap();
        for (name, item) in component.component_type().imports(&engine) {
            if let ComponentItem::ComponentInstance(host) = item.ty
                && name.starts_with("moat:host/")
            {
                let mut link = linker.instance(name).unwrap();
                for (function, _) in host.exports(&engine) {
                    // The functions that are called here give nothing back.
                    let nothing =
                        |_: StoreContextMut<'_, Guest>, _, _: &[Val], _: &mut [Val]| Ok(());
                    link.func_new(function, nothing).unwrap();
                }
            }
        }
        Bare {
            component: linker.instantiate_pre(&component).unwrap(),
            engine,
            view: view.to_owned(),
        }
    }

    pub(crate) fn call(&self, input: &str) -> String {
        let mut wasi = WasiCtx::builder();
        wasi.allow_blocking_current_thread(true);
        wasi.preopened_dir(&self.view, "/", FsPerms::ReadOnly)
            .unwrap();
        let guest = Guest {
            wasi: wasi.build(),
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            hooks: NoRequests,
        };
        let mut store = Store::new(&self.engine, guest);
        store.set_fuel(u64::MAX / 2).unwrap();
        store.set_epoch_deadline(1000);
        let instance = self.component.instantiate(&mut store).unwrap();
        let outer = instance
            .get_export_index(&mut store, None, "moat:skill/job@0.1.0")
            .unwrap();
        let inner = instance
            .get_export_index(&mut store, Some(&outer), "run")
            .unwrap();
        let run = instance
            .get_typed_func::<(&str,), (Result<String, SkillError>,)>(&mut store, &inner)
            .unwrap();
        let (answer,) = run.call(&mut store, (input,)).unwrap();
        answer.unwrap()
    }
}
