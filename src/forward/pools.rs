//! Connections that are kept: in each lane one pool for each tool on its upstream and, where authority is bound to the
//! connection, for each proxy.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use moka::sync::Cache;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use super::address::OwnListeners;
use super::config::Config;
use super::connect::{Connector, Reach, Tls};
use super::meters::Meters;
use super::request::upstream_host;
use crate::body::Body;
use crate::delegate::Credential;
use crate::id::{ToolId, UpstreamId};
use crate::lane;
use crate::vo::{Upstream, UpstreamAddress};

/// Windows and buffers towards HTTP/2 tools, in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
const SEND_BUFFER: usize = 256 * 1024;

/// A client with its connections to one upstream.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) client: Client<Connector, Body>,
    /// The authority under which the upstream knows itself.
    pub(super) authority: Arc<str>,
}

/// Connections are shared under this key only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PoolKey {
    tool: ToolId,
    upstream: UpstreamId,
    version: i64,
    /// Each lane has connections of its own.
    lane: usize,
    /// SECURITY: where authority is bound to the connection, it is never shared between proxies.
    proxy: Option<String>,
}

/// All pools.
pub(super) struct Pools {
    config: Config,
    pools: Cache<PoolKey, Pool>,
    /// By upstream and version: what is not there is not there for any of its tools, and for no other.
    reach: Cache<(UpstreamId, i64), Arc<Reach>>,
    own: Arc<ArcSwap<OwnListeners>>,
    pub(super) meters: Arc<Meters>,
    system_roots: OnceLock<Arc<RootCertStore>>,
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pools")
            .field("pools", &self.pools.entry_count())
            .finish_non_exhaustive()
    }
}

impl Pools {
    pub(super) fn new(config: Config) -> Self {
        let pools = Cache::builder()
            .max_capacity(config.pools)
            .time_to_idle(config.pools_idle)
            .build();
        let reach = Cache::builder()
            .max_capacity(config.pools)
            .time_to_idle(config.pools_idle)
            .build();
        Self {
            config,
            pools,
            reach,
            own: Arc::default(),
            meters: Arc::default(),
            system_roots: OnceLock::new(),
        }
    }

    pub(super) fn set_own_listeners(&self, own: OwnListeners) {
        self.own.store(Arc::new(own));
    }

    /// Closes the idle connections that were made with a proxy that has ended.
    pub(super) fn forget(&self, proxy: &str) {
        for (key, _) in &self.pools {
            if key.proxy.as_deref() == Some(proxy) {
                self.pools.invalidate(&*key);
            }
        }
    }

    /// The pool of a tool on its upstream.
    ///
    /// # Errors
    /// Why the trust settings of the upstream cannot be used.
    pub(super) fn pool(
        &self,
        tool: ToolId,
        upstream: &Arc<Upstream>,
        credential: &Credential,
    ) -> Result<Pool, String> {
        let key = PoolKey {
            tool,
            upstream: upstream.id,
            version: upstream.version,
            lane: lane::number(),
            proxy: match credential {
                Credential::ClientCertificate { id, .. } => Some(id.clone()),
                _ => None,
            },
        };
        if let Some(pool) = self.pools.get(&key) {
            return Ok(pool);
        }
        let built = self.build(upstream, credential)?;
        Ok(self.pools.get_with(key, || built))
    }

    fn build(&self, upstream: &Arc<Upstream>, credential: &Credential) -> Result<Pool, String> {
        let connector = self.connector(upstream, credential, upstream.http2)?;
        let answer = self.config.answer;
        // INVARIANT: a request is never sent twice. It is given to another connection only when the client gives it back,
        // which it does only with a request that the first connection had not begun to write.
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .retry_canceled_requests(true)
            .set_host(false)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.config.pool_idle)
            .pool_max_idle_per_host(self.config.pool_size.div_ceil(lane::usual()))
            .http1_max_buf_size(answer.bytes.saturating_add(16 * 1024));
        // Up to 100 fields hyper keeps on the stack.
        if answer.count > 100 {
            builder.http1_max_headers(answer.count.saturating_add(1));
        }
        if upstream.http2 {
            builder
                .http2_only(true)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .http2_max_send_buf_size(SEND_BUFFER)
                .http2_max_header_list_size(u32::try_from(answer.bytes).unwrap_or(u32::MAX))
                .http2_keep_alive_interval(self.config.connect_timeout.saturating_mul(4))
                .http2_keep_alive_timeout(self.config.connect_timeout.saturating_mul(2));
        }
        Ok(Pool {
            client: builder.build(connector),
            authority: upstream_host(&upstream.address).into(),
        })
    }

    /// What connects to an upstream, in HTTP/1.1 or HTTP/2.
    ///
    /// # Errors
    /// Why the trust settings of the upstream cannot be used.
    pub(super) fn connector(
        &self,
        upstream: &Arc<Upstream>,
        credential: &Credential,
        http2: bool,
    ) -> Result<Connector, String> {
        let tls = match &upstream.address {
            UpstreamAddress::Tls { host, ca, name, .. } => Some(Tls {
                config: Arc::new(self.tls(ca.as_deref(), credential, http2)?),
                name: server_name(name.as_deref().unwrap_or(host))?,
                http2,
            }),
            _ if matches!(credential, Credential::ClientCertificate { .. }) => {
                return Err("a client certificate needs an `https` upstream".into());
            }
            _ => None,
        };
        Ok(Connector {
            upstream: upstream.clone(),
            tls,
            own: self.own.clone(),
            meter: self.meters.of(upstream.id),
            timeout: self.config.connect_timeout,
            unreachable: self.config.unreachable,
            reach: self.reach.get_with((upstream.id, upstream.version), Arc::default),
        })
    }

    fn tls(&self, ca: Option<&str>, credential: &Credential, http2: bool) -> Result<ClientConfig, String> {
        let roots = match ca {
            Some(pem) => Arc::new(pinned(pem)?),
            None => self.system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match credential {
            Credential::ClientCertificate { resolver, .. } => {
                let mut config = builder.with_client_cert_resolver(resolver.clone());
                // SECURITY: a resumed session would speak as whoever made it; every connection proves its own proxy.
                config.resumption = Resumption::disabled();
                config
            }
            _ => builder.with_no_client_auth(),
        };
        let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(config)
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, String> {
        if let Some(roots) = self.system_roots.get() {
            return Ok(roots.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "the system has no trusted authorities; register the upstream with its own CA".into(),
            );
        }
        Ok(self.system_roots.get_or_init(|| Arc::new(roots)).clone())
    }
}

fn pinned(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("its CA is not PEM: {error:?}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("its CA cannot be used: {error}"))?;
    }
    if roots.is_empty() {
        return Err("its CA holds no certificate".into());
    }
    Ok(roots)
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("`{name}` is not a name that a certificate can have"))
}
