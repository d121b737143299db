//! The words of the mails.

use std::fmt::Write as _;
use std::time::Duration;

use crate::audit::Space;
use crate::clock::Timestamp;
use crate::id::RequestId;
use crate::record::{Hash, StateForeignChange};
use crate::vo::OWN_TOOL;

/// Most request ids in one mail.
const SHOWN: usize = 20;

/// One episode, in readable words.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) vo: String,
    pub(super) name: String,
    pub(super) username: String,
    pub(super) tool: Option<String>,
    pub(super) task: String,
    pub(super) count: u32,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) requests: Vec<RequestId>,
}

impl Told {
    fn who(&self) -> String {
        if self.name.is_empty() || self.name == self.username {
            self.username.clone()
        } else {
            format!("{} ({})", self.name, self.username)
        }
    }

    fn what(&self) -> String {
        let tool = self.tool.as_deref().unwrap_or("no tool");
        if self.task == crate::problem::Kind::NoTask.name() {
            format!("requests that no task of `{tool}` names")
        } else {
            format!("the task `{}` of `{tool}`", self.task)
        }
    }
}

/// Subject and text of the mail about one episode.
pub(super) fn alert(told: &Told, window: Duration, checkpoint: &str) -> (String, String) {
    let subject = format!(
        "[Countersign] {}: {} refused {} times for {}",
        told.vo, told.username, told.count, told.task
    );
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} was refused {} times {}, for {}.\n",
        told.who(),
        told.count,
        place(&told.vo),
        told.what()
    );
    times(&mut text, told);
    let _ = write!(
        text,
        "\nNothing was blocked: an alert is not a lock-out. Further refusals of this kind send no other mail until \
         there was none for {}.\n\nWhat to do next\n",
        span(window)
    );
    commands(&mut text, told);
    log(&mut text, checkpoint);
    (subject, text)
}

/// Subject and text of the mail about several episodes of one VO.
pub(super) fn digest(told: &[Told], checkpoint: &str) -> (String, String) {
    let vo = told.first().map_or("", |told| told.vo.as_str());
    let subject = format!(
        "[Countersign] {vo}: {} more episodes of refused requests",
        told.len()
    );
    let mut text = format!(
        "So many requests were refused {} that the mails about them are put together.\n",
        place(vo)
    );
    for told in told {
        let _ = writeln!(
            text,
            "\n{} was refused {} times for {}.",
            told.who(),
            told.count,
            told.what()
        );
        times(&mut text, told);
    }
    text.push_str("\nNothing was blocked: an alert is not a lock-out.\n\nWhat to do next\n");
    if let Some(first) = told.first() {
        commands(&mut text, first);
    }
    log(&mut text, checkpoint);
    (subject, text)
}

/// Subject and text of the note to the gateway's administrators about a mail that could not be delivered.
pub(super) fn undelivered(recipient: &str, subject: &str, error: &str, at: Timestamp) -> (String, String) {
    let text = format!(
        "A mail of the gateway could not be delivered and was given up.\n\n\
         To:       {recipient}\nSubject:  {subject}\nGiven up: {at}\nReason:   {error}\n\n\
         What to do next\n  Correct the address of that person (her card), or the settings of the mail server\n  \
         ([alert.smtp] in countersign.toml). The mail itself is kept in the outbox.\n"
    );
    ("[Countersign] a mail could not be delivered".into(), text)
}

/// Subject and text about a receiver of the log that fell behind, or caught up.
pub(super) fn receiver(name: &str, late: bool, at: Timestamp) -> (String, String) {
    let subject = match late {
        true => format!("[Countersign] the syslog receiver `{name}` is behind the audit log"),
        false => format!("[Countersign] the syslog receiver `{name}` has all of the audit log again"),
    };
    let meaning = match late {
        true => {
            "Records reach the log, and requests are served; what this receiver has not got waits in the log and is sent \
             when it can be.\n\nWhat to do next\n  Look whether it runs, takes connections and reads from them. The log of the gateway says\n  \
             what was wrong with the last attempt."
        }
        false => "It has caught up.",
    };
    (subject, format!("{meaning}\n\nSince: {at}\n"))
}

/// A VO certificate that is about to end.
pub(super) struct Ending<'a> {
    pub(super) vo: &'a str,
    pub(super) purpose: &'a str,
    pub(super) subject: &'a str,
    pub(super) sha256: Hash,
    pub(super) end: Timestamp,
    pub(super) days: u32,
}

/// Subject and text about a VO certificate that is about to end.
pub(super) fn ending(told: &Ending<'_>) -> (String, String) {
    let (vo, purpose) = (told.vo, told.purpose);
    let within = match told.days {
        1 => "a day".to_owned(),
        days => format!("{days} days"),
    };
    let subject = format!("[Countersign] {vo}: the certificate for {purpose} ends within {within}");
    let option = match purpose {
        "tools" => String::new(),
        other => format!(" --use {other}"),
    };
    let body = format!(
        "After its end no proxy is minted from it, and until then none outlives it: jobs that run for longer fail.\n\n\
         Virtual organisation: {vo}\n\
         Certificate for:      {purpose}\n\
         Subject:              {}\n\
         SHA-256:              {}\n\
         End:                  {}\n\n\
         What to do next\n  Ask its certification authority for a new one with the same subject, and give it to the gateway. Requests go on\n  \
         meanwhile, and proxies below the present one are still traced:\n    \
         countersign vo certificate import {vo}{option} --certificate NEW.pem --key NEW.key\n",
        told.subject, told.sha256, told.end,
    );
    (subject, body)
}

/// Subject and text of the mail about the room that the audit log has.
pub(super) fn room(space: Space, at: Timestamp, checkpoint: &str) -> (String, String) {
    let (subject, meaning) = match space {
        Space::Ok => (
            "there is room for the audit log again",
            "Everything is served again.",
        ),
        Space::Low => (
            "little room is left for the audit log",
            "What brings data into tools, and new proxies, are refused. Everything else is served.",
        ),
        Space::Stopped => (
            "no request is served: the audit log has no room",
            "Every request is refused, since it could not be recorded.",
        ),
        Space::Reserved => (
            "no request is served: the audit log has only its reserve left",
            "Every request is refused, since it could not be recorded. The reserve takes what the operator of the machine does.",
        ),
    };
    let next = match space {
        Space::Ok => "",
        _ => {
            "What to do next\n  Make room on the disk that holds the folder `log` of the gateway. Nothing in that folder\n  \
             may be changed or deleted. The gateway notices by itself, within seconds.\n\n"
        }
    };
    let checkpoint = match checkpoint {
        "" => "",
        some => &format!("The audit log at this moment:\n\n{some}"),
    };
    let text = format!("{meaning}\n\nSince: {at}\n\n{next}{checkpoint}");
    (format!("[Countersign] {subject}"), text)
}

/// Subject and text of the mail about a state that was changed past the gateway.
pub(super) fn foreign_change(
    level: &str,
    said: &StateForeignChange,
    at: Timestamp,
    checkpoint: &str,
) -> (String, String) {
    let (subject, meaning, next) = match said.effect.as_str() {
        "put_back" => (
            format!("{level}: the store holds again what the audit log says"),
            "It is as it was; everything can be changed again.",
            "",
        ),
        "last_good" => (
            format!("{level}: the authorisation state was changed past the gateway"),
            "What was in force before goes on, and nothing of what was changed has come into force. Nothing can be changed \
             there until this is settled.",
            FOREIGN,
        ),
        _ => (
            format!("{level}: the authorisation state was changed past the gateway"),
            "The gateway did not run when it was changed, so nothing is allowed there until this is settled.",
            FOREIGN,
        ),
    };
    let mut text = format!("{meaning}\n\nSeen: {at}\n");
    if said.count > 0 {
        let _ = write!(text, "\nWhat differs ({}):\n", said.count);
    }
    for line in said.difference.iter().take(SHOWN) {
        let _ = writeln!(text, "  {line}");
    }
    let _ = write!(text, "\n{next}");
    log(&mut text, checkpoint);
    (format!("[Countersign] {subject}"), text)
}

/// What to do about a foreign change.
const FOREIGN: &str = "What to do next\n  Find out who wrote into the database. Put the rows back, or, if what stands there is meant:\n  \
    countersign vo state show\n  countersign vo state accept LEVEL --reason WHY\n";

fn times(text: &mut String, told: &Told) {
    let _ = writeln!(
        text,
        "First refusal: {}\nLast refusal:  {}\nRequests:",
        told.first, told.last
    );
    for request in told.requests.iter().take(SHOWN) {
        let _ = writeln!(text, "  {request}");
    }
    if let Some(more) = told.requests.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more");
    }
}

/// Where it was: in a VO, or in none.
fn place(vo: &str) -> String {
    if vo == OWN_TOOL {
        "at the gateway's own level".into()
    } else {
        format!("in the virtual organisation `{vo}`")
    }
}

fn commands(text: &mut String, told: &Told) {
    let request = told.requests.first().map(ToString::to_string).unwrap_or_default();
    let _ = writeln!(
        text,
        "  Why was it refused?         countersign explain {request}"
    );
    if told.vo == OWN_TOOL {
        return;
    }
    let _ = writeln!(
        text,
        "  Let this person do it:      countersign role assign {vo} ROLE {who}\n  \
         Everything she did:         countersign audit search --vo {vo} --person {who}\n  \
         Stop the account:           countersign user suspend {vo} {who}",
        vo = told.vo,
        who = told.username
    );
}

fn log(text: &mut String, checkpoint: &str) {
    if checkpoint.is_empty() {
        text.push_str("\nThe audit log has no checkpoint yet.\n");
        return;
    }
    text.push_str("\nThe audit log's checkpoint when this mail was written (keep it: it proves that nothing is taken away later):\n\n");
    for line in checkpoint.lines() {
        let _ = writeln!(text, "  {line}");
    }
}

fn span(window: Duration) -> String {
    let seconds = window.as_secs();
    match (seconds / 3_600, seconds % 3_600 / 60, seconds % 60) {
        (1, 0, 0) => "1 hour".into(),
        (hours, 0, 0) if hours > 0 => format!("{hours} hours"),
        (0, minutes, 0) => format!("{minutes} minutes"),
        _ => format!("{seconds} seconds"),
    }
}
