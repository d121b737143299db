//! How a mail leaves: to a mail server, or into a folder.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::AlertError;
use super::config::{Config, Security, Smtp, Transport};
use crate::clock::Timestamp;
use crate::id::MessageId;
use crate::secret;

/// A mail for one recipient.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) id: MessageId,
    pub(super) to: String,
    pub(super) subject: String,
    pub(super) body: String,
    pub(super) at: Timestamp,
}

/// Why a mail did not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unsent {
    /// It may leave later.
    Later(String),
    /// It never will: the server refused this mail or this recipient for good.
    Never(String),
}

/// The way out.
pub(super) struct Mailer {
    from: Mailbox,
    way: Way,
}

enum Way {
    Folder(PathBuf),
    Server {
        /// Host and port.
        name: String,
        server: Box<AsyncSmtpTransport<Tokio1Executor>>,
    },
}

impl Mailer {
    /// Reads what the settings name: password, authorities, sender.
    pub(super) fn new(config: &Config, data: &Path) -> Result<Self, AlertError> {
        let from = config
            .from
            .parse()
            .map_err(|_| AlertError::Sender(config.from.clone()))?;
        let way = match &config.transport {
            Transport::File { folder } => Way::Folder(data.join(folder)),
            Transport::Smtp(smtp) => Way::Server {
                name: format!("{}:{}", smtp.host, smtp.port),
                server: Box::new(server(smtp, data)?),
            },
        };
        Ok(Self { from, way })
    }

    /// The folder to which mails go, where they go to one.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.way {
            Way::Folder(folder) => Some(folder),
            Way::Server { .. } => None,
        }
    }

    pub(super) async fn send(&self, mail: &Outgoing) -> Result<(), Unsent> {
        let message = self.message(mail)?;
        match &self.way {
            Way::Folder(folder) => {
                let file = folder.join(format!("{}-{}.eml", mail.at.micros(), mail.id));
                let bytes = message.formatted();
                let kept = tokio::task::spawn_blocking(move || keep(&file, &bytes)).await;
                match kept {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(error)) => Err(Unsent::Later(format!(
                        "the outbox folder cannot be written: {error}"
                    ))),
                    Err(_) => Err(Unsent::Later("the outbox folder cannot be written".into())),
                }
            }
            Way::Server { server, .. } => match server.send(message).await {
                Ok(_) => Ok(()),
                Err(error) => Err(verdict(&error)),
            },
        }
    }

    /// Connects to the mail server and signs in; `None` where mails go to a folder.
    pub(super) async fn probe(&self) -> Result<Option<String>, String> {
        let Way::Server { name, server } = &self.way else {
            return Ok(None);
        };
        match server.test_connection().await {
            Ok(true) => Ok(Some(name.clone())),
            Ok(false) => Err(format!("{name} takes no mails")),
            Err(error) => match verdict(&error) {
                Unsent::Later(why) | Unsent::Never(why) => Err(format!("{name}: {why}")),
            },
        }
    }

    /// The message. Its id is the delivery's, the same at every attempt, so that a receiver knows it again.
    fn message(&self, mail: &Outgoing) -> Result<Message, Unsent> {
        let never = |what: &str| Unsent::Never(format!("the mail cannot be made: {what}"));
        let to: Mailbox = mail
            .to
            .parse()
            .map_err(|_| never("the recipient's address is not one"))?;
        let domain = self.from.email.domain();
        let date = UNIX_EPOCH + Duration::from_micros(u64::try_from(mail.at.micros()).unwrap_or(0));
        Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(mail.subject.clone())
            .date(date)
            .message_id(Some(format!("<{}@{domain}>", mail.id)))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.body.clone())
            .map_err(|error| never(&error.to_string()))
    }
}

/// Writes a file whole or not at all, for its owner's eyes only.
fn keep(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let part = file.with_extension("part");
    let mut out = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(part, file)
}

/// A refusal that begins with 5 is for good (RFC 5321 section 4.2.1), except those that speak of us and not of the mail:
/// 530, 534, 535 and 538 (RFC 4954 section 6) go away when the settings are put right.
fn verdict(error: &lettre::transport::smtp::Error) -> Unsent {
    let code = error.status().map(u16::from);
    let text: String = match code {
        Some(code) => format!("the mail server answered {code}: {}", last_cause(error)),
        None => format!("the mail server cannot be used: {}", last_cause(error)),
    };
    let text = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if error.is_permanent() && !matches!(code, Some(530 | 534 | 535 | 538)) {
        Unsent::Never(text)
    } else {
        Unsent::Later(text)
    }
}

fn last_cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn server(smtp: &Smtp, data: &Path) -> Result<AsyncSmtpTransport<Tokio1Executor>, AlertError> {
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&smtp.host)
        .port(smtp.port)
        .timeout(Some(smtp.timeout))
        .tls(match smtp.security {
            // SECURITY: required, so that nobody on the way can take STARTTLS out of the server's answer.
            Security::StartTls => Tls::Required(tls(smtp, data)?),
            Security::Tls => Tls::Wrapper(tls(smtp, data)?),
            Security::None => Tls::None,
        });
    if let (Some(username), Some(file)) = (&smtp.username, &smtp.password_file) {
        let file = data.join(file);
        let password = secret::read_text(&file).map_err(|error| unreadable(&file, &error))?;
        builder = builder.credentials(Credentials::new(username.clone(), password.expose().clone()));
    }
    Ok(builder.build())
}

fn tls(smtp: &Smtp, data: &Path) -> Result<TlsParameters, AlertError> {
    let bad = |error: lettre::transport::smtp::Error| AlertError::Tls(last_cause(&error));
    let mut builder = TlsParameters::builder(smtp.host.clone());
    if let Some(file) = &smtp.ca_file {
        let file = data.join(file);
        let pem = fs::read(&file).map_err(|error| unreadable(&file, &error))?;
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(Certificate::from_pem(&pem).map_err(bad)?);
    }
    builder.build_rustls().map_err(bad)
}

fn unreadable(file: &Path, error: &std::io::Error) -> AlertError {
    AlertError::Unreadable {
        file: file.display().to_string(),
        error: error.to_string(),
    }
}
