//! Codes with which somebody is about to be let in. A code is used up in the store when its session begins, which is after the record of
//! the login; so of many requests with one code, each would be on record as let in. The first claims it, and to the others it is used.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Used;
use crate::id::PersonId;
use crate::record::Hash;

/// How long a code is claimed: longer than any request takes from its judgement to its session.
const KEPT: Duration = Duration::from_secs(60);

/// The codes that are claimed, with when. Times are of the monotonic clock.
#[derive(Debug, Default)]
pub(in crate::authenticate) struct Claims(Mutex<HashMap<Hash, Duration>>);

impl Claims {
    /// Claims a code that was right; `false` when somebody was faster.
    pub(in crate::authenticate) fn take(&self, person: PersonId, used: &Used, now: Duration) -> bool {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|_, since| now.saturating_sub(*since) < KEPT);
        let key = key(person, used);
        let is_free = !claimed.contains_key(&key);
        if is_free {
            claimed.insert(key, now);
        }
        is_free
    }

    /// Nothing began with the code.
    pub(in crate::authenticate) fn release(&self, person: PersonId, used: &Used) {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.remove(&key(person, used));
    }
}

fn key(person: PersonId, used: &Used) -> Hash {
    let person = person.uuid();
    let what = match used {
        Used::Code { factor, step } => [factor.uuid().as_bytes().as_slice(), &step.to_be_bytes()].concat(),
        Used::Recovery { hash, .. } => hash.0.to_vec(),
    };
    Hash::of(&[person.as_bytes().as_slice(), &what].concat())
}
