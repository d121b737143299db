//! Requests of the gateway's own API, as somebody who speaks MyProxy asks for them.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::authenticate::{Source, TOKEN_PREFIX};
use crate::body::{self, Body};
use crate::delegate::DOWNLOAD;
use crate::gateway::listener::{ConnectionInfo, Handler, Protocol};
use crate::secret::Secret;
use crate::vo::OWN_TOOL;

/// No answer that is read here is longer.
const LONGEST: usize = 1024 * 1024;
const POST: Method = Method::POST;

/// Somebody who asks, from one address.
pub(super) struct Asker {
    handler: Arc<dyn Handler>,
    connection: ConnectionInfo,
    host: Arc<str>,
}

/// Somebody who has signed in.
pub(super) struct Known {
    token: Secret<String>,
    /// The session to end afterwards; none where a token was given instead of a password.
    session: Option<String>,
    hers: Hers,
}

/// Why not, in the words of the gateway, and under which status it said so.
pub(super) struct No {
    pub(super) why: String,
    status: StatusCode,
}

/// Somebody's account of herself.
#[derive(Default)]
struct Hers {
    username: String,
    must_change: bool,
    /// The VOs that she is in.
    vos: Vec<String>,
    /// Those of them that let her download.
    giving: Vec<String>,
}

impl Asker {
    pub(super) fn new(handler: Arc<dyn Handler>, ip: IpAddr, host: Arc<str>) -> Self {
        Self {
            handler,
            connection: ConnectionInfo {
                source: Source::Ip(ip),
                protocol: Protocol::Http1,
                server_name: None,
                presented: None,
            },
            host,
        }
    }

    /// Signs in with the account's password, or with an access token in its place.
    ///
    /// SECURITY: the password goes to the login that everybody uses, so whatever that asks for besides a password, it asks for
    /// here: somebody of whom it wants more than a password cannot give it in this protocol, and brings a token.
    pub(super) async fn sign_in(&self, username: &str, password: &Secret<String>) -> Result<Known, No> {
        let mut known = match password.expose().starts_with(TOKEN_PREFIX) {
            true => Known {
                token: password.clone(),
                session: None,
                hers: Hers::default(),
            },
            false => self.log_in(username, password).await?,
        };
        match self.hers(&known).await {
            Ok(hers) => known.hers = hers,
            Err(no) => return Err(self.leave(&known, no).await),
        }
        let hers = &known.hers;
        // SECURITY: who says that she is john gets nothing as mary, so that no log at either end is misread.
        if hers.username != username.trim().to_lowercase() {
            let why = "the access token is not this user's";
            return Err(self.leave(&known, no(StatusCode::UNAUTHORIZED, why)).await);
        }
        if hers.must_change {
            let why = "choose a password of your own first (`countersign login`)";
            return Err(self.leave(&known, no(StatusCode::FORBIDDEN, why)).await);
        }
        Ok(known)
    }

    async fn log_in(&self, username: &str, password: &Secret<String>) -> Result<Known, No> {
        // A one-time password would be used up, and nobody could choose another one here.
        let body = json!({ "username": username, "password": password.expose(), "own_password": true });
        let said = self
            .ask(POST, "/api/v1/sessions".into(), None, Some(body))
            .await?;
        Ok(Known {
            token: Secret::new(text(&said, "token").ok_or_else(broken)?),
            session: text(&said, "session"),
            hers: Hers::default(),
        })
    }

    async fn leave(&self, known: &Known, no: No) -> No {
        self.sign_out(known).await;
        no
    }

    /// Ends the session that was begun here.
    pub(super) async fn sign_out(&self, known: &Known) {
        if let Some(session) = &known.session {
            let path = format!("/api/v1/sessions/{session}");
            // One that cannot be ended now ends by itself.
            let _ = self.ask(Method::DELETE, path, Some(&known.token), None).await;
        }
    }

    async fn hers(&self, known: &Known) -> Result<Hers, No> {
        let said = self
            .ask(Method::GET, "/api/v1/me".into(), Some(&known.token), None)
            .await?;
        let vos = said.get("vos").and_then(Value::as_array).ok_or_else(broken)?;
        let name = |vo: &Value| text(vo, "vo");
        Ok(Hers {
            username: text(&said, "username").ok_or_else(broken)?,
            must_change: said.get("must_change") == Some(&Value::Bool(true)),
            vos: vos.iter().filter_map(name).collect(),
            giving: vos.iter().filter(|vo| gives(vo)).filter_map(name).collect(),
        })
    }

    /// The VO whose proxy somebody gets: the one that she names, else the only one that gives her any.
    pub(super) async fn vo(&self, known: &Known, named: Option<&str>) -> Result<String, No> {
        let hers = &known.hers;
        let asked = match (named, hers.giving.as_slice(), hers.vos.as_slice()) {
            (Some(name), _, _) => name.to_owned(),
            (None, [name], _) | (None, [], [name]) => name.clone(),
            (None, [], _) => {
                let why = "no virtual organisation lets you download proxies";
                return Err(no(StatusCode::FORBIDDEN, why));
            }
            (None, names, _) => {
                let names = names.join(", ");
                let why = format!("say of which virtual organisation (`-k NAME`): {names}");
                return Err(no(StatusCode::FORBIDDEN, why));
            }
        };
        if hers.giving.contains(&asked) {
            return Ok(asked);
        }
        // A client expects certificates after its request, and shows no reason then. So who may not is told before, and the
        // denial is made, counted and recorded where all are: by asking, with a request that nothing can be signed for.
        match self.download(known, &asked, &[], 0).await {
            Err(denied) if denied.status != StatusCode::UNPROCESSABLE_ENTITY => Err(denied),
            _ => Ok(asked),
        }
    }

    /// A certificate for the key of a certification request (DER); gives the chain (DER).
    pub(super) async fn download(
        &self,
        known: &Known,
        vo: &str,
        request: &[u8],
        seconds: u64,
    ) -> Result<Vec<Vec<u8>>, No> {
        let path = format!("/api/v1/vos/{}/proxies", escaped(vo));
        let request = data_encoding::BASE64.encode(request);
        // Nought is as long as the server likes.
        let body = match seconds {
            0 => json!({ "request": request }),
            _ => json!({ "request": request, "lifetime": seconds.max(60) }),
        };
        let said = self.ask(POST, path, Some(&known.token), Some(body)).await?;
        let chain = said.get("chain").and_then(Value::as_str).ok_or_else(broken)?;
        let blocks = chain.split_inclusive("-----END CERTIFICATE-----\n");
        let blocks = blocks.map(|block| der::pem::decode_vec(block.as_bytes()).map(|(_, der)| der));
        blocks.collect::<Result<_, _>>().map_err(|_| broken())
    }

    async fn ask(
        &self,
        method: Method,
        path: String,
        token: Option<&Secret<String>>,
        json: Option<Value>,
    ) -> Result<Value, No> {
        let request = self.request(method, path, token, json)?;
        let answer = self.handler.handle(request, &self.connection).await;
        let status = answer.status();
        let whole = whole(answer.into_body()).await?;
        let said: Value = serde_json::from_slice(&whole).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(said);
        }
        let why = text(&said, "detail").unwrap_or_else(|| "the gateway refused".to_owned());
        Err(no(status, why))
    }

    fn request(
        &self,
        method: Method,
        path: String,
        token: Option<&Secret<String>>,
        json: Option<Value>,
    ) -> Result<Request<Body>, No> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &*self.host);
        if let Some(token) = token {
            let value = Secret::new(format!("Bearer {}", token.expose()));
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let body = match json {
            None => body::empty(),
            Some(json) => {
                let text = json.to_string();
                request = request
                    .header(header::CONTENT_TYPE, "application/json")
                    .header(header::CONTENT_LENGTH, text.len());
                body::full(text)
            }
        };
        request.body(body).map_err(|_| broken())
    }
}

/// A whole answer. A token may stand in it.
async fn whole(mut body: Body) -> Result<Zeroizing<Vec<u8>>, No> {
    let mut whole = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(|_| broken())?.into_data().unwrap_or_default();
        if whole.len() + data.len() > LONGEST {
            return Err(broken());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// Whether a VO of somebody's lets her download proxies.
fn gives(vo: &Value) -> bool {
    let downloads = |may: &Value| {
        may.get("tool").and_then(Value::as_str) == Some(OWN_TOOL)
            && may.get("task").and_then(Value::as_str) == Some(DOWNLOAD)
    };
    let may = vo.get("may").and_then(Value::as_array);
    may.is_some_and(|may| may.iter().any(downloads))
}

fn text(said: &Value, name: &str) -> Option<String> {
    said.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn no(status: StatusCode, why: impl Into<String>) -> No {
    No {
        why: why.into(),
        status,
    }
}

fn broken() -> No {
    no(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the gateway did not answer as it should",
    )
}

/// A token that cannot stand in a header is nobody's.
fn wrong() -> No {
    no(StatusCode::UNAUTHORIZED, "the access token is not right")
}

/// One segment of a path (RFC 3986 section 2.1).
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
