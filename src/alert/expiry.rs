//! Mails about VO certificates that are about to end: 30, 14, 7 and 1 days before.

use std::sync::PoisonError;
use std::time::Duration;

use super::mail::{self, Ending};
use super::{Alert, AlertError, Inner, Letter};
use crate::clock::Timestamp;
use crate::id::VoId;
use crate::trust::certificate::{Facts, Use};
use crate::trust::store as certificates;

/// Kind of these mails in the outbox.
const EXPIRY: &str = "certificate";
/// Days before the end on which a mail leaves, the last one first.
const STEPS: [u32; 4] = [1, 7, 14, 30];

/// How often it is looked for somebody to tell, and the log told, where there was nobody.
const AGAIN: Duration = Duration::from_secs(3_600);

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// A mail was made of it, now or before.
    Mailed,
    /// At this time nobody had a mail address: it stays due.
    Nobody(Timestamp),
}

impl Alert {
    /// Tells the VO's administrators which of its certificates end soon: one mail for each step and certificate, however often
    /// this is called and the gateway started. Of steps that passed while it was stopped only the last one is told. Where nobody
    /// can be told the log of the server says so, and the step stays due until somebody can.
    ///
    /// # Errors
    /// [`AlertError`] when the store fails; the next call tells them.
    pub async fn certificates(&self, in_use: &[(VoId, Use, Facts)]) -> Result<(), AlertError> {
        let now = self.0.ids.clock().now();
        for (vo, purpose, facts) in in_use {
            let Some(step) = step(now, facts.not_after) else {
                continue;
            };
            let key = (facts.sha256, step);
            let known = || self.0.ending.lock().unwrap_or_else(PoisonError::into_inner);
            let due = match known().get(&key) {
                None => true,
                Some(Told::Mailed) => false,
                Some(Told::Nobody(when)) => now >= when.plus(AGAIN) || now < *when,
            };
            if due {
                let told = match self.0.mail_ending(*vo, *purpose, facts, step).await? {
                    true => Told::Mailed,
                    false => Told::Nobody(now),
                };
                known().insert(key, told);
            }
        }
        Ok(())
    }
}

/// Of how many days before the end there is something to tell; `None` long before it, and after it.
fn step(now: Timestamp, end: Timestamp) -> Option<u32> {
    let left = end.since(now).as_secs();
    (now < end)
        .then(|| STEPS.into_iter().find(|days| left <= u64::from(*days) * 86_400))
        .flatten()
}

impl Inner {
    /// Whether anybody is told, now or before.
    async fn mail_ending(
        &self,
        vo: VoId,
        purpose: Use,
        facts: &Facts,
        step: u32,
    ) -> Result<bool, AlertError> {
        let to = self.administrators(vo, self.ids.clock().now()).await?;
        let directory = self.vos.handle().load();
        let vo_name = directory
            .vo(vo)
            .map_or_else(|| vo.to_string(), |vo| vo.name.clone());
        if to.is_empty() {
            tracing::error!(vo.id = %vo,
                "the certificate {} of the virtual organisation `{vo_name}` ends at {}, and nobody can be told: no administrator \
                 has a mail address", facts.sha256, facts.not_after);
            return Ok(false);
        }
        let (subject, body) = mail::ending(&Ending {
            vo: &vo_name,
            purpose: purpose.as_str(),
            subject: &facts.subject_text,
            sha256: facts.sha256,
            end: facts.not_after,
            days: step,
        });
        let mut tx = self.db.begin_write().await?;
        // INVARIANT: the mark and the mail are one transaction, so each step is told once.
        if certificates::mark_told(&mut tx, vo, facts.sha256, step).await? {
            self.post(&mut tx, vo, EXPIRY, &Letter { to, subject, body })
                .await?;
            tx.commit().await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_something_to_tell_from_thirty_days_before_the_end_to_the_end() {
        let end = Timestamp::from_secs(1_800_000_000);
        let at = |days: u64, seconds: u64| step(end.minus(Duration::from_secs(days * 86_400 + seconds)), end);
        assert_eq!(at(365, 0), None);
        assert_eq!(at(30, 1), None);
        assert_eq!(at(30, 0), Some(30));
        assert_eq!(at(14, 1), Some(30));
        assert_eq!(at(14, 0), Some(14));
        assert_eq!(at(7, 0), Some(7));
        assert_eq!(at(1, 1), Some(7));
        assert_eq!(at(1, 0), Some(1));
        assert_eq!(at(0, 1), Some(1));
        assert_eq!(at(0, 0), None);
        assert_eq!(step(end.plus(Duration::from_secs(9)), end), None);
    }
}
