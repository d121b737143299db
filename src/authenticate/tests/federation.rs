//! Identity providers and who comes from them, on both store engines and with the clock in hand. What providers say is judged in
//! `federation::token`, and against real ones in `tests/it/federation.rs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::tool::Assurance;
use crate::trust::seal::SealingKey;

fn settings(issuer: &str) -> IdpSettings {
    IdpSettings {
        display_name: "University A".into(),
        issuer: issuer.into(),
        client_id: "gateway".into(),
        scopes: BTreeSet::new(),
        acr: BTreeMap::new(),
        mapping: Mapping::default(),
        approval: Approval::Automatic,
        renewal: Approval::Automatic,
        valid_days: 30,
        ca: None,
    }
}

impl World {
    async fn provider(&self, name: &str, issuer: &str) -> Result<Change, Problem> {
        let new = NewIdp {
            name: name.into(),
            home: self.home,
            settings: settings(issuer),
            secret: secret("of-the-client"),
        };
        let mut tx = self.db.begin_write().await.unwrap();
        let change = self.service.add_idp(&mut tx, new).await?;
        tx.commit().await.unwrap();
        Ok(change)
    }

    async fn set_active(&self, name: &str, active: bool) {
        let mut tx = self.db.begin_write().await.unwrap();
        self.service.set_idp_active(&mut tx, name, active).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn arrived(&self, name: &str) -> Arrived {
        let all = json!({ "preferred_username": "john", "groups": ["a"] });
        Arrived {
            idp: self.service.idp(name).await.unwrap(),
            claims: Claims {
                subject: "john-0001".into(),
                acr: None,
                amr: vec!["pwd".into(), "otp".into()],
                all: all.as_object().cloned().unwrap(),
            },
            known: None,
            to: "/".into(),
            level: Assurance::Aal1,
            link: None,
        }
    }

    /// John as he is known to the provider.
    async fn known(&self, arrived: &Arrived) -> Identity {
        let until = self.clock.now().plus(Duration::from_secs(3_600));
        let identity = self
            .service
            .new_identity(arrived)
            .unwrap()
            .admitted(self.john, until);
        let mut tx = self.db.begin_write().await.unwrap();
        let put = self.service.put_identity(&mut tx, "idp.admit", None, &identity);
        put.await.unwrap();
        tx.commit().await.unwrap();
        identity
    }

    async fn federated(&self, arrived: &Arrived, identity: &Identity) -> SignedIn {
        let at = (from("192.0.2.7"), request());
        self.service
            .federated_session(arrived, identity, at)
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn who_comes_from_a_provider_is_known_by_it_alone_on_sqlite() {
    let (db, _folder) = crate::store::tests_support::sqlite().await;
    contract(&db).await;
    db.close().await;
}

#[tokio::test]
async fn who_comes_from_a_provider_is_known_by_it_alone_on_postgres() {
    let postgres = crate::store::tests_support::Postgres::new().await;
    contract(&postgres.db).await;
    postgres.end().await;
}

/// All of it, on one engine.
async fn contract(db: &Db) {
    let world = World::new(db).await;
    let sealed = world
        .provider("uni-a", "https://idp.example.org")
        .await
        .unwrap_err();
    assert_eq!(sealed.kind, Kind::Sealed);
    world
        .service
        .unsealed(SealingKey::generate(&SystemSource::new()).unwrap());
    providers(&world).await;
    identities(&world).await;
    sessions(&world).await;
    links(&world).await;
    removal(&world).await;
}

async fn providers(world: &World) {
    let change = world.provider("uni-a", "https://idp.example.org").await.unwrap();
    assert!(!format!("{change:?}").contains("of-the-client"));
    for (name, issuer) in [
        ("uni-a", "https://other.example.org"),
        ("uni-b", "https://idp.example.org"),
    ] {
        assert_eq!(
            world.provider(name, issuer).await.unwrap_err().kind,
            Kind::Conflict
        );
    }
    assert_eq!(
        world.provider("API", "https://x.example").await.unwrap_err().kind,
        Kind::Invalid
    );
    let mut tx = world.db.begin_write().await.unwrap();
    let moved = world
        .service
        .edit_idp(&mut tx, "uni-a", settings("https://other.example.org"), None);
    assert_eq!(moved.await.unwrap_err().kind, Kind::Invalid, "an issuer stays");
    let other = SealingKey::generate(&SystemSource::new()).unwrap();
    assert_eq!(world.service.reseal_idps(&mut tx, &other).await.unwrap(), (1, 0));
    drop(tx);
    assert_eq!(world.service.idps().await.unwrap().len(), 1);
}

async fn identities(world: &World) {
    let arrived = world.arrived("uni-a").await;
    let known = world.known(&arrived).await;
    assert_eq!(
        world.service.identities_of(world.john).await.unwrap(),
        std::slice::from_ref(&known)
    );
    // The same subject once more is no second identity.
    let again = world.service.new_identity(&arrived).unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    let put = world
        .service
        .put_identity(&mut tx, "idp.wait", None, &again)
        .await;
    assert_eq!(put.unwrap_err().kind, Kind::Conflict);
    drop(tx);
    let idp = arrived.idp.clone();
    let page = world.service.identities(&idp, None, 1).await.unwrap();
    assert_eq!((page.identities, page.next), (vec![known], None));
}

async fn sessions(world: &World) {
    let arrived = world.arrived("uni-a").await;
    let identity = world.service.identities_of(world.john).await.unwrap().remove(0);
    let signed = world.federated(&arrived, &identity).await;
    assert_eq!(signed.login.result, "ok");
    let federated = signed.login.federated.clone().unwrap();
    assert_eq!(federated.subject, Some(identity.name()));
    let opened = world.service.begin(signed.result.unwrap()).await.unwrap();
    let session = &opened.session;
    assert_eq!(
        (session.methods.join(" ").as_str(), session.acr.as_str()),
        ("federated pwd", "aal1")
    );
    assert_eq!(
        Some(session.expires),
        identity.valid_until,
        "no longer than the approval"
    );
    // A fresh process knows by which identity it began.
    let fresh = world.restarted(world.config.clone()).await;
    let found = fresh.session(session.id).unwrap();
    assert_eq!(found.identity, session.identity);
    assert!(found.identity.is_some());
    // What changes between the answer of the provider and the beginning of the session counts.
    let late = world.federated(&arrived, &identity).await;
    world.set_active("uni-a", false).await;
    let begun = world.service.begin(late.result.unwrap()).await;
    assert_eq!(begun.unwrap_err().kind, Kind::SignInRefused);
    world.set_active("uni-a", true).await;
    world.clock.advance(Duration::from_secs(3_601));
    let late = world.federated(&arrived, &identity).await;
    let begun = world.service.begin(late.result.unwrap()).await;
    assert_eq!(
        begun.unwrap_err().kind,
        Kind::SignInRefused,
        "the approval is over"
    );
    world.state(PersonState::Suspended);
    let refused = world.federated(&arrived, &identity).await;
    assert_eq!(
        (refused.login.result.as_str(), refused.result.is_err()),
        ("suspended", true)
    );
    world.state(PersonState::Active);
}

async fn links(world: &World) {
    let arrived = world.arrived("uni-a").await;
    let session = Session {
        id: world.ids.next().unwrap(),
        person: world.john,
        kind: SessionKind::Browser,
        created: world.clock.now(),
        expires: world.clock.now().plus(Duration::from_secs(36_000)),
        methods: vec!["pwd".into()],
        acr: "aal1".into(),
        must_change: false,
        identity: None,
    };
    let id = session.id;
    let subject = Subject::for_test(
        Who::Person(world.person()),
        Some(Arc::new(session)),
        from("192.0.2.7"),
    );
    let of = |link: Option<SessionId>, auth_time: i64| {
        let mut arrived = arrived.clone();
        arrived.link = link;
        arrived.claims.all.insert("auth_time".into(), auth_time.into());
        world
            .service
            .linked(&subject, &arrived)
            .map(|identity| identity.person)
    };
    let now = world.clock.now().secs();
    assert_eq!(of(Some(id), now).unwrap(), Some(world.john));
    for (link, at) in [
        (None, now),
        (Some(world.ids.next().unwrap()), now),
        (Some(id), now - 700),
    ] {
        assert_eq!(of(link, at).unwrap_err().kind, Kind::SignInRefused);
    }
    assert_eq!(
        world
            .service
            .linked(
                &subject,
                &Arrived {
                    link: Some(id),
                    ..arrived.clone()
                }
            )
            .unwrap_err()
            .kind,
        Kind::SignInRefused
    );
    let anonymous = Subject::for_test(Who::Anonymous, None, from("192.0.2.7"));
    let theirs = Arrived {
        link: Some(id),
        ..arrived.clone()
    };
    assert_eq!(
        world.service.linked(&anonymous, &theirs).unwrap_err().kind,
        Kind::SignInRefused
    );
    // The only way in stays.
    let identity = world.service.identities_of(world.john).await.unwrap().remove(0);
    let mut tx = world.db.begin_write().await.unwrap();
    let only = world
        .service
        .unlink_identity(&mut tx, &subject, identity.id, request())
        .await;
    assert_eq!(only.unwrap_err().kind, Kind::Conflict);
    let nobodys = world
        .service
        .unlink_identity(&mut tx, &subject, world.ids.next().unwrap(), request())
        .await;
    assert_eq!(nobodys.unwrap_err().kind, Kind::NotFound);
    drop(tx);
    world.clock.advance(Duration::from_secs(601));
    let late = world
        .service
        .link_start(&subject, "uni-a", ("https://gw", "/"))
        .await;
    assert_eq!(late.unwrap_err().kind, Kind::StepUpRequired);
}

async fn removal(world: &World) {
    let arrived = world.arrived("uni-a").await;
    let before = world.service.identities_of(world.john).await.unwrap().remove(0);
    let until = world.clock.now().plus(Duration::from_secs(60));
    let identity = before.clone().renewed(until);
    let mut tx = world.db.begin_write().await.unwrap();
    let put = world
        .service
        .put_identity(&mut tx, "idp.renew", Some(&before), &identity);
    put.await.unwrap();
    tx.commit().await.unwrap();
    let signed = world.federated(&arrived, &identity).await;
    let opened = world.service.begin(signed.result.unwrap()).await.unwrap();
    let late = world.federated(&arrived, &identity).await;
    let mut tx = world.db.begin_write().await.unwrap();
    let (_, ended) = world
        .service
        .remove_idp(&mut tx, "uni-a", request())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert!(
        ended
            .iter()
            .any(|ended| ended.sessions.contains(&opened.session.id))
    );
    for ended in &ended {
        world.service.end(ended).await.unwrap();
    }
    assert!(world.service.session(opened.session.id).is_none());
    assert!(world.service.begin(late.result.unwrap()).await.is_err());
    assert_eq!(world.service.idp("uni-a").await.unwrap_err().kind, Kind::NotFound);
    // Whoever comes from a provider of the same issuer later is somebody new.
    world.provider("uni-a", "https://idp.example.org").await.unwrap();
    let again = world.service.new_identity(&world.arrived("uni-a").await).unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    assert!(
        world
            .service
            .put_identity(&mut tx, "idp.wait", None, &again)
            .await
            .is_ok()
    );
    drop(tx);
    let mut tx = world.db.begin_write().await.unwrap();
    world.service.erase(&mut tx, world.john).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.service.identities_of(world.john).await.unwrap().is_empty());
}
