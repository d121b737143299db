//! What a client asks a server.

use std::fmt;
use std::time::Duration;

use super::{LINE_MAX, Unfit, VERSION, line, lines, only};
use crate::secret::Secret;

/// What a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A proxy, delegated to the client.
    Get,
    /// To delegate a proxy to the server.
    Put,
    /// To know what is kept under a name.
    Info,
    /// To have that removed.
    Destroy,
    /// Another pass phrase.
    ChangePassphrase,
    /// To store a key and certificate.
    Store,
    /// Them back.
    Retrieve,
    /// The authorities that the server trusts.
    TrustRoots,
}

impl Command {
    const ALL: [Self; 8] = [
        Self::Get,
        Self::Put,
        Self::Info,
        Self::Destroy,
        Self::ChangePassphrase,
        Self::Store,
        Self::Retrieve,
        Self::TrustRoots,
    ];

    /// Its number in the protocol.
    #[must_use]
    pub fn number(self) -> usize {
        Self::ALL
            .iter()
            .position(|command| *command == self)
            .unwrap_or_default()
    }

    fn numbered(digits: &str) -> Option<Self> {
        let number = digits.parse::<usize>().ok()?;
        // `01` and `+1` are not how anybody writes it.
        (number.to_string() == digits)
            .then(|| Self::ALL.get(number).copied())
            .flatten()
    }
}

/// A request.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// What is wanted.
    pub command: Command,
    /// User name.
    pub username: String,
    /// Pass phrase; empty where none is given.
    pub passphrase: Secret<String>,
    /// How long a proxy is to live; zero for as long as the server likes.
    pub lifetime: Duration,
    /// Name of one of several credentials of the user.
    pub credential: Option<String>,
    /// Whether the answer is to bring the authorities that the server trusts.
    pub trust_roots: bool,
    /// Whether attributes of an attribute authority (VOMS) are asked for.
    pub attributes: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?}, {})", self.command, self.username)
    }
}

impl Request {
    /// A request for `command` with what it needs.
    #[must_use]
    pub fn new(command: Command, username: &str, passphrase: Secret<String>, lifetime: Duration) -> Self {
        Self {
            command,
            username: username.to_owned(),
            passphrase,
            lifetime,
            credential: None,
            trust_roots: false,
            attributes: false,
        }
    }

    /// Reads a message (without its NUL). Keys that are not known are left aside.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn read(message: &[u8]) -> Result<Self, Unfit> {
        let lines = lines(message)?;
        let command = only(&lines, "COMMAND")?.and_then(Command::numbered);
        let command = command.ok_or(Unfit::Value("COMMAND"))?;
        let username = only(&lines, "USERNAME")?.unwrap_or_default();
        // Authorities are everybody's; a client sends no name for them.
        let nobody = username.is_empty() && command != Command::TrustRoots;
        if nobody || username.len() > 256 || username.chars().any(char::is_control) {
            return Err(Unfit::Value("USERNAME"));
        }
        let lifetime = match only(&lines, "LIFETIME")?.unwrap_or("0") {
            digits if digits.len() <= 10 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| Unfit::Value("LIFETIME"))?
            }
            _ => return Err(Unfit::Value("LIFETIME")),
        };
        let passphrase = only(&lines, "PASSPHRASE")?.unwrap_or_default();
        Ok(Self {
            command,
            username: username.to_owned(),
            passphrase: Secret::new(passphrase.to_owned()),
            lifetime: Duration::from_secs(lifetime),
            credential: only(&lines, "CRED_NAME")?.map(str::to_owned),
            trust_roots: only(&lines, "TRUSTED_CERTS")?.is_some_and(|value| value == "1"),
            attributes: lines.iter().any(|(key, _)| matches!(*key, "VONAME" | "VOMSES")),
        })
    }

    /// The message, with its NUL.
    #[must_use]
    pub fn write(&self) -> Secret<String> {
        // At its full length from the start, so that growing leaves no copy of the pass phrase behind.
        let mut message = String::with_capacity(2 * LINE_MAX);
        line(&mut message, "VERSION", VERSION);
        line(&mut message, "COMMAND", &self.command.number().to_string());
        line(&mut message, "USERNAME", &self.username);
        line(&mut message, "PASSPHRASE", self.passphrase.expose());
        line(&mut message, "LIFETIME", &self.lifetime.as_secs().to_string());
        if let Some(name) = &self.credential {
            line(&mut message, "CRED_NAME", name);
        }
        if self.trust_roots {
            line(&mut message, "TRUSTED_CERTS", "1");
        }
        message.push('\0');
        Secret::new(message)
    }
}
