//! The proxies that are compared, each in front of the same upstream, with the same certificate.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, Method, StatusCode};

use super::oidc;
use crate::path::load::{Ask, Client, Protocol};
use crate::path::process::Peer;
use crate::path::world::{Site, Tool, path};

/// Where Debian puts Apache's modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// What is compared, in the order of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    Countersign,
    Bare,
    Nginx,
    NginxAuth,
    NginxAuthKept,
    Apache,
    Caddy,
}

impl Which {
    pub(crate) const ALL: [Self; 7] = [
        Self::Countersign,
        Self::Bare,
        Self::Nginx,
        Self::NginxAuth,
        Self::NginxAuthKept,
        Self::Apache,
        Self::Caddy,
    ];

    /// As the table names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Countersign => "Countersign",
            Self::Bare => "bare hyper proxy",
            Self::Nginx => "nginx",
            Self::NginxAuth => "nginx auth_request + log",
            Self::NginxAuthKept => "nginx auth_request (kept) + log",
            Self::Apache => "Apache mod_auth_openidc + log",
            Self::Caddy => "Caddy forward_auth + log",
        }
    }
}

/// One proxy, up.
pub(crate) struct Proxy {
    pub(crate) which: Which,
    pub(crate) pid: u32,
    pub(crate) client: Client,
    /// Its process, but for the gateway's, which is the site's.
    peer: Option<Peer>,
    /// What says who asks.
    credential: Vec<(HeaderName, String)>,
}

impl Proxy {
    /// A request that it lets pass.
    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask {
        Ask::new(method, path, self.credential.clone(), StatusCode::OK)
    }

    /// A page of 1 KiB.
    pub(crate) fn read(&self) -> Arc<Ask> {
        Arc::new(self.ask(Method::GET, "/lab/bench/page"))
    }
}

/// All of them.
pub(crate) struct Lab {
    /// In the order of [`Which::ALL`].
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) site: Site,
    _others: [Peer; 2],
}

impl Lab {
    /// Starts everything; each proxy has answered, and those with a check have refused a stranger.
    pub(crate) async fn start() -> Self {
        let upstream = Peer::of_self(&["upstream", "0"]);
        let site = Site::start(&[Tool::bench(upstream.port)], None, |_| {});
        let auth = Peer::of_self(&["auth", &site.token]);
        let bearer = vec![(AUTHORIZATION, format!("Bearer {}", site.token))];
        let words = Words {
            site: &site,
            upstream: upstream.port,
            auth: auth.port,
        };
        let start = |which: Which| {
            let peer = match which {
                Which::Countersign => None,
                Which::Bare => Some(site.bare(&upstream)),
                Which::Nginx | Which::NginxAuth | Which::NginxAuthKept => Some(words.nginx(which)),
                Which::Apache => Some(words.apache()),
                Which::Caddy => Some(words.caddy()),
            };
            let process = peer.as_ref().unwrap_or(&site.gateway);
            Proxy {
                which,
                pid: process.pid,
                client: site.client(process.port),
                credential: bearer.clone(),
                peer,
            }
        };
        let proxies = Which::ALL.map(start).into();
        let mut lab = Self {
            proxies,
            site,
            _others: [upstream, auth],
        };
        lab.check().await;
        lab
    }

    /// One of them.
    pub(crate) fn proxy(&self, which: Which) -> &Proxy {
        &self.proxies[Which::ALL
            .iter()
            .position(|one| *one == which)
            .unwrap_or_default()]
    }

    /// Waits until each answers, signs in where that takes a session, and sees that strangers are refused.
    async fn check(&mut self) {
        for proxy in &mut self.proxies {
            listening(proxy, self.site.folder()).await;
            if proxy.which == Which::Apache {
                let cookie = oidc::sign_in(&proxy.client, "/lab/bench/page").await;
                proxy.credential = vec![(COOKIE, cookie)];
            }
            let mut connection = proxy.client.open(Protocol::Http1).await.expect("a connection");
            connection.ask(&proxy.read(), 0).await;
            let stranger = Ask::new(Method::GET, "/lab/bench/page", Vec::new(), StatusCode::OK);
            let status = connection.answer(&stranger, 0).await.expect("an answer").status();
            let lets_all = matches!(proxy.which, Which::Bare | Which::Nginx);
            assert_eq!(
                status == StatusCode::OK,
                lets_all,
                "{}: {status}",
                proxy.which.name()
            );
            if !lets_all && proxy.which != Which::Countersign {
                logged(&self.site.folder().join(place(proxy.which)).join("access.log")).await;
            }
        }
    }
}

/// Waits for the first line of a log of requests, which is written after the answer.
async fn logged(file: &Path) {
    for _ in 0..500 {
        if fs::metadata(file).is_ok_and(|log| log.len() > 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no request was logged in {}", file.display());
}

async fn listening(proxy: &mut Proxy, folder: &Path) {
    for _ in 0..500 {
        if proxy.client.open(Protocol::Http1).await.is_ok() {
            return;
        }
        if !proxy.peer.as_mut().is_none_or(Peer::is_up) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = |name: &str| {
        let file = folder.join(format!("{}/{name}", place(proxy.which)));
        fs::read_to_string(file).unwrap_or_default()
    };
    panic!(
        "{} does not answer: {}{}",
        proxy.which.name(),
        log("output"),
        log("error.log")
    );
}

/// Name of its folder.
const fn place(which: Which) -> &'static str {
    match which {
        Which::Countersign | Which::Bare => ".",
        Which::Nginx => "nginx",
        Which::NginxAuth => "nginx-auth",
        Which::NginxAuthKept => "nginx-auth-kept",
        Which::Apache => "apache",
        Which::Caddy => "caddy",
    }
}

/// What the templates are filled with.
struct Words<'a> {
    site: &'a Site,
    upstream: u16,
    auth: u16,
}

impl Words<'_> {
    fn nginx(&self, which: Which) -> Peer {
        let folder = self.folder(place(which));
        let log = format!("access_log {}/access.log combined;", path(&folder));
        let (log, auth_request) = match which {
            Which::Nginx => ("access_log off;", ""),
            _ => (log.as_str(), "auth_request /auth;"),
        };
        // As its documentation shows it, nginx connects anew for each question.
        let (auth_kept, auth_version) = match which {
            Which::NginxAuthKept => (
                "keepalive 256; keepalive_requests 1000000;",
                "proxy_http_version 1.1; proxy_set_header Connection \"\";",
            ),
            _ => ("", ""),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let more = [
            ("user", if is_root() { "user root;" } else { "" }),
            ("cores", &cores.to_string()),
            ("log", log),
            ("auth_request", auth_request),
            ("auth_kept", auth_kept),
            ("auth_version", auth_version),
        ];
        let (file, port) = self.write(&folder, "nginx.conf", include_str!("nginx.conf"), &more);
        let arguments = ["-p", path(&folder), "-e", "stderr", "-c", path(&file)];
        start(&folder, &program("nginx"), &arguments, port)
    }

    fn apache(&self) -> Peer {
        let folder = self.folder("apache");
        // Apache serves nothing as root.
        let user = if is_root() {
            "User www-data\nGroup www-data"
        } else {
            ""
        };
        let more = [("modules", MODULES), ("user", user), ("secret", oidc::SECRET)];
        let (file, port) = self.write(&folder, "apache.conf", include_str!("apache.conf"), &more);
        let arguments = ["-D", "FOREGROUND", "-f", path(&file)];
        start(&folder, &program("apache2"), &arguments, port)
    }

    fn caddy(&self) -> Peer {
        let folder = self.folder("caddy");
        let (file, port) = self.write(&folder, "Caddyfile", include_str!("Caddyfile"), &[]);
        // It keeps things below its user's home.
        let home = format!("HOME={}", path(&folder));
        let program = program("caddy");
        let arguments = [
            "-u",
            "XDG_CONFIG_HOME",
            "-u",
            "XDG_DATA_HOME",
            &home,
            path(&program),
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            path(&file),
        ];
        start(&folder, Path::new("env"), &arguments, port)
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.site.folder().join(name);
        fs::create_dir(&folder).expect("a folder");
        folder
    }

    /// Fills a template; gives the file and the port that it names.
    fn write(&self, folder: &Path, name: &str, template: &str, more: &[(&str, &str)]) -> (PathBuf, u16) {
        let port = free_port();
        let numbers = [port, self.upstream, self.auth].map(|number| number.to_string());
        let words = [
            ("folder", path(folder)),
            ("host", &self.site.host),
            ("port", &numbers[0]),
            ("upstream", &numbers[1]),
            ("auth", &numbers[2]),
            ("certificate", path(&self.site.certificate)),
            ("key", path(&self.site.key)),
        ];
        let filled = words
            .iter()
            .chain(more)
            .fold(template.to_owned(), |text, (word, value)| {
                text.replace(&format!("{{{word}}}"), value)
            });
        let file = folder.join(name);
        fs::write(&file, filled).expect("a file");
        (file, port)
    }
}

fn start(folder: &Path, program: &Path, arguments: &[&str], port: u16) -> Peer {
    let output = fs::File::create(folder.join("output")).expect("a file");
    Peer::of(path(program), arguments, port, output)
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Packages that are missing, of those that the comparison needs.
pub(crate) fn missing() -> Vec<&'static str> {
    let programs = [("nginx", "nginx"), ("apache2", "apache2"), ("caddy", "caddy")];
    let mut missing: Vec<_> = programs
        .into_iter()
        .filter(|(name, _)| !program(name).exists())
        .map(|(_, package)| package)
        .collect();
    if !Path::new(MODULES).join("mod_auth_openidc.so").exists() {
        missing.push("libapache2-mod-auth-openidc");
    }
    missing
}

fn program(name: &str) -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .chain(["/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
        .unwrap_or_else(|| name.into())
}
