//! Personal access tokens, on every engine.

use super::*;
use crate::authenticate::{Scope, TokenAsk};

pub(super) async fn contract(db: &Db) {
    a_token_outlives_a_restart_and_ends_with_a_reset(&World::new(db).await).await;
    signing_in_often_ends_no_token(&World::new(db).await).await;
}

async fn by(world: &World) -> Subject {
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    world
        .ask(&bearer(&opened), &own(Audience::AnyPerson))
        .await
        .unwrap()
}

async fn made(world: &World, subject: &Subject) -> (Secret<String>, SessionId) {
    let ask = TokenAsk {
        name: " nightly ",
        scope: Scope {
            parts: vec!["imense/jobs".parse().unwrap()],
            ..Scope::default()
        },
        expires: world.clock.now().plus(Duration::from_secs(86_400)),
    };
    let new = world.service.new_token(subject, ask).await.unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    let change = world.service.write_token(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    world.service.refresh().await.unwrap();
    assert!(!format!("{change:?}").contains("nightly"), "{change:?}");
    let id = new.session().id;
    (new.token, id)
}

async fn a_token_outlives_a_restart_and_ends_with_a_reset(world: &World) {
    world.settled().await;
    let subject = by(world).await;
    let (token, id) = made(world, &subject).await;
    let value = format!("Bearer {}", token.expose());
    let shown = head("GET", &[("authorization", &value)]);
    let place = tool_place(Address::Path, false);
    let session = |subject: &Subject| subject.session().unwrap().clone();
    let seen = session(&world.ask(&shown, &place).await.unwrap());
    assert_eq!((seen.id, seen.acr.as_str()), (id, "aal1"));
    assert_eq!(seen.kind.personal().unwrap().name, "nightly");
    // In the place of a password too, for its own person, where no password is taken.
    let both = |user: &str| basic(user, token.expose());
    let by_basic = world.ask(&both("John"), &place).await.unwrap();
    assert_eq!(session(&by_basic).id, id);
    assert_eq!(
        world.kind(&both("mary"), &place).await,
        Some(Kind::WrongCredential)
    );
    // A cookie it is not.
    let cookie = format!("{COOKIE}={}", token.expose());
    let cookie = head("GET", &[("cookie", &cookie)]);
    assert_eq!(
        world.kind(&cookie, &own(Audience::AnyPerson)).await,
        Some(Kind::WrongCredential)
    );
    // No session of long ago makes one.
    world.clock.advance(Duration::from_secs(15 * 60));
    let ask = TokenAsk {
        name: "x",
        scope: Scope {
            myproxy: true,
            ..Scope::default()
        },
        expires: world.clock.now().plus(Duration::from_secs(60)),
    };
    let stale = world.service.new_token(&subject, ask).await.unwrap_err();
    assert_eq!(stale.kind, Kind::StepUpRequired);
    let again = world.restarted(cheap()).await;
    let kept = again.tokens_of(world.john);
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0.kind, seen.kind);
    assert!(
        again
            .revoking(PersonId::from(uuid::Uuid::nil()), id, request())
            .is_none()
    );
    assert_eq!(again.revoking(world.john, id, request()).unwrap().sessions, [id]);

    let one_time = world.service.one_time_password().await.unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    let person = world.person();
    let reset = world
        .service
        .reset_password(&mut tx, &person, one_time, request())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let ended = reset.ended.unwrap();
    assert!(ended.sessions.contains(&id));
    world.service.forget(&ended).await.unwrap();
    assert_eq!(world.kind(&shown, &place).await, Some(Kind::WrongCredential));
    // The session that made it has ended, so it makes no more.
    let held = world.service.held(world.john).await.unwrap();
    let token = held.iter().find(|session| session.id == id).unwrap();
    assert_eq!(
        (token.kind.as_str(), token.name.as_deref()),
        ("personal", Some("nightly"))
    );
    let mut tx = world.db.begin_write().await.unwrap();
    world.service.erase(&mut tx, world.john).await.unwrap();
    tx.commit().await.unwrap();
    let held = world.service.held(world.john).await.unwrap();
    assert!(held.iter().all(|session| session.name.is_none()));
}

async fn signing_in_often_ends_no_token(world: &World) {
    world.settled().await;
    let (_, id) = made(world, &by(world).await).await;
    let limit = world.config.sessions_per_person;
    for _ in 0..limit + 2 {
        if let Some(ended) = world.sign_in(PHRASE, Opening::Token).await.surplus {
            assert!(!ended.sessions.contains(&id));
            world.service.end(&ended).await.unwrap();
        }
    }
    assert_eq!(world.service.tokens_of(world.john).len(), 1);
    assert_eq!(world.service.sessions_of(world.john).len(), limit + 1);
}
