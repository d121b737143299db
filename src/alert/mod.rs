//! Repeated denials become one mail to the people who can do something about them.
//!
//! A denial of an authenticated person counts under (VO, person, tool, task). The third within an hour (both can be set)
//! opens an *episode*, and an episode sends one mail to the VO's administrators; it ends when it has been quiet for an
//! hour. At most four such mails leave in an hour for one VO, the rest are put together in a digest. Counters, episodes
//! and mails are in the store, so a restart forgets nothing.
//!
//! Promises: counting and mailing are beside the request's path and can neither slow nor refuse it; a mail that a server
//! takes is delivered once, one that it defers is tried again (for three days), one that it refuses is marked and the
//! gateway's administrators are told. An alert is not a lock-out.
//!
//! | file | holds |
//! | --- | --- |
//! | `episode.rs` | counting: denials and episodes |
//! | `mail.rs` | the words of the mails |
//! | `outbox.rs` | mails on their way: queue, retries, states |
//! | `expiry.rs` | VO certificates that are about to end |
//! | `transport.rs` | how a mail leaves: SMTP or a folder |

mod auditor;
mod config;
mod episode;
mod erase;
mod expiry;
mod foreign;
mod lent;
mod mail;
mod notice;
mod outbox;
mod receiver;
mod room;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

pub use config::{Config, Security, Smtp, Transport};
pub use erase::Wiped;
pub use lent::NotRenewed;
pub use notice::{CaseNotice, Happened, Notice, TracedNotice};
pub use outbox::{Delivery, DeliveryState, Letter};

use crate::audit::Space;
use crate::clock::Timestamp;
use crate::id::{Ids, PersonId, RandomError, RequestId, VoId};
use crate::record::{AlertEvent, Hash};
use crate::store::{Db, StoreError};
use crate::telemetry::Metrics;
use crate::vo::Vos;

/// Why an alert could not be counted, queued or prepared. It never refuses a request.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The store failed.
    #[error("the alert could not be stored: {0}")]
    Store(#[from] StoreError),
    /// No id could be made.
    #[error("the alert got no id")]
    Random(#[from] RandomError),
    /// The sender's address is not one.
    #[error("`{0}` is not a mail address; accepted: an address, or `Name <address>`")]
    Sender(String),
    /// A file of the settings cannot be read.
    #[error("`{file}` cannot be read: {error}")]
    Unreadable {
        /// File.
        file: String,
        /// Why.
        error: String,
    },
    /// The TLS settings of the mail server cannot be used.
    #[error("the TLS settings of the mail server cannot be used: {0}")]
    Tls(String),
}

/// A denial that counts: an authenticated person was answered 403 by a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// VO (the gateway's id at the gateway's level).
    pub vo: VoId,
    /// Its name.
    pub vo_name: String,
    /// Who.
    pub person: PersonId,
    /// Tool, where there is one.
    pub tool: Option<String>,
    /// Task; `no_task` where none matched.
    pub task: String,
    /// The refused request.
    pub request: RequestId,
    /// When.
    pub at: Timestamp,
}

/// Counts denials and sends mails; shared by all clones.
#[derive(Clone)]
pub struct Alert(Arc<Inner>);

struct Inner {
    config: Config,
    db: Db,
    vos: Vos,
    ids: Ids,
    metrics: Metrics,
    mailer: transport::Mailer,
    /// When a denial of an open episode was last stored: a flood of them is stored once a second, not once each.
    open: moka::sync::Cache<episode::Key, Timestamp>,
    /// Microseconds; before that no checkpoint is due for the auditor.
    checkpoint_due: AtomicI64,
    /// What the administrators know of the log's room.
    room: Mutex<Space>,
    /// Receivers of the log of which the administrators know that they are behind.
    late: Mutex<HashSet<String>>,
    /// Of which ends of certificates the administrators were told, by certificate and days before.
    ending: Mutex<HashMap<(Hash, u32), expiry::Told>>,
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alert(..)")
    }
}

/// Whether the files that the settings name can be used. Must be called within a tokio runtime.
///
/// # Errors
/// As [`Alert::new`].
pub fn check(config: &Config, data: &Path) -> Result<(), AlertError> {
    transport::Mailer::new(config, data).map(drop)
}

/// Whether mails leave: connects to the mail server and signs in, sends nothing. Gives the server's name, or `None` where mails
/// go to a folder.
///
/// # Errors
/// A sentence that says what the server, or the way to it, lacks.
pub async fn probe(config: &Config, data: &Path) -> Result<Option<String>, String> {
    let mailer = transport::Mailer::new(config, data).map_err(|error| error.to_string())?;
    mailer.probe().await
}

impl Alert {
    /// Reads the files that the settings name; relative ones are below `data`.
    ///
    /// # Errors
    /// [`AlertError`] for a sender, password or authority that cannot be used.
    pub fn new(
        config: Config,
        db: Db,
        vos: Vos,
        ids: Ids,
        metrics: Metrics,
        data: &Path,
    ) -> Result<Self, AlertError> {
        let mailer = transport::Mailer::new(&config, data)?;
        Ok(Self(Arc::new(Inner {
            config,
            db,
            vos,
            ids,
            metrics,
            mailer,
            open: moka::sync::Cache::new(10_000),
            checkpoint_due: AtomicI64::new(0),
            room: Mutex::new(Space::Ok),
            late: Mutex::default(),
            ending: Mutex::default(),
        })))
    }

    /// Counts a denial. When it opens an episode, gives the event for the audit log; the mail leaves with
    /// [`Alert::run_once`]. The same request counts once, however often it is told.
    ///
    /// # Errors
    /// [`AlertError`] when the store fails; the caller logs it and answers its request all the same.
    pub async fn denied(&self, denied: Denied) -> Result<Option<AlertEvent>, AlertError> {
        self.0.count(denied).await
    }

    /// Writes the mails that are due and sends what the outbox holds. Called again and again by a background job.
    ///
    /// `checkpoint` is the present signed head of the audit log, as text; it goes into the mails.
    ///
    /// # Errors
    /// [`AlertError`] when the store fails; the next run goes on where this one stopped.
    pub async fn run_once(&self, checkpoint: &str) -> Result<(), AlertError> {
        let now = self.0.ids.clock().now();
        self.0.write_due_mails(now, checkpoint).await?;
        self.0.mail_checkpoint(now, checkpoint).await?;
        self.0.deliver(now).await?;
        self.0.forget(now).await
    }
}
