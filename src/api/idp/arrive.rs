//! Which account somebody gets whom an identity provider vouches for: the one of her identity, a new one where the provider's
//! approval is automatic, or none until an administrator says so. What is made here is on record before it is there.

use std::time::Duration;

use crate::api::operation::Asked;
use crate::api::{Api, problem};
use crate::authenticate::{Approval, Arrived, FederatedRefusal, Identity, Idp, Standing};
use crate::problem::{Kind, Problem};
use crate::record::Change;
use crate::store::Tx;
use crate::vo::{Directory, SCIENTIST};

const DAY: u64 = 24 * 3_600;

/// The identity that whoever has arrived signs in as, with an account; or the refusal, to be recorded.
///
/// # Errors
/// A [`Problem`] when nothing can be looked up or made: log or store do not answer, or it changed meanwhile.
pub async fn arrive(
    api: &Api,
    asked: &Asked,
    arrived: &Arrived,
) -> Result<Result<Identity, Box<FederatedRefusal>>, Problem> {
    let idp = &arrived.idp;
    let call = &asked.0;
    let at = (call.subject.source(), call.id);
    let refused = |identity: &Identity, result: &str, problem: Problem| {
        Ok(Err(Box::new(arrived.refused(identity, result, problem, at))))
    };
    let fresh = api.authenticate.new_identity(arrived)?;
    let Some(known) = &arrived.known else {
        let mut tx = api.begin().await?;
        let (identity, changes) = match idp.settings.approval {
            Approval::Automatic => admitted(api, &mut tx, idp, None, fresh).await?,
            Approval::Manual => {
                let put = api.authenticate.put_identity(&mut tx, "idp.wait", None, &fresh);
                let change = put.await?;
                (fresh, vec![change])
            }
        };
        api.commit(call, tx, changes).await?;
        return match identity.standing {
            Standing::Active => Ok(Ok(identity)),
            _ => refused(&identity, "pending", pending(idp)),
        };
    };
    match known.standing {
        Standing::Pending => refused(known, "pending", pending(idp)),
        Standing::Rejected => refused(known, "rejected", rejected(idp)),
        Standing::Active if known.has_lapsed(api.now()) && idp.settings.renewal == Approval::Manual => {
            refused(known, "lapsed", lapsed(idp))
        }
        Standing::Active => {
            // What the provider says of her now stands in the place of what it said.
            let current = known.clone().described(fresh.attributes);
            if !current.has_lapsed(api.now()) && current == *known {
                return Ok(Ok(current));
            }
            let mut tx = api.begin().await?;
            let (identity, changes) = if current.has_lapsed(api.now()) {
                renewed(api, &mut tx, idp, &current).await?
            } else {
                let put = api
                    .authenticate
                    .put_identity(&mut tx, "idp.refresh", Some(known), &current);
                let change = put.await?;
                (current, vec![change])
            };
            api.commit(call, tx, changes).await?;
            Ok(Ok(identity))
        }
    }
}

fn valid(api: &Api, idp: &Idp) -> crate::clock::Timestamp {
    api.now()
        .plus(Duration::from_secs(u64::from(idp.settings.valid_days) * DAY))
}

/// Gives an identity a new account in the provider's home.
pub(super) async fn admitted(
    api: &Api,
    tx: &mut Tx,
    idp: &Idp,
    before: Option<&Identity>,
    identity: Identity,
) -> Result<(Identity, Vec<Change>), Problem> {
    let directory = api.directory();
    // SECURITY: a new account, always: a name or an address that somebody has here already is not hers for that.
    let username = identity.username(|name| directory.person_named(name).is_none());
    let card = identity.attributes.card(&username);
    let home = identity.home;
    let made = api.vos.add_person(tx, home, &username, &card).await;
    let (person, created) = made.map_err(problem)?;
    let mut changes = vec![created];
    if home != Directory::gateway() {
        changes.push(api.vos.join(tx, home, person).await.map_err(problem)?);
        let assigned = api.vos.assign(tx, home, SCIENTIST, person, None).await;
        changes.push(assigned.map_err(problem)?);
    }
    let after = identity.admitted(person, valid(api, idp));
    let put = api.authenticate.put_identity(tx, "idp.admit", before, &after);
    changes.push(put.await?);
    Ok((after, changes))
}

/// Renews the approval of an identity that has an account.
pub(super) async fn renewed(
    api: &Api,
    tx: &mut Tx,
    idp: &Idp,
    before: &Identity,
) -> Result<(Identity, Vec<Change>), Problem> {
    let after = before.clone().renewed(valid(api, idp));
    let put = api
        .authenticate
        .put_identity(tx, "idp.renew", Some(before), &after);
    let change = put.await?;
    Ok((after, vec![change]))
}

fn refusal(detail: String, next: &'static str) -> Problem {
    Problem::new(Kind::SignInRefused, detail).instead(next)
}

fn pending(idp: &Idp) -> Problem {
    let name = &idp.settings.display_name;
    refusal(
        format!("{name} says who you are; an administrator here has yet to give you an account"),
        "Come back when the administrator has approved it; there is nothing else to do. To hurry it, name the request id.",
    )
}

fn rejected(idp: &Idp) -> Problem {
    let name = &idp.settings.display_name;
    refusal(
        format!("{name} says who you are, and an administrator here has decided that you get no account"),
        "Ask the administrator why, and name the request id.",
    )
}

fn lapsed(idp: &Idp) -> Problem {
    let name = &idp.settings.display_name;
    refusal(
        format!("the approval of your account, which you open with {name}, is over"),
        "Ask the administrator to renew it, and name the request id.",
    )
}
