//! What a server answers.

use super::{Unfit, VERSION, line, lines, only};

/// Whether a server does what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It does.
    Fine,
    /// It does not, in its own words.
    Refused(String),
    /// It wants another proof of who asks, which nobody here gives.
    MoreWanted,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Whether it does.
    pub reply: Reply,
    /// What else it says, in order.
    pub more: Vec<(String, String)>,
}

impl Response {
    /// It is done.
    #[must_use]
    pub const fn fine() -> Self {
        Self {
            reply: Reply::Fine,
            more: Vec::new(),
        }
    }

    /// It is not done, for this reason.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self {
            reply: Reply::Refused(reason.into()),
            more: Vec::new(),
        }
    }

    /// The same, which also says this.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.more.push((key.into(), value.into()));
        self
    }

    /// Reads a message (without its NUL).
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn read(message: &[u8]) -> Result<Self, Unfit> {
        let lines = lines(message)?;
        let reply = match only(&lines, "RESPONSE")? {
            Some("0") => Reply::Fine,
            Some("1") => {
                let errors = lines.iter().filter(|(key, _)| *key == "ERROR");
                let errors: Vec<String> = errors.map(|(_, text)| harmless(text)).collect();
                Reply::Refused(errors.join("; "))
            }
            Some("2") => Reply::MoreWanted,
            _ => return Err(Unfit::Value("RESPONSE")),
        };
        let more = lines
            .into_iter()
            .filter(|(key, _)| !matches!(*key, "RESPONSE" | "ERROR"));
        Ok(Self {
            reply,
            more: more
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    /// The message, with its NUL.
    #[must_use]
    pub fn write(&self) -> String {
        let mut message = String::new();
        line(&mut message, "VERSION", VERSION);
        let number = match &self.reply {
            Reply::Fine => "0",
            Reply::Refused(_) => "1",
            Reply::MoreWanted => "2",
        };
        line(&mut message, "RESPONSE", number);
        if let Reply::Refused(reason) = &self.reply {
            reason.lines().for_each(|text| line(&mut message, "ERROR", text));
        }
        for (key, value) in &self.more {
            line(&mut message, key, value);
        }
        message.push('\0');
        message
    }
}

/// What a stranger's words become before they are shown or recorded.
fn harmless(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(200)
        .collect()
}
