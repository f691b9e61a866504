//! The process-wide TLS provider.

use std::sync::Once;

static INSTALLED: Once = Once::new();

/// Installs rustls' `ring` provider for the whole process; later calls do nothing.
///
/// The dependency graph enables two providers, so rustls refuses to guess and panics at first use unless one has been
/// installed. Call this first in every `main`, and in tests that open a TLS connection or build an HTTP client.
pub fn install_provider() {
    INSTALLED.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::warn!("another TLS provider was installed before ring; keeping it");
        }
    });
}
