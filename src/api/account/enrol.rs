//! What strangers do: ask for an account, confirm the mail address, take an invitation. Pages call this; each is a task of its own,
//! permitted and recorded like any other.

use serde_json::json;

use super::{CONFIRM_WITHIN, letters};
use crate::api::operation::Asked;
use crate::api::{Api, problem};
use crate::authenticate::{MIN_CHARACTERS, Source};
use crate::id::{PersonId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::Change;
use crate::secret::Secret;
use crate::state::Begun;
use crate::vo::{
    CardFields, Enrolment, EnrolmentKind, NewEnrolment, PersonState, Vo, VoState, check_request, is_username,
};

/// What somebody gives who asks for an account.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// User name that she would like to have.
    pub username: String,
    /// Name.
    pub name: String,
    /// Mail address.
    pub mail: String,
    /// Home organisation; empty for none.
    pub organisation: String,
    /// Why she asks.
    pub reason: String,
}

impl Wish {
    fn fields(&self) -> CardFields {
        CardFields {
            name: self.name.clone(),
            mail: Some(self.mail.clone()),
            organisation: Some(self.organisation.clone()).filter(|text| !text.is_empty()),
        }
    }
}

/// The VO that a page of this name is of, if it takes requests.
///
/// SECURITY: one that takes none, one that is shut and one that is not there look alike to strangers.
async fn taking(api: &Api, name: &str) -> Result<std::sync::Arc<Vo>, Problem> {
    let unknown = || {
        Problem::new(
            Kind::NotFound,
            "there is no page here on which accounts are asked for",
        )
    };
    let directory = api.directory();
    let vo = directory.vo_named(name).cloned().ok_or_else(unknown)?;
    let takes = api.vos.takes_requests(vo.id).await.map_err(problem)?;
    match takes && vo.state == VoState::Active {
        true => Ok(vo),
        false => Err(unknown()),
    }
}

/// Whether a VO of this name takes requests; the problem says that there is no such page.
///
/// # Errors
/// A [`Problem`].
pub async fn may_ask(api: &Api, vo: &str) -> Result<(), Problem> {
    taking(api, vo).await.map(|_| ())
}

/// Takes a request: the mail address gets a link. What is answered does not depend on who is known here.
///
/// # Errors
/// A [`Problem`]: no such page, a field that is not acceptable, too many requests.
pub async fn ask(api: &Api, asked: &Asked, vo: &str, wish: &Wish) -> Result<(), Problem> {
    let call = &asked.0;
    let vo = taking(api, vo).await?;
    let fields = wish.fields();
    check_request(&wish.username, &fields, &wish.reason).map_err(problem)?;
    // SECURITY: by source and by address, so that nobody fills the queue or somebody's mailbox.
    api.authenticate
        .enrolment_asked(call.subject.source(), Some(&wish.mail))?;
    let new = NewEnrolment {
        username: Some(&wish.username),
        name: Some(&fields.name),
        mail: fields.mail.as_deref(),
        organisation: fields.organisation.as_deref(),
        said: Some(&wish.reason),
        ..NewEnrolment::default()
    };
    let expires = api.now().plus(CONFIRM_WITHIN);
    let mut tx = api.db.begin_write().await.map_err(problem)?;
    let kind = (vo.id, EnrolmentKind::Request);
    let (_, code, change) = api
        .vos
        .enrol(&mut tx, kind, new, expires)
        .await
        .map_err(problem)?;
    letters::confirm(api, &mut tx, (vo.id, &vo.name, &call.base), (&wish.mail, &code)).await?;
    api.commit_aside(call, tx, vec![change]).await
}

/// What a code in a link is good for.
///
/// # Errors
/// A [`Problem`]: it is unknown, was used, or is too old; too many were tried.
pub async fn opened(
    api: &Api,
    kind: EnrolmentKind,
    code: &Secret<String>,
    source: Source,
) -> Result<Enrolment, Problem> {
    api.authenticate.enrolment_asked(source, None)?;
    let found = api.vos.enrolment_of(kind, code).await.map_err(problem)?;
    let directory = api.directory();
    // SECURITY: an invitation is worth what its maker is: nothing, once her account is stopped or she has left.
    let stands = |enrolment: &Enrolment| {
        let open = directory
            .vo(enrolment.vo)
            .is_some_and(|vo| vo.state == VoState::Active);
        let maker = enrolment.made_by.and_then(|id| directory.person(id));
        let made = enrolment.made_by.is_none()
            || maker.is_some_and(|maker| {
                maker.standing(api.now()) == PersonState::Active
                    && directory.is_member(enrolment.vo, maker.id)
            });
        open && made
    };
    let found = found.filter(stands);
    found.ok_or_else(|| {
        Problem::new(
            Kind::NotFound,
            "this link was used already, is too old, or was taken back",
        )
        .instead("Ask for another one where you got it.")
    })
}

/// A password that somebody chose for an account that she is about to have.
struct Chosen {
    hash: String,
}

async fn choose(api: &Api, password: &Secret<String>, words: &[&str]) -> Result<Chosen, Problem> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let nobody = PersonId::from(uuid::Uuid::nil());
    let judged = api
        .authenticate
        .judge(nobody, password.expose(), MIN_CHARACTERS, &words);
    judged.map_err(|weakness| weakness.as_problem())?;
    let hash = api.authenticate.hash_own(password).await.map_err(problem)?;
    Ok(Chosen { hash })
}

/// Confirms the mail address of a request: now there is an account, which waits for a decision. Gives its user name.
///
/// # Errors
/// A [`Problem`]: the link is no good (any more), the password is weak.
pub async fn confirm(
    api: &Api,
    asked: &Asked,
    code: &Secret<String>,
    password: &Secret<String>,
) -> Result<String, Problem> {
    let call = &asked.0;
    let request = opened(api, EnrolmentKind::Request, code, call.subject.source()).await?;
    let fields = CardFields {
        name: request.name.clone().unwrap_or_default(),
        mail: request.mail.clone(),
        organisation: request.organisation.clone(),
    };
    let wished = request.username.clone().unwrap_or_default();
    let words = [&*wished, &fields.name, fields.mail.as_deref().unwrap_or_default()];
    let chosen = choose(api, password, &words).await?;
    let directory = api.directory();
    let vo = directory.vo(request.vo).ok_or_else(no_vo)?;
    let mut tx = api.begin().await?;
    let username = api.vos.free_username(&mut tx, &wished).await.map_err(problem)?;
    let account = (&*username, PersonState::Pending);
    let (person, created) = make(api, &mut tx, (vo.id, account), &fields, &chosen).await?;
    let changes = vec![
        created,
        used(api, &mut tx, (&request, "account.confirm", "pending"), person).await?,
    ];
    letters::requested(api, &mut tx, (vo.id, &vo.name, &call.base), &username).await?;
    api.commit(call, tx, changes).await?;
    Ok(username)
}

/// What somebody chooses who takes an invitation.
#[derive(Debug)]
pub struct Taken<'a> {
    /// User name.
    pub username: &'a str,
    /// Name.
    pub name: &'a str,
    /// Password.
    pub password: &'a Secret<String>,
}

/// Takes an invitation: now there is an account, which is a member with the roles that were offered.
///
/// # Errors
/// A [`Problem`]: the link is no good (any more), the name is taken, the password is weak.
pub async fn take(api: &Api, asked: &Asked, code: &Secret<String>, taken: Taken<'_>) -> Result<(), Problem> {
    let call = &asked.0;
    let invitation = opened(api, EnrolmentKind::Invitation, code, call.subject.source()).await?;
    if !is_username(taken.username) {
        let shown = taken.username.chars().take(60).collect();
        return Err(crate::vo::VoError::Username(shown).as_problem());
    }
    let fields = CardFields {
        name: taken.name.to_owned(),
        mail: invitation.mail.clone(),
        organisation: invitation.organisation.clone(),
    };
    let words = [
        taken.username,
        taken.name,
        fields.mail.as_deref().unwrap_or_default(),
    ];
    let chosen = choose(api, taken.password, &words).await?;
    let vo = invitation.vo;
    let mut tx = api.begin().await?;
    let account = (taken.username, PersonState::Active);
    let (person, created) = make(api, &mut tx, (vo, account), &fields, &chosen).await?;
    let mut changes = vec![
        created,
        used(api, &mut tx, (&invitation, "invitation.use", "used"), person).await?,
    ];
    changes.push(api.vos.join(&mut tx, vo, person).await.map_err(problem)?);
    for role in &invitation.roles {
        let assigned = api
            .vos
            .assign(&mut tx, vo, role, person, invitation.roles_until)
            .await;
        changes.push(assigned.map_err(problem)?);
    }
    api.commit(call, tx, changes).await
}

async fn make(
    api: &Api,
    tx: &mut Begun,
    (vo, account): (VoId, (&str, PersonState)),
    fields: &CardFields,
    chosen: &Chosen,
) -> Result<(PersonId, Change), Problem> {
    let made = api.vos.add_person_as(tx, vo, account, fields).await;
    let (person, mut change) = made.map_err(problem)?;
    if let Some(serde_json::Value::Object(after)) = &mut change.after {
        after.insert("password".into(), json!("own"));
    }
    let set = api.authenticate.set_own(tx, (person, vo), &chosen.hash).await;
    set.map_err(problem)?;
    Ok((person, change))
}

/// SECURITY: a link leads to one account: whoever comes second finds it used.
async fn used(
    api: &Api,
    tx: &mut Begun,
    (enrolment, action, state): (&Enrolment, &str, &'static str),
    person: PersonId,
) -> Result<Change, Problem> {
    let first = api.vos.use_enrolment(tx, enrolment, person, state).await;
    match first.map_err(problem)? {
        true => Ok(api.vos.used(action, enrolment, person, state)),
        false => Err(Problem::new(Kind::Conflict, "this link was used meanwhile")),
    }
}

fn no_vo() -> Problem {
    Problem::new(Kind::NotFound, "the virtual organisation is not there any more")
}
