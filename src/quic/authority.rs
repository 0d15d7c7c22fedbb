//! The certificate authority of one cluster, and the credentials that it issues.
//!
//! Keys are Ed25519: small, fast, and of fixed length, so that handshakes have the same size in every
//! run of a simulation. For the same reason serial numbers are of fixed length.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use xxhash_rust::xxh3::xxh3_128;

use super::identity::{Identity, IdentityError};
use crate::rng::Seed;

/// What a node, a client or an operator proves itself with.
pub struct Credentials {
    /// Whom to trust.
    pub(super) authority: CertificateDer<'static>,
    /// Who we are.
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: PrivateKeyDer<'static>,
    identity: Identity,
}

/// Credentials that cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Correct the path, or make the file with `rivven-cluster certs`.
    #[error("cannot read {path}: {reason}; `rivven-cluster certs` makes the certificates of a cluster")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is not one of ours.
    #[error("{path}: {error}; `rivven-cluster certs` makes the certificates of a cluster")]
    Identity {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        error: IdentityError,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The certificate cannot be made.
    #[error("cannot issue a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    /// TLS does not accept them: the key is not the certificate's, say.
    #[error("TLS does not accept the credentials: {0}")]
    Tls(String),
}

impl Credentials {
    /// Reads credentials from PEM files.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`], which names the file.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Credentials, CredentialsError> {
        let unreadable = |path: &Path, reason: &dyn core::fmt::Display| CredentialsError::Unreadable {
            path: path.to_owned(),
            reason: reason.to_string(),
        };
        let read_certificate = |path: &Path| {
            CertificateDer::from_pem_file(path).map_err(|error| unreadable(path, &what_is_wrong(&error)))
        };
        let own = read_certificate(certificate)?;
        let identity = Identity::of(&own)
            .map_err(|error| CredentialsError::Identity { path: certificate.to_owned(), error })?;
        Ok(Credentials {
            authority: read_certificate(authority)?,
            certificate: own,
            key: PrivateKeyDer::from_pem_file(key)
                .map_err(|error| unreadable(key, &what_is_wrong(&error)))?,
            identity,
        })
    }

    /// Tells who they say we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }
}

/// What is wrong with a PEM file, without a word of what is in it: that may be a key.
fn what_is_wrong(error: &pem::Error) -> String {
    if let pem::Error::Io(error) = error {
        return error.to_string();
    }
    if matches!(error, pem::Error::NoItemsFound) {
        return "it holds nothing of the kind in PEM".to_owned();
    }
    "it is no sound PEM, or not all of it is there yet".to_owned()
}

impl Clone for Credentials {
    fn clone(&self) -> Credentials {
        Credentials {
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone_key(),
            identity: self.identity.clone(),
        }
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Credentials) -> bool {
        let of = |credentials: &Credentials| {
            (
                credentials.authority.clone(),
                credentials.certificate.clone(),
                credentials.key.secret_der().to_vec(),
            )
        };
        of(self) == of(other)
    }
}

impl core::fmt::Debug for Credentials {
    /// Never shows the key.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// Where an authority's keys come from.
enum Keys {
    /// The operating system.
    System,
    /// A seed, from which anybody can make them again.
    Seeded(Seed),
}

impl Keys {
    fn generate(&self, holder: &str) -> Result<KeyPair, CredentialsError> {
        let Keys::Seeded(seed) = self else { return Ok(KeyPair::generate_for(&PKCS_ED25519)?) };
        let mut der = PKCS8_ED25519.to_vec();
        der.resize(PKCS8_ED25519.len() + 32, 0);
        seed.stream(holder, 0).fill(&mut der[PKCS8_ED25519.len()..]);
        Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ED25519)?)
    }
}

/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410 §7).
const PKCS8_ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Issues the certificates of one cluster.
pub struct Authority {
    keys: Keys,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

/// The file names that [`Authority::write`] and [`Authority::read`] use.
const AUTHORITY_FILES: (&str, &str) = ("ca.pem", "ca.key");

impl Authority {
    /// Makes a new authority.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Issue`] if the system has no entropy.
    pub fn generate(name: &str) -> Result<Authority, CredentialsError> {
        Self::with_keys(name, Keys::System)
    }

    /// Makes an authority for a simulation: all its keys follow from the seed, so that every run of the
    /// simulation sends the same bytes. Whoever knows the seed can forge every certificate of it.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Issue`] if the name cannot stand in a certificate.
    pub fn for_simulation(name: &str, seed: Seed) -> Result<Authority, CredentialsError> {
        Self::with_keys(name, Keys::Seeded(seed))
    }

    fn with_keys(name: &str, keys: Keys) -> Result<Authority, CredentialsError> {
        let key = keys.generate("authority")?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = common_name(&format!("rivven-cluster authority {name}"));
        params.serial_number = Some(serial_number(key.public_key_raw()));
        let certificate = params.self_signed(&key)?;
        let (der, certificate_pem) = (certificate.der().clone(), certificate.pem());
        Ok(Authority { keys, issuer: Issuer::new(params, key), certificate: der, certificate_pem })
    }

    /// Reads an authority that was written to `folder`.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Unreadable`], which names the file.
    pub fn read(folder: &Path) -> Result<Authority, CredentialsError> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path)
                .map_err(|error| CredentialsError::Unreadable { path, reason: error.to_string() })
        };
        let (certificate_pem, key) = (read(AUTHORITY_FILES.0)?, read(AUTHORITY_FILES.1)?);
        let path = folder.join(AUTHORITY_FILES.0);
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| CredentialsError::Unreadable { path, reason: what_is_wrong(&error) })?;
        let path = folder.join(AUTHORITY_FILES.1);
        let key = KeyPair::from_pem(&key).map_err(|_| CredentialsError::Unreadable {
            path,
            reason: "it holds no private key in PEM that can be used".to_owned(),
        })?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Authority { keys: Keys::System, issuer, certificate, certificate_pem })
    }

    /// Tells whether `folder` holds an authority.
    #[must_use]
    pub fn exists(folder: &Path) -> bool {
        folder.join(AUTHORITY_FILES.0).exists() && folder.join(AUTHORITY_FILES.1).exists()
    }

    /// Writes `ca.pem` and `ca.key` (readable by the owner only) to `folder`.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Unwritable`], which names the file.
    pub fn write(&self, folder: &Path) -> Result<(), CredentialsError> {
        write_file(&folder.join(AUTHORITY_FILES.0), &self.certificate_pem, false)?;
        write_file(&folder.join(AUTHORITY_FILES.1), &self.issuer.key().serialize_pem(), true)
    }

    /// Issues credentials.
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Issue`] if the system has no entropy.
    pub fn issue(&self, identity: Identity) -> Result<Credentials, CredentialsError> {
        let issued = self.issue_pem(&identity)?;
        let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes())
            .map_err(|error| CredentialsError::Tls(error.to_string()))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key_der));
        Ok(Credentials { authority: self.certificate.clone(), certificate, key, identity })
    }

    /// Issues credentials into `folder`, as `NAME.pem` and `NAME.key` (readable by the owner only).
    ///
    /// # Errors
    ///
    /// [`CredentialsError::Issue`] or [`CredentialsError::Unwritable`].
    pub fn issue_files(
        &self,
        identity: &Identity,
        folder: &Path,
        name: &str,
    ) -> Result<(PathBuf, PathBuf), CredentialsError> {
        let issued = self.issue_pem(identity)?;
        let (certificate, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        write_file(&certificate, &issued.certificate, false)?;
        write_file(&key, &issued.key, true)?;
        Ok((certificate, key))
    }

    fn issue_pem(&self, identity: &Identity) -> Result<Issued, CredentialsError> {
        let key = self.keys.generate(&identity.to_string())?;
        let mut params = CertificateParams::new(identity.names())?;
        params.distinguished_name = common_name(&identity.to_string());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if matches!(identity.caller, crate::node::Caller::Node(_)) {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.serial_number = Some(serial_number(key.public_key_raw()));
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), key_der: key.serialize_der() })
    }
}

struct Issued {
    certificate: String,
    key: String,
    key_der: Vec<u8>,
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A serial number of fixed length: a leading zero byte or bit would be cut or padded.
fn serial_number(public_key: &[u8]) -> SerialNumber {
    let mut bytes = xxh3_128(public_key).to_be_bytes();
    bytes[0] = 0x40 | (bytes[0] & 0x3f);
    SerialNumber::from_slice(&bytes)
}

fn write_file(path: &Path, text: &str, secret: bool) -> Result<(), CredentialsError> {
    use std::io::Write as _;
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, if secret { 0o600 } else { 0o644 });
        options.open(path)?.write_all(text.as_bytes())
    };
    write().map_err(|error| CredentialsError::Unwritable { path: path.to_owned(), reason: error.to_string() })
}
