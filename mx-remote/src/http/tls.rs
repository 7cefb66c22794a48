//! TLS with our own cryptography instead of a process-wide default.

use crate::error::{Error, Result};
use crate::options::Transport;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::Arc;

/// What reqwest would build itself. Without any trusted certificate on the system, a client that asks plain addresses
/// only still works: it then trusts nobody.
pub(super) fn config(transport: &Transport, needed: bool) -> Result<rustls::ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let extra = certificates(&transport.extra_certificates)?;
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, provider);
    let mut config = match verifier {
        Ok(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth(),
        Err(_) if !needed => builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth(),
        Err(error) => return Err(failed(error)),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pems: &[String]) -> Result<Vec<CertificateDer<'static>>> {
    let mut all = Vec::new();
    for pem in pems {
        let before = all.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            all.push(certificate.map_err(|_| bad_certificate(pem))?);
        }
        if all.len() == before {
            return Err(bad_certificate(pem));
        }
    }
    Ok(all)
}

fn bad_certificate(pem: &str) -> Error {
    Error::BadOption {
        option: "extra_certificates",
        given: crate::secret::clean(pem, &[], 60),
        wanted: "certificates as PEM",
    }
}

fn failed(error: rustls::Error) -> Error {
    Error::Client {
        source: Box::new(error),
    }
}
