//! Federated login: people sign in where they are at home (OpenID Connect, authorization code flow with PKCE), and are known here
//! by issuer and subject.
//!
//! Promises: whoever comes back must have set out in the same browser, once, and be told so by the very provider that she was sent
//! to; nobody gets an account that is there by a name or an e-mail address; a provider that is suspended or removed lets nobody in
//! from then on, and one that is down keeps out its own people only; no provider is believed more than its registration says.
//!
//! Which account somebody gets is for the caller to decide and to write down first ([`Authenticate::put_identity`]).

mod account;
mod fetch;
mod flow;
mod identity;
mod link;
mod logout;
mod provider;
pub(super) mod store;
pub(super) mod token;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use account::{ManyIdentities, NewIdp};
pub use flow::{Arrived, FederatedRefusal, FederatedStart, Returned};
pub use identity::{Attributes, Identity, SignedInBy, Standing};
pub use provider::{Approval, Idp, IdpError, IdpSettings, Mapping};
pub use token::Claims;

use super::Authenticate;
use crate::id::IdpId;
use crate::problem::{AsProblem, Problem};
use crate::record::Hash;
use crate::trust::seal::{Label, SealError, SealingKey};

/// How many sign-ins and logout tokens are remembered as used, until they are over by themselves.
const USED_AT_MOST: usize = 100_000;

/// What the service remembers of providers.
#[derive(Debug, Default)]
pub(super) struct Federation {
    providers: fetch::Remembered,
    used: Used,
}

/// What is good once and was used, until it is over by itself.
#[derive(Debug, Default)]
struct Used(Mutex<HashMap<Hash, Duration>>);

impl Used {
    /// Takes `what`, which is over at `until`; false when it was taken already, or nothing more can be remembered.
    fn take(&self, what: Hash, until: Duration, now: Duration) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= USED_AT_MOST {
            used.retain(|_, until| now < *until);
        }
        // SECURITY: what cannot be remembered as used is not taken.
        used.len() < USED_AT_MOST && used.insert(what, until).is_none_or(|until| now >= until)
    }
}

fn secret_label(idp: IdpId) -> Label {
    Label::new("identity provider's client secret").with(idp.uuid().as_bytes())
}

impl Authenticate {
    fn sealing(&self) -> Result<&SealingKey, Problem> {
        let key = self.0.seals.get();
        key.ok_or_else(|| SealError::Sealed.as_problem())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_good_once_is_taken_once() {
        let (used, second) = (Used::default(), Duration::from_secs);
        assert!(used.take(Hash::of(b"a"), second(10), second(0)));
        assert!(!used.take(Hash::of(b"a"), second(20), second(9)));
        assert!(used.take(Hash::of(b"b"), second(10), second(9)));
    }
}
