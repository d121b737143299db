//! The way to a provider and back: the browser is sent there with a request, and comes back with a code for an ID token.
//!
//! What was sent along (state, nonce, PKCE verifier, where to go on) travels in a cookie, sealed: the gateway keeps nothing of
//! people who only looked at a login page, and nothing of it can be read, made up, or used in another browser.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use super::fetch::{Failure, Metadata, down};
use super::identity::{Identity, SignedInBy};
use super::provider::Idp;
use super::token::{self, Claims, Expected, Flaw};
use super::{secret_label, store};
use crate::authenticate::credential::{fresh, set_cookie};
use crate::authenticate::login::{Ground, Prepared, SignedIn, Verdict};
use crate::authenticate::subject::{Session, SessionKind, Source};
use crate::authenticate::{Authenticate, AuthenticateError, LOGIN_COOKIE, is_local_path, percent};
use crate::clock::Timestamp;
use crate::id::{IdpId, PersonId, RequestId, SessionId};
use crate::problem::{AsProblem, Kind, Problem};
use crate::record::{FederatedLogin, Hash, Login};
use crate::secret::Secret;
use crate::store::StoreError;
use crate::tool::Assurance;
use crate::trust::seal::Label;
use crate::vo::PersonState;

/// How a session began that a provider vouched for.
const METHOD: &str = "federated";
/// How long somebody may be away.
const AWAY: Duration = Duration::from_secs(600);
/// Longest code that is passed on, in bytes.
const LONGEST_CODE: usize = 4_096;
/// Methods of a provider that are carried along at most.
const METHODS: usize = 8;

/// The first step: a redirect to the provider and a cookie.
#[derive(Debug)]
pub struct FederatedStart {
    /// Address at the provider.
    pub location: String,
    /// `Set-Cookie` with what was sent along.
    pub cookie: String,
}

/// A browser that came back from a provider.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// Name of the provider that it was sent to, as the address says.
    pub idp: &'a str,
    /// What the provider sent along.
    pub query: &'a [(String, String)],
    /// The cookie of the first step.
    pub cookie: Option<&'a Secret<String>>,
    /// The gateway's own origin.
    pub base: &'a str,
    /// Where it comes from.
    pub source: Source,
    /// The request.
    pub request: RequestId,
}

/// Somebody whom a provider vouches for. It is not said yet that she has an account.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The provider.
    pub idp: Idp,
    /// What it says.
    pub claims: Claims,
    /// What the gateway knows of her.
    pub known: Option<Identity>,
    /// Where the browser wanted to go: a path on this host.
    pub to: String,
    /// How sure it is.
    pub level: Assurance,
    /// The session that set out to link an identity, where one did.
    pub link: Option<SessionId>,
}

/// Somebody who does not get in. Record `login` before the answer.
#[derive(Debug)]
pub struct FederatedRefusal {
    /// For the log.
    pub login: Login,
    /// The answer.
    pub problem: Problem,
}

/// What travels in the cookie.
#[derive(Serialize, Deserialize)]
struct Way {
    idp: IdpId,
    state: String,
    nonce: String,
    verifier: String,
    to: String,
    link: Option<SessionId>,
    until: i64,
}

fn label() -> Label {
    Label::new("federated sign-in")
}

/// Why somebody who came back does not get in: the word in the record, and the answer.
struct Stopped {
    result: &'static str,
    flaw: Option<&'static str>,
    problem: Box<Problem>,
}

impl Stopped {
    fn refused(flaw: &'static str, detail: impl Into<String>) -> Self {
        Self {
            result: "refused",
            flaw: Some(flaw),
            problem: Box::new(Problem::new(Kind::SignInRefused, detail)),
        }
    }

    fn by_token(idp: &Idp, flaw: Flaw) -> Self {
        let detail = format!(
            "the ID token of {} is not accepted: {flaw}",
            idp.settings.display_name
        );
        Self::refused(flaw.word(), detail)
    }

    fn down(problem: Problem) -> Self {
        Self {
            result: "unavailable",
            flaw: None,
            problem: Box::new(problem),
        }
    }
}

/// The address to which a provider sends the browser back: one for each, so that the answer of one is never taken for another's.
fn redirect(base: &str, idp: &str) -> String {
    format!("{base}/login/with/{idp}/callback")
}

impl Authenticate {
    /// First step: where a browser goes that wants to sign in with the provider `name`, and to `to` afterwards.
    ///
    /// # Errors
    /// A [`Problem`]: 404 there is none, 403 it is suspended, 503 it does not answer, or sealed.
    pub async fn federated_start(&self, name: &str, base: &str, to: &str) -> Result<FederatedStart, Problem> {
        self.set_out(name, (base, to), None).await
    }

    /// The same; for a session that wants to link an identity, where there is one.
    pub(super) async fn set_out(
        &self,
        name: &str,
        (base, to): (&str, &str),
        link: Option<SessionId>,
    ) -> Result<FederatedStart, Problem> {
        let idp = self.idp(name).await?;
        if !idp.active {
            return Err(suspended(&idp));
        }
        let key = self.sealing()?;
        let provider = self.0.federation.providers.of(&idp)?;
        let metadata = provider.metadata(&idp, true, &**self.0.ids.clock()).await?;
        let random = &**self.0.ids.random();
        let failed = |error: AuthenticateError| error.as_problem();
        let word = || match fresh(random, "") {
            Ok((word, _)) => Ok(word.expose().clone()),
            Err(error) => Err(failed(error.into())),
        };
        let (state, nonce, verifier) = (word()?, word()?, word()?);
        let to = if is_local_path(to) { to } else { "/" };
        let words = (state.as_str(), nonce.as_str(), verifier.as_str());
        let location = request(
            &idp,
            &metadata,
            words,
            (&redirect(base, &idp.name), link.is_some()),
        );
        let way = Way {
            idp: idp.id,
            state,
            nonce,
            verifier,
            to: to.to_owned(),
            link,
            until: self.now().plus(AWAY).micros(),
        };
        let plain = Secret::new(serde_json::to_vec(&way).unwrap_or_default());
        let sealed = key.seal(random, &label(), plain.expose());
        let sealed = Secret::new(BASE64URL_NOPAD.encode(&sealed.map_err(|error| error.as_problem())?));
        Ok(FederatedStart {
            location,
            cookie: set_cookie(LOGIN_COOKIE, &sealed),
        })
    }

    /// Last step: judges what a browser came back with. Whom the provider vouches for is in `Ok(Ok(_))`; who does not get in, in
    /// `Ok(Err(_))`, to be recorded.
    ///
    /// # Errors
    /// A [`Problem`] when it cannot be judged: there is no such provider, sealed, or the store does not answer.
    pub async fn federated_return(
        &self,
        returned: Returned<'_>,
    ) -> Result<Result<Arrived, Box<FederatedRefusal>>, Problem> {
        let idp = self.idp(returned.idp).await?;
        let judged = self.judge_return(&idp, returned).await?;
        Ok(judged.map_err(|stopped| {
            let of = (&idp, None, returned.source, returned.request);
            Box::new(refusal(of, stopped.result, stopped.flaw, *stopped.problem))
        }))
    }

    async fn judge_return(
        &self,
        idp: &Idp,
        returned: Returned<'_>,
    ) -> Result<Result<Arrived, Stopped>, Problem> {
        let secret = self.sealing()?.open(&secret_label(idp.id), &idp.sealed);
        let secret = secret.map_err(|error| error.as_problem())?;
        let secret = Secret::new(String::from_utf8_lossy(secret.expose()).into_owned());
        let (claims, way) = match self.claims_of(idp, &secret, returned).await {
            Ok(claimed) => claimed,
            Err(stopped) => return Ok(Err(stopped)),
        };
        let Some(level) = idp.settings.level(claims.acr.as_deref()) else {
            return Ok(Err(unassured(idp, claims.acr.as_deref())));
        };
        let failed = |error: StoreError| error.as_problem();
        let known = store::known(&self.0.db, &idp.settings.issuer, &claims.subject).await;
        Ok(Ok(Arrived {
            known: known.map_err(failed)?,
            idp: idp.clone(),
            claims,
            to: way.to,
            level,
            link: way.link,
        }))
    }

    async fn claims_of(
        &self,
        idp: &Idp,
        secret: &Secret<String>,
        returned: Returned<'_>,
    ) -> Result<(Claims, Way), Stopped> {
        if !idp.active {
            return Err(Stopped {
                result: "suspended",
                flaw: None,
                problem: Box::new(suspended(idp)),
            });
        }
        let way = self.way_of(idp, returned)?;
        let clock = &**self.0.ids.clock();
        let provider = self.0.federation.providers.of(idp).map_err(Stopped::down)?;
        let metadata = provider
            .metadata(idp, false, clock)
            .await
            .map_err(Stopped::down)?;
        let code = code_of(idp, &metadata, returned.query)?;
        let back = redirect(returned.base, &idp.name);
        let redeemed = provider
            .redeem(
                &metadata.token,
                (&idp.settings.client_id, secret),
                (code, &way.verifier, &back),
            )
            .await;
        let id_token = redeemed.map_err(|failure| match failure {
            Failure::Down => Stopped::down(down(idp)),
            Failure::Refused => {
                let name = &idp.settings.display_name;
                Stopped::refused("code", format!("{name} does not take its code back"))
            }
        })?;
        let expected = Expected {
            issuer: &idp.settings.issuer,
            client: &idp.settings.client_id,
            now: self.now(),
        };
        let judge = |keys: &token::Keys| token::id_token(id_token.expose(), keys, expected, &way.nonce);
        let keys = provider.keys(idp, &metadata.keys, false, clock).await;
        let judged = match judge(&*keys.map_err(Stopped::down)?) {
            // Keys change: one that is not known may be new.
            Err(Flaw::Key) => {
                let keys = provider.keys(idp, &metadata.keys, true, clock).await;
                judge(&*keys.map_err(Stopped::down)?)
            }
            judged => judged,
        };
        let claims = judged.map_err(|flaw| Stopped::by_token(idp, flaw))?;
        Ok((claims, way))
    }

    /// What this very browser was sent away with, once.
    fn way_of(&self, idp: &Idp, returned: Returned<'_>) -> Result<Way, Stopped> {
        let foreign = |flaw| {
            let detail =
                "this sign-in was not begun in this browser, took too long, or has been completed already";
            Stopped::refused(flaw, detail)
        };
        let opened = returned.cookie.and_then(|cookie| {
            let sealed = BASE64URL_NOPAD.decode(cookie.expose().as_bytes()).ok()?;
            let plain = self.0.seals.get()?.open(&label(), &sealed).ok()?;
            serde_json::from_slice::<Way>(plain.expose()).ok()
        });
        let way = opened.ok_or_else(|| foreign("state"))?;
        let state = once(returned.query, "state").unwrap_or_default();
        // SECURITY: an answer that somebody else's sign-in led to signs nobody in here (login CSRF), and an answer of one provider
        // is not taken for another's (mix-up).
        let same = Secret::new(way.state.clone()) == Secret::new(state.to_owned());
        if !same || state.is_empty() || way.idp != idp.id || self.now() >= Timestamp(way.until) {
            return Err(foreign("state"));
        }
        let mono = self.0.ids.clock().monotonic();
        let used = &self.0.federation.used;
        if !used.take(Hash::of(state.as_bytes()), mono.saturating_add(AWAY), mono) {
            return Err(foreign("replayed"));
        }
        Ok(way)
    }

    /// A session for somebody whom a provider vouches for, as an identity that has an account.
    ///
    /// # Errors
    /// A [`Problem`]: no random bytes, or the store failed.
    pub async fn federated_session(
        &self,
        arrived: &Arrived,
        identity: &Identity,
        (source, request): (Source, RequestId),
    ) -> Result<SignedIn, Problem> {
        let directory = self.0.directory.load();
        let person = identity.person.and_then(|id| directory.person(id).cloned());
        let of = (&arrived.idp, Some(identity), source, request);
        let Some(person) = person.filter(|person| person.state != PersonState::Ended) else {
            let problem = Problem::new(Kind::SignInRefused, "the account of this identity has ended");
            let refused = refusal(of, "refused", None, problem);
            return Ok(SignedIn::refused(refused.login, refused.problem));
        };
        let mut login = Login {
            card: Some(person.card),
            ..login_of(of, "ok", None)
        };
        let standing = person.standing(self.now());
        if standing != PersonState::Active {
            let verdict = Verdict::Stopped(standing);
            login.result = verdict.word().into();
            return Ok(SignedIn::refused(login, verdict.problem()));
        }
        let problem = |error: AuthenticateError| error.as_problem();
        let now = self.now();
        let (token, hash) = fresh(&**self.0.ids.random(), "").map_err(|error| problem(error.into()))?;
        let expires = now.plus(self.0.config.browser_lifetime);
        let session = Session {
            id: self.0.ids.next().map_err(|error| problem(error.into()))?,
            person: person.id,
            kind: SessionKind::Browser,
            created: now,
            // An approval that ends takes the session along.
            expires: identity.valid_until.map_or(expires, |until| until.min(expires)),
            methods: methods(arrived),
            acr: arrived.level.as_str().to_owned(),
            must_change: false,
            identity: Some(SignedInBy::from(identity)),
        };
        login.session = Some(session.id);
        login.methods.clone_from(&session.methods);
        let count = self.logins(person.id).await;
        login.count = count.map_err(|error| error.as_problem())?.logins + 1;
        Ok(SignedIn {
            login,
            change: None,
            ended: None,
            ticket: None,
            result: Ok(Prepared {
                request,
                session,
                home: person.home,
                token,
                hash,
                ground: Ground::Federated(identity.id, identity.provider),
            }),
        })
    }
}

impl Arrived {
    /// The refusal of somebody whom the provider vouches for, and who gets no account (yet): for the log and for the answer.
    #[must_use]
    pub fn refused(
        &self,
        identity: &Identity,
        result: &str,
        problem: Problem,
        (source, request): (Source, RequestId),
    ) -> FederatedRefusal {
        refusal(
            (&self.idp, Some(identity), source, request),
            result,
            None,
            problem,
        )
    }
}

type Of<'a> = (&'a Idp, Option<&'a Identity>, Source, RequestId);

fn login_of((idp, identity, source, request): Of<'_>, result: &str, flaw: Option<&str>) -> Login {
    let person: Option<PersonId> = identity.and_then(|identity| identity.person);
    Login {
        request,
        person,
        card: None,
        session: None,
        methods: vec![METHOD.to_owned()],
        result: result.to_owned(),
        count: 0,
        source: source.network(),
        certificate: None,
        federated: Some(FederatedLogin {
            provider: idp.id,
            issuer: idp.settings.issuer.clone(),
            subject: identity.map(Identity::name),
            flaw: flaw.map(str::to_owned),
        }),
    }
}

fn refusal(of: Of<'_>, result: &str, flaw: Option<&str>, problem: Problem) -> FederatedRefusal {
    FederatedRefusal {
        login: login_of(of, result, flaw),
        problem,
    }
}

fn suspended(idp: &Idp) -> Problem {
    let detail = format!(
        "nobody signs in with {} at the moment: it is suspended here",
        idp.settings.display_name
    );
    Problem::new(Kind::SignInRefused, detail).instead("Ask the system administrator who suspended it.")
}

fn unassured(idp: &Idp, acr: Option<&str>) -> Stopped {
    let said = match acr {
        Some(acr) if acr.len() <= 200 && acr.bytes().all(|byte| byte.is_ascii_graphic()) => {
            format!("`{acr}`")
        }
        Some(_) => "something else".to_owned(),
        None => "nothing".to_owned(),
    };
    let accepted: Vec<&str> = idp.settings.acr.keys().map(String::as_str).collect();
    let detail = format!(
        "{} says {said} of how you signed in there; accepted: {}",
        idp.settings.display_name,
        accepted.join(", ")
    );
    let problem = Problem::new(Kind::SignInRefused, detail);
    Stopped {
        result: "wrong_assurance",
        flaw: Some("acr"),
        problem: Box::new(problem.instead("Sign in there in one of these ways (with a second factor, where one of them says so) and begin again.")),
    }
}

/// The address of an authorization request (OpenID Connect Core section 3.1.2.1, RFC 7636 section 4.3).
fn request(
    idp: &Idp,
    metadata: &Metadata,
    (state, nonce, verifier): (&str, &str, &str),
    (redirect, anew): (&str, bool),
) -> String {
    let settings = &idp.settings;
    let scopes = settings.scopes.iter().map(String::as_str);
    let scopes = scopes.filter(|scope| *scope != "openid");
    let scope: Vec<&str> = std::iter::once("openid").chain(scopes).collect();
    let challenge = BASE64URL_NOPAD.encode(&Hash::of(verifier.as_bytes()).0);
    let (scope, acr): (String, Vec<&str>) =
        (scope.join(" "), settings.acr.keys().map(String::as_str).collect());
    let acr = acr.join(" ");
    let mut address = metadata.authorization.clone();
    let mut mark = if address.contains('?') { '&' } else { '?' };
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", &settings.client_id),
        ("redirect_uri", redirect),
        ("scope", &scope),
        ("state", state),
        ("nonce", nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("acr_values", &acr),
        // Whoever is signed in there is asked all the same.
        ("prompt", if anew { "login" } else { "" }),
        ("max_age", if anew { "0" } else { "" }),
    ] {
        if !value.is_empty() {
            address.push(mark);
            address.push_str(name);
            address.push('=');
            address.push_str(&percent(value));
            mark = '&';
        }
    }
    address
}

/// A parameter that stands there once.
fn once<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let mut values = query.iter().filter(|(known, _)| known == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// The code of an answer that is this provider's own.
fn code_of<'a>(idp: &Idp, metadata: &Metadata, query: &'a [(String, String)]) -> Result<&'a str, Stopped> {
    let name = &idp.settings.display_name;
    let says = query.iter().any(|(known, _)| known == "iss");
    // SECURITY: RFC 9207 section 2.4: an answer that names another provider, or none where it would, is not this one's.
    if (says || metadata.names_itself) && once(query, "iss") != Some(idp.settings.issuer.as_str()) {
        return Err(Stopped::refused(
            "iss",
            format!("the answer is not one of {name}"),
        ));
    }
    if let Some((_, error)) = query.iter().find(|(known, _)| known == "error") {
        let fit = error.len() <= 60
            && error
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let word = if fit { error } else { "error" };
        return Err(Stopped::refused(
            "error",
            format!("{name} did not sign you in (`{word}`)"),
        ));
    }
    once(query, "code")
        .filter(|code| (1..=LONGEST_CODE).contains(&code.len()))
        .ok_or_else(|| Stopped::refused("code", format!("the answer of {name} has no code")))
}

/// How she showed who she is (RFC 8176), as far as the provider may vouch for it.
fn methods(arrived: &Arrived) -> Vec<String> {
    let word = |method: &&String| {
        method.len() <= 20
            && method
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let mut methods = vec![METHOD.to_owned()];
    let claimed = arrived.claims.amr.iter().filter(word);
    match arrived.level {
        // SECURITY: conditions ask for these words; who may vouch for one factor says nothing of a second one.
        Assurance::Aal1 => methods.extend(claimed.filter(|method| *method == "pwd").take(1).cloned()),
        Assurance::Aal2 => {
            methods.extend(claimed.filter(|method| *method != METHOD).take(METHODS).cloned());
            if !methods.iter().any(|method| method == "mfa") {
                methods.push("mfa".to_owned());
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::authenticate::federation::provider::tests::settings;

    fn idp() -> Idp {
        Idp {
            id: uuid::Uuid::nil().into(),
            name: "uni-a".into(),
            home: uuid::Uuid::nil().into(),
            active: true,
            settings: settings(),
            created: Timestamp::from_secs(0),
            version: 1,
            sealed: Vec::new(),
        }
    }

    fn metadata(names_itself: bool) -> Metadata {
        Metadata {
            authorization: "https://idp.example.org/auth".into(),
            token: "https://idp.example.org/token".into(),
            keys: "https://idp.example.org/jwks".into(),
            names_itself,
        }
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn an_answer_names_its_provider_or_is_none() {
        let of = |names: bool, pairs: &[(&str, &str)]| {
            let query = query(pairs);
            let code = code_of(&idp(), &metadata(names), &query).map(str::to_owned);
            code.map_err(|stopped| stopped.flaw.unwrap_or_default())
        };
        let issuer = ("iss", "https://idp.example.org");
        assert_eq!(of(true, &[("code", "a"), issuer]), Ok("a".into()));
        assert_eq!(of(false, &[("code", "a")]), Ok("a".into()));
        assert_eq!(of(true, &[("code", "a")]), Err("iss"));
        assert_eq!(
            of(false, &[("code", "a"), ("iss", "https://evil.example")]),
            Err("iss")
        );
        assert_eq!(of(false, &[("code", "a"), issuer, issuer]), Err("iss"));
        assert_eq!(of(false, &[("code", "a"), ("code", "b")]), Err("code"));
        assert_eq!(
            of(false, &[("error", "access_denied"), ("code", "a")]),
            Err("error")
        );
    }

    #[test]
    fn a_request_has_its_own_challenge_and_says_where_to_come_back() {
        let address = request(
            &idp(),
            &metadata(true),
            ("s", "n", "v"),
            ("https://gw/login/with/uni-a/callback", false),
        );
        assert!(address.starts_with("https://idp.example.org/auth?response_type=code&client_id=gateway"));
        assert!(
            address
                .contains("&redirect_uri=https%3A%2F%2Fgw%2Flogin%2Fwith%2Funi-a%2Fcallback&scope=openid&")
        );
        let challenge = BASE64URL_NOPAD.encode(&Hash::of(b"v").0);
        assert!(address.ends_with(&format!("&code_challenge={challenge}&code_challenge_method=S256")));
    }

    #[test]
    fn a_provider_that_vouches_for_one_factor_says_nothing_of_a_second() {
        let mut arrived = Arrived {
            idp: idp(),
            claims: Claims {
                subject: "s".into(),
                acr: None,
                amr: ["pwd", "otp", "mfa", "A B"].map(str::to_owned).to_vec(),
                all: json!({}).as_object().cloned().unwrap(),
            },
            known: None,
            to: "/".into(),
            level: Assurance::Aal1,
            link: None,
        };
        assert_eq!(methods(&arrived), ["federated", "pwd"]);
        arrived.level = Assurance::Aal2;
        assert_eq!(methods(&arrived), ["federated", "pwd", "otp", "mfa"]);
        arrived.claims.amr.clear();
        assert_eq!(methods(&arrived), ["federated", "mfa"]);
    }
}
