//! What a MyProxy server is filled with for one request: a proxy under a user name and pass phrase that nobody had before.
//!
//! Each name is noted in the store before it is used and forgotten when the server has removed what was kept under it, so
//! that a gateway that was killed in between finds what is left. How many there may be at once is bounded ([`super::room`]).

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use http::HeaderName;
use rustls::client::ResolvesClientCert;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{PersonId, RequestId, VoId, random_bytes};
use crate::secret::Secret;
use crate::store::{StoreError, rows, run};
use crate::tool::{Tool, VoRef};
use crate::trust::certificate::Use;
use crate::trust::signer::Algorithm;

use super::mint::Issuer;
use super::outside::Outside;
use super::plan::Wanted;
use super::room::{Put, Slot};
use super::{Credential, Delegate, DelegateError, robot};

/// What every user name begins with. Nothing else is ever removed from a server.
const PREFIX: &str = "countersign-";
/// Header that names the server.
const SERVER: HeaderName = HeaderName::from_static("x-countersign-myproxy-server");

/// A MyProxy server that is to be filled for one request.
pub struct Upload {
    /// Where something was, or will be, put.
    pub left: Left,
    /// What the server's key is certified as.
    pub outside: Outside,
    /// Who the gateway is towards the server.
    pub identity: Arc<dyn ResolvesClientCert>,
    /// How long the server may let proxies live that it gives out.
    pub lifetime: Duration,
    passphrase: Secret<String>,
    headers: [HeaderName; 2],
    slot: Slot,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Upload({})", self.left.username)
    }
}

/// Something that is kept on a MyProxy server until it is removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The user name.
    pub username: String,
    /// The VO whose proxy it is.
    pub vo: VoId,
    /// The upstream that the server is.
    pub upstream: String,
    /// The request that it was made for.
    pub request: RequestId,
    /// Whose proxy it is; not known of what an older gateway left.
    pub person: Option<PersonId>,
    /// When the proxy ends by itself.
    pub not_after: Timestamp,
    /// When its request ended, as far as that is known; else when it began.
    pub since: Timestamp,
}

impl Left {
    fn put(&self) -> Put {
        Put {
            vo: self.vo,
            upstream: self.upstream.clone(),
            person: self.person,
        }
    }
}

/// The parts of an [`Upload`].
pub struct UploadParts {
    /// Where it is put.
    pub left: Left,
    /// What is certified.
    pub outside: Outside,
    /// With [`Self::headers`] and the user name, what the tool is told.
    pub passphrase: Secret<String>,
    /// Headers of user name and pass phrase.
    pub headers: [HeaderName; 2],
}

impl Upload {
    pub(super) fn choose(
        delegate: &Delegate,
        request: RequestId,
        wanted: &Wanted,
        (vo, tool): (&VoRef, &Tool),
    ) -> Result<Self, DelegateError> {
        let settings = tool.myproxy.as_ref().ok_or(DelegateError::NoTool)?;
        let issuer = lacks(delegate, vo)?;
        let held = (vo.id, tool.name.as_str(), tool.delegation.as_str());
        let outside = Outside::choose(delegate, request, wanted, &issuer, held, &tool.proxy)?;
        let random = &**delegate.ids.random();
        let username = HEXLOWER.encode(&random_bytes::<16>(random)?);
        let username = format!("{PREFIX}{username}");
        let passphrase = Secret::new(HEXLOWER.encode(&random_bytes::<24>(random)?));
        let header = |name: &String| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| DelegateError::Header(name.clone()))
        };
        let headers = [
            header(&settings.username_header)?,
            header(&settings.passphrase_header)?,
        ];
        let (now, not_after) = (delegate.ids.clock().now(), outside.reserved().not_after());
        let left = Left {
            username,
            vo: vo.id,
            upstream: settings.upstream.clone(),
            request,
            person: wanted.person.map(|(person, _)| person),
            not_after,
            since: now,
        };
        Ok(Self {
            slot: delegate.room.take(&left.username, left.put())?,
            left,
            lifetime: not_after.since(now),
            outside,
            identity: robot::presents(&issuer),
            passphrase,
            headers,
        })
    }

    /// The pass phrase.
    pub const fn passphrase(&self) -> &Secret<String> {
        &self.passphrase
    }

    /// What the tool is told, once the server (`HOST:PORT`) is filled.
    #[must_use]
    pub fn told(
        passphrase: Secret<String>,
        headers: [HeaderName; 2],
        username: &str,
        server: String,
    ) -> Credential {
        let [user, phrase] = headers;
        Credential::Headers(vec![
            (SERVER, Secret::new(server)),
            (user, Secret::new(username.to_owned())),
            (phrase, passphrase),
        ])
    }

    /// Its parts, and the room that it takes on the server.
    pub fn into_parts(self) -> (UploadParts, Slot) {
        let parts = UploadParts {
            left: self.left,
            outside: self.outside,
            passphrase: self.passphrase,
            headers: self.headers,
        };
        (parts, self.slot)
    }
}

/// The certificate that uploads are minted from, or what is lacking. A MyProxy server takes what an EC key signed, and then
/// never gives it out.
pub(super) fn lacks(delegate: &Delegate, vo: &VoRef) -> Result<Arc<Issuer>, DelegateError> {
    let issuer = delegate.keys.load().issuer(vo, Use::Tools)?;
    // The handshake asks for signatures in a lane.
    if issuer.is_on_token() {
        return Err(DelegateError::OnToken { vo: vo.name.clone() });
    }
    match issuer.facts().algorithm {
        Algorithm::Rsa(_) => Ok(issuer),
        Algorithm::P256 | Algorithm::P384 => Err(DelegateError::NotRsa { vo: vo.name.clone() }),
    }
}

impl Delegate {
    /// Who the gateway is towards MyProxy servers, in the name of a VO.
    ///
    /// # Errors
    /// [`DelegateError`] when the VO has no certificate, or its key is sealed.
    pub fn robot(&self, vo: &VoRef) -> Result<Arc<dyn ResolvesClientCert>, DelegateError> {
        Ok(robot::presents(&*self.keys.load().issuer(vo, Use::Tools)?))
    }

    /// Notes where something will be put. To be called before anything is.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing may be put there.
    pub async fn note_upload(&self, left: &Left) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "INSERT INTO myproxy_upload (username, vo_id, upstream, request, person, not_after, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &left.username,
            left.vo.uuid(),
            &left.upstream,
            left.request.uuid(),
            left.person.map(|person| person.uuid()),
            left.not_after.micros(),
            self.ids.clock().now().micros(),
        )?;
        tx.commit().await
    }

    /// Notes that a request has ended, and gives when that was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upload_ended(&self, left: &Left) -> Result<Timestamp, StoreError> {
        let now = self.ids.clock().now();
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "UPDATE myproxy_upload SET ended_at = $1 WHERE username = $2 AND ended_at IS NULL",
            now.micros(),
            &left.username,
        )?;
        tx.commit().await?;
        Ok(now)
    }

    /// Forgets what is no longer on its server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_upload(&self, left: &Left) -> Result<(), StoreError> {
        let mut tx = self.db.begin_write().await?;
        run!(
            &mut tx,
            "DELETE FROM myproxy_upload WHERE username = $1",
            &left.username
        )?;
        tx.commit().await
    }

    /// What may be on servers, that of requests under way included, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn uploads(&self) -> Result<Vec<Left>, StoreError> {
        let found = rows!(
            &self.db,
            (String, Uuid, String, Uuid, Option<Uuid>, i64, i64),
            "SELECT username, vo_id, upstream, request, person, not_after, COALESCE(ended_at, created_at) \
             FROM myproxy_upload ORDER BY created_at, username"
        )?;
        let left =
            found.into_iter().map(
                |(username, vo, upstream, request, person, not_after, since)| Left {
                    username,
                    vo: vo.into(),
                    upstream,
                    request: request.into(),
                    person: person.map(PersonId::from),
                    not_after: Timestamp(not_after),
                    since: Timestamp(since),
                },
            );
        // SECURITY: a row written past the gateway removes nothing that the gateway has not made.
        Ok(left.filter(|left| left.username.starts_with(PREFIX)).collect())
    }

    /// Its slot, for whoever will have it removed; `None` while its request, or another removal, is under way, and when
    /// there is nothing left. Which requests are under way this process knows of itself: no clock is asked.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_upload(&self, left: &Left) -> Result<Option<Slot>, StoreError> {
        let Some(slot) = self.room.claim(&left.username, left.put()) else {
            return Ok(None);
        };
        // It may have been removed since it was read.
        let found = rows!(
            &self.db,
            (i64,),
            "SELECT not_after FROM myproxy_upload WHERE username = $1",
            left.username.as_str()
        )?;
        Ok((!found.is_empty()).then_some(slot))
    }
}
