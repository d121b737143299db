//! Notices: what happened to an account, and traces, as mails to whom it concerns.

use super::{Alert, AlertError, Letter};
use crate::id::{CaseId, PersonId, RequestId, VoId};
use crate::store::Tx;

/// Kind of these mails in the outbox.
const NOTICE: &str = "notice";

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// An account was stopped.
    Suspended,
    /// An account was let in again.
    Resumed,
    /// The time of an account is over.
    Expired,
    /// An account was ended for good.
    Deleted,
    /// Others may know the password.
    PasswordFlagged,
    /// An administrator took all second factors away.
    FactorsReset,
    /// A second factor was added.
    FactorAdded,
    /// A second factor was removed.
    FactorRemoved,
    /// A recovery code was taken in the place of a code.
    RecoveryCodeUsed,
    /// Many codes were wrong.
    WrongCodes,
    /// So many codes were wrong that none of an authenticator is taken any more.
    CodesStopped,
}

impl Happened {
    /// Why sessions end with it, as records say.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Expired => "account_expired",
            Self::Deleted => "deleted",
            Self::PasswordFlagged => "compromised",
            _ => "suspended",
        }
    }
}

/// Something that happened to an account. The person's own address is told of it, too.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// What.
    pub happened: Happened,
    /// To whom.
    pub person: PersonId,
    /// User name.
    pub username: &'a str,
    /// User name of who did it.
    pub by_username: &'a str,
    /// Name of the VO in which it was done.
    pub vo_name: &'a str,
    /// The request.
    pub request: RequestId,
}

impl Alert {
    /// Puts the mails of a notice into the outbox, together with whatever else the transaction does: one to the person
    /// whose account it is, and one to each administrator of the VO.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify(&self, tx: &mut Tx, vo: VoId, notice: &Notice<'_>) -> Result<(), AlertError> {
        let alert = &self.0;
        let known = alert.vos.mail_of(&[notice.person]).await?;
        let own = known.get(&notice.person);
        let mut administrators = alert.administrators(vo, alert.ids.clock().now()).await?;
        // Nobody is told twice.
        administrators.retain(|address| Some(address) != own);
        if let Some(own) = own {
            let letter = notice.letter(vec![own.clone()]);
            alert.post(tx, vo, NOTICE, &letter).await?;
        }
        if !administrators.is_empty() {
            let letter = notice.letter(administrators);
            alert.post(tx, vo, NOTICE, &letter).await?;
        }
        Ok(())
    }

    /// Puts the mail of a notice to the person whose account it is into the outbox, and to nobody else.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify_person(&self, tx: &mut Tx, vo: VoId, notice: &Notice<'_>) -> Result<(), AlertError> {
        let known = self.0.vos.mail_of(&[notice.person]).await?;
        match known.get(&notice.person) {
            Some(own) => {
                self.0
                    .post(tx, vo, NOTICE, &notice.letter(vec![own.clone()]))
                    .await
            }
            None => Ok(()),
        }
    }

    /// Tells the administrators of the VO whose proxies were traced, but for the one who did it: one mail, however many
    /// proxies there were. Whoever was traced is not told.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify_traced(
        &self,
        tx: &mut Tx,
        vo: VoId,
        traced: &TracedNotice<'_>,
    ) -> Result<(), AlertError> {
        let alert = &self.0;
        let known = alert.vos.mail_of(&[traced.by]).await?;
        let mut administrators = alert.administrators(vo, alert.ids.clock().now()).await?;
        administrators.retain(|address| Some(address) != known.get(&traced.by));
        if administrators.is_empty() || traced.usernames.is_empty() {
            return Ok(());
        }
        alert.post(tx, vo, NOTICE, &traced.letter(administrators)).await?;
        Ok(())
    }
}

impl Alert {
    /// Queues a letter to the administrators of a VO.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify_administrators(
        &self,
        tx: &mut Tx,
        vo: VoId,
        letter: impl FnOnce(Vec<String>) -> Letter + Send,
    ) -> Result<(), AlertError> {
        let administrators = self.0.administrators(vo, self.0.ids.clock().now()).await?;
        self.0.post(tx, vo, NOTICE, &letter(administrators)).await
    }
}

/// A case of a resource provider.
#[derive(Clone, Debug)]
pub struct CaseNotice<'a> {
    /// The case.
    pub case: CaseId,
    /// The tool that the proxy was minted for.
    pub tool: &'a str,
    /// Name of the VO.
    pub vo_name: &'a str,
    /// User name of who asks, or of who answered.
    pub by_username: &'a str,
    /// What the provider says.
    pub note: Option<&'a str>,
}

impl Alert {
    /// Tells the administrators of the VO that a provider asks who was behind a proxy. The mail does not say who it was.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify_case(&self, tx: &mut Tx, vo: VoId, case: &CaseNotice<'_>) -> Result<(), AlertError> {
        let administrators = self.0.administrators(vo, self.0.ids.clock().now()).await?;
        let CaseNotice {
            case: id,
            tool,
            vo_name,
            by_username,
            note,
        } = case;
        let said = note
            .map(|note| format!("\nIt says:\n{note}\n"))
            .unwrap_or_default();
        let letter = Letter {
            to: administrators,
            subject: format!("[Countersign] {vo_name}: a provider of `{tool}` asks who was behind a proxy"),
            body: format!(
                "It learns nothing until you answer.\n\nTool:    {tool}\nBy:      {by_username}\nCase:    {id}\n{said}\n\
                 Who it was, and what the proxy was used for:\n  countersign case show {vo_name} {id}\n\
                 To answer:\n  countersign case answer {vo_name} {id} --show name --show mail\n"
            ),
        };
        self.0.post(tx, vo, NOTICE, &letter).await
    }

    /// Tells a provider's account that its case was answered. The answer itself is read at the gateway.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn notify_answered(
        &self,
        tx: &mut Tx,
        vo: VoId,
        provider: PersonId,
        case: &CaseNotice<'_>,
    ) -> Result<(), AlertError> {
        let known = self.0.vos.mail_of(&[provider]).await?;
        let Some(address) = known.get(&provider) else {
            return Ok(());
        };
        let CaseNotice {
            case: id,
            tool,
            vo_name,
            by_username,
            ..
        } = case;
        let letter = Letter {
            to: vec![address.clone()],
            subject: format!("[Countersign] {vo_name}: your case about a proxy was answered"),
            body: format!(
                "Tool:    {tool}\nBy:      {by_username}\nCase:    {id}\n\n\
                 The answer is read with:\n  countersign provider cases {vo_name} {tool} --case {id}\n"
            ),
        };
        self.0.post(tx, vo, NOTICE, &letter).await
    }
}

/// Names of accounts that stand in one mail.
const NAMED: usize = 20;

/// Proxies that were traced.
#[derive(Clone, Debug)]
pub struct TracedNotice<'a> {
    /// User names of whom they were made for, each once.
    pub usernames: &'a [String],
    /// Who traced them.
    pub by: PersonId,
    /// User name.
    pub by_username: &'a str,
    /// Name of the VO.
    pub vo_name: &'a str,
    /// The request.
    pub request: RequestId,
}

impl TracedNotice<'_> {
    fn letter(&self, to: Vec<String>) -> Letter {
        let (vo, count) = (self.vo_name, self.usernames.len());
        let subject = match self.usernames {
            [username] => format!("{vo}: a proxy of `{username}` was traced"),
            _ => format!("{vo}: proxies of {count} people were traced"),
        };
        let mut accounts = self
            .usernames
            .iter()
            .take(NAMED)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if count > NAMED {
            accounts.push_str(&format!(" and {} more", count - NAMED));
        }
        let label = if count == 1 { "Account: " } else { "Accounts:" };
        let body = format!(
            "Whoever traced it knows now for whom it was made and what it was used for.\n\n\
             {label} {accounts}\nBy:      {}\nRequest: {}\n\n\
             Whoever administers `{vo}` sees the records with:\n  countersign explain {}\n",
            self.by_username, self.request, self.request,
        );
        Letter {
            to,
            subject: format!("[Countersign] {subject}"),
            body,
        }
    }
}

impl Notice<'_> {
    fn letter(&self, to: Vec<String>) -> Letter {
        let (username, vo) = (self.username, self.vo_name);
        let (subject, text) = match self.happened {
            Happened::Suspended => (
                format!("{vo}: the account `{username}` was suspended"),
                "It opens nothing until it is resumed; its sessions and proxies have ended.",
            ),
            Happened::Resumed => (
                format!("{vo}: the account `{username}` is open again"),
                "It was suspended. What ended then stays ended: its owner signs in anew.",
            ),
            Happened::Expired => (
                format!("{vo}: the account `{username}` has expired"),
                "It opens nothing until an administrator gives it more time; its sessions and proxies have ended.",
            ),
            Happened::Deleted => (
                format!("{vo}: the account `{username}` was deleted"),
                "It opens nothing any more; its memberships, sessions and proxies have ended. What was done with it stays on record.",
            ),
            Happened::PasswordFlagged => (
                format!("{vo}: choose another password for `{username}`"),
                "Others may know the present one, so all sessions and proxies of the account have ended. The next sign-in opens \
                 nothing but the choice of another password; whoever uses the same one elsewhere changes it there, too.",
            ),
            Happened::FactorsReset => (
                format!("{vo}: the second factors of `{username}` were taken away"),
                "Its password alone opens it now, until its owner adds another factor; its sessions have ended. If you did not \
                 expect this, tell your administrator.",
            ),
            Happened::FactorAdded => (
                format!("{vo}: a second factor was added to `{username}`"),
                "Signing in asks for a code of it from now on; the other sessions have ended. If it was not you, tell your \
                 administrator.",
            ),
            Happened::FactorRemoved => (
                format!("{vo}: a second factor of `{username}` was removed"),
                "Its codes open nothing any more; the sessions have ended. If it was not you, tell your administrator.",
            ),
            Happened::RecoveryCodeUsed => (
                format!("{vo}: a recovery code of `{username}` was used"),
                "It is used up. If it was not you, somebody knows your password and your codes: change the password, make new \
                 codes, and tell your administrator.",
            ),
            Happened::WrongCodes => (
                format!("{vo}: somebody tries codes of `{username}`"),
                "Ten codes in a row were wrong. Only who knows the password, or has one of the sessions, can try any. If it was not \
                 you, change the password, and tell your administrator.",
            ),
            Happened::CodesStopped => (
                format!("{vo}: no code of the authenticator of `{username}` is taken any more"),
                "A hundred codes in a row were wrong. Only who knows the password, or has one of the sessions, can try any. A \
                 recovery code still opens the account, and ends this. If it was not you, change the password, and tell your \
                 administrator, who can reset it.",
            ),
        };
        let body = format!(
            "{text}\n\nAccount: {username}\nBy:      {}\nRequest: {}\n\n\
             Whoever administers `{vo}` sees the records with:\n  countersign explain {}\n",
            self.by_username, self.request, self.request,
        );
        Letter {
            to,
            subject: format!("[Countersign] {subject}"),
            body,
        }
    }
}
