//! SHA-256 digests, from which ids derive.

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// Digest of bytes.
pub fn of_bytes(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Digest of several texts, each prefixed with its length so that different lists have different digests.
pub fn of_parts(parts: &[&str]) -> Digest {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| update_part(&mut hasher, part));
    hasher.finalize().into()
}

/// Adds a text with its length before it.
pub fn update_part(hasher: &mut Sha256, part: &str) {
    hasher.update((part.len() as u64).to_be_bytes());
    hasher.update(part);
}

/// First 16 bytes in lower-case hex.
pub fn short_hex(digest: &Digest) -> String {
    hex(&digest[..16])
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}
