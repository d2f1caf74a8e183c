//! The machine's secrets as the guests' door has them: those of `secrets.toml` to send, and the keys of models to look out for as well.

use std::sync::Arc;

use async_trait::async_trait;
use egress::store::Stores;
use egress::{BoundSecret, SecretError, Secrets};
use model::Models;

/// Gives what the stores give, and knows what models are called with.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) stores: Arc<Stores>,
    pub(crate) models: Arc<Models>,
}

#[async_trait]
impl Secrets for Known {
    async fn get(&self, name: &str) -> Result<Arc<BoundSecret>, SecretError> {
        self.stores.get(name).await
    }

    fn refused(&self, name: &str) {
        self.stores.refused(name);
    }

    fn known(&self) -> Vec<Arc<BoundSecret>> {
        let mut known = self.stores.known();
        known.extend(self.models.keys());
        known
    }
}
