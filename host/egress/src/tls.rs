//! Whom the door trusts: the public certificate authorities, and those that the machine's owner adds.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::error::EgressError;

/// A client's side of TLS. `authorities` is a PEM file's text.
///
/// # Errors
/// [`EgressError::Setup`].
pub(crate) fn config(authorities: Option<&[u8]>) -> Result<rustls::ClientConfig, EgressError> {
    let setup = |why: String| EgressError::Setup { why };
    let mut roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    if let Some(pem) = authorities {
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let refuse = |why: String| setup(format!("the certificate authorities: {why}"));
            let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| refuse(error.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(setup(
                "the file of certificate authorities holds no certificate".into(),
            ));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| setup(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
