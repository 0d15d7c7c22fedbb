//! Somebody who dials a node with quinn alone, and has no manners.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rivven_cluster::node::Caller;
use rivven_cluster::quic::{Authority, Identity};
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

/// What it shows and speaks.
pub struct Stranger {
    tls: ClientConfig,
}

impl Stranger {
    /// One with a certificate of this authority.
    pub fn of(authority: &Authority, cluster: &str, caller: Caller) -> Stranger {
        let folder = tempfile::tempdir().expect("a folder");
        let identity = Identity { caller, cluster: cluster.parse().expect("a sound name") };
        let (certificate, key) = authority.issue_files(&identity, folder.path(), "stranger").expect("issued");
        Stranger::with(authority, &certificate, &key)
    }

    /// One that shows this certificate, and trusts this authority.
    pub fn with(authority: &Authority, certificate: &Path, key: &Path) -> Stranger {
        let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let tls = tls(authority).with_client_auth_cert(vec![certificate], key).expect("sound credentials");
        Stranger { tls }.speaking(b"rivven-cluster/1")
    }

    /// One that shows nothing.
    pub fn without_certificate(authority: &Authority) -> Stranger {
        Stranger { tls: tls(authority).with_no_client_auth() }.speaking(b"rivven-cluster/1")
    }

    /// Speaks another protocol.
    pub fn speaking(mut self, protocol: &[u8]) -> Stranger {
        self.tls.alpn_protocols = vec![protocol.to_vec()];
        self
    }

    /// Dials a node. With TLS 1.3 whoever dials is done before it is judged.
    pub async fn connect(&self, address: SocketAddr) -> Result<quinn::Connection, quinn::ConnectionError> {
        self.connect_from(Ipv4Addr::LOCALHOST, address).await
    }

    /// Dials a node from somewhere else.
    pub async fn connect_from(
        &self,
        own: Ipv4Addr,
        address: SocketAddr,
    ) -> Result<quinn::Connection, quinn::ConnectionError> {
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(self.tls.clone()).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client(SocketAddr::from((own, 0))).expect("a socket");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        endpoint.connect(address, "test.rivven").expect("sound").await
    }

    /// Dials a node, and waits for what it says when it closes the connection.
    pub async fn knock(&self, address: SocketAddr) -> quinn::ConnectionError {
        match self.connect(address).await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    }
}

fn tls(authority: &Authority) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let folder = tempfile::tempdir().expect("a folder");
    authority.write(folder.path()).expect("written");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.path().join("ca.pem")).expect("a root")).expect("sound");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
}
