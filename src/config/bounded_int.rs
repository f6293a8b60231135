//! Whole numbers of the configuration.

use serde::de::{Deserialize, Deserializer, Error};

/// A whole number within limits.
pub(super) struct BoundedInt<const MIN: i64, const MAX: i64>(i64);

/// Number of requests that may be in flight at once.
pub(super) type MaxInFlight = BoundedInt<1, { u32::MAX as i64 }>;

impl<const MIN: i64, const MAX: i64> BoundedInt<MIN, MAX> {
    pub(super) fn u32(&self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    pub(super) fn u64(&self) -> u64 {
        self.0.unsigned_abs()
    }
}

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for BoundedInt<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let range = if MAX == i64::MAX {
            format!("write at least {MIN}")
        } else {
            format!("write a number from {MIN} to {MAX}")
        };
        match i64::deserialize(deserializer)? {
            number if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(Error::custom(format!("is out of range\n{range}"))),
        }
    }
}
