//! Signing in and out, one's own password and sessions.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;

use super::client::Client;
use super::failure::Failure;
use super::input::{asks, code, new_password, password, secret_file, text_file};
use super::output::{Output, or_dash, words};
use super::profile::Profile;
use super::terms;
use crate::api::factor::FactorCode;
use crate::api::person::change_password::PasswordChange;
use crate::api::person::me::MeView;
use crate::api::session::create::{SessionCreate, SessionCreated};
use crate::api::session::list::SessionView;
use crate::api::terms::owed::TermsOwed;
use crate::record::Hash;
use crate::secret::Secret;

/// Signs in at a gateway and keeps the sign-in for the commands that follow. Who comes with a one-time password chooses
/// an own one.
///
/// Examples:
///   countersign login --gateway https://gw.example.org --user anna
///   countersign login --gateway https://gw.localhost:8443 --ca /srv/countersign/tls/ca.pem --user anna
///   countersign login --gateway https://gw.example.org --user anna --password-file - < password
///   countersign login --gateway https://gw.example.org --user anna --password-file password --code-file code
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Login {
    /// The gateway's address, https://HOST[:PORT].
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// The authority (PEM) that signed the gateway's certificate, when it is not one of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// User name.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// File with the password (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// File with the code of your second factor, or a recovery code; asked for on a terminal when one is needed.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
    /// File with the password to choose, if the other one is a one-time password.
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Ends the session at the gateway and forgets the sign-in.
///
/// Examples:
///   countersign logout
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Logout {}

/// Shows who is signed in, with roles and what they allow.
///
/// Examples:
///   countersign whoami
///   countersign whoami --json
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Whoami {}

/// Your own password.
#[derive(Debug, Subcommand)]
pub(crate) enum Password {
    Change(Change),
}

/// Changes your own password; your other sessions end.
///
/// Examples:
///   countersign password change
///   countersign password change --password-file old --new-password-file new
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Change {
    /// File with the present password (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// File with the new password; asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Your own sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Session {
    List(List),
    End(End),
    StepUp(StepUp),
}

/// Shows your second factor in the session of this command line, for what asks for more assurance than a password gives. A
/// new session comes in its place.
///
/// Examples:
///   countersign session step-up
///   countersign session step-up --code-file code
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct StepUp {
    /// File with the code (- for standard input); asked for on a terminal when not given.
    #[arg(long, value_name = "FILE")]
    code_file: Option<PathBuf>,
}

/// Lists your sessions: browsers, programs and this command line.
///
/// Examples:
///   countersign session list
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct List {}

/// Ends one of your sessions, with the tools' sessions that came from it.
///
/// Examples:
///   countersign session end 0199a1b2-0000-7000-8000-000000000001
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct End {
    /// Id of the session (`session list` shows it).
    id: String,
}

/// Runs `login`.
pub(crate) async fn login(args: Login, out: Output) -> Result<(), Failure> {
    both_from_stdin(args.password_file.as_ref(), args.new_password_file.as_ref())?;
    let gateway = origin(&args.gateway)?;
    let ca = args.ca.as_ref().map(|file| text_file(file)).transpose()?;
    let fingerprints = ca.as_deref().map(fingerprints).unwrap_or_default();
    if let (Some(file), true) = (&args.ca, fingerprints.is_empty()) {
        return Err(Failure::usage(format!(
            "`{}` holds no certificate in PEM",
            file.display()
        )));
    }
    let client = Client::new(&gateway, ca.as_deref())?;
    for fingerprint in &fingerprints {
        out.note(format!(
            "The gateway must show a certificate of the CA with SHA-256 {fingerprint}"
        ));
    }
    let prompt = format!("Password of {} at {gateway}: ", args.user);
    let secret = password(args.password_file.as_deref(), &prompt, "--password-file")?;
    let code_file = args.code_file.as_deref();
    let mut opened = sign_in(&client, &args.user, &secret, code_file).await?;
    let keep = |opened: &SessionCreated| {
        let token = opened.token.expose().clone();
        Profile::new(gateway.clone(), ca.clone(), args.user.clone(), token).save()
    };
    // Before anything else: a one-time password is used up now, and only this session can choose another.
    keep(&opened)?;
    if opened.must_change && (args.new_password_file.is_some() || asks()) {
        out.note("This is a one-time password. Choose your own.");
        let hint = "the one-time password is used up, but you are signed in: countersign password change";
        let own = new_password(args.new_password_file.as_deref()).map_err(|failure| failure.hint(hint))?;
        let changing = client.clone().with_token(token(&opened));
        let changed = change_password(&changing, None, &own).await;
        changed.map_err(|failure| failure.hint(hint))?;
        // A code in a file was good for the first time only.
        let again = sign_in(&client, &args.user, &own, None).await;
        opened = again.map_err(|failure| match failure.is_problem("second_factor_required") {
            true => {
                failure.hint("your password is chosen; sign in with it and the next code: countersign login")
            }
            false => failure,
        })?;
        keep(&opened)?;
    }
    if opened.owes_terms {
        let accepting = client.clone().with_token(token(&opened));
        if asks() {
            let owed: TermsOwed = accepting.task("terms.owed").fetch().await?;
            terms::accept(&accepting, &owed, false, out).await?;
        } else {
            out.note("There are terms of use to accept before anything else: countersign terms accept");
        }
    }
    let shown = json!({
        "gateway": gateway, "user": args.user, "person": opened.person, "session": opened.session,
        "expires": opened.expires, "must_change": opened.must_change, "acr": opened.acr, "amr": opened.amr,
        "ca_sha256": fingerprints,
    });
    out.show(&shown, |out, _| {
        out.line(format!(
            "Signed in at {gateway} as {} until {}",
            args.user, opened.expires
        ))
    })?;
    if opened.must_change {
        out.note("This was a one-time password, good for nothing but choosing your own: countersign password change");
    }
    Ok(())
}

/// Runs `logout`. The sign-in is forgotten here whatever the gateway answers.
pub(crate) async fn logout(out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let ended = end_own(&client).await;
    Profile::forget()?;
    match ended {
        // The session had ended before.
        Err(failure) if !failure.is_problem("wrong_credential") && !failure.is_problem("no_credential") => {
            Err(failure.hint(
                "the sign-in is forgotten here, but its session may live on at the gateway until it expires",
            ))
        }
        _ => Ok(out.done("session.end", "Signed out")?),
    }
}

async fn end_own(client: &Client) -> Result<(), Failure> {
    let me: MeView = client.task("person.me").fetch().await?;
    client.task("session.end").at("session", me.session).act().await
}

/// Runs `whoami`.
pub(crate) async fn whoami(out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    let me: MeView = client.task("person.me").fetch().await?;
    out.show(&me, |out, me| show(out, client.base(), me))?;
    Ok(())
}

/// Runs `password change`.
pub(crate) async fn own_password(command: Password, out: Output) -> Result<(), Failure> {
    let Password::Change(args) = command;
    both_from_stdin(args.password_file.as_ref(), args.new_password_file.as_ref())?;
    let profile = Profile::load()?;
    let client = Client::saved()?;
    let me: MeView = client.task("person.me").fetch().await?;
    // After a one-time password the present one is not asked for again.
    let current = match me.must_change {
        true => None,
        false => Some(password(
            args.password_file.as_deref(),
            "Present password: ",
            "--password-file",
        )?),
    };
    let own = new_password(args.new_password_file.as_deref())?;
    change_password(&client, current, &own).await?;
    if me.must_change {
        let anonymous = Client::new(&profile.gateway, profile.ca.as_deref())?;
        let opened = sign_in(&anonymous, &profile.username, &own, None).await?;
        Profile::new(
            profile.gateway,
            profile.ca,
            profile.username,
            opened.token.expose().clone(),
        )
        .save()?;
    }
    out.done(
        "user.change_own_password",
        "The password is changed; your other sessions have ended",
    )?;
    Ok(())
}

/// Runs `session ...`.
pub(crate) async fn sessions(command: Session, out: Output) -> Result<(), Failure> {
    let client = Client::saved()?;
    match command {
        Session::List(List {}) => {
            let sessions: Vec<SessionView> = client.task("session.list").list("sessions").await?;
            out.list(
                "sessions",
                &sessions,
                &[
                    "ID",
                    "KIND",
                    "HOST",
                    "BEGAN",
                    "LAST USED",
                    "ENDS",
                    "ASSURANCE",
                    "",
                ],
                |session| {
                    vec![
                        session.id.clone(),
                        session.kind.clone(),
                        or_dash(session.host.as_deref()),
                        session.created.clone(),
                        session.seen.clone(),
                        session.expires.clone(),
                        format!("{} ({})", session.acr, session.amr.join(", ")),
                        if session.this { "this one" } else { "" }.to_owned(),
                    ]
                },
            )?;
        }
        Session::End(End { id }) => {
            client.task("session.end").at("session", &id).act().await?;
            out.done("session.end", format!("ended session {id}"))?;
        }
        Session::StepUp(StepUp { code_file }) => {
            let body = FactorCode {
                code: code(code_file.as_deref())?,
            };
            let opened: SessionCreated = client.task("session.step_up").send(&body).await?;
            let profile = Profile::load()?;
            Profile::new(
                profile.gateway,
                profile.ca,
                profile.username,
                opened.token.expose().clone(),
            )
            .save()?;
            out.done(
                "session.step_up",
                format!(
                    "this session has the assurance {} until {}",
                    opened.acr, opened.expires
                ),
            )?;
        }
    }
    Ok(())
}

/// Signs in; where a code is needed, it comes from the file, or is asked for.
async fn sign_in(
    client: &Client,
    user: &str,
    password: &Secret<String>,
    code_file: Option<&Path>,
) -> Result<SessionCreated, Failure> {
    let mut body = SessionCreate {
        username: user.to_owned(),
        password: password.clone(),
        code: code_file.map(secret_file).transpose()?,
        own_password: false,
    };
    let first = client.task("session.create").send(&body).await;
    match first {
        Err(failure) if failure.is_problem("second_factor_required") && code_file.is_none() && asks() => {
            body.code = Some(code(None)?);
            client.task("session.create").send(&body).await
        }
        Err(failure) if failure.is_problem("second_factor_required") => {
            Err(failure.hint("give the code with --code-file FILE (- for standard input)"))
        }
        other => other,
    }
}

async fn change_password(
    client: &Client,
    current: Option<Secret<String>>,
    new: &Secret<String>,
) -> Result<(), Failure> {
    let body = PasswordChange {
        current,
        new: new.clone(),
    };
    client
        .task("user.change_own_password")
        .send::<_, serde_json::Value>(&body)
        .await
        .map(|_| ())
}

fn token(opened: &SessionCreated) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(opened.token.expose().clone())
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> Result<String, Failure> {
    let wrong =
        || Failure::usage(format!("`{url}` is not a gateway's address")).hint("give https://HOST[:PORT]");
    let uri: http::Uri = url.parse().map_err(|_| wrong())?;
    let authority = uri
        .authority()
        .map(http::uri::Authority::as_str)
        .filter(|authority| !authority.contains('@'));
    match (uri.scheme_str(), authority, uri.path(), uri.query()) {
        (Some("https"), Some(authority), "" | "/", None) => {
            Ok(format!("https://{}", authority.to_ascii_lowercase()))
        }
        _ => Err(wrong()),
    }
}

fn fingerprints(pem: &str) -> Vec<String> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).flatten();
    certificates
        .map(|certificate| Hash::of(&certificate).to_string())
        .collect()
}

fn both_from_stdin(first: Option<&PathBuf>, second: Option<&PathBuf>) -> Result<(), Failure> {
    let stdin = |path: Option<&PathBuf>| path.is_some_and(|path| path.as_os_str() == "-");
    match stdin(first) && stdin(second) {
        true => {
            Err(Failure::usage("standard input can hold one password only")
                .hint("give the other one in a file"))
        }
        false => Ok(()),
    }
}

fn show(out: Output, gateway: &str, me: &MeView) -> std::io::Result<()> {
    out.pairs(&[
        ("Gateway", gateway.to_owned()),
        ("User", me.username.clone()),
        ("Name", me.name.clone()),
        ("Mail", or_dash(me.mail.as_deref())),
        ("Id", me.id.clone()),
        ("Home", me.home.clone()),
        ("Session", format!("{} until {}", me.session, me.expires)),
        ("Assurance", format!("{} ({})", me.acr, me.amr.join(", "))),
        ("Gateway roles", words(&me.roles)),
    ])?;
    if me.must_change {
        out.line(
            "\nSigned in with a one-time password: choose your own with `countersign password change`.",
        )?;
    }
    for vo in &me.vos {
        out.line("")?;
        out.heading(&format!("{}: {}", vo.vo, words(&vo.roles)))?;
        let rows: Vec<Vec<String>> = vo
            .may
            .iter()
            .map(|may| {
                vec![
                    may.tool.clone(),
                    may.task.clone(),
                    may.conditions.join(" or "),
                    words(&may.roles),
                ]
            })
            .collect();
        if rows.is_empty() {
            out.line("(no task of a tool is granted to these roles)")?;
        } else {
            out.table(&["TOOL", "TASK", "WHEN", "BY ROLE"], &rows)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_an_https_origin() {
        assert_eq!(
            origin("https://GW.localhost:8443/").unwrap(),
            "https://gw.localhost:8443"
        );
        assert_eq!(
            origin("https://gw.example.org").unwrap(),
            "https://gw.example.org"
        );
        for wrong in [
            "http://gw",
            "gw.example.org",
            "https://gw/api",
            "https://gw/?a",
            "https://a:b@gw",
            "",
            "https://",
        ] {
            assert_eq!(origin(wrong).map_err(|failure| failure.code), Err(2), "{wrong}");
        }
    }

    #[test]
    fn a_ca_is_shown_by_the_hash_of_its_der() {
        let pem = include_str!("../../certs/ca.pem");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(fingerprints(pem), [Hash::of(&der).to_string()]);
    }
}
