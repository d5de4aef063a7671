//! Whom the sidecar trusts to be the upstream: the built-in public roots, the system's and the configured file's.

use crate::upstream::x509;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Certificates in a file that cannot be used.
#[derive(Debug)]
pub struct CaFileError {
    path: PathBuf,
    problem: String,
}

impl fmt::Display for CaFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "upstream_ca_file {}: {}; give a file of PEM certificates",
            self.path.display(),
            self.problem
        )
    }
}

impl std::error::Error for CaFileError {}

/// The certificates of `upstream_ca_file`, and whether they are all that is trusted.
#[derive(Debug, Default)]
pub struct Trusted {
    file: Vec<CertificateDer<'static>>,
    file_only: bool,
}

impl Trusted {
    /// Reads the file, if there is one. With `file_only` nothing else is trusted.
    ///
    /// # Errors
    /// When it cannot be read, or holds no certificate.
    pub fn read(path: Option<&Path>, file_only: bool) -> Result<Trusted, CaFileError> {
        let Some(path) = path else { return Ok(Trusted::default()) };
        let file = certificates(path).map_err(|problem| CaFileError { path: path.to_owned(), problem })?;
        Ok(Trusted { file, file_only })
    }

    /// What a TLS client needs. Looks the system's certificates up, which takes some milliseconds.
    ///
    /// # Errors
    /// When nothing at all is trusted.
    pub fn client_config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        if !self.file_only {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            let system = rustls_native_certs::load_native_certs();
            for error in &system.errors {
                log::debug!("some of the system's certificates cannot be used: {error}");
            }
            roots.add_parsable_certificates(system.certs);
        }
        roots.add_parsable_certificates(self.file.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(roots, self.file.clone(), self.file_only, provider.clone())?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(config)
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(certificates)
}

/// The usual verification, and beside it the servers' own certificates that the file holds: what `openssl req -x509` makes
/// is not an authority for others and often names no host, but a server that proves to have its key is the server that was meant.
#[derive(Debug)]
struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
    file_only: bool,
}

impl Verifier {
    fn new(
        roots: RootCertStore,
        own: Vec<CertificateDer<'static>>,
        file_only: bool,
        provider: Arc<CryptoProvider>,
    ) -> Result<Verifier, String> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Verifier { usual, own, file_only })
    }

    /// What is wrong with a certificate, and what helps.
    fn explain(&self, error: &Error, chain: &[&CertificateDer<'_>], name: &ServerName<'_>) -> String {
        let name = name.to_str();
        let issuer = chain.last().and_then(|top| x509::issuer(top)).unwrap_or_else(|| "(unnamed)".into());
        let cure = if self.file_only {
            "add that issuer's certificate to upstream_ca_file, or leave upstream_ca_only off"
        } else {
            "give that issuer's certificate as upstream_ca_file or SSL_CERT_FILE"
        };
        let Error::InvalidCertificate(wrong) = error else {
            return format!("the certificate of {name} cannot be verified: {error}");
        };
        match wrong {
            CertificateError::UnknownIssuer => {
                format!("the certificate of {name} was issued by {issuer}, which is not trusted; {cure}")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the certificate of {name} is for another name; use the name that it is for in the URL, or give the certificate itself as upstream_ca_file"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                format!("the certificate of {name} has expired (or this host's clock is wrong)")
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("the certificate of {name} is not valid yet (or this host's clock is wrong)")
            }
            other => format!(
                "the certificate of {name}, issued by {issuer}, is refused ({other}); if it is the server's own, give it as upstream_ca_file"
            ),
        }
    }
}

/// Why a certificate is refused, in words.
#[derive(Debug)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.usual.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        verified.or_else(|error| {
            if self.own.iter().any(|own| own == end_entity) {
                return Ok(ServerCertVerified::assertion());
            }
            let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).collect();
            let refused = Refused(self.explain(&error, &chain, name));
            Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused)))))
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_with_its_name() {
        let error = Trusted::read(Some(Path::new("Cargo.toml")), false).unwrap_err().to_string();
        assert!(error.contains("Cargo.toml") && error.contains("no certificate"), "{error}");
        assert!(Trusted::read(Some(Path::new("/nonexistent/ca.pem")), false).is_err());
    }

    #[test]
    fn without_a_file_the_public_roots_are_trusted() {
        assert!(Trusted::read(None, true).unwrap().client_config().is_ok());
    }
}
