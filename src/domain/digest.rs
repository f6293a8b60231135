//! Names made of content: SHA-256 over parts that cannot run into each other.

use sha2::{Digest as _, Sha256};

/// SHA-256 of some bytes.
pub type Digest = [u8; 32];

/// The digest of bytes as they are.
pub fn of_bytes(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// The digest of several texts; each goes in with its length, so that no two lists of parts are alike.
pub fn of_parts(parts: &[&str]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

/// The first 16 bytes in lower-case hex: 128 bits are plenty for a name.
pub fn short_hex(digest: &Digest) -> String {
    hex(&digest[..16])
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
