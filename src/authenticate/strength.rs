//! Which new passwords are refused (SP 800-63B-4: length, a list of common ones, words of the context; no rules about
//! kinds of characters, no periodic change).

use std::collections::HashSet;

use super::password::MAX_BYTES;
use crate::problem::{AsProblem, Kind, Problem};

/// Fewest characters (Unicode scalar values) when the password is the only factor.
pub const MIN_CHARACTERS: usize = 15;
/// Fewest characters beside a second factor (SP 800-63B-4 section 3.1.1.2).
pub const MIN_BESIDE_FACTOR: usize = 8;
/// Fewest letters that must be left when the words of the context are taken out.
const MIN_OWN_LETTERS: usize = 6;

/// Why a password is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Too short.
    #[error("it has {0} characters, and at least {1} are needed")]
    Short(usize, usize),
    /// Too long.
    #[error("it is longer than {MAX_BYTES} bytes")]
    Long,
    /// On the list, or made from an entry of it.
    #[error(
        "it is one of the 10,000 most common passwords, or one of them with digits around it or said twice"
    )]
    Common,
    /// Made from a word that anybody would try here.
    #[error("it is little more than `{0}`, which is easy to guess here")]
    Context(String),
    /// A run or a repetition.
    #[error("it is a run or a repetition of a few characters")]
    Pattern,
    /// Control characters.
    #[error("it contains control characters")]
    Control,
}

impl AsProblem for Weakness {
    fn as_problem(&self) -> Problem {
        let reason = match self {
            Self::Short(..) => "too_short",
            Self::Long => "too_long",
            Self::Common => "common",
            Self::Context(_) => "context",
            Self::Pattern => "pattern",
            Self::Control => "control_characters",
        };
        Problem::new(Kind::WeakPassword, self.to_string()).with("reason", reason)
    }
}

/// The list of common passwords.
#[derive(Debug)]
pub struct Blocklist(HashSet<&'static str>);

impl Blocklist {
    /// The shipped list; its origin and licence stand at its head and in the file beside it.
    #[must_use]
    pub fn shipped() -> Self {
        let lines = include_str!("common-passwords.txt").lines();
        Self(
            lines
                .filter(|line| !line.starts_with('#') && !line.is_empty())
                .collect(),
        )
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Judges a new password of at least `least` characters. `context` holds words that anybody would try: user name, names,
    /// VO, tools.
    ///
    /// # Errors
    /// The [`Weakness`] found first.
    pub fn judge<'a>(
        &self,
        password: &str,
        least: usize,
        context: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), Weakness> {
        if password.len() > MAX_BYTES {
            return Err(Weakness::Long);
        }
        let characters = password.chars().count();
        if characters < least {
            return Err(Weakness::Short(characters, least));
        }
        if password.chars().any(char::is_control) {
            return Err(Weakness::Control);
        }
        let lower = password.to_lowercase();
        if let Some(word) = mostly_context(&lower, context) {
            return Err(Weakness::Context(word));
        }
        if self.is_common(&lower) {
            return Err(Weakness::Common);
        }
        if is_pattern(&lower) {
            return Err(Weakness::Pattern);
        }
        Ok(())
    }

    fn is_common(&self, lower: &str) -> bool {
        let bare = lower.trim_matches(|c: char| !c.is_alphabetic());
        [lower, bare].into_iter().any(|text| {
            let unit = shortest_unit(text);
            self.0.contains(text) || self.0.contains(unit.as_str()) || self.0.contains(plain(&unit).as_str())
        })
    }
}

/// The word of the context that `lower` is little more than.
fn mostly_context<'a>(lower: &str, context: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut words: Vec<String> = context
        .into_iter()
        .flat_map(|word| word.split(|c: char| !c.is_alphanumeric()))
        .map(str::to_lowercase)
        .filter(|word| word.chars().count() >= 3)
        .collect();
    words.sort_unstable_by_key(|word| std::cmp::Reverse(word.chars().count()));
    words.dedup();
    [lower.to_owned(), plain(lower)].into_iter().find_map(|mut left| {
        let mut found = None;
        for word in &words {
            for spelling in [word.clone(), plain(word)] {
                if left.contains(&spelling) {
                    left = left.replace(&spelling, " ");
                    found.get_or_insert_with(|| word.clone());
                }
            }
        }
        let own = left.chars().filter(|c| c.is_alphabetic()).count();
        found.filter(|_| own < MIN_OWN_LETTERS)
    })
}

/// Undoes the usual swaps of letters for digits and signs.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '0' => 'o',
            '1' | '!' | '|' => 'i',
            '3' => 'e',
            '4' | '@' => 'a',
            '5' | '$' => 's',
            '7' => 't',
            other => other,
        })
        .collect()
}

/// The shortest text whose repetition gives `text` (the last time perhaps cut short).
fn shortest_unit(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let length = (1..=characters.len() / 2)
        .find(|length| {
            characters
                .iter()
                .zip(characters.iter().skip(*length))
                .all(|(a, b)| a == b)
        })
        .unwrap_or(characters.len());
    characters.into_iter().take(length).collect()
}

fn is_pattern(lower: &str) -> bool {
    let distinct: HashSet<char> = lower.chars().collect();
    let steps: HashSet<i64> = lower
        .chars()
        .zip(lower.chars().skip(1))
        .map(|(a, b)| i64::from(u32::from(b)) - i64::from(u32::from(a)))
        .collect();
    let digits_in_order =
        lower.chars().all(|c| c.is_ascii_digit()) && steps.iter().all(|step| matches!(step, 1 | -9 | -1 | 9));
    distinct.len() < 5 || steps.len() == 1 || digits_in_order || shortest_unit(lower).chars().count() < 6
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: [&str; 5] = [
        "countersign",
        "john.smith",
        "John Smith",
        "imense",
        "segmentation",
    ];

    fn judge(password: &str) -> Result<(), Weakness> {
        Blocklist::shipped().judge(password, MIN_CHARACTERS, CONTEXT)
    }

    #[test]
    fn the_shipped_list_has_ten_thousand_entries() {
        assert_eq!(Blocklist::shipped().len(), 10_000);
        assert!(!Blocklist::shipped().is_empty());
    }

    #[test]
    fn fourteen_characters_are_refused_and_a_phrase_is_accepted() {
        assert_eq!(judge("kqwvzhrtpxngbm"), Err(Weakness::Short(14, 15)));
        for good in [
            "kqwvzhrtpxngbmd",
            "violet harbour tuesday",
            "blauer-Wal-tanzt-heimlich",
            "нежный рассвет над рекой",
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        assert_eq!(judge(&"violet harbour ".repeat(60)), Ok(()));
        assert_eq!(judge(&"violet harbour ".repeat(80)), Err(Weakness::Long));
        assert_eq!(judge("violet harbour\u{7} tuesday"), Err(Weakness::Control));
    }

    #[test]
    fn beside_a_factor_eight_characters_are_accepted_and_what_is_common_is_not() {
        let judge = |password| Blocklist::shipped().judge(password, MIN_BESIDE_FACTOR, CONTEXT);
        assert_eq!(judge("kqwvzhrt"), Ok(()));
        assert_eq!(judge("kqwvzhr"), Err(Weakness::Short(7, 8)));
        assert_eq!(judge("password1"), Err(Weakness::Common));
        assert_eq!(judge("imense26"), Err(Weakness::Context("imense".into())));
    }

    #[test]
    fn a_context_word_with_digits_is_refused_with_the_word() {
        for (bad, word) in [
            ("Countersign2026", "countersign"),
            ("C0unt3rs1gn-2026!!", "countersign"),
            ("john.smith123456", "smith"),
            ("JohnSmithImense1", "imense"),
            ("segmentation1234", "segmentation"),
        ] {
            assert_eq!(judge(bad), Err(Weakness::Context(word.into())), "{bad}");
        }
        assert_eq!(judge("imense clouds at midnight"), Ok(()));
    }

    #[test]
    fn common_passwords_are_refused_also_with_digits_around_them_or_said_twice() {
        for bad in [
            "password1234567890",
            "PasswordPassword",
            "1234!password!1234",
            "letmeinletmeinletmein",
            "p@ssw0rdp@ssw0rd",
        ] {
            assert_eq!(judge(bad), Err(Weakness::Common), "{bad}");
        }
        let listed = Blocklist::shipped();
        for entry in listed
            .0
            .iter()
            .filter(|entry| entry.chars().count() >= MIN_CHARACTERS)
        {
            assert!(listed.judge(entry, MIN_BESIDE_FACTOR, []).is_err(), "{entry}");
            assert!(
                listed
                    .judge(&entry.to_uppercase(), MIN_BESIDE_FACTOR, [])
                    .is_err(),
                "{entry}"
            );
        }
    }

    #[test]
    fn runs_and_repetitions_are_refused() {
        for bad in [
            "aaaaaaaaaaaaaaaa",
            "abcdefghijklmnop",
            "987654321098765",
            "zqzqzqzqzqzqzqzq",
            "xkvbxkvbxkvbxkvb",
        ] {
            assert!(judge(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn judging_never_fails_on_any_text(text in any::<String>(), word in any::<String>()) {
            let _ = Blocklist(HashSet::new()).judge(&text, MIN_BESIDE_FACTOR, [word.as_str()]);
        }

        #[test]
        fn whatever_is_short_is_refused(text in "\\PC{0,14}") {
            prop_assert!(Blocklist(HashSet::new()).judge(&text, MIN_CHARACTERS, []).is_err());
        }
    }
}
