//! Virtual organisations: people, memberships, roles, grants and upstreams.
//!
//! The [`Directory`] is an immutable snapshot of all of it, kept in memory and swapped whole after every change, so
//! that a decision never waits for the store. Every change returns a [`Change`](crate::record::Change); the operation
//! that asked for it writes the record before it commits.

mod card;
mod ceiling;
mod directory;
mod enrolment;
mod erase;
mod grants;
mod held;
mod organisation;
mod people;
mod roles;
mod snapshot;
mod store;
mod upstream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::id::{Ids, RandomError, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::store::{Db, StoreError, Tx};

pub use card::{Card, CardFields};
pub use ceiling::{Allowance, Ceiling, CeilingScope, CeilingTask};
pub use directory::{
    Assignment, Condition, Directory, DirectoryHandle, Grant, Membership, Person, PersonState, Role, Rows,
    Upstream, UpstreamAddress, Vo, VoState,
};
pub use enrolment::{Enrolment, EnrolmentKind, NewEnrolment, check_request, check_text};
pub use held::{Held, HeldIn};
pub use people::is_username;
pub use upstream::{NewUpstream, UpstreamError};

/// Name of the role that administers the gateway itself.
pub const SYSTEM_ADMINISTRATOR: &str = "system-administrator";
/// Name of the role that administers a VO.
pub const VO_ADMINISTRATOR: &str = "vo-administrator";
/// Name of the role that every scientist starts with.
pub const SCIENTIST: &str = "scientist";
/// The level above all VOs, as its row is named in the store; no VO can have this name.
pub const GATEWAY: &str = "countersign";
/// Name of the reserved tool whose tasks are the gateway's own: API, login, console.
pub const OWN_TOOL: &str = "countersign";
/// Names that no VO and no tool may have.
pub const RESERVED: &[&str] = &[
    "api",
    "login",
    "logout",
    "static",
    "countersign",
    "console",
    "gateway",
    "health",
    "metrics",
    "www",
    "admin",
];

/// Whether `name` may name a VO, a tool, a role or an upstream: `[a-z0-9-]`, 1 to 40, not reserved, no leading hyphen.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !RESERVED.contains(&name)
}

/// Why a change of people, roles, grants or upstreams was refused.
#[derive(Debug, thiserror::Error)]
pub enum VoError {
    /// Not a name for a VO, a role or an upstream.
    #[error(
        "`{0}` cannot be a name: lower-case letters, digits and inner hyphens, 1 to 40, and none of the reserved words"
    )]
    Name(String),
    /// Not a user name.
    #[error(
        "`{0}` cannot be a user name: lower-case letters, digits, `.`, `-` and `_`, 2 to 40, beginning with a letter"
    )]
    Username(String),
    /// A field of the card is not acceptable.
    #[error("`{field}` {accepted}")]
    Card {
        /// Which field.
        field: &'static str,
        /// What is accepted.
        accepted: &'static str,
    },
    /// There is no such thing (or it has ended).
    #[error("there is no {kind} `{name}` here")]
    Unknown {
        /// Kind of thing.
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// It is there already.
    #[error("the {kind} `{name}` is there already")]
    Taken {
        /// Kind of thing.
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// Whether there is to be such an account is not decided, or decided against.
    #[error(
        "the account is {0}: whether there is to be one is decided with `countersign account approve` or `account reject`"
    )]
    Undecided(&'static str),
    /// Too many wait.
    #[error("too many requests or invitations of this virtual organisation wait; try again later")]
    Waiting,
    /// The person is not a member of the VO.
    #[error("the person is not a member of this virtual organisation")]
    NotAMember,
    /// The VO (or the gateway) would be left without anyone to administer it.
    #[error("this would leave nobody with the role `{0}`; give it to somebody else first")]
    LastAdministrator(&'static str),
    /// A shipped role stays.
    #[error("the role `{0}` belongs to every virtual organisation and cannot be ended")]
    Shipped(String),
    /// The end of an assignment is not in the future.
    #[error("the end of the assignment must lie in the future")]
    Past,
    /// Not a task name.
    #[error("`{0}` cannot be a task: printable ASCII, 1 to 64, at most 200 in one grant")]
    Task(String),
    /// The address of an upstream is not acceptable.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random bytes.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl AsProblem for VoError {
    fn as_problem(&self) -> Problem {
        let kind = match self {
            Self::Store(error) => return error.as_problem(),
            Self::Unknown { .. } => Kind::NotFound,
            Self::Taken { .. } | Self::LastAdministrator(_) | Self::Shipped(_) | Self::Undecided(_) => {
                Kind::Conflict
            }
            Self::Random(_) => Kind::Internal,
            Self::Waiting => Kind::Busy,
            _ => Kind::Invalid,
        };
        Problem::new(kind, self.to_string())
    }
}

impl VoError {
    fn unknown(kind: &'static str, name: impl ToString) -> Self {
        Self::Unknown {
            kind,
            name: name.to_string(),
        }
    }

    /// A unique index that is violated means that `kind` `name` is there already.
    fn taken(kind: &'static str, name: impl ToString) -> impl FnOnce(StoreError) -> Self {
        move |error| match error {
            StoreError::Taken => Self::Taken {
                kind,
                name: name.to_string(),
            },
            other => Self::Store(other),
        }
    }
}

/// VOs and everything in them: changes go into a transaction of the caller, reads come from the [`Directory`].
///
/// Every change raises the version of the VOs it touches. Nothing is deleted: rows are ended.
#[derive(Clone, Debug)]
pub struct Vos {
    db: Db,
    handle: DirectoryHandle,
    ids: Ids,
    loading: Arc<tokio::sync::Mutex<()>>,
}

impl Vos {
    /// The service over `db`, which keeps `handle` up to date.
    #[must_use]
    pub fn new(db: Db, handle: DirectoryHandle, ids: Ids) -> Self {
        Self {
            db,
            handle,
            ids,
            loading: Arc::default(),
        }
    }

    /// The snapshot that decisions are made from.
    #[must_use]
    pub fn handle(&self) -> DirectoryHandle {
        self.handle.clone()
    }

    /// Rebuilds the snapshot from the store and puts it in place.
    ///
    /// # Errors
    /// [`StoreError`]; then the old snapshot stays.
    pub async fn load(&self) -> Result<(), StoreError> {
        // INVARIANT: loads follow each other, so that the snapshot in place is never older than the last commit
        // whose author waited for his load.
        let _one_at_a_time = self.loading.lock().await;
        let rows = self.read(&mut self.db.begin_read().await?).await?;
        self.put(rows);
        Ok(())
    }

    /// Everything that a snapshot is built from, as `tx` sees it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, tx: &mut Tx) -> Result<Rows, StoreError> {
        snapshot::read(tx).await
    }

    /// Puts a snapshot of these rows in place.
    pub fn put(&self, rows: Rows) {
        self.handle.swap(Directory::build(rows));
    }

    /// A snapshot of a store that is only looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn look(db: &Db) -> Result<Directory, StoreError> {
        Ok(Directory::build(
            snapshot::read(&mut db.begin_read().await?).await?,
        ))
    }

    fn now(&self) -> Timestamp {
        self.ids.clock().now()
    }

    /// Raises the version of a VO; on PostgreSQL this also takes the lock under which all its changes follow each other.
    ///
    /// # Errors
    /// [`VoError::Unknown`].
    pub async fn touch(&self, tx: &mut Tx, vo: VoId) -> Result<(), VoError> {
        match store::touch(tx, vo).await? {
            0 => Err(VoError::unknown("virtual organisation", vo)),
            _ => Ok(()),
        }
    }
}
