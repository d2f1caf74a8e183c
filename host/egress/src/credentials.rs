//! The secrets of a visit: which ones a request carries, what none may carry, and what no answer may repeat.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use capability::CredentialGrant;
use capability::origin::{Origin, Scheme};
use http::header::{HeaderMap, HeaderName};
use tokio::time::timeout;

use crate::request::RequestError;
use crate::scrub::Needles;
use crate::secrets::{BoundSecret, Secrets};

/// A secret that goes with a request, and how.
pub(crate) struct Carried {
    credential: CredentialGrant,
    bound: Arc<BoundSecret>,
}

/// Gets the secrets for an origin, each within the time that is given. Both must name it: the grant, and the owner of the secret.
///
/// # Errors
/// [`RequestError::CredentialUnavailable`]; a request is not sent without a secret that it should have.
pub(crate) async fn carried(
    secrets: &dyn Secrets,
    credentials: &[CredentialGrant],
    origin: &Origin,
    patience: Duration,
) -> Result<Vec<Carried>, RequestError> {
    let mut all = Vec::new();
    for credential in credentials {
        let unavailable = || RequestError::CredentialUnavailable {
            name: credential.name.clone(),
        };
        if credential.origin != *origin || origin.scheme() != Scheme::Https {
            continue;
        }
        let bound = timeout(patience, secrets.get(&credential.name))
            .await
            .map_err(|_| {
                let name = &credential.name;
                tracing::warn!(
                    "the secret `{name}` was not there after {patience:?}: its source is not waited for any longer"
                );
                unavailable()
            })?
            .map_err(|error| {
                tracing::warn!("{error}");
                unavailable()
            })?;
        if !bound.may_go_to(origin) {
            tracing::warn!(
                "the secret `{}` may not go to {origin}: its hosts in secrets.toml do not hold it",
                credential.name
            );
            return Err(unavailable());
        }
        all.push(Carried {
            credential: credential.clone(),
            bound,
        });
    }
    Ok(all)
}

impl Carried {
    pub(crate) fn name(&self) -> &str {
        &self.credential.name
    }

    /// Puts the secret into its header.
    ///
    /// # Errors
    /// [`RequestError::CredentialUnavailable`] when header or format are none.
    pub(crate) fn inject(&self, headers: &mut HeaderMap) -> Result<(), RequestError> {
        let unavailable = || RequestError::CredentialUnavailable {
            name: self.credential.name.clone(),
        };
        let name =
            HeaderName::from_bytes(self.credential.header.as_bytes()).map_err(|_| unavailable())?;
        // Not shown by anything that prints headers, and not put into a table that outlives the request.
        let value = self.bound.secret.header(&self.credential.format);
        headers.insert(name, value.map_err(|_| unavailable())?);
        Ok(())
    }
}

/// Some secrets and the needles to find them by, made anew only when the secrets are others.
pub(crate) struct Watched(Mutex<Watching>);

struct Watching {
    secrets: Vec<Arc<BoundSecret>>,
    needles: Arc<Needles>,
}

impl Watched {
    pub(crate) fn nothing() -> Watched {
        Watched(Mutex::new(Watching {
            secrets: vec![],
            needles: Needles::nothing(),
        }))
    }

    /// The needles of exactly these.
    pub(crate) fn exactly(&self, secrets: Vec<Arc<BoundSecret>>) -> Arc<Needles> {
        let mut watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs = watching.secrets.iter().zip(&secrets);
        let same = watching.secrets.len() == secrets.len()
            && pairs
                .into_iter()
                .all(|(one, other)| Arc::ptr_eq(one, other));
        if !same {
            watching.watch(secrets);
        }
        Arc::clone(&watching.needles)
    }

    /// The needles of all that were ever added, with these.
    pub(crate) fn with(&self, carried: &[Carried]) -> Arc<Needles> {
        let mut watching = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut secrets = watching.secrets.clone();
        for one in carried {
            if !secrets.iter().any(|known| Arc::ptr_eq(known, &one.bound)) {
                secrets.push(Arc::clone(&one.bound));
            }
        }
        if secrets.len() > watching.secrets.len() {
            watching.watch(secrets);
        }
        Arc::clone(&watching.needles)
    }
}

impl Watching {
    fn watch(&mut self, secrets: Vec<Arc<BoundSecret>>) {
        self.needles = Arc::new(Needles::new(secrets.iter().map(|bound| &bound.secret)));
        self.secrets = secrets;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use super::*;
    use crate::secret::Secret;

    fn carried(value: &str, format: &str) -> Carried {
        let origin = Origin::parse("https", "api.test").unwrap();
        Carried {
            credential: CredentialGrant {
                name: "token".into(),
                origin: origin.clone(),
                header: "x-key".into(),
                format: format.into(),
            },
            bound: Arc::new(BoundSecret {
                secret: Secret::new(value.into(), "test").unwrap(),
                hosts: vec![origin],
            }),
        }
    }

    #[test]
    fn a_header_with_a_secret_is_shown_to_nobody_and_replaces_what_is_there() {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", http::HeaderValue::from_static("mine"));
        carried("canary-{}-1", "Bearer {}!")
            .inject(&mut headers)
            .unwrap();
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-key"], "Bearer canary-{}-1!");
        assert!(!format!("{headers:?}").contains("canary"), "{headers:?}");
    }

    #[test]
    fn needles_are_made_anew_only_for_other_secrets() {
        let (one, two) = (carried("canary-one", "{}"), carried("canary-two", "{}"));
        let watched = Watched::nothing();
        let first = watched.exactly(vec![Arc::clone(&one.bound)]);
        let again = watched.exactly(vec![Arc::clone(&one.bound)]);
        assert!(Arc::ptr_eq(&first, &again) && first.are_in(b"canary-one"));
        let other = watched.exactly(vec![Arc::clone(&two.bound)]);
        assert!(!other.are_in(b"canary-one") && other.are_in(b"canary-two"));
        let watched = Watched::nothing();
        assert!(watched.with(&[]).is_empty());
        watched.with(std::slice::from_ref(&one));
        // What was sent once may come back at any later request.
        let both = watched.with(std::slice::from_ref(&two));
        assert!(both.are_in(b"canary-one") && both.are_in(b"canary-two"));
    }

    /// A source that hangs.
    #[derive(Debug)]
    struct Hanging;

    #[async_trait::async_trait]
    impl Secrets for Hanging {
        async fn get(&self, _: &str) -> Result<Arc<BoundSecret>, crate::secrets::SecretError> {
            std::future::pending().await
        }

        fn refused(&self, _: &str) {}

        fn known(&self) -> Vec<Arc<BoundSecret>> {
            vec![]
        }
    }

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_source_that_hangs_is_given_up_and_the_log_says_so() {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
        let one = carried("canary-one", "{}").credential;
        let got = super::carried(
            &Hanging,
            std::slice::from_ref(&one),
            &one.origin,
            Duration::from_millis(20),
        )
        .await;
        assert!(matches!(
            got,
            Err(RequestError::CredentialUnavailable { name }) if name == "token"
        ));
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(
            log.contains("WARN") && log.contains("`token`") && log.contains("20ms"),
            "{log}"
        );
    }
}
