//! Who asks, with how they proved it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::federation::SignedInBy;
use super::personal::Personal;
use crate::clock::Timestamp;
use crate::id::{PersonId, SessionId};
use crate::record::SubjectEntry;
use crate::tool::Assurance;
use crate::vo::Person;

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An IP address (after trusted-proxy handling).
    Ip(IpAddr),
    /// A local socket or a job of the gateway itself.
    Local,
}

impl Source {
    /// The network that a record shows: /24 for IPv4, /56 for IPv6, `local`.
    #[must_use]
    pub fn network(&self) -> String {
        match self {
            Self::Local => "local".into(),
            Self::Ip(IpAddr::V4(ip)) => {
                let [a, b, c, _] = ip.octets();
                let mut network = std::net::Ipv4Addr::new(a, b, c, 0).to_string();
                network.push_str("/24");
                network
            }
            Self::Ip(IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
                Some(v4) => Self::Ip(IpAddr::V4(v4)).network(),
                None => {
                    let kept = u128::from(*ip) & (u128::MAX << 72);
                    format!("{}/56", std::net::Ipv6Addr::from(kept))
                }
            },
        }
    }
}

/// What kind of session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Browser, on the gateway's own host.
    Browser,
    /// Browser, on one tool's host; ends with its parent.
    Child {
        /// The session on the gateway's host.
        parent: SessionId,
        /// The only host it is good for.
        host: String,
    },
    /// Opaque bearer token.
    Token,
    /// Personal access token of a script.
    Personal(Arc<Personal>),
    /// HTTP Basic, verified once and kept for a minute.
    Basic,
    /// A certificate or proxy, judged with every request.
    Certificate,
}

impl SessionKind {
    /// The name in the store.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Child { .. } => "child",
            Self::Token => "token",
            Self::Personal(_) => "personal",
            Self::Basic => "basic",
            Self::Certificate => "certificate",
        }
    }

    /// The personal access token, where it is one.
    #[must_use]
    pub const fn personal(&self) -> Option<&Arc<Personal>> {
        match self {
            Self::Personal(personal) => Some(personal),
            _ => None,
        }
    }
}

/// A session: an id, a start and an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Id.
    pub id: SessionId,
    /// Whose.
    pub person: PersonId,
    /// Kind.
    pub kind: SessionKind,
    /// Start.
    pub created: Timestamp,
    /// End.
    pub expires: Timestamp,
    /// Methods (RFC 8176): `pwd`; `otp` and `mfa` with a second factor; `pop` with a certificate; `federated` with an identity
    /// provider, and what that says. Beside these `token` for a personal access token.
    pub methods: Vec<String>,
    /// Level of assurance.
    pub acr: String,
    /// Opened with a one-time password, or with one that has become too short: good for nothing but choosing a new one.
    pub must_change: bool,
    /// By which identity of an identity provider it began.
    pub identity: Option<SignedInBy>,
}

impl Session {
    /// How sure it is who asks in it.
    #[must_use]
    pub fn assurance(&self) -> Assurance {
        Assurance::parse(&self.acr).unwrap_or_default()
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody known.
    Anonymous,
    /// A person.
    Person(Arc<Person>),
    /// A job of the gateway itself, by name.
    Service(&'static str),
}

/// A job of the gateway that acts for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name.
    pub name: &'static str,
    /// The session in which the person asked for it; it may have ended since.
    pub session: SessionId,
}

/// Who asks, with how they proved it. Only this module makes one.
#[derive(Clone, Debug)]
pub struct Subject {
    who: Who,
    session: Option<Arc<Session>>,
    source: Source,
    /// Who acts, where it is not the person herself.
    agent: Option<Agent>,
}

impl Subject {
    pub(super) const fn anonymous(source: Source) -> Self {
        Self {
            who: Who::Anonymous,
            session: None,
            source,
            agent: None,
        }
    }

    pub(super) const fn person(person: Arc<Person>, session: Arc<Session>, source: Source) -> Self {
        Self {
            who: Who::Person(person),
            session: Some(session),
            source,
            agent: None,
        }
    }

    pub(super) const fn service(name: &'static str) -> Self {
        Self {
            who: Who::Service(name),
            session: None,
            source: Source::Local,
            agent: None,
        }
    }

    /// SECURITY: a job that acts for a person has her rights of this moment and no session, so nothing that asks how she proved
    /// who she is holds for it.
    pub(super) const fn acting(person: Arc<Person>, agent: Agent) -> Self {
        Self {
            who: Who::Person(person),
            session: None,
            source: Source::Local,
            agent: Some(agent),
        }
    }

    /// A subject for tests of the modules that come after this one.
    #[cfg(test)]
    pub(crate) const fn for_test(who: Who, session: Option<Arc<Session>>, source: Source) -> Self {
        Self {
            who,
            session,
            source,
            agent: None,
        }
    }

    /// Who it is.
    #[must_use]
    pub const fn who(&self) -> &Who {
        &self.who
    }

    /// The person, if it is one.
    #[must_use]
    pub const fn as_person(&self) -> Option<&Arc<Person>> {
        match &self.who {
            Who::Person(person) => Some(person),
            _ => None,
        }
    }

    /// The session that carried the request.
    #[must_use]
    pub const fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// The job of the gateway that acts for the person, where it is not herself.
    #[must_use]
    pub const fn agent(&self) -> Option<Agent> {
        self.agent
    }

    /// Where the request came from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Whether nobody known asks.
    #[must_use]
    pub const fn is_anonymous(&self) -> bool {
        matches!(self.who, Who::Anonymous)
    }

    /// As it stands in a record.
    #[must_use]
    pub fn entry(&self) -> SubjectEntry {
        let session = self.session.as_deref();
        let (kind, person, card, result) = match &self.who {
            Who::Anonymous => ("anonymous", None, None, "none"),
            Who::Person(person) => ("person", Some(person.id), Some(person.card), "ok"),
            Who::Service(_) => ("service", None, None, "ok"),
        };
        let kind = self.agent.map_or(kind, |_| "service");
        SubjectEntry {
            kind: kind.into(),
            person,
            card,
            session: session.map(|session| session.id),
            result: result.into(),
            methods: session.map(|session| session.methods.clone()).unwrap_or_default(),
            acr: session.map(|session| session.acr.clone()).unwrap_or_default(),
            identity: session
                .and_then(|session| session.identity.as_ref())
                .map(|by| by.entry.clone()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.who {
            Who::Anonymous => f.write_str("anonymous"),
            Who::Person(person) => match &self.agent {
                Some(agent) => write!(f, "service/{} for person/{}", agent.name, person.id),
                None => write!(f, "person/{}", person.id),
            },
            Who::Service(name) => write!(f, "service/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_shows_the_network_and_not_the_address() {
        assert_eq!(
            Source::Ip("192.0.2.77".parse().unwrap()).network(),
            "192.0.2.0/24"
        );
        assert_eq!(
            Source::Ip("2001:db8:1:2ff::1".parse().unwrap()).network(),
            "2001:db8:1:200::/56"
        );
        assert_eq!(
            Source::Ip("::ffff:192.0.2.77".parse().unwrap()).network(),
            "192.0.2.0/24"
        );
        assert_eq!(Source::Local.network(), "local");
    }
}
