//! Problem documents (RFC 9457): every way in which the gateway refuses or fails, in one table.
//!
//! A [`Kind`] has a stable name (the last part of its `type` URI, `https://HOST/.countersign/problems/NAME`), a status,
//! a title, a sentence for the person who meets it, and what to do next. Errors of the modules say which problem they
//! are through [`AsProblem`]; [`Problem::document`] turns one into an answer, never with a cause chain.

use std::fmt;

use serde_json::{Map, Value};

use crate::id::RequestId;

macro_rules! kinds {
    ($($variant:ident $name:literal $status:literal $title:literal, $what:literal, $next:literal;)*) => {
        /// Every problem type that the gateway answers with.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $what] $variant,)*
        }

        impl Kind {
            /// All of them, in the order of the reference page.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name: the last part of the `type` URI.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// A short title, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),* }
            }

            /// What happened, in a sentence for the person who meets it.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$variant => $what),* }
            }

            /// What to do next.
            #[must_use]
            pub const fn next(self) -> &'static str {
                match self { $(Self::$variant => $next),* }
            }
        }
    };
}

kinds! {
    Malformed "malformed" 400 "The request is not well formed",
        "The request could be read in more than one way, so it was refused instead of repaired.",
        "Correct what the detail names and send the request again.";
    BadTarget "bad_target" 400 "The address is not in its canonical form",
        "The path or query has a spelling that tools read differently (dot segments, encoded slashes, empty segments, control characters).",
        "Use the plain spelling of the same address.";
    IdentityHeader "identity_header" 400 "The request names an identity",
        "Identity headers are the gateway's word; a client may not send them.",
        "Leave the header out; the gateway tells the tool who you are.";
    TwoCredentials "two_credentials" 400 "The request carries two credentials of one kind",
        "Two session cookies or two Authorization headers came with one request.",
        "Send one of them.";
    NoCredential "no_credential" 401 "Please sign in",
        "This address is private, and the request carried no credential.",
        "Sign in at the gateway, or send `Authorization: Bearer TOKEN` (`countersign login` gets one).";
    WrongCredential "wrong_credential" 401 "The credential was not accepted",
        "The user name, password or token is not right, or no longer valid.",
        "Check the spelling and try again; after a reset, use the new one-time password to choose your own.";
    SecondFactorRequired "second_factor_required" 401 "A code is needed too",
        "The password is right, and the account has a second factor, without which a password opens nothing.",
        "Give the code that your authenticator shows, or a recovery code, beside the password.";
    StepUpRequired "step_up_required" 401 "Show your second factor",
        "This asks for more assurance of who you are than a password alone gives.",
        "Show your second factor in this session (`countersign session step-up`, or the page `/step-up` of the gateway) and try again; who has none adds one first (`countersign factor add`).";
    PasswordChangeRequired "password_change_required" 403 "Choose your own password first",
        "You signed in with a one-time password, with one that is too short without a second factor, or with one that others may know, which opens nothing but the change of the password.",
        "Change the password (`countersign password change`, or the page that the gateway shows), then sign in again.";
    TermsNotAccepted "terms_not_accepted" 403 "Accept the terms of use first",
        "There are terms of use, new or changed, that you have not accepted; before that nothing else is open to you.",
        "Read and accept them: `countersign terms accept`, or the page `/terms` of the gateway.";
    NoTask "no_task" 403 "No task allows this request",
        "The tool is wrapped so that only named tasks reach it, and none of them names this request.",
        "Check method, path and query; if the tool should offer this, ask your VO administrator to add a task.";
    NotAMember "not_a_member" 403 "You are not a member of this virtual organisation",
        "The tool belongs to a virtual organisation that you are not a member of.",
        "Ask its administrator to add you, or use the virtual organisation that you belong to.";
    NoGrant "no_grant" 403 "None of your roles allows this task",
        "You are known here, but none of the roles you hold may do this task.",
        "Ask your VO administrator for one of the roles that may, and name the request id.";
    OutsideCeiling "outside_ceiling" 403 "The virtual organisation may not grant this task",
        "Whoever gave the resource to the virtual organisation has set a ceiling on what it may grant, and this task is outside it.",
        "Ask a system administrator, who sets the ceiling (`countersign vo ceiling show` says what it is).";
    NotOwner "not_owner" 403 "This belongs to somebody else",
        "Your role allows this task on your own things only, and this one is not yours.",
        "Use one of your own, or ask its owner or your VO administrator.";
    ConditionNotMet "condition_not_met" 403 "A condition of your role is not met",
        "Your role allows this task under a condition that does not hold for this request.",
        "Ask your VO administrator, and name the request id.";
    Suspended "suspended" 403 "The account or the virtual organisation is suspended",
        "Nothing is allowed while it is suspended.",
        "Ask the administrator who suspended it.";
    SignInRefused "sign_in_refused" 403 "This sign-in was not accepted",
        "What came back from the home organisation cannot be accepted, or does not open an account here.",
        "Begin again at the sign-in page; if it stays so, tell the administrator the request id.";
    AccountPending "account_pending" 403 "The account is not approved yet",
        "The account was asked for, and nobody has decided about it yet.",
        "Wait for the mail that tells the decision; the administrators of the virtual organisation that you asked have the request.";
    AccountRejected "account_rejected" 403 "The request for the account was refused",
        "The account was asked for, and an administrator decided against it; the mail about that says why.",
        "Ask the administrators of the virtual organisation; they can still approve the request.";
    AccountExpired "account_expired" 403 "The account has expired",
        "The account was open until a date that has passed.",
        "Ask an administrator of your virtual organisation for more time (`countersign user expire`).";
    AccountDeleted "account_deleted" 403 "The account was deleted",
        "The account has ended for good; what was done with it stays on record.",
        "If you need access again, ask the administrators of the virtual organisation for a new account.";
    OutOfScope "out_of_scope" 403 "The access token is not for this",
        "You may do this yourself, but the personal access token that came with the request was not made for it.",
        "Make a token whose scope covers it (`countersign token create`), or sign in (`countersign login`).";
    ForeignOrigin "foreign_origin" 403 "The request came from another site",
        "A page of another origin tried to act with your session, so nothing was done.",
        "Open the page under its own address and try again there.";
    DeniedByResource "denied_by_resource" 403 "The resource itself refused",
        "The gateway allowed the request, but the tool or resource behind it answered 401 or 403.",
        "Ask the provider of the resource, and name the request id.";
    NotFound "not_found" 404 "There is no such thing",
        "What the request names does not exist here.",
        "Check the name; the list command shows what there is.";
    MethodNotAllowed "method_not_allowed" 405 "This method is not served",
        "CONNECT and TRACE are never passed on.",
        "Use an ordinary method.";
    Conflict "conflict" 409 "It already exists or has changed",
        "Something with this name is there already, or it changed while you edited it.",
        "Look at its present state and try again.";
    InProgress "in_progress" 409 "It is under way",
        "The same request, under the same `Idempotency-Key`, has not ended yet.",
        "Wait as long as Retry-After says and send it again: it gets the answer of the first.";
    AlreadyDone "already_done" 409 "It is done already",
        "It was done under the same `Idempotency-Key`; its answer showed a secret, or was lost with the gateway, and is not told again.",
        "Look at what was made; take it back and make it anew, under another key, if its secret is lost.";
    Stale "stale" 412 "It has changed since you read it",
        "The edit named what it changes (`If-Match`), and that is not what there is any more: somebody else was faster.",
        "Read it again, look at what the other change did, and make yours again if it is still right.";
    TooLarge "too_large" 413 "The request is too large",
        "The request is larger than this task or this gateway takes.",
        "Send less at once, or ask your VO administrator to raise the task's limit.";
    UnknownHost "unknown_host" 421 "This host is not served here",
        "The request names a host that is neither the gateway nor one of its tools, or a port under which it is not reached.",
        "Check the address; your VO administrator knows the names of the tools.";
    Invalid "invalid" 422 "The request cannot be carried out as it stands",
        "Something in it has a value that is not accepted, or does not fit what is there.",
        "Correct what the detail (and each of the errors, where it lists some) names, and try again.";
    KeyReused "key_reused" 422 "This key is of another request",
        "An `Idempotency-Key` stands for one request of one person, for a day.",
        "Take a new key for a new request; repeat a request as it was under its own.";
    ReasonRequired "reason_required" 422 "Say why",
        "This edits by hand who may do what, and such an edit stands in the audit log with its reason.",
        "Give the reason (1 to 500 characters): `--reason TEXT` on the command line, or `reason=TEXT` in the query.";
    WeakPassword "weak_password" 422 "Choose a stronger password",
        "The new password is too short, too common, or contains a name that is easy to guess here.",
        "Take a phrase of at least 15 characters that only you would think of.";
    MatchRequired "match_required" 428 "Say what you are changing",
        "Edits here must name what they change, so that nobody overwrites the work of another without seeing it.",
        "Read it first, and send its `ETag` as `If-Match` with the edit; `countersign` does so by itself.";
    TooManyAttempts "too_many_attempts" 429 "Too many attempts",
        "Attempts for this account from here are slowed down for a while; no code of an authenticator is taken after a hundred wrong ones.",
        "Wait as long as Retry-After says, then try again.";
    HeadersTooLarge "headers_too_large" 431 "The request's headers are too large",
        "The head of the request is larger than the gateway takes.",
        "Send fewer or shorter headers.";
    Internal "internal" 500 "The gateway failed",
        "Something went wrong in the gateway itself; the request was not passed on, or its outcome is recorded as failed.",
        "Tell the system administrator the request id.";
    NotImplemented "not_implemented" 501 "Not served yet",
        "A connection is switched to another protocol only for WebSocket over HTTP/1.1, where the task's manifest says `upgrade`.",
        "Use HTTP/1.1 for WebSocket; if the tool should offer it here, ask your VO administrator to add `upgrade` to the task.";
    ToolUnreachable "tool_unreachable" 502 "The tool does not answer",
        "The gateway allowed the request but could not reach the tool; nothing was done.",
        "Try again later; if it stays so, tell your VO administrator the request id.";
    ToolAnswer "tool_answer" 502 "The tool's answer was withheld",
        "The tool answered in a form that the gateway cannot check, so the answer was not passed on.",
        "Tell your VO administrator the request id: the manifest does not fit the tool.";
    LowSpace "low_space" 503 "The gateway has little room left",
        "The disk of the audit log is nearly full, so nothing is brought into tools and no new proxy is made until there is room again.",
        "Looking things up still works; try again later. The administrator of the gateway has been told.";
    LogUnavailable "log_unavailable" 503 "The audit log cannot be written",
        "Nothing is done here without a durable record, and none can be written at the moment; nothing was passed on.",
        "Try again in a moment; the system administrator has been warned.";
    StoreUnavailable "store_unavailable" 503 "The store does not answer",
        "The gateway cannot read its store at the moment; nothing was passed on.",
        "Try again in a moment.";
    StateInDoubt "state_in_doubt" 503 "What may be done here is in doubt",
        "The store holds other roles, grants, members or tools than the audit log says: somebody changed them past the gateway. Until that is settled, only what was in force before goes on, and nothing can be changed here.",
        "Tell a system administrator the request id; `countersign vo state show` says what differs and what can be done.";
    Sealed "sealed" 503 "The gateway is sealed",
        "This tool needs a key that is sealed, and the sealing key is not there.",
        "The system administrator must provide the sealing key; name the request id.";
    ProviderUnavailable "provider_unavailable" 503 "The home organisation does not answer",
        "The identity provider that you sign in with cannot be reached, so nobody can sign in with it at the moment.",
        "Try again later. Whoever has a password here can sign in with that, and who is signed in stays so.";
    DelegationFailed "delegation_failed" 503 "No credential could be made for the tool",
        "What the tool is given authority with is missing, expired or does not fit (the virtual organisation's certificate, or the tool's own credential), so the tool was not called.",
        "Tell your VO administrator the request id; the detail says what is missing.";
    Busy "busy" 503 "The gateway is busy",
        "More requests are under way than the gateway takes at once; nothing was passed on.",
        "Try again in a moment.";
    ToolTimeout "tool_timeout" 504 "The tool took too long",
        "The tool did not begin to answer in time; whether it did anything is not known.",
        "Look at the tool's state before you try again.";
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One occurrence of a problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Its type.
    pub kind: Kind,
    /// What exactly, for this request; a lower-case sentence without a final stop, never a secret.
    pub detail: String,
    /// Seconds until it makes sense to try again (`Retry-After`).
    pub retry_after: Option<u32>,
    /// Further members of the document (e.g. `task`, `would_allow`, `errors`).
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem of this kind with this detail.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            retry_after: None,
            members: Map::new(),
        }
    }

    /// The same, with a further member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// The same, with `Retry-After` in seconds.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same, where something else is to be done next than for others of its kind: a sentence with its full stop.
    #[must_use]
    pub fn instead(self, next: &'static str) -> Self {
        self.with("next", next)
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> &str {
        let instead = self.members.get("next").and_then(Value::as_str);
        instead.unwrap_or_else(|| self.kind.next())
    }

    /// The JSON document (RFC 9457 section 3). `base` is the gateway's own origin, e.g. `https://gw.example.org`.
    #[must_use]
    pub fn document(&self, base: &str, request: RequestId) -> Value {
        let mut document = Map::new();
        document.insert(
            "type".into(),
            format!("{base}/.countersign/problems/{}", self.kind.name()).into(),
        );
        document.insert("title".into(), self.kind.title().into());
        document.insert("status".into(), self.kind.status().into());
        document.insert("detail".into(), self.detail.clone().into());
        document.insert("explanation".into(), self.kind.what().into());
        document.insert("next".into(), self.next().into());
        document.insert("request_id".into(), request.to_string().into());
        for (name, value) in &self.members {
            document.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Value::Object(document)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.title(), self.detail)
    }
}

/// An error that knows which problem it is.
pub trait AsProblem {
    /// The problem to answer with.
    fn as_problem(&self) -> Problem;
}

impl AsProblem for Problem {
    fn as_problem(&self) -> Problem {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_problem_says_what_to_do() {
        let mut seen = std::collections::HashSet::new();
        for kind in Kind::ALL {
            assert!(seen.insert(kind.name()), "{kind} twice");
            assert!((400..600).contains(&kind.status()));
            assert!(kind.next().len() > 10 && kind.what().len() > 10);
        }
    }
}
