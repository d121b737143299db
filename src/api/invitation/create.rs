//! `invitation.create`: offers an account with roles, by mail or as a link.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{InvitationView, view};
use crate::api::account::invite_by_mail;
use crate::api::operation::{Call, Operation, VO, exposed_if, moment, reasoned, task};
use crate::api::provider::no_provider;
use crate::api::{Api, problem};
use crate::problem::{Kind, Problem};
use crate::secret::Secret;
use crate::tool::{self, Task};
use crate::vo::{CardFields, EnrolmentKind, NewEnrolment, SCIENTIST};

/// Most days for which an invitation is good.
const MOST_DAYS: u32 = 30;
const DAYS: u32 = 7;
const DAY: u64 = 86_400;

/// Who is invited, to what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvitationCreate {
    /// Mail address: the link goes there where mails can be sent, and it stands on the account's card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub mail: Option<String>,
    /// Name; whoever takes the invitation can correct it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub name: Option<String>,
    /// Home organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub organisation: Option<String>,
    /// Roles; `scientist` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 50)]
    pub roles: Option<Vec<String>>,
    /// When the roles end by themselves (RFC 3339); for good when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 40)]
    pub until: Option<String>,
    /// For how many days the link is good: 1 to 30, 7 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    /// Show the link also where it can go by mail; then it is not mailed.
    #[serde(default)]
    pub show_link: bool,
}

/// An invitation that was made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct InvitationCreated {
    /// It.
    #[serde(flatten)]
    pub invitation: InvitationView,
    /// The link, unless it went by mail. It is shown this once, and good once.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "exposed_if"
    )]
    #[schema(value_type = Option<String>)]
    pub link: Option<Secret<String>>,
}

pub(in crate::api) struct Create;

impl Operation for Create {
    type Body = InvitationCreate;
    type Answer = InvitationCreated;
    const STATUS: StatusCode = StatusCode::CREATED;
    const SUMMARY: &'static str = "Invites somebody: by mail, or with a link that is shown once; she chooses user name and password herself";

    fn task() -> Task {
        reasoned(task(
            "invitation.create",
            "POST /api/v1/vos/{vo:slug}/invitations",
            tool::Kind::Create,
            VO,
        ))
    }

    async fn run(api: &Api, call: &Call, body: InvitationCreate) -> Result<InvitationCreated, Problem> {
        let vo = call.vo()?;
        let days = body.days.unwrap_or(DAYS);
        if !(1..=MOST_DAYS).contains(&days) {
            let detail = format!("`days` must be a number from 1 to {MOST_DAYS}");
            return Err(Problem::new(Kind::Invalid, detail));
        }
        let until = body
            .until
            .as_deref()
            .map(|text| moment("until", text))
            .transpose()?;
        let roles = body.roles.clone().unwrap_or_else(|| vec![SCIENTIST.to_owned()]);
        let directory = api.directory();
        for role in &roles {
            no_provider(role)?;
            if directory.role_named(vo.id, role).is_none() {
                return Err(Problem::new(
                    Kind::NotFound,
                    format!("there is no role `{role}` here"),
                ));
            }
        }
        let fields = CardFields {
            // A name is chosen later where none is known.
            name: body.name.clone().unwrap_or_else(|| "-".to_owned()),
            mail: body.mail.clone(),
            organisation: body.organisation.clone(),
        };
        fields.check().map_err(problem)?;
        let new = NewEnrolment {
            name: body.name.as_deref(),
            mail: body.mail.as_deref(),
            organisation: body.organisation.as_deref(),
            roles: &roles,
            roles_until: until,
            made_by: Some(call.person()?.id),
            ..NewEnrolment::default()
        };
        let expires = api.now().plus(Duration::from_secs(u64::from(days) * DAY));
        let mut tx = api.db.begin_write().await.map_err(problem)?;
        let kind = (vo.id, EnrolmentKind::Invitation);
        let (made, code, mut change) = api
            .vos
            .enrol(&mut tx, kind, new, expires)
            .await
            .map_err(problem)?;
        let link = Secret::new(format!("{}/invitation?code={}", call.base, code.expose()));
        let mail = body
            .mail
            .as_deref()
            .filter(|_| api.alert.is_smtp() && !body.show_link);
        // INVARIANT: an administrator who sees a link is on record.
        if let Some(serde_json::Value::Object(after)) = &mut change.after {
            after.insert(
                "link".into(),
                if mail.is_some() { "mailed" } else { "shown" }.into(),
            );
        }
        let shown = match mail {
            Some(mail) => {
                let good_until = expires.to_string();
                let sent = (mail, &link, good_until.as_str());
                invite_by_mail(api, &mut tx, (vo.id, &vo.name), sent).await?;
                None
            }
            None => Some(link),
        };
        api.commit_aside(call, tx, vec![change]).await?;
        Ok(InvitationCreated {
            invitation: view(api, made),
            link: shown,
        })
    }
}
