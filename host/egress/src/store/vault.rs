//! Secrets in HashiCorp Vault, or what speaks its HTTP API: one read of a key-value engine, version 1 or 2.
//!
//! No lease is renewed: values of key-value engines have none. The token is read anew each time, as an agent of Vault's renews it in its file.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::door::{Body, Credential, Door};
use crate::error::EgressError;
use crate::secret::{Secret, unreadable};
use crate::secrets::{Unavailable, VaultTrouble};
use crate::store::config::{KvVersion, TokenSource, Vault};
use crate::store::{env, file};

/// The whole read. Vault answers in milliseconds; a run waits for it.
const WHOLE: Duration = Duration::from_secs(20);

/// All fields of one secret together; Vault's own limit for a request is 32 MiB, and nobody keeps a key among such.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The field of a secret.
pub(crate) async fn read(
    vault: &Vault,
    path: &str,
    field: &str,
    kv: KvVersion,
) -> Result<Secret, Unavailable> {
    let door = open(vault)?;
    let answered = tokio::time::timeout(WHOLE, ask(&door, vault, path)).await;
    let trouble = |why| Unavailable::Vault {
        address: vault.endpoint.as_str().to_owned(),
        why,
    };
    let body = answered
        .unwrap_or(Err(VaultTrouble::Slow {
            seconds: WHOLE.as_secs(),
        }))
        .map_err(trouble)?;
    let value = pick(&body, field, kv).map_err(|missing| {
        trouble(match missing {
            Missing::Form => VaultTrouble::Answer {
                version: kv.number(),
            },
            Missing::Field => VaultTrouble::Field {
                path: path.to_owned(),
                field: field.to_owned(),
            },
        })
    })?;
    Ok(Secret::of(&value, &format!("{path} of Vault"))?)
}

/// A door of its own for each read: the token may be another one by then.
fn open(vault: &Vault) -> Result<Door, Unavailable> {
    let setup = |error: EgressError| Unavailable::Vault {
        address: vault.endpoint.as_str().to_owned(),
        why: VaultTrouble::Setup {
            why: error.to_string(),
        },
    };
    let token = match &vault.token {
        TokenSource::Env(name) => env::read(name),
        TokenSource::File(path) => file::read(path),
    }?;
    let credential = Credential::new("x-vault-token", "{}", &token).map_err(setup)?;
    let authorities = vault.authorities.as_ref().map(|path| {
        let from = format!("the file {}", path.display());
        std::fs::read(path).map_err(|error| unreadable(&from, &error))
    });
    let authorities = authorities.transpose()?;
    Door::open(
        vault.endpoint.clone(),
        Some(credential),
        authorities.as_deref(),
    )
    .map_err(setup)
}

async fn ask(door: &Door, vault: &Vault, path: &str) -> Result<Zeroizing<Vec<u8>>, VaultTrouble> {
    // Wanted by agents that stand before Vault, against requests that a browser was made to send.
    let mut headers = vec![("x-vault-request", "true")];
    headers.extend(
        vault
            .namespace
            .as_deref()
            .map(|namespace| ("x-vault-namespace", namespace)),
    );
    let response = door
        .get(&format!("v1/{path}"), &headers)
        .await
        .map_err(unreachable)?;
    let path = path.to_owned();
    match response.status {
        200 => whole(response.body).await,
        400 => Err(VaultTrouble::Malformed),
        403 => Err(VaultTrouble::Forbidden { path }),
        404 => Err(VaultTrouble::NotFound { path }),
        503 => Err(VaultTrouble::Sealed),
        // Over a rate limit; a replica behind what was asked for; standbys that do not read.
        status @ (429 | 412 | 472 | 473) => Err(VaultTrouble::Busy { status }),
        300..=399 => Err(VaultTrouble::Redirect),
        status => Err(VaultTrouble::Status { status }),
    }
}

fn unreachable(error: EgressError) -> VaultTrouble {
    VaultTrouble::Unreachable {
        why: error.to_string(),
    }
}

async fn whole(mut body: Body) -> Result<Zeroizing<Vec<u8>>, VaultTrouble> {
    // Never grows: see `read_whole`.
    let mut whole = Zeroizing::new(Vec::with_capacity(BODY_BYTES_MAX));
    while let Some(chunk) = body.chunk().await.map_err(unreachable)? {
        if whole.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(VaultTrouble::TooLarge {
                bytes_max: BODY_BYTES_MAX,
            });
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole)
}

enum Missing {
    Form,
    Field,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

/// The values as they stand in the body, so that only the one that is wanted is copied.
type Fields<'a> = BTreeMap<String, &'a RawValue>;

fn pick(body: &[u8], field: &str, kv: KvVersion) -> Result<Zeroizing<Vec<u8>>, Missing> {
    let fields: Fields<'_> = match kv {
        KvVersion::V1 => serde_json::from_slice::<Answer<Fields<'_>>>(body).map(|one| one.data),
        KvVersion::V2 => {
            serde_json::from_slice::<Answer<Answer<Fields<'_>>>>(body).map(|one| one.data.data)
        }
    }
    .map_err(|_| Missing::Form)?;
    let raw = fields.get(field).ok_or(Missing::Field)?;
    let value: String = serde_json::from_str(raw.get()).map_err(|_| Missing::Field)?;
    Ok(Zeroizing::new(value.into_bytes()))
}
