//! `countersign role`: roles of a virtual organisation and who holds them.

use clap::{Args, Subcommand};

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use super::output::Output;
use crate::api::role::assign::RoleAssign;
use crate::api::role::create::RoleCreate;
use crate::api::role::list::RoleView;
use crate::clock::Timestamp;

/// Roles, and who holds them.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    Create(Create),
    List(List),
    End(End),
    Assign(Assign),
    Unassign(Unassign),
}

/// Makes a role. It allows nothing until tasks are granted to it.
///
/// Examples:
///   countersign role create imaging clinician
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Create {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the role: a to z, 0 to 9 and hyphens, at most 40.
    role: String,
    #[command(flatten)]
    reason: Reason,
}

/// Lists the roles of a virtual organisation.
///
/// Examples:
///   countersign role list imaging
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {
    /// Name of the virtual organisation.
    vo: String,
}

/// Ends a role, with its grants and everyone's hold on it.
///
/// Examples:
///   countersign role end imaging clinician
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct End {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the role.
    role: String,
    #[command(flatten)]
    reason: Reason,
}

/// Gives a role to a member, for good or until a moment.
///
/// Examples:
///   countersign role assign imaging scientist john --reason 'joined the team'
///   countersign role assign imaging clinician john --until 2030-01-31T12:00:00Z
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Assign {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the role.
    role: String,
    /// User name of the member.
    user: String,
    /// When it ends by itself (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = super::input::moment)]
    until: Option<Timestamp>,
    #[command(flatten)]
    reason: Reason,
}

/// Takes a role away from a member.
///
/// Examples:
///   countersign role unassign imaging scientist john
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Unassign {
    /// Name of the virtual organisation.
    vo: String,
    /// Name of the role.
    role: String,
    /// User name of the member.
    user: String,
    #[command(flatten)]
    reason: Reason,
}

/// Runs the command.
pub(crate) async fn run(command: Role, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Role::Create(Create { vo, role, reason }) => {
            let body = RoleCreate { name: role };
            let made: RoleView = client
                .task("role.create")
                .at("vo", &vo)
                .because(&reason)
                .send(&body)
                .await?;
            out.show(&made, |out, made| {
                out.line(format!("made role {} of {vo}", made.name))
            })?;
        }
        Role::List(List { vo }) => {
            let roles: Vec<RoleView> = client.task("role.list").at("vo", vo).list("roles").await?;
            out.list("roles", &roles, &["NAME", "MEMBERS", "GRANTS", "ID"], |role| {
                vec![
                    role.name.clone(),
                    role.members.to_string(),
                    role.grants.to_string(),
                    role.id.clone(),
                ]
            })?;
        }
        Role::End(End { vo, role, reason }) => {
            client
                .task("role.end")
                .at("vo", &vo)
                .because(&reason)
                .at("role", &role)
                .act()
                .await?;
            out.done("role.end", format!("ended role {role} of {vo}"))?;
        }
        Role::Assign(Assign {
            vo,
            role,
            user,
            until,
            reason,
        }) => {
            let until = until.map(|until| until.to_string());
            let end = until
                .as_ref()
                .map(|until| format!(" until {until}"))
                .unwrap_or_default();
            let person = client.person(&vo, &user).await?;
            let task = client
                .task("role.assign")
                .at("vo", &vo)
                .at("role", &role)
                .at("person", person)
                .because(&reason);
            task.send::<_, serde_json::Value>(&RoleAssign { until }).await?;
            out.done("role.assign", format!("{user} holds {role} in {vo}{end}"))?;
        }
        Role::Unassign(Unassign {
            vo,
            role,
            user,
            reason,
        }) => {
            let person = client.person(&vo, &user).await?;
            client
                .task("role.unassign")
                .at("vo", &vo)
                .because(&reason)
                .at("role", &role)
                .at("person", person)
                .act()
                .await?;
            out.done("role.unassign", format!("{user} no longer holds {role} in {vo}"))?;
        }
    }
    Ok(())
}
