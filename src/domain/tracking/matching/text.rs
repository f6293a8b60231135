//! Folds a text to what it says, whatever it looks like.
//!
//! Feeds of one carrier differ in markup, capitals, padding and the encoding of accents. Two texts that fold alike are
//! the same statement. Folded text is for comparing; nothing here is ever stored or sent.

use unicode_normalization::UnicodeNormalization;

/// Without tags, common HTML entities resolved, without case, single spaces, NFC. Empty if it says nothing.
pub fn fold(text: &str) -> String {
    if text.is_ascii() && !text.contains(['<', '&']) {
        return spaced(text.chars().map(|c| c.to_ascii_lowercase()), text.len());
    }
    let plain = resolve_entities(&strip_tags(text));
    // Upper and lower again is what folds `ß` with `SS`.
    let caseless = plain.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    spaced(caseless.nfc(), plain.len())
}

/// Runs of white space and control characters become one space, the ends are trimmed, invisible characters go.
fn spaced(characters: impl Iterator<Item = char>, capacity: usize) -> String {
    let mut folded = String::with_capacity(capacity);
    let mut gap = false;
    for character in characters {
        if character.is_whitespace() || character.is_control() {
            gap = true;
        } else if !matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}') {
            if gap && !folded.is_empty() {
                folded.push(' ');
            }
            gap = false;
            folded.push(character);
        }
    }
    folded
}

/// Every tag becomes a space. A `<` that opens no tag stays.
fn strip_tags(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        plain.push_str(before);
        let opens = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        match tag.find('>') {
            Some(end) if opens => {
                plain.push(' ');
                rest = &tag[end + 1..];
            }
            None if opens => return plain + tag,
            _ => {
                plain.push('<');
                rest = &tag[1..];
            }
        }
    }
    plain + rest
}

/// The longest entity we resolve, `&#1114111;`.
const LONGEST_ENTITY: usize = 10;

fn resolve_entities(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        let (before, entity) = rest.split_at(start);
        plain.push_str(before);
        let end = entity.bytes().take(LONGEST_ENTITY).position(|byte| byte == b';');
        match end.and_then(|end| Some((resolve(&entity[1..end])?, end))) {
            Some((character, end)) => {
                plain.push(character);
                rest = &entity[end + 1..];
            }
            None => {
                plain.push('&');
                rest = &entity[1..];
            }
        }
    }
    plain + rest
}

fn resolve(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => number.parse(),
        };
        return char::from_u32(code.ok()?);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_do_not_matter() {
        for (text, folded) in [
            ("  Arrived   at\tUSPS\r\nFacility ", "arrived at usps facility"),
            ("ARRIVED AT USPS FACILITY", "arrived at usps facility"),
            ("<b>Arrived</b> at<br/>USPS Facility", "arrived at usps facility"),
            ("Arrived&nbsp;at USPS\u{a0}Facility\u{200b}", "arrived at usps facility"),
            ("Smith &amp; Sons &#39;Depot&#x27;", "smith & sons 'depot'"),
            ("M\u{fc}nchen", "m\u{fc}nchen"),
            ("Mu\u{308}nchen", "m\u{fc}nchen"),
            ("MU\u{308}NCHEN", "m\u{fc}nchen"),
            ("Hauptstraße", "hauptstrasse"),
            ("HAUPTSTRASSE", "hauptstrasse"),
            ("weight < 5 > 3", "weight < 5 > 3"),
            ("a <b", "a <b"),
            ("R&D; &unknown; &#xfffffff; &", "r&d; &unknown; &#xfffffff; &"),
            ("<br>", ""),
            (" \u{a0}\u{feff}", ""),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
    }
}
