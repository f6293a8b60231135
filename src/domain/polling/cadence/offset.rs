//! The offset from UTC at the destination, and a label's own phase.

use jiff::tz::Offset;

/// Returns a number from 0 to 1 by a hash of the label's id, so that ten thousand labels registered at once are not polled
/// in step.
pub fn phase(text: &str) -> f64 {
    // FNV-1a: any fixed, well-mixed hash does; std's is not fixed.
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 53) as f64
}

/// Guesses the destination's offset from UTC: from a longitude (15 degrees an hour), else from the country, else UTC-6.
pub fn guess_offset(longitude: Option<f64>, country: Option<&str>) -> Offset {
    let hours = match (longitude, country.map(|code| code.trim().to_ascii_uppercase())) {
        (Some(degrees), _) if (-180.0..=180.0).contains(&degrees) => (degrees / 15.0).round() as i8,
        (_, Some(code)) => match code.as_str() {
            "GB" | "IE" | "PT" | "IS" => 0,
            "DE" | "FR" | "ES" | "IT" | "NL" | "BE" | "AT" | "CH" | "PL" | "SE" | "NO" | "DK" | "CZ" => 1,
            "FI" | "GR" | "RO" | "BG" | "ZA" | "IL" => 2,
            "IN" => 5,
            "CN" | "SG" | "HK" => 8,
            "JP" | "KR" => 9,
            "AU" => 10,
            "NZ" => 12,
            "BR" | "AR" => -3,
            _ => -6,
        },
        _ => -6,
    };
    Offset::constant(hours)
}
