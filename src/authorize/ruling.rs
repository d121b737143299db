//! Cedar's answer to one request, and what it means for the person who asked.

use std::sync::Arc;

use cedar_policy::{Authorizer, Decision, Entities, EntityUid, Request};
use moka::sync::Cache;

use super::Allowed;
use super::bucket::{Bucket, Rule, Spot, Why};
use super::slice::{self, Held, Prepared, Scene, Stands, roles_of};
use super::standing::{Standing, is_own};
use crate::authenticate::Subject;
use crate::clock::Timestamp;
use crate::id::PersonId;
use crate::problem::Kind;
use crate::record::DecisionEntry;
use crate::resource::Resource;
use crate::tool::{Audience, Place};
use crate::vo::{Condition, Directory};

/// A decision: the entry for the record, and the problem if it is a refusal.
#[derive(Debug)]
pub(super) struct Ruling {
    pub(super) refused: Option<(Kind, &'static str)>,
    pub(super) entry: Arc<DecisionEntry>,
}

impl Ruling {
    /// The same as a refusal, because the request asks for more assurance than its session has.
    pub(super) fn short_of_assurance(self) -> Self {
        self.refused_as(Kind::StepUpRequired)
    }

    /// The same as a refusal, because the request asks for assurance and nobody is signed in.
    pub(super) fn without_credential(self) -> Self {
        self.refused_as(Kind::NoCredential)
    }

    fn refused_as(self, kind: Kind) -> Self {
        self.refused_for((kind, kind.name()))
    }

    /// The same as a refusal, for what lies in how the subject came and not in its roles.
    pub(super) fn refused_for(self, (kind, reason): (Kind, &'static str)) -> Self {
        Self {
            refused: Some((kind, reason)),
            entry: Arc::new(DecisionEntry {
                permit: false,
                reason: reason.into(),
                would_allow: Vec::new(),
                ..DecisionEntry::clone(&self.entry)
            }),
        }
    }

    /// A refusal because the decision itself failed.
    pub(super) fn of_error(policy_version: i64, error: String) -> Self {
        Self {
            refused: Some((Kind::ConditionNotMet, POLICY_ERROR)),
            entry: Arc::new(DecisionEntry {
                permit: false,
                reason: POLICY_ERROR.into(),
                errors: vec![error],
                policy_version,
                ..DecisionEntry::default()
            }),
        }
    }
}

const POLICY_ERROR: &str = "policy_error";

/// Everything that a decision needs beside the resource.
pub(super) struct Judge<'a> {
    pub(super) directory: &'a Directory,
    pub(super) standing: &'a Standing<'a>,
    pub(super) subject: &'a Subject,
    pub(super) bucket: Arc<Bucket>,
    pub(super) prepared: Arc<Prepared>,
    pub(super) given: &'a Given,
    pub(super) vo_active: bool,
    pub(super) now: Timestamp,
    /// Judge as if a second factor had been shown in the session.
    pub(super) raised: bool,
}

/// Permits that were given, to be given again: for a prepared subject (by number) and what she acts on, as it is.
///
/// SECURITY: only where no VO's own expression stands in the bucket. Then a decision depends on nothing but the policies
/// and the subject, which the number stands for, and the resource with its parents, which is the rest of the key: neither
/// on the time nor on the request.
pub(super) type Given = Cache<(u64, Arc<[Resource]>), Arc<DecisionEntry>>;

/// What Cedar said.
struct Answer {
    allowed: bool,
    determining: Vec<String>,
    errors: Vec<String>,
}

impl Judge<'_> {
    /// Decides the request itself.
    pub(super) fn rule(&self, place: &Place, chain: &Arc<[Resource]>) -> Ruling {
        // A list is asked of the VO; its items are decided one by one.
        let acts_on = if self.standing.found.task.filter.is_some() {
            Arc::default()
        } else {
            Arc::clone(chain)
        };
        let key = self
            .stays(&acts_on)
            .then(|| (self.prepared.number, acts_on.clone()));
        if let Some(entry) = key.as_ref().and_then(|key| self.given.get(key)) {
            return Ruling { refused: None, entry };
        }
        let ruling = self.work_out(place, &acts_on);
        if let Some(key) = key.filter(|_| ruling.refused.is_none()) {
            self.given.insert(key, Arc::clone(&ruling.entry));
        }
        ruling
    }

    /// Whether a permit for this can be given again as it is.
    fn stays(&self, chain: &[Resource]) -> bool {
        let is_there = |owner: PersonId| self.directory.person(owner).is_some();
        self.prepared.person.is_some()
            && !self.bucket.has_expressions
            && chain.iter().filter_map(|resource| resource.owner).all(is_there)
    }

    fn work_out(&self, place: &Place, acts_on: &[Resource]) -> Ruling {
        let answer = self.ask(acts_on);
        let refused = (!answer.allowed).then(|| self.blame(&answer, place));
        let reason = refused.map_or("granted", |(_, reason)| reason);
        let would_allow = refused.map_or_else(Vec::new, |(kind, _)| self.would_allow(kind));
        Ruling {
            entry: Arc::new(DecisionEntry {
                permit: answer.allowed,
                reason: reason.into(),
                path: self.path(&answer),
                policies: answer.determining,
                considered: self.bucket.considered.clone(),
                errors: answer.errors,
                policy_version: self.standing.level.version,
                would_allow,
            }),
            refused,
        }
    }

    /// Whether a second factor, shown in this session, would make the refused request a permitted one.
    pub(super) fn would_allow_raised(mut self, chain: &[Resource]) -> bool {
        self.raised = true;
        let acts_on = match self.standing.found.task.filter.is_some() {
            true => &[][..],
            false => chain,
        };
        self.bucket.has_expressions && self.ask(acts_on).allowed
    }

    /// Decides one item of a list.
    pub(super) fn allows_item(&self, chain: &[Resource]) -> bool {
        self.ask(chain).allowed
    }

    fn ask(&self, chain: &[Resource]) -> Answer {
        let answer = self
            .slice(chain)
            .and_then(|(resource, entities)| self.evaluate(resource, &entities));
        answer.unwrap_or_else(|error| Answer {
            allowed: false,
            determining: Vec::new(),
            errors: vec![error],
        })
    }

    /// The entities of the request, and the one that the task acts on.
    pub(super) fn slice(&self, chain: &[Resource]) -> Result<(EntityUid, Entities), String> {
        let scene = Scene {
            directory: self.directory,
            level: &self.standing.level,
            tool: self.standing.tool,
            has_expressions: self.bucket.has_expressions,
            now: self.now,
        };
        slice::slice(&self.prepared, scene, chain)
    }

    fn evaluate(&self, resource: EntityUid, entities: &Entities) -> Result<Answer, String> {
        let stands = Stands {
            vo_active: self.vo_active,
            within_ceiling: self.bucket.outside.is_none(),
        };
        let context = if self.bucket.has_expressions {
            slice::context(self.subject, stands, self.now, self.raised)?
        } else {
            slice::short_context(stands)?
        };
        let (principal, action) = (self.prepared.principal.clone(), self.bucket.action.clone());
        let request =
            Request::new(principal, action, resource, context, None).map_err(|error| error.to_string())?;
        let response = Authorizer::new().is_authorized(&request, &self.bucket.policies, entities);
        let errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        let mut determining: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        determining.sort_unstable();
        Ok(Answer {
            // SECURITY: Cedar skips a policy whose evaluation fails, a `forbid` too; so any error denies.
            allowed: response.decision() == Decision::Allow && errors.is_empty(),
            determining,
            errors,
        })
    }

    /// Why not: the nearest reason that the subject can do something about.
    fn blame(&self, answer: &Answer, place: &Place) -> (Kind, &'static str) {
        let forbade = |id: &str| answer.determining.iter().any(|policy| policy == id);
        if !answer.errors.is_empty() {
            return (Kind::ConditionNotMet, POLICY_ERROR);
        }
        if forbade("core/suspended-person") || forbade("core/suspended-vo") {
            return (Kind::Suspended, Kind::Suspended.name());
        }
        let held: Vec<&Rule> = self.held_rules().collect();
        if held.is_empty() {
            let member = |vo| {
                self.prepared
                    .person
                    .is_some_and(|person| self.directory.is_member(vo, person))
            };
            let stranger = is_own(place) && place.vo.as_ref().is_some_and(|vo| !member(vo.id));
            let kind = if stranger { Kind::NotAMember } else { Kind::NoGrant };
            return (kind, kind.name());
        }
        if forbade("core/ceiling") {
            return (Kind::OutsideCeiling, Kind::OutsideCeiling.name());
        }
        if forbade("core/home") {
            return (Kind::ConditionNotMet, "not_home");
        }
        if held.iter().any(|rule| rule.why == Why::Granted(Condition::Own)) {
            return (Kind::NotOwner, Kind::NotOwner.name());
        }
        // Held without a condition and still not allowed: its policy was left out because it did not fit.
        if held.iter().any(|rule| rule.is_unconditional()) {
            return (Kind::ConditionNotMet, POLICY_ERROR);
        }
        (Kind::ConditionNotMet, Kind::ConditionNotMet.name())
    }

    fn held_rules(&self) -> impl Iterator<Item = &Rule> {
        self.bucket
            .rules
            .iter()
            .filter(|rule| self.prepared.through(rule).next().is_some())
    }

    /// Names of the roles that would have allowed it. Who is not a member is told none.
    fn would_allow(&self, kind: Kind) -> Vec<String> {
        let all = match kind {
            // No role may, whatever it is granted.
            _ if self.bucket.outside.is_some() => return Vec::new(),
            Kind::NoGrant => true,
            Kind::NotOwner | Kind::ConditionNotMet => false,
            _ => return Vec::new(),
        };
        let rules = self
            .bucket
            .rules
            .iter()
            .filter(|rule| all || rule.is_unconditional());
        let mut names: Vec<String> = rules
            .flat_map(|rule| rule.holders.keys())
            .filter_map(|role| self.directory.role(*role))
            .map(|role| role.name.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The hops that led to the decision: person, membership, and each role with the grant it holds.
    ///
    /// For a permit the grants that allowed it; for a denial those that she holds and that did not suffice.
    fn path(&self, answer: &Answer) -> Vec<String> {
        let Some(person) = self.prepared.person else {
            return Vec::new();
        };
        let mut path = vec![format!("person/{person}")];
        path.extend(self.prepared.membership.map(|id| format!("membership/{id}")));
        if let Some(outside) = self.bucket.outside.as_ref().filter(|_| !answer.allowed) {
            let (over, name) = outside.scope.parts();
            path.push(format!("ceiling/{over}/{name}").trim_end_matches('/').to_owned());
        }
        let is_list = |policy: &String| policy.ends_with("/list") && self.bucket.rule(policy).is_none();
        let listed = answer.allowed && answer.determining.iter().any(is_list);
        for rule in self.held_rules() {
            if !answer.allowed || listed || answer.determining.contains(&rule.policy) {
                path.extend(self.prepared.through(rule).flat_map(|held| hops(rule, held)));
            }
        }
        path
    }
}

fn hops(rule: &Rule, held: &Held) -> [String; 2] {
    let grant = match rule.holders.get(&held.role) {
        Some(Some(grant)) => format!("grant/{grant}"),
        _ => "grant/shipped".into(),
    };
    [format!("role/{} ({})", held.name, held.assignment), grant]
}

/// What the roles of a person allow of one task.
pub(super) fn allowed(spot: Spot<'_>, bucket: &Bucket, person: PersonId, now: Timestamp) -> Option<Allowed> {
    if bucket.outside.is_some() {
        return None;
    }
    let (held, _) = roles_of(spot.directory, spot.level, person, now);
    let mut conditions = Vec::new();
    let mut roles = Vec::new();
    for rule in &bucket.rules {
        let through: Vec<&Held> = held
            .iter()
            .filter(|held| rule.holders.contains_key(&held.role))
            .collect();
        if through.is_empty() {
            continue;
        }
        conditions.push(match &rule.why {
            Why::Shipped => Condition::Always,
            Why::Granted(condition) => condition.clone(),
        });
        roles.extend(through.iter().map(|held| held.name.clone()));
    }
    if spot
        .audience()
        .is_some_and(|audience| !matches!(audience, Audience::Granted(_)))
    {
        conditions.push(Condition::Always);
    }
    if conditions.is_empty() {
        return None;
    }
    conditions.sort_unstable();
    conditions.dedup();
    roles.sort_unstable();
    roles.dedup();
    Some(Allowed {
        tool: spot.tool.name.clone(),
        task: spot.task.name.clone(),
        conditions,
        roles,
    })
}
