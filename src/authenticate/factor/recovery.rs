//! Recovery codes: for the day on which the factor is lost. Shown once; what is kept of each is a hash.

use crate::id::PersonId;
use crate::record::Hash;
use crate::secret::Secret;

/// How many there are.
pub(super) const CODES: usize = 10;
/// Letters of one: 114 bits, so that a plain hash is enough (SP 800-63B-4 section 3.1.2.2 asks for 112).
const LENGTH: usize = crate::authenticate::password::ONE_TIME_LENGTH;
/// Letters that stand together when it is shown.
const GROUP: usize = 5;

/// What is kept of a code; `None` when the text is none. Hyphens and spaces are as people copy them.
pub(super) fn hash(person: PersonId, code: &Secret<String>) -> Option<Hash> {
    let bare: String = code
        .expose()
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .collect();
    let bare = Secret::new(bare);
    let fits =
        bare.expose().len() == LENGTH && bare.expose().bytes().all(|byte| byte.is_ascii_alphanumeric());
    let person = person.uuid();
    let bound = [
        b"countersign recovery code".as_slice(),
        person.as_bytes(),
        bare.expose().as_bytes(),
    ];
    fits.then(|| Hash::of(Secret::new(bound.concat()).expose()))
}

/// A code as it is shown: in groups.
pub(super) fn shown(code: &Secret<String>) -> Secret<String> {
    let mut text = String::with_capacity(LENGTH + LENGTH / GROUP);
    for (at, letter) in code.expose().chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    Secret::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_as_it_was_shown_and_for_its_person_only() {
        let (one, two) = [1, 2].map(|n| PersonId::from(uuid::Uuid::from_u128(n))).into();
        let code = Secret::new("abcdefghjkmnpqrstuvw".to_owned());
        let group = shown(&code);
        assert_eq!(group.expose(), "abcde-fghjk-mnpqr-stuvw");
        assert_eq!(hash(one, &code), hash(one, &group));
        assert_ne!(hash(one, &code), hash(two, &code));
        let capital = Secret::new("Abcdefghjkmnpqrstuvw".to_owned());
        assert_ne!(hash(one, &code), hash(one, &capital));
        for other in [
            "",
            "abcde",
            "123456",
            "abcde-fghjk-mnpqr-stuv!",
            "abcdefghjkmnpqrstuvwx",
        ] {
            assert_eq!(hash(one, &Secret::new(other.to_owned())), None, "{other}");
        }
    }
}
