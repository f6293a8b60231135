//! TLS is rustls with ring, chosen once for the whole process.

/// Makes ring the provider. Calling it again changes nothing.
pub fn install() {
    // An error means that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
