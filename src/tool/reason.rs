//! Reasons: why somebody edits by hand who may do what.

/// Longest reason, in characters.
const LONGEST: usize = 500;

/// Why `text` is no reason; `None` when it is one.
#[must_use]
pub fn unfit_reason(text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("the reason is empty".into());
    }
    if text.chars().any(is_unseen) {
        return Some(
            "the reason may have no control characters, line ends and changes of direction included".into(),
        );
    }
    let long = text.chars().count();
    (long > LONGEST).then(|| format!("the reason has {long} characters, and may have {LONGEST}"))
}

/// Whether a character is not seen itself, but changes how others are: control characters, line and paragraph separators,
/// and those that turn the direction of writing (UAX 9), with which a text can be made to read as another.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_some_text_of_one_line_and_bounded_length() {
        for text in [
            "x",
            "ticket 4711",
            "weil sie am Projekt „Herz“ mitarbeitet",
            &"ü".repeat(500),
        ] {
            assert_eq!(unfit_reason(text), None, "{text}");
        }
        for text in ["", "   ", "two\nlines", "\u{1b}[2J", "\u{85}", &"x".repeat(501)] {
            assert!(unfit_reason(text).is_some(), "{text:?}");
        }
    }

    #[test]
    fn a_reason_cannot_be_made_to_read_as_another() {
        for turned in ["ok \u{202e}toor", "a\u{2028}b", "\u{2066}x", "\u{feff}x"] {
            assert!(unfit_reason(turned).is_some(), "{turned:?}");
        }
    }
}
