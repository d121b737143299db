//! The members of a VO: who they are, which roles they hold, and what is done with their accounts.

use askama::Template;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::ask::{Ask, Refusal, Visit};
use super::faults::Faults;
use super::form::Form;
use super::frame::{Page, address};
use super::own::ROWS;
use super::pages::{Said, text};
use super::{Console, answer, note, with_query};
use crate::api::proxy::list::ProxyList;
use crate::api::role::list::RoleList;
use crate::api::user::add::UserAdded;
use crate::api::user::list::UserList;
use crate::api::user::reset_password::PasswordReset;
use crate::api::user::show::UserShown;
use crate::body::Body;
use crate::problem::{Kind, Problem};
use crate::secret::Secret;

/// What is looked for among the members.
#[derive(Default)]
struct Looked {
    text: String,
    state: String,
    role: String,
    after: String,
}

/// A form for a new member, as it was filled in.
#[derive(Default)]
struct Given {
    username: String,
    name: String,
    mail: String,
    organisation: String,
    role: String,
}

#[derive(Template)]
#[template(path = "members.html")]
struct MembersBody<'a> {
    said: &'a Said,
    faults: &'a Faults,
    /// Somebody who was just added, and the one-time password to hand over.
    added: Option<(String, String)>,
    vo: &'a str,
    list: UserList,
    roles: Vec<String>,
    looked: Looked,
    given: Given,
    next: Option<String>,
}

impl MembersBody<'_> {
    fn looks(&self) -> bool {
        let Looked {
            text, state, role, ..
        } = &self.looked;
        !(text.is_empty() && state.is_empty() && role.is_empty())
    }
}

#[derive(Template)]
#[template(path = "member.html")]
struct MemberBody<'a> {
    said: &'a Said,
    /// A one-time password to hand over.
    secret: Option<String>,
    vo: &'a str,
    /// The page's own address, to which its forms go.
    here: String,
    shown: &'a UserShown,
    /// The roles of the VO that she does not hold.
    others: Vec<String>,
    proxies: ProxyList,
}

impl Console {
    pub(super) async fn members(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let said = note(request.parameter("note"));
        let page = self
            .members_page(request, &said, &Faults::none(), Given::default(), None)
            .await?;
        Ok(answer::page(StatusCode::OK, page))
    }

    async fn members_page(
        &self,
        request: &Visit,
        said: &Said,
        faults: &Faults,
        given: Given,
        added: Option<(String, String)>,
    ) -> Result<String, Refusal> {
        let (ask, vo) = (Ask::of(request)?, request.parameter("vo"));
        let of = |name| request.parameter(name).to_owned();
        let looked = Looked {
            text: of("text"),
            state: of("state"),
            role: of("role"),
            after: of("after"),
        };
        let query = [
            ("text", looked.text.as_str()),
            ("state", &looked.state),
            ("role", &looked.role),
            ("after", &looked.after),
            ("limit", ROWS),
        ];
        let list: UserList = ask.read("user.list", &[("vo", vo)], &query).await?;
        let here = address(vo, "members");
        let further = |next: &String| {
            let next = [
                ("text", looked.text.as_str()),
                ("state", &looked.state),
                ("role", &looked.role),
                ("after", next),
            ];
            with_query(&here, &next)
        };
        let body = text(&MembersBody {
            said,
            faults,
            added,
            vo,
            next: list.next.as_ref().map(further),
            list,
            roles: roles(&ask, vo).await?,
            looked,
            given,
        });
        let shell = self.shell_in(request, vo).at(&here);
        let page = Page {
            shell: Some(&shell),
            ..Page::new("Members", "", &body)
        };
        Ok(page.show())
    }

    pub(super) async fn member_add(&self, request: &Visit, form: &Form) -> Result<Response<Body>, Refusal> {
        let vo = request.parameter("vo");
        let given = Given {
            username: form.text("username").trim().to_owned(),
            name: form.text("name").trim().to_owned(),
            mail: form.text("mail").trim().to_owned(),
            organisation: form.text("organisation").trim().to_owned(),
            role: form.text("role").to_owned(),
        };
        let mut body = Map::from_iter([("username".to_owned(), json!(given.username))]);
        for (name, value) in [
            ("name", &given.name),
            ("mail", &given.mail),
            ("organisation", &given.organisation),
        ] {
            if !value.is_empty() {
                body.insert(name.to_owned(), json!(value));
            }
        }
        if !given.role.is_empty() {
            body.insert("roles".to_owned(), json!([given.role]));
        }
        body.insert("show_password".to_owned(), json!(form.text("show") == "yes"));
        let reason = [("reason", form.text("reason"))];
        let ask = Ask::of(request)?;
        let path = [("vo", vo)];
        let done = ask.act("user.add", &path, &reason, Some(Value::Object(body)));
        match done.await {
            Ok(UserAdded {
                user,
                one_time_password,
            }) => {
                let Some(password) = one_time_password else {
                    let here = member_address(vo, &user.id);
                    return Ok(answer::see_other(&with_query(&here, &[("note", "member-added")])));
                };
                let added = Some((user.username, password.expose().clone()));
                let page = self
                    .members_page(request, &Said::Nothing, &Faults::none(), Given::default(), added)
                    .await?;
                Ok(answer::page(StatusCode::CREATED, page))
            }
            Err(refusal) => {
                let problem = corrected(refusal)?;
                let fields = [
                    ("username", given.username.as_str()),
                    ("mail", &given.mail),
                    ("name", &given.name),
                    ("organisation", &given.organisation),
                    ("reason", form.text("reason")),
                ];
                let (said, faults) = Faults::from(&problem, &fields);
                let page = self.members_page(request, &said, &faults, given, None);
                Ok(answer::refused(&problem, page.await?))
            }
        }
    }

    pub(super) async fn member(&self, request: &Visit) -> Result<Response<Body>, Refusal> {
        let said = note(request.parameter("note"));
        let page = self.member_page(request, &said, None).await?;
        Ok(answer::page(StatusCode::OK, page))
    }

    async fn member_page(
        &self,
        request: &Visit,
        said: &Said,
        secret: Option<Secret<String>>,
    ) -> Result<String, Refusal> {
        let (ask, vo) = (Ask::of(request)?, request.parameter("vo"));
        let path = [("vo", vo), ("person", request.parameter("person"))];
        let shown: UserShown = ask.read("user.show", &path, &[]).await?;
        let mut others = roles(&ask, vo).await?;
        others.retain(|role| shown.user.roles.iter().all(|held| held.role != *role));
        let body = text(&MemberBody {
            said,
            secret: secret.map(|secret| secret.expose().clone()),
            vo,
            here: member_address(vo, &shown.user.id),
            shown: &shown,
            others,
            proxies: ask.read("user.list_proxies", &path, &[]).await?,
        });
        let above = address(vo, "members");
        let shell = self.shell_in(request, vo).at(&above);
        let page = Page {
            shell: Some(&shell),
            crumbs: &[(above, "Members".to_owned())],
            ..Page::new(&shown.user.username, "", &body)
        };
        Ok(page.show())
    }

    /// Whatever the page of a member does; the button says what.
    pub(super) async fn member_change(
        &self,
        request: &Visit,
        form: &Form,
    ) -> Result<Response<Body>, Refusal> {
        let (vo, person) = (request.parameter("vo"), request.parameter("person"));
        match change(&Ask::of(request)?, (vo, person), form).await {
            Ok(Done::Noted("member-removed")) => {
                let here = with_query(&address(vo, "members"), &[("note", "member-removed")]);
                Ok(answer::see_other(&here))
            }
            Ok(Done::Noted(note)) => {
                let here = member_address(vo, person);
                Ok(answer::see_other(&with_query(&here, &[("note", note)])))
            }
            Ok(Done::Secret(secret)) => {
                let page = self.member_page(request, &Said::Nothing, Some(secret)).await?;
                Ok(answer::page(StatusCode::OK, page))
            }
            Err(refusal) => {
                let problem = corrected(refusal)?;
                let said = Said::Bad(super::login::words(&problem));
                let page = self.member_page(request, &said, None).await?;
                Ok(answer::refused(&problem, page))
            }
        }
    }
}

/// What came of a change.
enum Done {
    Noted(&'static str),
    Secret(Secret<String>),
}

async fn change(ask: &Ask, (vo, person): (&str, &str), form: &Form) -> Result<Done, Refusal> {
    let path = [("vo", vo), ("person", person)];
    let reason = [("reason", form.text("reason"))];
    let role = form.text("role");
    let in_role = [("vo", vo), ("person", person), ("role", role)];
    let plain = |task: &'static str, note: &'static str| async move {
        ask.act::<Value>(task, &path, &reason, None).await?;
        Ok(Done::Noted(note))
    };
    match form.text("do") {
        "suspend" => plain("user.suspend", "suspended").await,
        "resume" => plain("user.resume", "resumed").await,
        "remove" => plain("user.remove", "member-removed").await,
        "reset-factors" => {
            ask.act::<()>("user.reset_factors", &path, &reason, None).await?;
            Ok(Done::Noted("factors-reset"))
        }
        "reset-password" => {
            let show = [(
                "show_password",
                if form.text("show") == "yes" { "true" } else { "" },
            )];
            let reset: PasswordReset = ask.act("user.reset_password", &path, &show, None).await?;
            Ok(match reset.one_time_password {
                Some(secret) => Done::Secret(secret),
                None => Done::Noted("password-mailed"),
            })
        }
        "assign" => {
            let until = form.text("until");
            let body = match until {
                "" => json!({}),
                day => json!({ "until": format!("{day}T23:59:59Z") }),
            };
            ask.act::<()>("role.assign", &in_role, &reason, Some(body))
                .await?;
            Ok(Done::Noted("role-assigned"))
        }
        "unassign" => {
            ask.act::<()>("role.unassign", &in_role, &reason, None).await?;
            Ok(Done::Noted("role-unassigned"))
        }
        "revoke-proxies" => {
            let body = Some(json!({}));
            ask.act::<Value>("user.revoke_proxies", &path, &reason, body)
                .await?;
            Ok(Done::Noted("revoked"))
        }
        _ => Err(Problem::new(Kind::Invalid, "the form does not say what to do").into()),
    }
}

/// A refusal that whoever filled the form can do something about there; any other ends the page.
#[expect(
    clippy::result_large_err,
    reason = "what ends a page ends it once; boxed, every page would have to unbox it"
)]
pub(super) fn corrected(refusal: Refusal) -> Result<Problem, Refusal> {
    match refusal.problem.kind {
        Kind::Invalid | Kind::Conflict | Kind::ReasonRequired | Kind::NotFound => Ok(refusal.problem),
        _ => Err(refusal),
    }
}

/// The names of the roles of a VO; none where she may not list them.
pub(super) async fn roles(ask: &Ask, vo: &str) -> Result<Vec<String>, Refusal> {
    let list: RoleList = ask.read("role.list", &[("vo", vo)], &[("limit", "1000")]).await?;
    Ok(list.roles.into_iter().map(|role| role.name).collect())
}

fn member_address(vo: &str, person: &str) -> String {
    format!("{}/{person}", address(vo, "members"))
}
