//! "My access": the tools of whoever is signed in, what she may do there, and how.

use askama::Template;
use http::{Response, StatusCode};

use super::access::Access;
use super::frame::{Page, Shell};
use super::pages::{Said, text};
use super::trace::Place;
use super::{Console, answer, nobody, note, parameter, shown_moment};
use crate::body::Body;
use crate::forward::LocalRequest;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "home.html")]
struct HomeBody<'a> {
    said: &'a Said,
    access: &'a Access,
    traces: &'a [Place],
    until: String,
    base: &'a str,
}

impl Console {
    pub(super) fn home(&self, request: &LocalRequest) -> Result<Response<Body>, Problem> {
        let access = self.access(request).ok_or_else(nobody)?;
        let said = note(parameter(request, "note"));
        let shell = self.shell_of(&request.permit, None).at("/");
        let page = home(&shell, &said, &access, &self.traces(request), &request.base);
        Ok(answer::page(StatusCode::OK, page))
    }
}

fn home(shell: &Shell, said: &Said, access: &Access, traces: &[Place], base: &str) -> String {
    let body = text(&HomeBody {
        said,
        access,
        traces,
        until: shown_moment(&access.session.expires),
        base,
    });
    Page {
        shell: Some(shell),
        ..Page::new("My access", "", &body)
    }
    .show()
}
