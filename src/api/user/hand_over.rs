//! How a one-time password reaches its owner: by mail where a mail server is set, else through the administrator.

use serde_json::Value;

use crate::alert::Letter;
use crate::api::{Api, unposted};
use crate::id::VoId;
use crate::problem::Problem;
use crate::record::Change;
use crate::secret::Secret;
use crate::store::Tx;

/// What is handed over, and to whom.
pub(super) struct HandOver<'a> {
    /// The VO that asks.
    pub(super) vo: VoId,
    /// Its name.
    pub(super) vo_name: &'a str,
    /// The gateway's own origin.
    pub(super) base: &'a str,
    /// User name.
    pub(super) username: &'a str,
    /// E-mail address, if the card has one.
    pub(super) mail: Option<&'a str>,
    /// Whether the administrator asks to see it.
    pub(super) show: bool,
}

impl HandOver<'_> {
    /// Queues the mail with the password, unless it is to be shown; then gives it back. `change` says which it was.
    pub(super) async fn run(
        self,
        api: &Api,
        tx: &mut Tx,
        password: Secret<String>,
        change: &mut Change,
    ) -> Result<Option<Secret<String>>, Problem> {
        let mail = self.mail.filter(|_| api.alert.is_smtp() && !self.show);
        // INVARIANT: an administrator who sees a one-time password is on record.
        note(change, if mail.is_some() { "mailed" } else { "shown" });
        let Some(mail) = mail else {
            return Ok(Some(password));
        };
        let letter = self.letter(mail, &password);
        let posted = api.alert.post_secret(tx, self.vo, &letter).await;
        posted.map_err(|error| unposted(&error))?;
        Ok(None)
    }

    fn letter(&self, mail: &str, password: &Secret<String>) -> Letter {
        let body = format!(
            "An administrator of the virtual organisation `{}` gave your account a one-time password.\n\n\
             User name:          {}\nOne-time password:  {}\nSign in at:         {}\n\n\
             It opens nothing but the choice of a password of your own, once. If you did not expect this, tell your \
             administrator.\n",
            self.vo_name,
            self.username,
            password.expose(),
            self.base,
        );
        Letter {
            to: vec![mail.to_owned()],
            subject: "[Countersign] your one-time password".to_owned(),
            body,
        }
    }
}

fn note(change: &mut Change, how: &str) {
    if let Some(Value::Object(after)) = &mut change.after {
        after.insert("one_time_password".to_owned(), how.into());
    }
}
