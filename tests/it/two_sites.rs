//! The two-site attack: a tool's page under its own host cannot act on the console, the API or another tool with the
//! visitor's session, and the path form takes no cookie.

use std::fs;
use std::path::PathBuf;

use crate::python::{PythonTool, wrap};
use crate::world::{Answer, PASSWORD, World};

const NAVIGATE: &str = "Sec-Fetch-Mode: navigate";

/// A visitor's browser: curl with a cookie jar.
struct Browser<'a> {
    world: &'a World,
    jar: PathBuf,
}

impl<'a> Browser<'a> {
    fn new(world: &'a World, name: &str) -> Self {
        let jar = world.dir.path().join(format!("{name}.jar"));
        Self { world, jar }
    }

    /// A request with the cookies that the jar has for this host; what the answer sets goes into the jar.
    fn ask(&self, url: &str, more: &[&str]) -> Answer {
        let jar = self.jar.to_str().unwrap();
        self.world.curl(&[&["-b", jar, "-c", jar], more, &[url]].concat())
    }

    /// Opens an address as a person does, up to the page: gives the answers on the way, the page last.
    fn open(&self, url: &str) -> Vec<Answer> {
        let mut answers = vec![self.ask(url, &["-H", NAVIGATE])];
        while let Some(next) = answers.last().and_then(location) {
            assert!(answers.len() < 6, "redirects without end: {next}");
            let next = if next.starts_with('/') {
                origin_of(url_of(&answers, url)) + &next
            } else {
                next
            };
            let answer = self.ask(&next, &["-H", NAVIGATE]);
            answers.push(with_url(answer, &next));
        }
        answers
    }

    fn sign_in(&self, user: &str) {
        let base = self.world.base();
        let origin = format!("Origin: {base}");
        let (user, password) = (format!("username={user}"), format!("password={PASSWORD}"));
        let form = [
            "-H",
            &origin,
            "--data-urlencode",
            &user,
            "--data-urlencode",
            &password,
        ];
        let answer = self.ask(&format!("{base}/login"), &form).expect(303);
        assert_eq!(answer.header("location"), Some("/"));
        let cookie = answer.header("set-cookie").unwrap().to_owned();
        assert!(cookie.starts_with("__Host-"), "{cookie}");
        for part in ["Secure", "HttpOnly", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.to_ascii_lowercase().contains("domain="), "{cookie}");
    }

    /// The session cookie that the jar holds for a host, as `name=value`.
    fn session(&self, host: &str) -> String {
        let text = fs::read_to_string(&self.jar).unwrap();
        let found = text.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let of = fields.first()?.trim_start_matches("#HttpOnly_");
            (of == host && !fields.get(5)?.contains("enter")).then(|| format!("{}={}", fields[5], fields[6]))
        });
        let found: Vec<String> = found.filter(|cookie| !cookie.contains("nonce")).collect();
        assert_eq!(found.len(), 1, "{text}");
        found[0].clone()
    }
}

fn location(answer: &Answer) -> Option<String> {
    (300..400)
        .contains(&answer.status)
        .then(|| answer.header("location").unwrap().to_owned())
}

/// Where an answer of [`Browser::open`] came from.
fn url_of<'a>(answers: &'a [Answer], first: &'a str) -> &'a str {
    answers
        .last()
        .and_then(|answer| answer.header("x-test-url"))
        .unwrap_or(first)
}

fn with_url(mut answer: Answer, url: &str) -> Answer {
    answer.headers.push(("x-test-url".into(), url.to_owned()));
    answer
}

fn origin_of(url: &str) -> String {
    let path = url["https://".len()..].find('/').unwrap() + "https://".len();
    url[..path].to_owned()
}

/// Two wrapped tools, alpha and beta, which John may use.
fn site() -> (World, PythonTool) {
    let world = World::start();
    world.admin().person("john", &["scientist"]);
    let tool = PythonTool::start(world.dir.path());
    wrap(&world, "alpha", &tool.url(), "none");
    wrap(&world, "beta", &tool.url(), "none");
    (world, tool)
}

fn host_of(world: &World, tool: &str) -> String {
    format!("https://{tool}.gw.localhost:{}", world.port())
}

fn cookie(of: &str) -> String {
    format!("Cookie: {of}")
}

#[test]
fn a11_one_sign_in_opens_two_tools_without_a_second_prompt() {
    let (world, tool) = site();
    let john = Browser::new(&world, "john");
    john.sign_in("john");
    for name in ["alpha", "beta"] {
        let pages = john.open(&format!("{}/look", host_of(&world, name)));
        let last = pages.last().unwrap();
        assert_eq!(last.status, 200, "{name}: {}", last.text());
        let asked = |page: &Answer| page.text().contains("type=\"password\"");
        assert!(!pages.iter().any(asked), "{name} asks for a password");
    }
    assert_eq!(tool.seen().len(), 2);
    // One that was never asked is.
    let stranger = Browser::new(&world, "stranger");
    let pages = stranger.open(&format!("{}/look", host_of(&world, "alpha")));
    assert!(pages.last().unwrap().text().contains("type=\"password\""));
}

#[test]
fn a12_the_session_cookie_has_no_end_of_its_own_and_is_worth_nothing_after_logout() {
    let (world, tool) = site();
    let (base, alpha) = (world.base(), host_of(&world, "alpha"));
    let john = Browser::new(&world, "john");
    // The browser forgets it when it is closed: neither of the two attributes that would keep it.
    let origin = format!("Origin: {base}");
    let password = format!("password={PASSWORD}");
    let form = [
        "-H",
        &origin,
        "--data",
        "username=john",
        "--data-urlencode",
        &password,
    ];
    let answer = john.ask(&format!("{base}/login"), &form).expect(303);
    let set = answer.header("set-cookie").unwrap().to_ascii_lowercase();
    assert!(set.starts_with("__host-"), "{set}");
    assert!(!set.contains("max-age") && !set.contains("expires"), "{set}");
    let pages = john.open(&format!("{alpha}/look"));
    assert_eq!(pages.last().unwrap().status, 200);
    let set: Vec<String> = pages
        .iter()
        .flat_map(|page| &page.headers)
        .filter(|(name, value)| name == "set-cookie" && value.starts_with("__Host-"))
        .map(|(_, value)| value.to_ascii_lowercase())
        .collect();
    let kept = |cookie: &&String| cookie.contains("max-age") && !cookie.contains("max-age=0");
    // What lives for the minute of a sign-in at a tool's host may say so; the session's cookie may not.
    let session = cookie(&john.session("alpha.gw.localhost"));
    let name = session
        .trim_start_matches("Cookie: ")
        .split('=')
        .next()
        .unwrap()
        .to_ascii_lowercase();
    for cookie in set.iter().filter(|cookie| cookie.starts_with(&name)) {
        assert!(!kept(&cookie) && !cookie.contains("expires"), "{cookie}");
    }

    let (parent, child) = (cookie(&john.session("gw.localhost")), session);
    let me = format!("{base}/.countersign/me");
    world.curl(&["-H", &parent, &me]).expect(200);
    world.curl(&["-H", &child, &format!("{alpha}/look")]).expect(200);
    let seen = tool.seen().len();
    let answer = world.curl(&[
        "-X",
        "POST",
        "-H",
        &parent,
        "-H",
        &origin,
        "--data",
        "",
        &format!("{base}/.countersign/logout"),
    ]);
    assert!((200..400).contains(&answer.status), "{}", answer.text());
    world.curl(&["-H", &parent, &me]).expect(401);
    world.curl(&["-H", &child, &format!("{alpha}/look")]).expect(401);
    assert_eq!(tool.seen().len(), seen);
}

#[test]
fn a_child_session_is_good_on_its_own_host_and_nowhere_else() {
    let (world, tool) = site();
    let (base, alpha, beta) = (world.base(), host_of(&world, "alpha"), host_of(&world, "beta"));
    let john = Browser::new(&world, "john");
    john.sign_in("john");
    let pages = john.open(&format!("{alpha}/look"));
    assert_eq!(
        pages.last().unwrap().status,
        200,
        "{}",
        pages.last().unwrap().text()
    );
    assert_eq!(
        pages.len(),
        4,
        "the tool's host, the gateway, the tool's host with the code, the page"
    );
    let (parent, child) = (
        cookie(&john.session("gw.localhost")),
        cookie(&john.session("alpha.gw.localhost")),
    );
    assert_ne!(parent, child);
    john.ask(&format!("{base}/.countersign/me"), &[]).expect(200);
    let seen = tool.seen().len();

    // The child's cookie elsewhere: API, console, another tool, the path form.
    for url in ["/api/v1/sessions", "/.countersign/me", "/api/v1/vos/imense/users"] {
        let answer = world.curl(&["-H", &child, &format!("{base}{url}")]).expect(401);
        assert_eq!(answer.problem(), "wrong_credential", "{url}");
    }
    world
        .curl(&["-H", &child, "-H", NAVIGATE, &format!("{base}/")])
        .expect(303);
    world.curl(&["-H", &child, &format!("{beta}/look")]).expect(401);
    // The gateway's cookie at a tool's host.
    for host in [&alpha, &beta] {
        let answer = world.curl(&["-H", &parent, &format!("{host}/look")]).expect(401);
        assert_eq!(answer.problem(), "wrong_credential");
    }
    // The path form does not even look at cookies; a bearer token's value is no cookie, and a cookie's no token.
    for cookie in [&parent, &child] {
        let answer = world
            .curl(&["-H", cookie, &format!("{base}/imense/alpha/look")])
            .expect(401);
        assert_eq!(answer.problem(), "no_credential");
    }
    for value in [&parent, &child] {
        let bearer = format!("Authorization: Bearer {}", value.split_once('=').unwrap().1);
        for url in [
            format!("{base}/.countersign/me"),
            format!("{alpha}/look"),
            format!("{base}/imense/alpha/look"),
        ] {
            world.curl(&["-H", &bearer, &url]).expect(401);
        }
    }
    // Both cookies at once are not for the gateway to choose from.
    let both = format!("{child}; {}", parent.trim_start_matches("Cookie: "));
    assert_eq!(
        world
            .curl(&["-H", &both, &format!("{alpha}/look")])
            .expect(400)
            .problem(),
        "two_credentials"
    );
    assert_eq!(tool.seen().len(), seen, "a refused request reached the tool");
    // On its own host it is good, and the tool sees its own cookies only.
    let own = format!("{child}; theme=dark");
    world.curl(&["-H", &own, &format!("{alpha}/look")]).expect(200);
    let last = tool.seen().pop().unwrap().to_string();
    assert!(last.contains("theme=dark"), "{last}");
    assert!(
        !last.contains("__Host-") && !last.contains(child.split_once('=').unwrap().1),
        "{last}"
    );
}

#[test]
fn a_page_of_another_site_cannot_act_with_the_visitors_session() {
    let (world, tool) = site();
    let (base, alpha, beta) = (world.base(), host_of(&world, "alpha"), host_of(&world, "beta"));
    // The administrator may do most; she is a scientist too, so that the tool is hers to use.
    world
        .cli("admin", &["role", "assign", "imense", "scientist", "admin"])
        .ok();
    let anna = Browser::new(&world, "admin");
    anna.sign_in("admin");
    for host in [&alpha, &beta] {
        assert_eq!(anna.open(&format!("{host}/look")).last().unwrap().status, 200);
    }
    let parent = cookie(&anna.session("gw.localhost"));
    let child = cookie(&anna.session("beta.gw.localhost"));
    let seen = tool.seen().len();
    let (roles, edit) = (format!("{base}/api/v1/vos/imense/roles"), "?reason=a%20test");
    let logout = format!("{base}/.countersign/logout");
    let (act, tool_logout) = (format!("{beta}/act"), format!("{beta}/.countersign/logout"));
    let before = world.cli_json("admin", &["role", "list", "imense"]);
    let json = [
        "-H",
        "Content-Type: application/json",
        "--data",
        "{\"name\":\"stolen\"}",
    ];
    for (cookie, url, body, own) in [
        (&parent, &roles, &json[..], &base),
        (&parent, &logout, &["--data", ""][..], &base),
        (&child, &act, &["--data", "x"][..], &beta),
        (&child, &tool_logout, &["--data", ""][..], &beta),
    ] {
        let sibling = format!("Origin: {alpha}");
        let port = format!("Origin: {}", own.rsplit_once(':').unwrap().0);
        let plain = format!("Origin: {}", own.replace("https", "http"));
        let own = format!("Origin: {own}");
        for says in [
            &["-H", sibling.as_str()][..],
            &["-H", "Origin: https://evil.example"],
            &["-H", "Origin: null"],
            &["-H", port.as_str()],
            &["-H", plain.as_str()],
            &["-H", "Sec-Fetch-Site: same-site"],
            &["-H", "Sec-Fetch-Site: cross-site"],
            &["-H", "Sec-Fetch-Site: none"],
            &["-H", own.as_str(), "-H", "Sec-Fetch-Site: same-site"],
            &["-H", "Sec-Fetch-Site: same-origin", "-H", sibling.as_str()],
            &[],
        ] {
            let args = [&["-X", "POST", "-H", cookie], says, body, &[url.as_str()]].concat();
            let answer = world.curl(&args);
            assert_eq!(answer.status, 403, "{says:?} {url}: {}", answer.text());
            assert_eq!(answer.problem(), "foreign_origin", "{says:?} {url}");
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    assert_eq!(world.cli_json("admin", &["role", "list", "imense"]), before);
    assert_eq!(tool.seen().len(), seen);
    // It is on record whose session was used, and it is nobody's denial that alerts anybody.
    let records = world.records();
    let refused: Vec<_> = records
        .iter()
        .map(|record| &record["event"]["refused"])
        .filter(|event| event["problem"] == "foreign_origin")
        .collect();
    assert_eq!(refused.len(), 44);
    assert!(
        refused.iter().all(|event| event["subject"]["person"].is_string()),
        "{refused:?}"
    );
    assert!(
        records
            .iter()
            .all(|record| record["event"].get("alert").is_none())
    );
    // What another page may ask for with a link, it may not read.
    let sibling = format!("Origin: {alpha}");
    let read = world.curl(&["-H", &parent, "-H", &sibling, &roles]);
    assert_eq!(read.header("access-control-allow-origin"), None);
    assert!(
        read.header("cross-origin-resource-policy")
            .is_some_and(|policy| policy == "same-origin"),
        "{:?}",
        read.headers
    );
    // Nor may it sign the visitor in to an account of its choice.
    let form = ["-H", &sibling, "--data", "username=admin&password=x"];
    assert_eq!(
        world
            .curl(&[&form[..], &[&format!("{base}/login")]].concat())
            .expect(403)
            .problem(),
        "foreign_origin"
    );
    // The sessions were not ended by any of this: the own page may act.
    let own = format!("Origin: {beta}");
    world
        .curl(&["-X", "POST", "-H", &child, "-H", &own, "--data", "x", &act])
        .expect(200);
    world
        .curl(&[
            "-X",
            "POST",
            "-H",
            &child,
            "-H",
            "Sec-Fetch-Site: same-origin",
            "--data",
            "x",
            &act,
        ])
        .expect(200);
    let (own, edit) = (format!("Origin: {base}"), format!("{roles}{edit}"));
    world
        .curl(&[&["-H", &parent, "-H", &own][..], &json, &[&edit]].concat())
        .expect(201);
}

/// From a tool's host to the gateway: gives the address with the code, which nobody has used yet.
fn code_for(browser: &Browser<'_>, url: &str) -> String {
    let start = browser.ask(url, &["-H", NAVIGATE]).expect(303);
    let gateway = location(&start).unwrap();
    assert!(
        gateway.starts_with(&format!("{}/.countersign/enter?host=", browser.world.base())),
        "{gateway}"
    );
    let back = location(&browser.ask(&gateway, &["-H", NAVIGATE]).expect(303)).unwrap();
    assert!(back.contains("/.countersign/enter?code="), "{back}");
    back
}

#[test]
fn the_code_is_good_once_for_its_host_and_its_browser_only() {
    let (world, _tool) = site();
    let (alpha, beta) = (host_of(&world, "alpha"), host_of(&world, "beta"));
    let john = Browser::new(&world, "john");
    john.sign_in("john");
    let look = format!("{alpha}/look");
    let refused = |answer: &Answer, what: &str| {
        assert_eq!(answer.status, 401, "{what}: {}", answer.text());
        assert!(
            !answer
                .headers
                .iter()
                .any(|(name, value)| name == "set-cookie" && !value.contains("Max-Age=0")),
            "{what}"
        );
    };
    // In another browser: a stolen address, and a victim led into the attacker's session.
    let code = code_for(&john, &look);
    assert!(code.starts_with(&alpha), "{code}");
    let mallory = Browser::new(&world, "mallory");
    refused(&mallory.ask(&code, &[]), "without a nonce");
    let code = code_for(&john, &look);
    mallory.ask(&look, &["-H", NAVIGATE]).expect(303);
    refused(&mallory.ask(&code, &[]), "with the nonce of another browser");
    // That used the code up, so that John's own browser is asked again.
    refused(&john.ask(&code, &[]), "after somebody else tried it");
    // At another host.
    let code = code_for(&john, &look);
    john.ask(&format!("{beta}/look"), &["-H", NAVIGATE]).expect(303);
    refused(&john.ask(&code.replace(&alpha, &beta), &[]), "at another host");
    // A nonce and a code of one's own, for a host that is no tool.
    let elsewhere = format!(
        "{}/.countersign/enter?host=evil.example&nonce={}&to=/",
        world.base(),
        "0".repeat(64)
    );
    john.ask(&elsewhere, &["-H", NAVIGATE]).expect(404);
    // Where it leads in the end is a path of that host, whatever was asked.
    let away = format!(
        "{}/.countersign/enter?host=alpha.gw.localhost&nonce={}&to=https://evil.example/",
        world.base(),
        "0".repeat(64)
    );
    assert!(
        location(&john.ask(&away, &["-H", NAVIGATE]).expect(303))
            .unwrap()
            .starts_with(&format!("{alpha}/"))
    );
    // Once.
    let code = code_for(&john, &look);
    let jar = fs::read_to_string(&john.jar).unwrap();
    let entered = john.ask(&code, &[]).expect(303);
    assert_eq!(entered.header("location"), Some("/look"));
    fs::write(&john.jar, jar).unwrap();
    refused(&john.ask(&code, &[]), "a second time");
    // The code stands nowhere in the log.
    let secret = code.rsplit('=').next().unwrap();
    assert!(
        secret.len() > 20
            && !world
                .records()
                .iter()
                .any(|record| record.to_string().contains(secret))
    );
}

#[test]
fn logout_at_the_gateway_ends_the_sessions_at_the_tools_and_the_other_way_round() {
    let (world, tool) = site();
    let (base, alpha, beta) = (world.base(), host_of(&world, "alpha"), host_of(&world, "beta"));
    let john = Browser::new(&world, "john");
    for leaves in [&base, &beta] {
        john.sign_in("john");
        let other = if leaves == &base { &beta } else { &alpha };
        for host in [&alpha, &beta] {
            assert_eq!(john.open(&format!("{host}/look")).last().unwrap().status, 200);
        }
        let parent = cookie(&john.session("gw.localhost"));
        let child = cookie(&john.session(other["https://".len()..].split(':').next().unwrap()));
        world.curl(&["-H", &child, &format!("{other}/look")]).expect(200);
        let own = format!("Origin: {leaves}");
        let left = john.ask(
            &format!("{leaves}/.countersign/logout"),
            &["-X", "POST", "-H", &own],
        );
        assert!(matches!(left.status, 204 | 303), "{}", left.text());
        let seen = tool.seen().len();
        world.curl(&["-H", &child, &format!("{other}/look")]).expect(401);
        world
            .curl(&["-H", &parent, &format!("{base}/.countersign/me")])
            .expect(401);
        assert_eq!(tool.seen().len(), seen);
    }
}
