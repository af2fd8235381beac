//! Chains that were verified under one set of roots, so that a peer that comes back isn't verified again.
//!
//! What a chain is worth is a matter of its bytes, the roots and the time. A chain is known again by all of its bytes, the
//! roots are those of the [`super::Bundles`] that this belongs to, and it counts only at times at which every certificate in it is
//! valid: at any other it is verified as if it had never been seen. Nothing is remembered of a chain that failed. That a peer
//! has the key of its leaf it proves anew in each handshake.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::Role;
use crate::certificate::Leaf;
use crate::limits;

/// What a chain is known by: SHA-256 over its certificates and what they were for.
pub(super) type Mark = [u8; 32];

/// When every certificate of a chain is valid, and what its leaf says.
#[derive(Debug)]
struct Known {
    valid_millis: RangeInclusive<i64>,
    leaf: Leaf,
}

/// The chains that were verified last.
#[derive(Debug, Default)]
pub(super) struct Verified {
    known: Mutex<HashMap<Mark, Known>>,
}

impl Verified {
    /// What the leaf of this chain says, if the chain is known and all of it valid at that time.
    pub(super) fn get(&self, mark: &Mark, at_millis: i64) -> Option<Leaf> {
        let known = self.lock();
        let found = known.get(mark).filter(|found| found.valid_millis.contains(&at_millis))?;
        Some(found.leaf.clone())
    }

    /// Remembers a chain that was verified.
    pub(super) fn put(&self, mark: Mark, chain: &[CertificateDer<'_>], leaf: &Leaf) {
        let Some(valid_millis) = validity(chain) else { return };
        let mut known = self.lock();
        if known.len() >= limits::VERIFIED_CHAINS {
            // Rare: who is still there is verified once more.
            known.clear();
        }
        known.insert(mark, Known { valid_millis, leaf: leaf.clone() });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Mark, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this chain is known by in this role.
pub(super) fn mark(chain: &[CertificateDer<'_>], role: Role) -> Mark {
    let mut context = Context::new(&SHA256);
    context.update(&[u8::from(role == Role::Client)]);
    for certificate in chain {
        context.update(&certificate.len().to_be_bytes());
        context.update(certificate);
    }
    let mut sum = Mark::default();
    // The digest of this algorithm is 32 bytes long.
    sum.copy_from_slice(context.finish().as_ref());
    sum
}

/// When all of these are valid; none where one can't be read.
fn validity(chain: &[CertificateDer<'_>]) -> Option<RangeInclusive<i64>> {
    let (mut from, mut to) = (i64::MIN, i64::MAX);
    for der in chain {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        from = from.max(validity.not_before.timestamp().saturating_mul(1000));
        to = to.min(validity.not_after.timestamp().saturating_mul(1000));
    }
    Some(from..=to)
}
