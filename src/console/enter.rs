//! The way from the gateway's host, where people sign in, to a tool's own host.

use http::{HeaderMap, Response, StatusCode};

use super::access::origin_of;
use super::{Console, answer, login, pages, parameter};
use crate::authenticate::{COOKIE, NONCE_COOKIE, clear_cookie, nonce, set_cookie};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::{Kind, Problem};
use crate::record::Event;
use crate::tool::Address;

/// Whether the browser says that the navigation began at another site (Fetch Metadata section 2.3). A redirect keeps
/// the site of whoever began: an address that is typed, or is a bookmark, stays `none` all the way.
fn is_led_from_elsewhere(headers: &HeaderMap) -> bool {
    headers.get_all("sec-fetch-site").iter().any(|site| {
        !["none", "same-origin", "same-site"]
            .iter()
            .any(|ours| site == ours)
    })
}

impl Console {
    pub(super) async fn enter(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        match request.permit.place().address {
            Address::ToolHost => self.enter_tool(request).await,
            Address::Gateway => self.leave_for_tool(&request),
            Address::Path => Err(Problem::new(
                Kind::NotFound,
                "a tool is entered under its own host name",
            )),
        }
    }

    /// At the gateway's host: somebody who is signed in gets a code for a tool's host, others sign in first.
    fn leave_for_tool(&self, request: &LocalRequest) -> Result<Response<Body>, Problem> {
        let host = parameter(request, "host").to_ascii_lowercase();
        // SECURITY: a code is only ever sent to the host of a tool that is registered here.
        let tools = self.0.tools.load();
        let Some((_, tool)) = tools.by_host(&host) else {
            return Err(Problem::new(Kind::NotFound, "no tool has this host name"));
        };
        let subject = request.permit.subject();
        let here = request.permit.place().target.as_str();
        match subject.session() {
            None => return Ok(answer::see_other(&login::address(here, ""))),
            Some(session) if session.must_change => {
                return Ok(answer::see_other(&login::password_address(here)));
            }
            Some(_) => {}
        }
        // SECURITY: a page of another site leads nobody into a tool unasked; a link of ours, followed, does.
        if is_led_from_elsewhere(request.request.headers()) {
            return Ok(answer::page(StatusCode::OK, pages::led(&tool.name, &host, here)));
        }
        let (nonce, to) = (parameter(request, "nonce"), parameter(request, "to"));
        let code = self.0.authenticate.enter_code(subject, &host, nonce, to)?;
        let origin = origin_of(&host, &request.base);
        Ok(answer::see_other(&format!(
            "{origin}/.countersign/enter?code={}",
            code.expose()
        )))
    }

    /// At the tool's host: the code and the nonce become a session of this host.
    async fn enter_tool(&self, request: LocalRequest) -> Result<Response<Body>, Problem> {
        let (permit, authenticate) = (&request.permit, &self.0.authenticate);
        let nonce = nonce(request.request.headers())
            .map_err(|error| Problem::new(Kind::TwoCredentials, error.to_string()))?;
        let entered = authenticate.enter_finish(
            (&permit.place().host, permit.subject().source()),
            parameter(&request, "code"),
            nonce.as_ref(),
            request.id,
        )?;
        self.record(vec![Event::Login(entered.login)]).await?;
        let opened = self.begin(entered.prepared).await?;
        let response = answer::see_other(&entered.to);
        let response = answer::with_cookie(response, &set_cookie(COOKIE, &opened.token));
        Ok(answer::with_cookie(response, &clear_cookie(NONCE_COOKIE)))
    }
}
