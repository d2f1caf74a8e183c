//! A certificate authority for one command: made in memory, trusted by that command alone, gone with it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use capability::origin::HostName;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::EgressError;

/// Longer than any command may take; before it, what clocks may differ by.
const AFTER: Duration = Duration::from_secs(2 * 24 * 3600);
const BEFORE: Duration = Duration::from_secs(3600);

/// Hosts whose certificates are kept. A command that asks for more has them made again.
const KEPT_MAX: usize = 128;

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    /// All hosts show the same key: it is this process that has it.
    key: KeyPair,
    kept: Mutex<BTreeMap<HostName, Arc<ServerConfig>>>,
}

fn setup(error: impl Display) -> EgressError {
    EgressError::Setup {
        why: format!("the proxy's certificates: {error}"),
    }
}

impl Authority {
    pub(crate) fn new() -> Result<Authority, EgressError> {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(setup);
        let own = key()?;
        let mut params = named("moat: this command's proxy");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&own).map_err(setup)?.pem();
        Ok(Authority {
            issuer: Issuer::new(params, own),
            certificate,
            key: key()?,
            kept: Mutex::default(),
        })
    }

    /// As PEM, without the key.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// TLS as this host: HTTP/1.1 and nothing else.
    pub(crate) fn tls_for(&self, host: &HostName) -> Result<Arc<ServerConfig>, EgressError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = kept.get(host) {
            return Ok(Arc::clone(config));
        }
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        let config = Arc::new(self.make(host)?);
        kept.insert(host.clone(), Arc::clone(&config));
        Ok(config)
    }

    fn make(&self, host: &HostName) -> Result<ServerConfig, EgressError> {
        let mut params = named("moat: a host that a command asked for");
        params.subject_alt_names = vec![match host {
            HostName::Name(name) => SanType::DnsName(name.as_str().try_into().map_err(setup)?),
            HostName::V4(address) => SanType::IpAddress(IpAddr::V4(*address)),
            HostName::V6(address) => SanType::IpAddress(IpAddr::V6(*address)),
        }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.key, &self.issuer).map_err(setup)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(setup)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(setup)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + AFTER).into();
    params
}
