//! The mails that go with accounts on their way: each says what happened and what to do next.

use crate::alert::Letter;
use crate::api::{Api, problem, unposted};
use crate::id::{PersonId, VoId};
use crate::problem::Problem;
use crate::secret::Secret;
use crate::store::Tx;

/// The link that confirms a mail address. Its text is wiped once it is sent: the code opens something.
pub(super) async fn confirm(
    api: &Api,
    tx: &mut Tx,
    (vo, vo_name, base): (VoId, &str, &str),
    (mail, code): (&str, &Secret<String>),
) -> Result<(), Problem> {
    let letter = Letter {
        to: vec![mail.to_owned()],
        subject: format!("[Countersign] {vo_name}: confirm your mail address"),
        body: format!(
            "Somebody asked for an account of the virtual organisation `{vo_name}` with this mail address.\n\n\
             If it was you, open this page within 24 hours, and choose your password there:\n\
             \x20 {base}/vo/{vo_name}/join/confirm?code={}\n\n\
             Its administrators then get your request. If it was not you, do nothing: nothing comes of it.\n",
            code.expose()
        ),
    };
    let posted = api.alert.post_secret(tx, vo, &letter).await;
    posted.map_err(|error| unposted(&error))
}

/// Tells the administrators of a VO that somebody waits for their decision.
pub(super) async fn requested(
    api: &Api,
    tx: &mut Tx,
    (vo, vo_name, base): (VoId, &str, &str),
    username: &str,
) -> Result<(), Problem> {
    let told = api.alert.notify_administrators(tx, vo, |to| Letter {
        to,
        subject: format!("[Countersign] {vo_name}: `{username}` asks for an account"),
        body: format!(
            "The mail address is confirmed; the account is pending and opens nothing before somebody decides.\n\n\
             Who it is, and why:\n  countersign account list {vo_name}\n  {base}/accounts/{vo_name}\n\
             To decide:\n  countersign account approve {vo_name} {username}\n  \
             countersign account reject {vo_name} {username} --message TEXT\n"
        ),
    });
    told.await.map_err(|error| unposted(&error))
}

/// Tells somebody that her account is open.
pub(super) async fn approved(
    api: &Api,
    tx: &mut Tx,
    (vo, vo_name, base): (VoId, &str, &str),
    person: PersonId,
) -> Result<(), Problem> {
    let directory = api.directory();
    let username = directory.person(person).map(|person| person.username.clone());
    let username = username.unwrap_or_default();
    let body = format!(
        "An administrator of the virtual organisation `{vo_name}` approved your account.\n\n\
         User name:   {username}\nSign in at:  {base}\n\n\
         Your password is the one that you chose when you confirmed this address. After signing in, the first page shows what \
         you may do, with a line to copy for each task; on the command line:\n  \
         countersign login --gateway {base} --user {username}\n"
    );
    let subject = format!("[Countersign] {vo_name}: your account is approved");
    to_person(api, tx, vo, person, (subject, body)).await
}

/// Tells somebody that her request was refused.
pub(super) async fn rejected(
    api: &Api,
    tx: &mut Tx,
    (vo, vo_name): (VoId, &str),
    (person, message): (PersonId, &str),
) -> Result<(), Problem> {
    let body = format!(
        "The administrators of the virtual organisation `{vo_name}` decided against the account that you asked for.\n\n\
         They say:\n{message}\n\n\
         The account opens nothing. If you think that this is a mistake, answer the people whom you know there: they can \
         still approve the request.\n"
    );
    let subject = format!("[Countersign] {vo_name}: your request for an account was refused");
    to_person(api, tx, vo, person, (subject, body)).await
}

/// An invitation, with its link. Its text is wiped once it is sent.
pub(super) async fn invited(
    api: &Api,
    tx: &mut Tx,
    (vo, vo_name): (VoId, &str),
    (mail, link, expires): (&str, &Secret<String>, &str),
) -> Result<(), Problem> {
    let letter = Letter {
        to: vec![mail.to_owned()],
        subject: format!("[Countersign] {vo_name}: you are invited"),
        body: format!(
            "An administrator of the virtual organisation `{vo_name}` invites you to have an account there.\n\n\
             To choose your user name and your password, open this page until {expires}; it works once:\n  {}\n\n\
             If you did not expect this, do nothing: nothing comes of it.\n",
            link.expose()
        ),
    };
    let posted = api.alert.post_secret(tx, vo, &letter).await;
    posted.map_err(|error| unposted(&error))
}

async fn to_person(
    api: &Api,
    tx: &mut Tx,
    vo: VoId,
    person: PersonId,
    (subject, body): (String, String),
) -> Result<(), Problem> {
    let known = api.vos.mail_of(&[person]).await.map_err(problem)?;
    let to: Vec<String> = known.into_values().collect();
    if to.is_empty() {
        return Ok(());
    }
    let posted = api.alert.post(tx, vo, &Letter { to, subject, body }).await;
    posted.map_err(|error| unposted(&error))
}
