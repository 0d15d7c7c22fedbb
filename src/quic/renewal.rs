//! New certificates in place of old ones, while the node runs.
//!
//! Whoever connects from then on is judged, and shown who we are, by the new ones; connections that are there stay.
//! Sessions that members could have taken up again are forgotten, since a session is taken up without a look at the
//! certificate.

use core::time::Duration;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::sleep;

use super::authority::{Credentials, CredentialsError};
use super::endpoint::{EndpointError, Renewable};
use super::identity::Identity;

/// Gives a running node new credentials. Clones are of the same node.
#[derive(Clone, Default)]
pub struct Renewal {
    endpoints: Arc<Mutex<Vec<Renewable>>>,
}

/// Credentials that do not take the place of those before, which stay in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// They cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// TLS does not accept them.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// They are somebody else's.
    #[error("the new certificate is for {found}, but this is {expected}: use a certificate of this node")]
    OtherIdentity {
        /// Whom the new certificate names.
        found: Box<Identity>,
        /// Who this is.
        expected: Box<Identity>,
    },
}

/// PEM files.
#[derive(Clone, Debug)]
pub struct CredentialFiles {
    /// The authority of the cluster.
    pub authority: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The node's private key.
    pub key: PathBuf,
}

impl CredentialFiles {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`], which names the file.
    pub fn read(&self) -> Result<Credentials, CredentialsError> {
        Credentials::read(&self.authority, &self.certificate, &self.key)
    }
}

impl Renewal {
    /// Puts credentials in place of those before.
    ///
    /// # Errors
    ///
    /// [`RenewalError`]; those before stay in use.
    pub fn renew(&self, credentials: &Credentials) -> Result<(), RenewalError> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        for endpoint in &*endpoints {
            let (found, expected) = (credentials.identity(), endpoint.identity());
            if found != expected {
                let (found, expected) = (Box::new(found.clone()), Box::new(expected.clone()));
                return Err(RenewalError::OtherIdentity { found, expected });
            }
        }
        for endpoint in &mut *endpoints {
            endpoint.renew(credentials)?;
        }
        metrics::counter!("rivven_certificates_renewed_total").increment(1);
        Ok(())
    }

    /// Looks at the files every `interval`, and renews whenever they hold other credentials than before. What cannot be
    /// used is logged once, and looked at again. Never returns.
    pub async fn follow(self, files: CredentialFiles, current: Credentials, interval: Duration) {
        let (mut current, mut last_error) = (current, None);
        loop {
            sleep(interval).await;
            let found = match files.read() {
                Ok(found) if found == current => {
                    last_error = None;
                    continue;
                }
                Ok(found) => self.renew(&found).map(|()| found),
                Err(error) => Err(error.into()),
            };
            match found {
                Ok(found) => {
                    tracing::info!("the certificates were renewed");
                    (current, last_error) = (found, None);
                }
                Err(error) => {
                    let error = error.to_string();
                    if last_error.as_ref() != Some(&error) {
                        tracing::error!("the certificates before stay in use: {error}");
                        last_error = Some(error);
                    }
                }
            }
        }
    }

    pub(super) fn add(&self, endpoint: Renewable) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).push(endpoint);
    }

    /// Lets go of the endpoints: they are about to be closed.
    pub(super) fn end(&self) {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
