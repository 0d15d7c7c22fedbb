//! TLS without the system's entropy, so that every run of a seed sends the very same bytes.
//!
//! It would seem enough that packets have the same times and sizes. It is not: a late packet of a
//! connection that the receiver has forgotten is unmasked with keys that do not fit, and whether quinn
//! drops it at once or first hands it to the application depends on the bits that come out. One more
//! poll of one task, and two other tasks run in another order.
//!
//! A simulation runs on one thread, so its stream lies in that thread. All else is ring's.

use std::cell::RefCell;
use std::sync::Arc;

use rivven_cluster::rng::{Seed, Stream};
use rustls::Error;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup, ring,
};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{NamedGroup, PeerMisbehaved};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

thread_local! {
    static STREAM: RefCell<Option<Stream>> = const { RefCell::new(None) };
}

/// Starts the stream of a run; what is drawn on this thread from now on follows from `seed`.
pub(super) fn begin(seed: Seed) {
    STREAM.set(Some(seed.stream("tls", 0)));
}

/// The primitives of TLS, with random numbers of the run.
pub(super) fn provider() -> Arc<CryptoProvider> {
    let crypto =
        CryptoProvider { secure_random: &Seeded, kx_groups: vec![&SeededX25519], ..ring::default_provider() };
    Arc::new(crypto)
}

#[derive(Debug)]
struct Seeded;

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        STREAM.with_borrow_mut(|stream| {
            stream.as_mut().ok_or(GetRandomFailed)?.fill(bytes);
            Ok(())
        })
    }
}

/// X25519 (RFC 7748) with a private key from the stream.
#[derive(Debug)]
struct SeededX25519;

impl SupportedKxGroup for SeededX25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut private = [0; 32];
        Seeded.fill(&mut private)?;
        Ok(Box::new(Exchange { private, public: x25519(private, X25519_BASEPOINT_BYTES) }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    private: [u8; 32],
    public: [u8; 32],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer = <[u8; 32]>::try_from(peer).map_err(|_| Error::from(PeerMisbehaved::InvalidKeyShare))?;
        Ok(SharedSecret::from(&x25519(self.private, peer)[..]))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }
}
