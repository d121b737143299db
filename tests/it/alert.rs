//! Mails against a real receiver: STARTTLS and TLS, a deferral that is tried again, a refusal that is told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use countersign::alert::{Alert, Config, Delivery, DeliveryState, Letter, Security, Smtp, Transport};
use countersign::clock::{HandClock, Timestamp};
use countersign::id::{Ids, SystemSource};
use countersign::store::Db;
use countersign::telemetry::Metrics;
use countersign::vo::{CardFields, Directory, DirectoryHandle, SYSTEM_ADMINISTRATOR, Vos};
use serde_json::Value;

use crate::peers::Peer;

struct Post {
    peer: Peer,
    db: Db,
    clock: Arc<HandClock>,
    alert: Alert,
    metrics: Metrics,
    _folder: tempfile::TempDir,
}

/// Settings that send mails to this server.
fn smtp(host: &str, port: u16, security: Security, ca: Option<&str>) -> Config {
    Config {
        transport: Transport::Smtp(Smtp {
            host: host.to_owned(),
            port,
            security,
            username: None,
            password_file: None,
            ca_file: ca.map(Into::into),
            timeout: Duration::from_secs(10),
        }),
        ..Config::default()
    }
}

impl Post {
    /// The same with other settings.
    fn with(self, config: Config) -> Self {
        let ids = Ids::new(self.clock.clone(), Arc::new(SystemSource::new()));
        let vos = Vos::new(self.db.clone(), DirectoryHandle::default(), ids.clone());
        let folder = self.peer.folder();
        let alert = Alert::new(config, self.db.clone(), vos, ids, Metrics::new(), folder).unwrap();
        Self { alert, ..self }
    }

    /// Ada administers the gateway.
    async fn new(security: Security) -> Self {
        let peer = Peer::start("smtp");
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("store.db")).await.unwrap();
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
        let mut tx = db.begin_write().await.unwrap();
        let gateway = Directory::gateway();
        let card = CardFields {
            name: "Ada Byron".into(),
            mail: Some("ada@example.org".into()),
            organisation: None,
        };
        vos.establish(&mut tx).await.unwrap();
        let (ada, _) = vos.add_person(&mut tx, gateway, "ada", &card).await.unwrap();
        vos.assign(&mut tx, gateway, SYSTEM_ADMINISTRATOR, ada, None)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        vos.load().await.unwrap();
        let port = match security {
            Security::StartTls => "PORT",
            Security::Tls => "TLS_PORT",
            Security::None => "PLAIN_PORT",
        };
        let config = smtp(
            peer.env("HOST"),
            peer.env(port).parse().unwrap(),
            security,
            Some(peer.env("CA")),
        );
        let metrics = Metrics::new();
        let alert = Alert::new(config, db.clone(), vos, ids, metrics.clone(), folder.path()).unwrap();
        Self {
            peer,
            db,
            clock,
            alert,
            metrics,
            _folder: folder,
        }
    }

    async fn write(&self, to: &str) {
        let letter = Letter {
            to: vec![to.into()],
            subject: format!("For {to}"),
            body: "Grüße\n.\nfrom the gateway\n".into(),
        };
        let mut tx = self.db.begin_write().await.unwrap();
        self.alert
            .post(&mut tx, Directory::gateway(), &letter)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        self.alert.run_once("").await.unwrap();
    }

    async fn later(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.alert.run_once("").await.unwrap();
    }

    async fn delivery(&self, to: &str) -> Delivery {
        let outbox = self.alert.outbox(10).await.unwrap();
        outbox
            .into_iter()
            .find(|delivery| delivery.to == to)
            .expect("a delivery")
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let address = self.peer.env("HTTP").trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    fn received(&self, to: &str) -> Vec<Value> {
        self.ask("GET", &format!("/messages?to={to}"), "")
            .as_array()
            .unwrap()
            .clone()
    }
}

#[tokio::test]
async fn a_mail_arrives_under_tls_either_way() {
    for security in [Security::StartTls, Security::Tls] {
        let post = Post::new(security).await;
        post.write("vera@example.org").await;
        let delivery = post.delivery("vera@example.org").await;
        assert_eq!(delivery.state, DeliveryState::Sent, "{delivery:?}");
        let received = post.received("vera@example.org");
        assert_eq!(received.len(), 1);
        // The receiver notes STARTTLS only; its other port speaks nothing but TLS.
        assert_eq!(received[0]["tls"], security == Security::StartTls);
        assert_eq!(received[0]["subject"], "For vera@example.org");
        let text = received[0]["text"].as_str().unwrap().replace("\r\n", "\n");
        assert_eq!(text.trim_end(), "Grüße\n.\nfrom the gateway");
        assert_eq!(
            received[0]["headers"]["message-id"],
            format!("<{}@localhost>", delivery.id)
        );
    }
}

#[tokio::test]
async fn no_mail_goes_to_a_server_whose_certificate_is_not_trusted() {
    let post = Post::new(Security::StartTls).await;
    let stranger = Peer::start("smtp");
    let port = post.peer.env("PORT").parse().unwrap();
    let ca = Some(stranger.env("CA"));
    let post = post.with(smtp("localhost", port, Security::StartTls, ca));
    post.write("vera@example.org").await;
    let delivery = post.delivery("vera@example.org").await;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Pending, 1));
    assert!(post.received("vera@example.org").is_empty());
}

#[tokio::test]
async fn a_deferred_mail_is_tried_again_and_delivered_exactly_once() {
    let post = Post::new(Security::StartTls).await;
    post.write("tempfail@example.org").await;
    let delivery = post.delivery("tempfail@example.org").await;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Pending, 1));
    assert!(delivery.error.unwrap().contains("451"));
    post.later(30).await;
    assert_eq!(post.delivery("tempfail@example.org").await.attempts, 2);
    post.ask("DELETE", "/rules/tempfail", "");
    for _ in 0..5 {
        post.later(3_600).await;
    }
    let delivery = post.delivery("tempfail@example.org").await;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Sent, 3));
    assert_eq!(post.received("tempfail@example.org").len(), 1);
}

#[tokio::test]
async fn a_refused_mail_is_marked_and_the_administrator_told() {
    let post = Post::new(Security::StartTls).await;
    post.write("bounce@example.org").await;
    post.later(1).await;
    post.later(36_000).await;
    let delivery = post.delivery("bounce@example.org").await;
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Failed, 1));
    assert!(delivery.error.unwrap().contains("550"));
    let told = post.received("ada@example.org");
    assert_eq!(told.len(), 1);
    let text = told[0]["text"].as_str().unwrap();
    assert!(
        text.contains("To:       bounce@example.org") && text.contains("550"),
        "{text}"
    );
    let metrics = post.metrics.render().unwrap();
    assert!(
        metrics.contains("countersign_mails_total{state=\"failed\"} 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_mail_that_never_leaves_is_given_up_in_the_end() {
    let post = Post::new(Security::StartTls).await;
    post.write("tempfail@example.org").await;
    for _ in 0..80 {
        post.later(3_600).await;
    }
    let delivery = post.delivery("tempfail@example.org").await;
    assert_eq!(delivery.state, DeliveryState::Failed);
    assert_eq!(post.received("ada@example.org").len(), 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let post = Post::new(Security::StartTls).await;
    let away = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let before = post.with(smtp("127.0.0.1", away, Security::None, None));
    before.write("vera@example.org").await;
    assert_eq!(
        before.delivery("vera@example.org").await.state,
        DeliveryState::Pending
    );
}
