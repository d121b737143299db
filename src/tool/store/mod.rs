//! Registrations of tools in the store, and the snapshot that is built from them.

use std::sync::Arc;

use serde_json::json;

use super::{Delegation, Manifest, Tool, ToolTarget, Tools, ToolsHandle, VoRef};
use crate::clock::Timestamp;
use crate::id::{Ids, RandomError, ToolId, VoId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{Change, Hash};
use crate::store::{Db, StoreError, Tx, row, run, tx_rows};
use crate::vo::{DirectoryHandle, RESERVED};

/// The registered tools of all VOs.
#[derive(Clone, Debug)]
pub struct ToolStore {
    db: Db,
    directory: DirectoryHandle,
    ids: Ids,
    handle: ToolsHandle,
    reserved: Vec<String>,
}

/// A registration as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Tool.
    pub id: ToolId,
    /// Version in force.
    pub version: i64,
    /// VO.
    pub vo: VoId,
    /// Name.
    pub name: String,
    /// Text of the manifest.
    pub manifest: Arc<str>,
}

/// A registration whose manifest this version of the program cannot read. The tool is out of service, all others are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenTool {
    /// VO.
    pub vo: VoId,
    /// Name.
    pub name: String,
    /// Why, with lines.
    pub flaws: String,
}

/// Why a registration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The tool changed in the meantime, or is there already, or is gone.
    #[error("the tool `{name}` is at version {present}, not {expected}")]
    Version {
        /// Tool.
        name: String,
        /// Version that the caller has seen; 0 for none.
        expected: i64,
        /// Version that is in force; 0 for none.
        present: i64,
    },
    /// There is no such tool.
    #[error("there is no tool `{0}` in this virtual organisation")]
    Unknown(String),
    /// The virtual organisation has no upstream of this name.
    #[error("the virtual organisation has no upstream `{0}`; a system administrator gives it one")]
    Upstream(String),
    /// Another tool, or the gateway itself, has the host name.
    #[error("the host `{0}` belongs to another tool, or to the gateway itself")]
    HostTaken(String),
    /// The host is not a name directly below the gateway's.
    #[error(
        "hosts must be names directly below `{gateway}`, and none of the reserved words; `{host}` is not"
    )]
    Host {
        /// Host that was asked for.
        host: String,
        /// The gateway's own name.
        gateway: String,
    },
    /// A client certificate is shown in TLS, and the upstream is spoken to without.
    #[error(
        "the delegation `client-certificate` needs an `https://` upstream, and `{upstream}` is `{url}`; a system administrator \
         can give the virtual organisation one, or the manifest names another delegation: none, static, assertion, pem"
    )]
    NoTls {
        /// Name of the upstream.
        upstream: String,
        /// Its address.
        url: String,
    },
    /// No id could be made.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AsProblem for ToolError {
    fn as_problem(&self) -> Problem {
        match self {
            Self::Version { .. } | Self::HostTaken(_) => Problem::new(Kind::Conflict, self.to_string()),
            Self::Unknown(_) => Problem::new(Kind::NotFound, self.to_string()),
            Self::Upstream(_) | Self::Host { .. } | Self::NoTls { .. } => {
                Problem::new(Kind::Invalid, self.to_string())
            }
            Self::Random(_) => Problem::new(Kind::Internal, "no id could be made"),
            Self::Store(error) => error.as_problem(),
        }
    }
}

type Alive = (uuid::Uuid, i64, String);

impl ToolStore {
    /// The registrations in `db`; `own` is the gateway's own tool, which is always there.
    #[must_use]
    pub fn new(db: Db, directory: DirectoryHandle, ids: Ids, own: Arc<Tool>) -> Self {
        Self {
            db,
            directory,
            ids,
            handle: ToolsHandle::new(Tools::new(own)),
            reserved: Vec::new(),
        }
    }

    /// The gateway's own names. A tool's host lies directly below one of them and is none of them; without any, no tool
    /// has a host.
    #[must_use]
    pub fn reserving(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        self.reserved.extend(hosts);
        self
    }

    /// Whether a tool may have this host.
    ///
    /// SECURITY: people are sent to a tool's host with a code that becomes a session there, so it must be one that
    /// leads to this gateway and nowhere else.
    fn is_below(&self, host: &str) -> bool {
        host.split_once('.').is_some_and(|(label, gateway)| {
            !RESERVED.contains(&label) && self.reserved.iter().any(|own| own == gateway)
        })
    }

    /// The handle on the snapshot.
    #[must_use]
    pub fn handle(&self) -> ToolsHandle {
        self.handle.clone()
    }

    /// Rebuilds the snapshot from the store and the directory, and puts it in place. Gives the tools that are out of
    /// service because their manifest can no longer be read.
    ///
    /// # Errors
    /// [`StoreError`]; then the old snapshot stays.
    pub async fn load(&self) -> Result<Vec<BrokenTool>, StoreError> {
        let registered = self.read(&mut self.db.begin_read().await?).await?;
        Ok(self.put(registered))
    }

    /// All registrations that are in force, as `tx` sees them, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read(&self, tx: &mut Tx) -> Result<Vec<Registered>, StoreError> {
        let rows = tx_rows!(
            tx,
            (uuid::Uuid, i64, uuid::Uuid, String, String),
            "SELECT id, version, vo_id, name, manifest FROM tool WHERE ended_at IS NULL ORDER BY created_at, id"
        )?;
        let registered =
            |(id, version, vo, name, manifest): (uuid::Uuid, i64, uuid::Uuid, String, String)| Registered {
                id: id.into(),
                version,
                vo: vo.into(),
                name,
                manifest: manifest.into(),
            };
        Ok(rows.into_iter().map(registered).collect())
    }

    /// Puts a snapshot of these registrations in place, of the VOs that the directory holds. Gives the tools that are out
    /// of service because their manifest can no longer be read.
    pub fn put(&self, registered: Vec<Registered>) -> Vec<BrokenTool> {
        let directory = self.directory.load();
        let before = self.handle.load();
        let mut tools = Tools::new(Arc::clone(before.own()));
        let mut broken = Vec::new();
        for Registered {
            id,
            version,
            vo,
            name,
            manifest: text,
        } in registered
        {
            let Some(known) = directory.vo(vo) else {
                continue;
            };
            let place = VoRef {
                id: vo,
                name: known.name.clone(),
            };
            // Most tools are as they were; reading all manifests again at every change would take long.
            let same = |tool: &&Arc<Tool>| {
                tool.id == id && tool.version == version && tool.manifest.as_str() == &*text
            };
            if let Some(tool) = before.get(vo, &name).filter(same) {
                tools.insert(&place, Arc::clone(tool));
                continue;
            }
            match Manifest::parse(&name, &text) {
                Ok(Manifest { mut tool, .. }) if tool.name == name => {
                    tool.id = id;
                    tool.version = version;
                    // Rows of an earlier time, or of a gateway that had another name.
                    tool.hosts.retain(|host| self.is_below(host));
                    tools.insert(&place, Arc::new(tool));
                }
                Ok(manifest) => broken.push(BrokenTool {
                    vo,
                    flaws: format!("the manifest is of another tool, `{}`", manifest.tool.name),
                    name,
                }),
                Err(flaws) => broken.push(BrokenTool {
                    vo,
                    name,
                    flaws: flaws.to_string(),
                }),
            }
        }
        self.handle.swap(tools);
        broken
    }

    /// Whether a VO may have this tool: all that [`ToolStore::add`] refuses but another version in force.
    ///
    /// # Errors
    /// [`ToolError`]: an upstream that the VO does not have or that does not fit the delegation, a host that is not below
    /// the gateway's or belongs to another tool.
    pub fn check(&self, vo: VoId, tool: &Tool) -> Result<(), ToolError> {
        // SECURITY: only a system administrator says which addresses a VO may reach.
        let directory = self.directory.load();
        let upstream = match &tool.target {
            ToolTarget::Upstream(name) => directory.upstream(vo, name).ok_or(name.as_str()),
            ToolTarget::Local(name) => Err(*name),
        };
        let upstream = upstream.map_err(|name| ToolError::Upstream(name.to_owned()))?;
        if tool.delegation == Delegation::ClientCertificate && !upstream.address.is_tls() {
            return Err(ToolError::NoTls {
                upstream: upstream.name.clone(),
                url: upstream.url.clone(),
            });
        }
        if let Some(settings) = &tool.myproxy {
            let server = directory.upstream(vo, &settings.upstream);
            let server = server.ok_or_else(|| ToolError::Upstream(settings.upstream.clone()))?;
            if !server.address.is_tls() {
                return Err(ToolError::NoTls {
                    upstream: server.name.clone(),
                    url: server.url.clone(),
                });
            }
        }
        if let Some(host) = tool.hosts.iter().find(|host| self.reserved.contains(host)) {
            return Err(ToolError::HostTaken(host.clone()));
        }
        if let Some(host) = tool.hosts.iter().find(|host| !self.is_below(host)) {
            return Err(ToolError::Host {
                host: host.clone(),
                gateway: self.reserved.first().cloned().unwrap_or_default(),
            });
        }
        let tools = self.handle.load();
        let foreign = |host: &&String| {
            tools
                .by_host(host)
                .is_some_and(|(owner, other)| owner.id != vo || other.name != tool.name)
        };
        match tool.hosts.iter().find(foreign) {
            Some(host) => Err(ToolError::HostTaken(host.clone())),
            None => Ok(()),
        }
    }

    /// Registers a tool (`seen` is 0) or puts a new manifest in the place of the version `seen`.
    ///
    /// # Errors
    /// [`ToolError`]: what [`ToolStore::check`] refuses, or another version in force.
    pub async fn add(
        &self,
        tx: &mut Tx,
        vo: VoId,
        manifest: &Manifest,
        seen: i64,
    ) -> Result<Change, ToolError> {
        let tool = &manifest.tool;
        self.check(vo, tool)?;
        let now = self.ids.clock().now();
        let before = alive(tx, vo, &tool.name).await?;
        let (id, present) = match &before {
            Some((id, version, _)) => (ToolId::from(*id), *version),
            None => (self.ids.next::<ToolId>()?, 0),
        };
        if present != seen {
            return Err(stale(&tool.name, seen, present));
        }
        if present > 0 {
            end(tx, id, &tool.name, present, now).await?;
        }
        let version = present + 1;
        let inserted = run!(
            tx,
            "INSERT INTO tool (id, version, vo_id, name, manifest, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT DO NOTHING",
            id.uuid(),
            version,
            vo.uuid(),
            &tool.name,
            &tool.manifest,
            now.micros(),
        )?;
        if inserted == 0 {
            return Err(stale(&tool.name, seen, version));
        }
        for host in &tool.hosts {
            let taken = run!(
                tx,
                "INSERT INTO tool_host (host, tool_id, vo_id, version) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                host,
                id.uuid(),
                vo.uuid(),
                version,
            )?;
            if taken == 0 {
                return Err(ToolError::HostTaken(host.clone()));
            }
        }
        Ok(Change {
            action: "tool.add".into(),
            kind: "tool".into(),
            target: tool.name.clone(),
            vo,
            person: None,
            before: before
                .as_ref()
                .map(|(_, version, text)| json!({ "version": version, "manifest": hash(text) })),
            after: Some(described(tool, version)),
        })
    }

    /// Ends a registration. Its requests are refused from the next snapshot on, and the owners of what it made are
    /// forgotten, since the next tool of this name may use the same ids for other things.
    ///
    /// # Errors
    /// [`ToolError::Unknown`]; [`ToolError::Version`] when another version than `seen` is in force.
    pub async fn remove(&self, tx: &mut Tx, vo: VoId, name: &str, seen: i64) -> Result<Change, ToolError> {
        let (id, version, text) = alive(tx, vo, name)
            .await?
            .ok_or_else(|| ToolError::Unknown(name.to_owned()))?;
        if version != seen {
            return Err(stale(name, seen, version));
        }
        let now = self.ids.clock().now();
        end(tx, ToolId::from(id), name, version, now).await?;
        // SECURITY: an owner must not come to own what another tool of the same name makes under the same id.
        let forgotten = run!(
            tx,
            "UPDATE resource SET ended_at = $1, version = version + 1 \
             WHERE vo_id = $2 AND tool = $3 AND ended_at IS NULL",
            now.micros(),
            vo.uuid(),
            name,
        )?;
        Ok(Change {
            action: "tool.remove".into(),
            kind: "tool".into(),
            target: name.to_owned(),
            vo,
            person: None,
            before: Some(json!({ "version": version, "manifest": hash(&text), "resources": forgotten })),
            after: None,
        })
    }

    /// The manifest of one version of a tool as it was registered, also of one that ended.
    ///
    /// # Errors
    /// [`StoreError::Driver`].
    pub async fn manifest(&self, id: ToolId, version: i64) -> Result<Option<String>, StoreError> {
        let found = row!(
            &self.db,
            (String,),
            "SELECT manifest FROM tool WHERE id = $1 AND version = $2",
            id.uuid(),
            version
        )?;
        Ok(found.map(|(text,)| text))
    }
}

fn stale(name: &str, expected: i64, present: i64) -> ToolError {
    ToolError::Version {
        name: name.to_owned(),
        expected,
        present,
    }
}

async fn alive(tx: &mut Tx, vo: VoId, name: &str) -> Result<Option<Alive>, StoreError> {
    let rows = tx_rows!(
        tx,
        Alive,
        "SELECT id, version, manifest FROM tool WHERE vo_id = $1 AND name = $2 AND ended_at IS NULL",
        vo.uuid(),
        name
    )?;
    Ok(rows.into_iter().next())
}

async fn end(tx: &mut Tx, id: ToolId, name: &str, version: i64, now: Timestamp) -> Result<(), ToolError> {
    let ended = run!(
        tx,
        "UPDATE tool SET ended_at = $1 WHERE id = $2 AND version = $3 AND ended_at IS NULL",
        now.micros(),
        id.uuid(),
        version,
    )?;
    if ended == 0 {
        return Err(stale(name, version, version + 1));
    }
    run!(
        tx,
        "UPDATE tool_host SET ended_at = $1 WHERE tool_id = $2 AND ended_at IS NULL",
        now.micros(),
        id.uuid(),
    )?;
    Ok(())
}

fn hash(manifest: &str) -> String {
    Hash::of(manifest.as_bytes()).to_string()
}

fn described(tool: &Tool, version: i64) -> serde_json::Value {
    let upstream = match &tool.target {
        ToolTarget::Upstream(name) => name.as_str(),
        ToolTarget::Local(name) => name,
    };
    json!({
        "version": version,
        "manifest": hash(&tool.manifest),
        "upstream": upstream,
        "hosts": tool.hosts,
        "delegation": tool.delegation.as_str(),
        "tasks": tool.tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
