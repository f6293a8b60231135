//! Folding of texts: removes differences in markup, case, white space and encoding.
//!
//! Feeds of one carrier differ in these. Folded texts are only compared, never stored or sent. Only the entities below are
//! resolved: a crate that knows all of HTML's would change the fingerprints of texts with `&uuml;`.

use unicode_normalization::UnicodeNormalization;

/// Returns the text without tags, with common HTML entities resolved, case-folded, with single spaces, in NFC.
pub fn fold(text: &str) -> String {
    if text.is_ascii() && !text.contains(['<', '&']) {
        return collapse_spaces(text.chars().map(|c| c.to_ascii_lowercase()), text.len());
    }
    let plain = resolve_entities(&strip_tags(text));
    // Upper case first, so that `ß` folds like `SS`.
    let caseless = plain.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    collapse_spaces(caseless.nfc(), plain.len())
}

/// Replaces runs of white space and control characters by one space, trims the ends and removes invisible characters.
fn collapse_spaces(characters: impl Iterator<Item = char>, capacity: usize) -> String {
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

/// Replaces every tag by a space. A `<` that does not open a tag stays.
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

/// Length of the longest entity that is resolved, `&#1114111;`.
const MAX_ENTITY: usize = 10;

fn resolve_entities(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find('&') {
        let (before, entity) = rest.split_at(start);
        plain.push_str(before);
        let end = entity.bytes().take(MAX_ENTITY).position(|byte| byte == b';');
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
    fn folds_markup_case_space_and_encoding() {
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
