//! Wrapped tools: manifests, tasks, and matching a request to the one task that names it.
//!
//! A manifest is what a VO administrator writes once to wrap a tool. A request's [`Target`] is parsed once into its
//! canonical form; the task found for it, with typed parameters, is a [`Place`]. What no task names has no task, and
//! is denied by whoever decides.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::id::VoId;

/// What a task does, as the audit log and the rules for outcomes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Looks at something.
    Read,
    /// Takes data out.
    Download,
    /// Makes something.
    Create,
    /// Changes something.
    Update,
    /// Removes something.
    Delete,
    /// Runs something.
    Execute,
    /// Moves data or ownership.
    Transfer,
    /// A public file of a page: style sheets, scripts, icons.
    Asset,
}

impl Kind {
    /// The name in manifests and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Download => "download",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Execute => "execute",
            Self::Transfer => "transfer",
            Self::Asset => "asset",
        }
    }

    /// Reads a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [
            Self::Read,
            Self::Download,
            Self::Create,
            Self::Update,
            Self::Delete,
            Self::Execute,
            Self::Transfer,
            Self::Asset,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == name)
    }

    /// Whether the outcome must be durable before the answer ends.
    #[must_use]
    pub const fn changes_state(self) -> bool {
        matches!(
            self,
            Self::Create | Self::Update | Self::Delete | Self::Execute | Self::Transfer
        )
    }
}

/// Who may do a task without a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everyone, signed in or not (login page, problem pages). Only tasks of the gateway itself.
    Everyone,
    /// Every signed-in person, also with a one-time password (change of the own password, logout).
    AnySession,
    /// Every signed-in person who has chosen her own password (own sessions, "what may I do").
    AnyPerson,
    /// Only holders of a grant, or of one of these shipped roles.
    Granted(&'static [&'static str]),
}

/// How a tool is given authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delegation {
    /// Headers only.
    None,
    /// A sealed Basic, Bearer or API key.
    Static,
    /// A signed JWT.
    Assertion,
    /// The gateway calls with the proxy in mutual TLS.
    ClientCertificate,
    /// The proxy as PEM in a header.
    Pem,
    /// User name and pass phrase for a MyProxy server, which is filled for each request.
    MyProxy,
}

impl Delegation {
    /// The name in manifests and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Static => "static",
            Self::Assertion => "assertion",
            Self::ClientCertificate => "client-certificate",
            Self::Pem => "pem",
            Self::MyProxy => "myproxy",
        }
    }

    /// Whether the tool gets a proxy.
    #[must_use]
    pub const fn is_proxy(self) -> bool {
        matches!(self, Self::ClientCertificate | Self::Pem | Self::MyProxy)
    }
}

/// How a tool with `delegation = "myproxy"` gets its proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MyProxy {
    /// The upstream that the server is.
    pub upstream: String,
    /// Header with the user name.
    pub username_header: String,
    /// Header with the pass phrase.
    pub passphrase_header: String,
}

/// Settings of the proxy that a tool gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxySettings {
    /// Lifetime (capped by the VO and by the VO certificate). Default 1 h.
    pub lifetime: Duration,
    /// `inheritAll`, `limited` or `independent`.
    pub policy: ProxyPolicy,
    /// `pCPathLenConstraint`; none by default.
    pub path_length: Option<u8>,
    /// Kind of its key.
    pub key: ProxyKey,
}

impl Default for ProxySettings {
    /// One hour, `inheritAll`, no path length, P-256.
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(3_600),
            policy: ProxyPolicy::InheritAll,
            path_length: None,
            key: ProxyKey::P256,
        }
    }
}

/// Kind of a proxy's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyKey {
    /// ECDSA on P-256: made in no time; not for GridFTP, xrootd and MyProxy.
    P256,
    /// RSA with 2048 bits: what every peer takes; made in advance.
    Rsa2048,
}

impl ProxyKey {
    /// The name in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Rsa2048 => "rsa2048",
        }
    }
}

/// Policy language of a proxy (RFC 3820 section 3.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyPolicy {
    /// Everything the issuer may do.
    InheritAll,
    /// Globus' limited proxy.
    Limited,
    /// Nothing from the issuer.
    Independent,
}

impl ProxyPolicy {
    /// The name in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InheritAll => "inheritAll",
            Self::Limited => "limited",
            Self::Independent => "independent",
        }
    }
}

/// A resource named by a request: type and id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceRef {
    /// Type, as the manifest names it.
    pub kind: String,
    /// The tool's own id.
    pub id: String,
}

/// Parameters that a task took from the request, by name.
pub type Parameters = BTreeMap<String, String>;

/// Which address the request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The gateway's own host.
    Gateway,
    /// The tool's own host name (browsers, child sessions).
    ToolHost,
    /// `/{vo}/{tool}/...` on the gateway's host (programs, `Authorization` only).
    Path,
}

impl Address {
    /// The name in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::ToolHost => "host",
            Self::Path => "path",
        }
    }
}

/// A VO by id and name; the gateway level is `None` wherever this is optional.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoRef {
    /// Id.
    pub id: VoId,
    /// Name.
    pub name: String,
}

/// The task that names a request.
#[derive(Clone, Debug)]
pub struct Found {
    /// The task.
    pub task: Arc<Task>,
    /// Its parameters.
    pub parameters: Parameters,
    /// What it acts on.
    pub resource: Option<ResourceRef>,
}

/// Where a request was made: address, VO, tool and, if one matches, the task with its parameters.
#[derive(Clone, Debug)]
pub struct Place {
    /// Which address it came in by.
    pub address: Address,
    /// The VO; `None` at the gateway's own level, and where the name in the path is not a VO.
    pub vo: Option<VoRef>,
    /// A VO name that was asked for and does not exist.
    pub unknown_vo: Option<String>,
    /// The tool; `None` when there is no such tool.
    pub tool: Option<Arc<Tool>>,
    /// The task; `None` when no task names the request.
    pub found: Option<Found>,
    /// The method.
    pub method: http::Method,
    /// The canonical target as the tool will see it (the path form's prefix is taken off).
    pub target: Target,
    /// The host that the client asked for, lower case, without the port.
    pub host: String,
}

mod answer;
mod assurance;
mod content;
mod demand;
mod header;
mod json;
mod manifest;
mod matching;
mod reason;
mod snapshot;
mod store;
mod target;
mod task;
mod template;

pub use answer::{AnswerError, Created, Listed, created, looked_up, needs_body};
pub use assurance::Assurance;
pub use content::{BodyRule, ContentError, JUDGED, Language, MOST_JUDGED, Taken};
pub use demand::{Demands, HeaderDemand, HeaderValueRule, LOOK_UP_TIME, Piece, Resolve};
pub use header::{HOP_BY_HOP, is_claim, is_hop_by_hop, is_ours, is_token};
pub use manifest::Manifest;
pub use matching::{Asked, FindError, Lookup, MAX_ID, RouteError, Routes, TryError, is_id};
pub use reason::{is_unseen, unfit_reason};
pub use snapshot::{Tools, ToolsHandle};
pub use store::{BrokenTool, Registered, ToolError, ToolStore};
pub use target::{MAX_TARGET, Target, TargetError};
pub use task::{
    Creates, FilterRule, IdSource, REASON, Recorded, Renew, ResourceRule, Task, TokenRule, Tool, ToolTarget,
    Upgrade, Whose,
};
pub use template::{Part, Template, TemplateError, Variable};
