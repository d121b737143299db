//! One contract for counting and mailing, run on both engines, with the file transport and a clock moved by hand.

use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, HandClock};
use crate::id::SystemSource;
use crate::store::tests_support;
use crate::vo::{CardFields, Directory, DirectoryHandle, SCIENTIST};

const MINUTE: Duration = Duration::from_secs(60);
const CHECKPOINT: &str = "gw.example.org/log\n42\nabcdef=\n\n— gw.example.org/log c2lnbmF0dXJl";

struct Story {
    db: Db,
    vos: Vos,
    clock: Arc<HandClock>,
    ids: Ids,
    vo: VoId,
    john: PersonId,
    folder: tempfile::TempDir,
}

impl Story {
    /// Ada administers the gateway, Vera the VO `imense`; John is a scientist there.
    async fn new(db: &Db) -> Self {
        let clock = Arc::new(HandClock::new(Timestamp::from_secs(1_700_000_000)));
        let ids = Ids::new(clock.clone(), Arc::new(SystemSource::new()));
        let vos = Vos::new(db.clone(), DirectoryHandle::default(), ids.clone());
        let mut tx = db.begin_write().await.unwrap();
        let gateway = Directory::gateway();
        vos.establish(&mut tx).await.unwrap();
        let (ada, _) = vos
            .add_person(&mut tx, gateway, "ada", &card("Ada Byron"))
            .await
            .unwrap();
        let (vera, _) = vos
            .add_person(&mut tx, gateway, "vera", &card("Vera Rubin"))
            .await
            .unwrap();
        vos.assign(&mut tx, gateway, crate::vo::SYSTEM_ADMINISTRATOR, ada, None)
            .await
            .unwrap();
        let (vo, _) = vos.create_vo(&mut tx, "imense", vera).await.unwrap();
        let (john, _) = vos
            .add_person(&mut tx, vo, "jsmith", &card("John Smith"))
            .await
            .unwrap();
        vos.join(&mut tx, vo, john).await.unwrap();
        vos.assign(&mut tx, vo, SCIENTIST, john, None).await.unwrap();
        tx.commit().await.unwrap();
        vos.load().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            db: db.clone(),
            vos,
            clock,
            ids,
            vo,
            john,
            folder,
        }
    }

    /// A gateway that starts on the same store.
    fn start(&self) -> Alert {
        let (db, vos, ids) = (self.db.clone(), self.vos.clone(), self.ids.clone());
        Alert::new(
            Config::default(),
            db,
            vos,
            ids,
            Metrics::new(),
            self.folder.path(),
        )
        .unwrap()
    }

    fn denied(&self, task: &str) -> Denied {
        Denied {
            vo: self.vo,
            vo_name: "imense".into(),
            person: self.john,
            tool: Some("countersign".into()),
            task: task.into(),
            request: self.ids.next().unwrap(),
            at: self.clock.now(),
        }
    }

    /// Three denials, one after the other; gives the event of the third.
    async fn three(&self, alert: &Alert, task: &str) -> AlertEvent {
        for _ in 0..2 {
            assert_eq!(alert.denied(self.denied(task)).await.unwrap(), None);
        }
        let event = alert.denied(self.denied(task)).await.unwrap();
        event.expect("the third opens an episode")
    }

    /// The files of the outbox folder, oldest first, as text.
    fn mails(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("outbox")) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .map(|file| plain(&std::fs::read_to_string(file).unwrap()))
            .collect()
    }
}

/// A mail with its soft line breaks taken out (quoted-printable).
fn plain(mail: &str) -> String {
    mail.replace("=\r\n", "")
        .replace("=3D", "=")
        .replace("\r\n", "\n")
}

fn card(name: &str) -> CardFields {
    CardFields {
        name: name.into(),
        mail: Some(format!(
            "{}@example.org",
            name.split(' ').next().unwrap().to_lowercase()
        )),
        organisation: None,
    }
}

async fn a_secret_is_wiped_once_it_is_sent(story: &Story) {
    let alert = story.start();
    let letter = Letter {
        to: vec!["john@example.org".into()],
        subject: "Your account".into(),
        body: "open sesame 4711".into(),
    };
    let mut tx = story.db.begin_write().await.unwrap();
    alert.post_secret(&mut tx, story.vo, &letter).await.unwrap();
    tx.commit().await.unwrap();
    let kept = async || {
        let found = crate::store::rows!(
            &story.db,
            (String,),
            "SELECT body FROM mail WHERE kind = 'secret'"
        )
        .unwrap();
        found[0].0.clone()
    };
    assert_eq!(kept().await, letter.body);
    let before = story.mails().len();
    alert.run_once(CHECKPOINT).await.unwrap();
    let mails = story.mails();
    assert_eq!(mails.len(), before + 1);
    assert!(mails.iter().any(|mail| mail.contains(&letter.body)));
    assert_eq!(kept().await, "");
}

async fn contract(db: &Db) {
    let story = Story::new(db).await;
    the_third_denial_sends_one_mail(&story).await;
    counters_survive_a_restart(&story).await;
    an_episode_ends_when_it_was_quiet(&story).await;
    only_denials_within_the_window_count_together(&story).await;
    kinds_of_denials_do_not_mix(&story).await;
    a_flood_becomes_a_digest(&story).await;
    denials_at_once_open_one_episode(&story).await;
    a_letter_that_cannot_go_is_given_up_and_told(&story).await;
    an_outbox_that_cannot_be_written_is_tried_again(&story).await;
    old_denials_are_forgotten(&story).await;
    a_secret_is_wiped_once_it_is_sent(&story).await;
    mails_that_name_an_erased_person_are_wiped(&story).await;
    the_end_of_a_certificate_stays_due_until_somebody_can_be_told(&story).await;
}

#[tokio::test]
async fn the_contract_holds_on_sqlite() {
    let (db, _folder) = tests_support::sqlite().await;
    contract(&db).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_postgres() {
    let postgres = tests_support::Postgres::new().await;
    contract(&postgres.db).await;
    postgres.end().await;
}

async fn the_third_denial_sends_one_mail(story: &Story) {
    let alert = story.start();
    let event = story.three(&alert, "user.remove").await;
    assert_eq!((event.count, event.requests.len()), (3, 3));
    assert_eq!((event.person, event.vo), (story.john, story.vo));
    assert_eq!(
        story.mails(),
        Vec::<String>::new(),
        "nothing leaves on the request's path"
    );
    alert.run_once(CHECKPOINT).await.unwrap();
    let fourth = story.denied("user.remove");
    assert_eq!(alert.denied(fourth).await.unwrap(), None);
    alert.run_once(CHECKPOINT).await.unwrap();
    let mails = story.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let mail = &mails[0];
    for part in [
        "To: vera@example.org",
        "Subject: [Countersign] imense: jsmith refused 3 times for user.remove",
        "John Smith (jsmith) was refused 3 times in the virtual organisation `imense`, for the task `user.remove` of `countersign`.",
        "First refusal: 2023-11-14T22:13:20Z",
        "not a lock-out",
        "countersign explain ",
        "  42\n",
    ] {
        assert!(mail.contains(part), "no `{part}` in\n{mail}");
    }
    for request in event.requests {
        assert!(mail.contains(&request.to_string()));
    }
    let delivery = &alert.outbox(1).await.unwrap()[0];
    assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Sent, 1));
    assert!(mail.contains(&format!("Message-ID: <{}@localhost>", delivery.id)));
}

async fn counters_survive_a_restart(story: &Story) {
    story.clock.advance(MINUTE);
    let denied = story.denied("restarted");
    story.start().denied(denied.clone()).await.unwrap();
    assert_eq!(
        story.start().denied(denied).await.unwrap(),
        None,
        "the same request counts once"
    );
    story.start().denied(story.denied("restarted")).await.unwrap();
    let third = story.start().denied(story.denied("restarted")).await.unwrap();
    assert!(third.is_some());
    // Episode and mail outlive a gateway that stops before the mail is written.
    let before = story.mails().len();
    story.start().run_once("").await.unwrap();
    assert_eq!(story.mails().len(), before + 1);
    assert!(story.mails()[before].contains("has no checkpoint yet"));
    story.start().run_once("").await.unwrap();
    assert_eq!(story.mails().len(), before + 1, "a restart sends nothing twice");
}

async fn an_episode_ends_when_it_was_quiet(story: &Story) {
    let alert = story.start();
    story.clock.advance(120 * MINUTE);
    story.three(&alert, "again").await;
    // One each 59 minutes keeps it going.
    for _ in 0..3 {
        story.clock.advance(59 * MINUTE);
        assert_eq!(alert.denied(story.denied("again")).await.unwrap(), None);
    }
    story.clock.advance(60 * MINUTE);
    story.three(&alert, "again").await;
}

async fn only_denials_within_the_window_count_together(story: &Story) {
    let alert = story.start();
    for _ in 0..6 {
        assert_eq!(alert.denied(story.denied("now and then")).await.unwrap(), None);
        story.clock.advance(31 * MINUTE);
    }
}

async fn kinds_of_denials_do_not_mix(story: &Story) {
    let alert = story.start();
    for task in ["one", "two"] {
        for tool in [None, Some("jobs".to_owned())] {
            let denied = Denied {
                tool,
                ..story.denied(task)
            };
            assert_eq!(alert.denied(denied).await.unwrap(), None);
        }
    }
}

async fn a_flood_becomes_a_digest(story: &Story) {
    let alert = story.start();
    alert.run_once(CHECKPOINT).await.unwrap();
    story.clock.advance(120 * MINUTE);
    let before = story.mails().len();
    for task in ["f1", "f2", "f3", "f4", "f5", "f6"] {
        story.three(&alert, task).await;
        story.clock.advance(Duration::from_secs(1));
        alert.run_once(CHECKPOINT).await.unwrap();
    }
    assert_eq!(story.mails().len(), before + 4, "four mails in an hour");
    story.clock.advance(30 * MINUTE);
    story.three(&alert, "f7").await;
    alert.run_once(CHECKPOINT).await.unwrap();
    assert_eq!(story.mails().len(), before + 4);
    story.clock.advance(31 * MINUTE);
    alert.run_once(CHECKPOINT).await.unwrap();
    alert.run_once(CHECKPOINT).await.unwrap();
    let mails = story.mails();
    assert_eq!(mails.len(), before + 5, "then one digest");
    let digest = mails.last().unwrap();
    for part in ["3 more episodes", "`f5`", "`f6`", "`f7`"] {
        assert!(digest.contains(part), "no {part} in\n{digest}");
    }
}

async fn denials_at_once_open_one_episode(story: &Story) {
    let alert = story.start();
    let denials: Vec<_> = (0..12).map(|_| alert.denied(story.denied("at once"))).collect();
    let results = futures_util::future::join_all(denials).await;
    let events: Vec<_> = results.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].count, 3);
}

async fn a_letter_that_cannot_go_is_given_up_and_told(story: &Story) {
    let alert = story.start();
    story.clock.advance(120 * MINUTE);
    let letter = Letter {
        to: vec!["nobody".into()],
        subject: "Hello".into(),
        body: "Hello\n".into(),
    };
    let mut tx = story.db.begin_write().await.unwrap();
    alert.post(&mut tx, story.vo, &letter).await.unwrap();
    tx.commit().await.unwrap();
    alert.run_once(CHECKPOINT).await.unwrap();
    alert.run_once(CHECKPOINT).await.unwrap();
    let outbox = alert.outbox(10).await.unwrap();
    let failed = outbox.iter().find(|delivery| delivery.to == "nobody").unwrap();
    assert_eq!(failed.state, DeliveryState::Failed);
    assert!(failed.error.as_ref().unwrap().contains("address"), "{failed:?}");
    let note = outbox
        .iter()
        .find(|delivery| delivery.kind == "note")
        .expect("a note");
    assert_eq!(
        (note.to.as_str(), note.state),
        ("ada@example.org", DeliveryState::Sent)
    );
    assert!(story.mails().iter().any(|mail| mail.contains("To:       nobody")));
}

async fn an_outbox_that_cannot_be_written_is_tried_again(story: &Story) {
    let alert = story.start();
    story.clock.advance(120 * MINUTE);
    let outbox = story.folder.path().join("outbox");
    let aside = story.folder.path().join("aside");
    std::fs::rename(&outbox, &aside).unwrap();
    std::fs::write(&outbox, "not a folder").unwrap();
    story.three(&alert, "full disk").await;
    alert.run_once(CHECKPOINT).await.unwrap();
    let pending = alert.outbox(1).await.unwrap().remove(0);
    assert_eq!((pending.state, pending.attempts), (DeliveryState::Pending, 1));
    assert_eq!(pending.next, story.clock.now().plus(Duration::from_secs(30)));
    alert.run_once(CHECKPOINT).await.unwrap();
    assert_eq!(
        alert.outbox(1).await.unwrap()[0].attempts,
        1,
        "not before its time"
    );
    story.clock.advance(Duration::from_secs(30));
    alert.run_once(CHECKPOINT).await.unwrap();
    let pending = alert.outbox(1).await.unwrap().remove(0);
    assert_eq!(pending.attempts, 2);
    assert_eq!(pending.next, story.clock.now().plus(MINUTE));
    std::fs::remove_file(&outbox).unwrap();
    std::fs::rename(&aside, &outbox).unwrap();
    let before = story.mails().len();
    story.clock.advance(MINUTE);
    for _ in 0..3 {
        alert.run_once(CHECKPOINT).await.unwrap();
    }
    assert_eq!(story.mails().len(), before + 1, "delivered once");
    assert_eq!(alert.outbox(1).await.unwrap()[0].state, DeliveryState::Sent);
}

async fn old_denials_are_forgotten(story: &Story) {
    let alert = story.start();
    alert.denied(story.denied("long ago")).await.unwrap();
    story.clock.advance(145 * 60 * MINUTE);
    alert.run_once(CHECKPOINT).await.unwrap();
    let left = crate::store::rows!(&story.db, (i64,), "SELECT count(*) FROM alert_denial").unwrap();
    assert_eq!(left, [(0,)]);
}

async fn mails_that_name_an_erased_person_are_wiped(story: &Story) {
    let alert = story.start();
    let letter = |to: &[&str], body: &str| Letter {
        to: to.iter().map(ToString::to_string).collect(),
        subject: "About somebody".into(),
        body: body.into(),
    };
    let words = std::collections::BTreeSet::from(["Zoe Quux".to_owned(), "zoe@example.org".to_owned()]);
    let wipe = async || {
        let mut tx = story.db.begin_write().await.unwrap();
        let wiped = alert.wipe(&mut tx, &words).await.unwrap();
        tx.commit().await.unwrap();
        wiped
    };
    let mut tx = story.db.begin_write().await.unwrap();
    for letter in [
        letter(&["ada@example.org"], "Zoe Quux was refused.\n"),
        letter(&["zoe@example.org"], "Good morning.\n"),
        letter(&["ada@example.org"], "Zoe Quuxley was refused.\n"),
    ] {
        alert.post(&mut tx, story.vo, &letter).await.unwrap();
    }
    tx.commit().await.unwrap();
    let waiting = wipe().await;
    assert_eq!(waiting.waiting, 1, "it is still on its way to somebody else");
    alert.run_once(CHECKPOINT).await.unwrap();
    let named = |mails: Vec<String>| mails.iter().any(|mail| mail.contains("Zoe Quux was"));
    assert!(named(story.mails()));

    let wiped = wipe().await;
    assert_eq!((wiped.mails, wiped.waiting), (1, 0));
    assert!(alert.remove_files(&wiped).await.unwrap() > 0);
    assert!(!named(story.mails()));
    let left = story.mails();
    assert!(
        left.iter().any(|mail| mail.contains("Zoe Quuxley")),
        "another person: {left:?}"
    );
    let outbox = alert.outbox(1_000).await.unwrap();
    assert!(outbox.iter().all(|delivery| delivery.to != "zoe@example.org"));
    assert!(outbox.iter().any(|delivery| delivery.to == "ada@example.org"));
}

async fn the_end_of_a_certificate_stays_due_until_somebody_can_be_told(story: &Story) {
    use crate::trust::certificate::{Facts, Use, VoCertificate};
    let chain = crate::trust::pem::certificates("vo.pem", include_str!("../../certs/vo-ec.pem")).unwrap();
    let now = story.clock.now();
    let facts = Facts {
        not_after: now.plus(5 * 24 * 60 * MINUTE),
        ..Facts::of("vo.pem", &chain[0]).unwrap()
    };
    let certificate = VoCertificate {
        id: story.ids.next().unwrap(),
        vo: story.vo,
        purpose: Use::Tools,
        facts: facts.clone(),
        chain,
        sealed_key: vec![1; 64],
    };
    let mut tx = story.db.begin_write().await.unwrap();
    crate::trust::store::insert(&mut tx, &certificate, now)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let directory = story.vos.handle().load().clone();
    let mut administrators = directory.holders(story.vo, crate::vo::VO_ADMINISTRATOR, now);
    administrators.extend(directory.holders(Directory::gateway(), crate::vo::SYSTEM_ADMINISTRATOR, now));
    let reachable = async |yes: bool| {
        let mut tx = story.db.begin_write().await.unwrap();
        for person in &administrators {
            let mut fields = card("Vera Rubin");
            fields.mail = fields.mail.filter(|_| yes);
            story.vos.edit_card(&mut tx, *person, &fields).await.unwrap();
        }
        tx.commit().await.unwrap();
        story.vos.load().await.unwrap();
    };
    let queued = async || {
        let found = crate::store::rows!(
            &story.db,
            (i64,),
            "SELECT count(*) FROM mail m JOIN delivery d ON d.mail = m.id WHERE m.kind = 'certificate'"
        );
        found.unwrap()[0].0
    };
    let in_use = [(story.vo, Use::Tools, facts)];
    reachable(false).await;
    let alert = story.start();
    for _ in 0..2 {
        alert.certificates(&in_use).await.unwrap();
        assert_eq!(queued().await, 0);
        story.clock.advance(30 * MINUTE);
    }
    reachable(true).await;
    // Found by the gateway that runs on, and by one that starts.
    for _ in 0..3 {
        alert.certificates(&in_use).await.unwrap();
        story.start().certificates(&in_use).await.unwrap();
        assert_eq!(queued().await, 1, "told, and once");
        story.clock.advance(60 * MINUTE);
    }
}
