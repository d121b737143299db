//! Calls an operation of the API by the name of its task; method and path come from the API itself.

use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Client;
use super::failure::Failure;
use super::input::Reason;
use crate::api;
use crate::api::user::find::{UserFind, UserFound};

/// Most pages of a list that are read: an answer that never ends must not keep a command going.
const PAGES: usize = 10_000;

/// A call that is being put together.
pub(crate) struct Operation<'a> {
    client: &'a Client,
    task: &'static str,
    parameters: Vec<(&'static str, String)>,
    query: Vec<(&'static str, String)>,
    if_match: Option<String>,
}

/// A page of a list: items under the list's own name, and where to go on.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    next: Option<Value>,
    #[serde(flatten)]
    members: serde_json::Map<String, Value>,
}

impl Client {
    /// The operation with this task name.
    pub(crate) const fn task(&self, task: &'static str) -> Operation<'_> {
        Operation {
            client: self,
            task,
            parameters: Vec::new(),
            query: Vec::new(),
            if_match: None,
        }
    }

    /// Id of the member of `vo` with this user name: people stand in paths by their ids.
    pub(crate) async fn person(&self, vo: &str, username: &str) -> Result<String, Failure> {
        let asked = UserFind {
            username: username.to_owned(),
        };
        let found: UserFound = self.task("user.find").at("vo", vo).send(&asked).await?;
        Ok(found.id)
    }
}

impl Operation<'_> {
    /// Fills a variable of the path.
    pub(crate) fn at(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    /// Adds a parameter to the query.
    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Adds a parameter to the query, where there is one.
    pub(crate) fn maybe(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// Says why.
    pub(crate) fn because(self, reason: &Reason) -> Self {
        self.maybe(crate::tool::REASON, reason.reason.as_deref())
    }

    /// Says what was read of what it edits ([`Operation::tagged`]).
    pub(crate) fn matching(mut self, tag: Option<String>) -> Self {
        self.if_match = tag;
        self
    }

    /// Reads something, with the tag of what can be edited of it.
    pub(crate) async fn tagged<T: DeserializeOwned>(self) -> Result<(T, Option<String>), Failure> {
        let (method, path) = self.address()?;
        self.client.exchange(method, &path, None::<&()>, None).await
    }

    /// Calls it without a body.
    pub(crate) async fn fetch<T: DeserializeOwned>(self) -> Result<T, Failure> {
        let (method, path) = self.address()?;
        let tag = self.if_match.as_deref();
        let answer = self.client.exchange(method, &path, None::<&()>, tag).await;
        answer.map(|(answer, _)| answer)
    }

    /// The same, for one that reads; with the id of the request.
    pub(crate) async fn look<T: DeserializeOwned>(self) -> Result<(T, String), Failure> {
        let (_, path) = self.address()?;
        self.client.look(&path).await
    }

    /// Calls it without a body, for an operation that answers nothing.
    pub(crate) async fn act(self) -> Result<(), Failure> {
        self.fetch::<Value>().await.map(|_| ())
    }

    /// Calls it with a body.
    pub(crate) async fn send<B: Serialize, T: DeserializeOwned>(self, body: &B) -> Result<T, Failure> {
        let (method, path) = self.address()?;
        let tag = self.if_match.as_deref();
        let answer = self.client.exchange(method, &path, Some(body), tag).await;
        answer.map(|(answer, _)| answer)
    }

    /// Reads a list whole, page by page; `name` is the member of the answer that holds the items.
    pub(crate) async fn list<T: DeserializeOwned>(self, name: &str) -> Result<Vec<T>, Failure> {
        let (method, path) = self.address()?;
        let mut items = Vec::new();
        let mut at = path.clone();
        for _ in 0..PAGES {
            let mut page: Page = self.client.call(method.clone(), &at, None::<&()>).await?;
            let part = page.members.remove(name).unwrap_or(Value::Null);
            let part: Vec<T> = serde_json::from_value(part)
                .map_err(|error| Failure::failed(format!("the gateway's answer cannot be read: {error}")))?;
            items.extend(part);
            let Some(next) = page.next.as_ref().and_then(Value::as_str) else {
                return Ok(items);
            };
            let sign = if path.contains('?') { '&' } else { '?' };
            at = format!("{path}{sign}after={}", api::encoded(next));
        }
        Err(Failure::failed("the gateway's list does not end"))
    }

    fn address(&self) -> Result<(Method, String), Failure> {
        let parameters: Vec<(&str, &str)> = self
            .parameters
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let (method, mut path) = api::address(self.task, &parameters)
            .ok_or_else(|| Failure::failed(format!("this program has no operation `{}`", self.task)))?;
        for (at, (name, value)) in self.query.iter().enumerate() {
            let sign = if at == 0 { '?' } else { '&' };
            path.push_str(&format!("{sign}{name}={}", api::encoded(value)));
        }
        Ok((method, path))
    }
}
