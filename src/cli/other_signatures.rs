//! Signatures other than the standard one, for the commands that check callbacks: the vendor's RSA and the plain HMAC.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::Failure;
use super::args::OtherSignatureArgs;
use crate::domain::messages::signature::hmac_header::HmacHeader;
use crate::domain::messages::signature::inspect::Inspection;
use crate::domain::messages::signature::jwks;
use crate::domain::messages::signature::jwks::VendorHeaders;
use crate::domain::messages::signature::rsa;
use crate::domain::messages::signature::rsa::PublicKey;
use crate::domain::secret::Hidden;

/// Keys and secrets to check with.
#[derive(Debug)]
pub struct OtherSignatures {
    keys: Option<Vec<PublicKey>>,
    hmac: Option<HmacHeader>,
}

impl OtherSignatures {
    pub fn read(args: &OtherSignatureArgs) -> Result<Self, Failure> {
        let keys = args.jwks.as_deref().map(keys).transpose()?;
        let hmac = args.hmac_secret.as_ref().map(|secret| HmacHeader {
            name: args.hmac_header.clone(),
            prefix: args.hmac_prefix.clone(),
            secret: Hidden::new(secret.clone()),
        });
        Ok(Self { keys, hmac })
    }

    /// Inspects one callback at `now`. `header` finds a header by its name in lower case.
    pub fn inspect<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        now: Timestamp,
    ) -> Inspection {
        let mut found = Inspection::default();
        if let Some(keys) = &self.keys {
            let headers = VendorHeaders {
                signature: header(rsa::SIGNATURE),
                key_id: header(rsa::KEY_ID),
                timestamp: header(rsa::TIMESTAMP),
            };
            found = found.and(jwks::inspect(keys, headers, body, now));
        }
        if let Some(hmac) = &self.hmac {
            found = found.and(hmac.inspect(header(&hmac.name.to_ascii_lowercase()), body));
        }
        found
    }

    /// Whether anything is checked at all.
    pub fn any(&self) -> bool {
        self.keys.is_some() || self.hmac.is_some()
    }
}

fn keys(path: &Path) -> Result<Vec<PublicKey>, Failure> {
    let wrong = |problem: String| {
        Failure::new(format!("--jwks {}: {problem}", path.display()))
            .hint("write the file with: trackpost jwks > keys.json, or: curl http://127.0.0.1:8787/jwks > keys.json")
    };
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    jwks::parse(&text).map_err(wrong)
}
