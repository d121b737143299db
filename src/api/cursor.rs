//! Where a list goes on: opaque to whoever gets it, and checked when it comes back, so that no place in one list is taken for one in
//! another, and nobody builds on how lists are sorted.

use data_encoding::BASE64URL_NOPAD;

use crate::record::Hash;

/// Bytes that tell one list's places from another's, and from what was made up.
const CHECK: usize = 6;

/// The place behind the item with this key, in the list of this task.
pub(super) fn written(task: &str, key: &str) -> String {
    let check = check(task, key);
    BASE64URL_NOPAD.encode(&[&check, key.as_bytes()].concat())
}

/// The key of a place in the list of this task.
pub(super) fn read(task: &str, text: &str) -> Option<String> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
    let (sum, key) = bytes.split_first_chunk::<CHECK>()?;
    let key = std::str::from_utf8(key).ok()?;
    (check(task, key) == *sum).then(|| key.to_owned())
}

fn check(task: &str, key: &str) -> [u8; CHECK] {
    let hash = Hash::of(format!("{task} {key}").as_bytes());
    hash.0.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_one_of_its_own_list(key in "\\PC{0,60}") {
            let place = written("user.list", &key);
            prop_assert_eq!(read("user.list", &place), Some(key));
            prop_assert_eq!(read("vo.list", &place), None);
        }

        #[test]
        fn any_text_is_judged(text in "\\PC{0,60}") {
            prop_assert_eq!(read("user.list", &text), None);
        }
    }
}
