//! Mails that name somebody whose personal data is erased: their texts go, and the files of those that went to a folder.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Alert;
use crate::id::MessageId;
use crate::store::{StoreError, Tx, run, tx_rows};

/// What stands where somebody stood.
const ERASED: &str = "(erased)";

/// What was done to the mails that name a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wiped {
    /// Mails that name her no more.
    pub mails: u64,
    /// Mails to others that name her and are still on their way; they were left.
    pub waiting: u64,
    /// Deliveries of the mails that were wiped.
    deliveries: Vec<MessageId>,
}

impl Alert {
    /// Wipes the mails in the store that name a person by any of `words` (user names, names, addresses) or went to her. Once that is
    /// committed, [`Alert::remove_files`] does the same in the folder of mails.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn wipe(&self, tx: &mut Tx, words: &BTreeSet<String>) -> Result<Wiped, StoreError> {
        type Row = (Uuid, String, String, Uuid, String, String);
        let rows = tx_rows!(
            tx,
            Row,
            "SELECT m.id, m.subject, m.body, d.id, d.recipient, d.state FROM mail m JOIN delivery d ON d.mail = m.id"
        )?;
        let mut wiped = Wiped::default();
        let mut waiting = BTreeSet::new();
        let mut mails = BTreeSet::new();
        for (mail, subject, body, delivery, recipient, state) in rows {
            let hers = words.contains(&recipient);
            if hers {
                run!(
                    &mut *tx,
                    "UPDATE delivery SET recipient = $2, state = CASE state WHEN 'pending' THEN 'failed' ELSE state END,
                         error = NULL, version = version + 1 WHERE id = $1",
                    delivery,
                    ERASED
                )?;
            }
            let named = words
                .iter()
                .any(|word| names(&subject, word) || names(&body, word));
            if named && !hers && state == "pending" {
                waiting.insert(mail);
            } else if named {
                mails.insert(mail);
            }
            // The files of those that were wiped before may have been left then.
            if hers || named || (subject == ERASED && body.is_empty()) {
                wiped.deliveries.push(delivery.into());
            }
        }
        for mail in mails.difference(&waiting) {
            run!(
                &mut *tx,
                "UPDATE mail SET subject = $2, body = '', version = version + 1 WHERE id = $1",
                *mail,
                ERASED
            )?;
            wiped.mails += 1;
        }
        wiped.waiting = waiting.len() as u64;
        Ok(wiped)
    }

    /// Removes the files of mails that were wiped, where mails go to a folder.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub async fn remove_files(&self, wiped: &Wiped) -> std::io::Result<u64> {
        let Some(folder) = self.0.mailer.folder() else {
            return Ok(0);
        };
        let folder = folder.to_owned();
        let ends: BTreeSet<String> = wiped
            .deliveries
            .iter()
            .map(|delivery| format!("{delivery}.eml"))
            .collect();
        let removed = tokio::task::spawn_blocking(move || remove(&folder, &ends));
        removed.await.map_err(std::io::Error::other)?
    }
}

fn remove(folder: &std::path::Path, ends: &BTreeSet<String>) -> std::io::Result<u64> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // A name is the time, a hyphen and the delivery.
        let end = name.to_str().and_then(|name| name.split_once('-'));
        if end.is_some_and(|(_, end)| ends.contains(end)) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether `word` stands in `text`, not as a part of a longer word.
fn names(text: &str, word: &str) -> bool {
    !word.is_empty()
        && text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
            [before, after]
                .into_iter()
                .flatten()
                .all(|next| !next.is_alphanumeric())
        })
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_mail_names_somebody_by_whole_words() {
        assert!(names("john was refused", "john"));
        assert!(names("refused: john.", "john"));
        assert!(names("<john@example.org>", "john@example.org"));
        assert!(!names("johnson was refused", "john"));
        assert!(!names("nothing of the kind", ""));
    }
}
