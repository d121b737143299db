//! Second factors, on both store engines and with the clock in hand.

use std::sync::atomic::{AtomicU64, Ordering};

use data_encoding::BASE32_NOPAD;

use super::super::factor::totp;
use super::*;
use crate::tool::Assurance;
use crate::trust::seal::SealingKey;

const SHORT: &str = "kqwvzhrt";

/// What shows codes.
struct Authenticator(Vec<u8>);

impl Authenticator {
    /// The code of now, or of so many steps later.
    fn code(&self, world: &World, later: i64) -> Secret<String> {
        let step = world.clock.now().secs() / totp::PERIOD + later;
        Secret::new(format!("{:06}", totp::code(&self.0, step)))
    }
}

/// A code that is not right now.
fn wrong_code(authenticator: &Authenticator, world: &World) -> Secret<String> {
    let near: Vec<u32> = (-2..=2)
        .map(|later| authenticator.code(world, later).expose().parse().unwrap())
        .collect();
    let wrong = (0..10).find(|code| !near.contains(code)).unwrap();
    Secret::new(format!("{wrong:06}"))
}

impl World {
    async fn unsealed(db: &Db) -> Self {
        let world = Self::new(db).await;
        world.unseal();
        world
    }

    fn unseal(&self) {
        self.service
            .unsealed(SealingKey::generate(&SystemSource::new()).unwrap());
    }

    async fn subject(&self, opened: &Opened) -> Subject {
        self.ask(&bearer(opened), &own(Audience::AnyPerson))
            .await
            .unwrap()
    }

    /// John's factor, added in the session of `opened`.
    async fn bound(&self, opened: &Opened) -> (Authenticator, FactorChange) {
        let subject = self.subject(opened).await;
        let offer = self
            .service
            .offer_factor(&subject, &secret(PHRASE), HOST)
            .await
            .unwrap();
        let raw = BASE32_NOPAD.decode(offer.secret.expose().as_bytes()).unwrap();
        let authenticator = Authenticator(raw);
        let code = authenticator.code(self, 0);
        let new = self
            .service
            .add_factor(&subject, &offer.binding, &code, "phone")
            .await
            .unwrap();
        let mut tx = self.db.begin_write().await.unwrap();
        let change = self
            .service
            .bind_factor(&mut tx, &subject, new, request())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        if let Some(ended) = &change.ended {
            self.service.forget(ended).await.unwrap();
        }
        // What was shown to bind it is used up.
        self.clock.advance(Duration::from_secs(30));
        (authenticator, change)
    }

    async fn try_with_code(&self, password: &str, code: Option<&Secret<String>>, ip: &str) -> SignedIn {
        // Each is a request of its own: what it applied is noted under its id.
        static NEXT: AtomicU64 = AtomicU64::new(1_000);
        let password = secret(password);
        let asked = SignIn {
            username: "john",
            password: &password,
            code,
            opening: Opening::Browser,
            source: from(ip),
            request: uuid::Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into()).into(),
        };
        self.service.sign_in(asked).await.unwrap()
    }

    /// As if so many wrong codes had been tried.
    async fn guessed(&self, count: i64) {
        let mut tx = self.db.begin_write().await.unwrap();
        let changed = crate::store::run!(
            &mut tx,
            "UPDATE login_count SET wrong_codes = $1 WHERE person = $2",
            count,
            self.john.uuid()
        );
        assert_eq!(changed.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// The session that comes in the place of `opened` when a code is shown.
    async fn raised(&self, opened: &Opened, authenticator: &Authenticator) -> Opened {
        let subject = self.subject(opened).await;
        let code = authenticator.code(self, 0);
        let signed = self.service.step_up(&subject, &code, request()).await.unwrap();
        let raised = self.service.begin(signed.result.unwrap()).await.unwrap();
        self.service.forget(&signed.ended.unwrap()).await.unwrap();
        raised
    }

    async fn removed(&self, opened: &Opened, code: &Secret<String>) {
        let subject = self.subject(opened).await;
        let (factors, _) = self.service.factors(self.john).await.unwrap();
        let used = self.service.fresh_code(&subject, code).await.unwrap();
        let mut tx = self.db.begin_write().await.unwrap();
        let change = self
            .service
            .remove_factor(&mut tx, &subject, (factors[0].id, used), request())
            .await
            .unwrap();
        tx.commit().await.unwrap();
        if let Some(ended) = &change.ended {
            self.service.forget(ended).await.unwrap();
        }
    }
}

pub(super) async fn contract(db: &Db) {
    with_a_factor_a_password_alone_opens_nothing(&World::unsealed(db).await).await;
    a_code_is_good_once_whoever_is_faster(&World::unsealed(db).await).await;
    a_wrong_code_is_answered_as_a_wrong_password_and_slows_the_person(&World::unsealed(db).await).await;
    a_password_alone_never_clears_the_way_for_more_codes(&World::unsealed(db).await).await;
    a_recovery_code_is_good_once_and_on_record(&World::unsealed(db).await).await;
    a_recovery_code_that_renews_the_codes_is_on_record_as_used(&World::unsealed(db).await).await;
    a_ticket_ends_with_its_time_and_with_its_password(&World::unsealed(db).await).await;
    stepping_up_ends_the_old_session_and_keeps_its_end(&World::unsealed(db).await).await;
    what_began_by_the_password_alone_ends_when_a_factor_is_bound(&World::unsealed(db).await).await;
    an_offer_from_before_the_first_factor_binds_none_beside_it(&World::unsealed(db).await).await;
    an_offer_is_taken_up_once_by_its_person_in_time(&World::unsealed(db).await).await;
    a_short_password_is_enough_beside_a_factor_and_no_longer(&World::unsealed(db).await).await;
    while_sealed_nobody_with_a_factor_signs_in(db).await;
    another_sealing_key_opens_what_the_first_one_sealed(&World::unsealed(db).await).await;
    a_reset_takes_factors_codes_and_sessions_away(&World::unsealed(db).await).await;
    no_session_outlives_the_last_factor(&World::unsealed(db).await).await;
    of_many_requests_with_one_code_one_is_on_record_as_let_in(&World::unsealed(db).await).await;
    a_hundred_wrong_codes_are_the_last_and_a_recovery_code_ends_it(&World::unsealed(db).await).await;
    codes_that_come_at_once_are_judged_to_the_limit_and_no_further(&World::unsealed(db).await).await;
    what_sets_the_count_of_codes_back(&World::unsealed(db).await).await;
    // SQLite lets nobody sign in while another transaction writes.
    if matches!(db, Db::Postgres(_)) {
        a_change_that_a_sign_in_overtook_is_done_when_it_is_begun_anew(&World::unsealed(db).await).await;
    }
}

async fn with_a_factor_a_password_alone_opens_nothing(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    assert_eq!(change.recovery_codes.len(), 10);
    let alone = world.try_with_code(PHRASE, None, "192.0.2.1").await;
    assert_eq!(alone.login.result, "code_needed");
    assert_eq!(alone.result.unwrap_err().kind, Kind::SecondFactorRequired);
    // Nor by Basic, and nothing begins.
    let refused = world
        .ask(&basic("john", PHRASE), &tool_place(Address::ToolHost, true))
        .await;
    assert_eq!(refused.unwrap_err().problem.kind, Kind::SecondFactorRequired);
    assert_eq!(world.service.sessions_of(world.john).len(), 1);
    let code = authenticator.code(world, 0);
    let signed = world.try_with_code(PHRASE, Some(&code), "192.0.2.1").await;
    assert_eq!(signed.login.methods, ["pwd", "otp", "mfa"]);
    let session = world.service.begin(signed.result.unwrap()).await.unwrap().session;
    assert_eq!(session.assurance(), Assurance::Aal2);
    assert_eq!(session.methods, ["pwd", "otp", "mfa"]);
    // Without it, as before.
    let code = authenticator.code(world, 1);
    world.removed(&opened, &code).await;
    assert_eq!(
        world.sign_in(PHRASE, Opening::Token).await.session.assurance(),
        Assurance::Aal1
    );
}

async fn a_code_is_good_once_whoever_is_faster(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    // At two nodes, of which neither knows what the other has claimed: so it is here when that is over.
    let code = &change.recovery_codes[0];
    let first = world.try_with_code(PHRASE, Some(code), "192.0.2.1").await;
    world.clock.advance(Duration::from_secs(60));
    let second = world.try_with_code(PHRASE, Some(code), "192.0.2.1").await;
    world.service.begin(first.result.unwrap()).await.unwrap();
    let late = world.service.begin(second.result.unwrap()).await.unwrap_err();
    assert_eq!(late.kind, Kind::WrongCredential);
    let code = authenticator.code(world, 0);
    let signed = world.try_with_code(PHRASE, Some(&code), "192.0.2.1").await;
    world.service.begin(signed.result.unwrap()).await.unwrap();
    let again = world.try_with_code(PHRASE, Some(&code), "192.0.2.1").await;
    assert_eq!(again.login.result, "wrong_code");
    // The one before it is not taken either.
    let before = authenticator.code(world, -1);
    let again = world.try_with_code(PHRASE, Some(&before), "192.0.2.1").await;
    assert_eq!(again.login.result, "wrong_code");
}

async fn a_wrong_code_is_answered_as_a_wrong_password_and_slows_the_person(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    let wrong = wrong_code(&authenticator, world);
    let hashes = world.service.password_hashes().get();
    let failures = world.service.logins(world.john).await.unwrap().failures;
    let code = world.try_with_code(PHRASE, Some(&wrong), "192.0.2.1").await;
    let password = world.try_with_code(OTHER, Some(&wrong), "192.0.2.1").await;
    assert_eq!(code.login.result, "wrong_code");
    assert_eq!(password.login.result, "wrong");
    assert_eq!(code.result.unwrap_err(), password.result.unwrap_err());
    assert!(code.ticket.is_none() && password.ticket.is_none());
    assert_eq!(world.service.password_hashes().get() - hashes, 2);
    let counted = world.service.logins(world.john).await.unwrap().failures - failures;
    assert_eq!(counted, 2);
    // From wherever they come, the codes of one person are few; from elsewhere than the wrong ones, the right one is taken.
    let mut tried = Vec::new();
    for n in 0..19 {
        let ip = format!("198.51.100.{}", n / 5);
        tried.push(world.try_with_code(PHRASE, Some(&wrong), &ip).await.login.result);
        if n == 9 {
            let right = authenticator.code(world, 0);
            let signed = world.try_with_code(PHRASE, Some(&right), "198.51.100.76").await;
            assert_eq!(signed.login.result, "ok");
        }
    }
    assert_eq!(tried, ["wrong_code"; 19]);
    let right = authenticator.code(world, 1);
    let slowed = world.try_with_code(PHRASE, Some(&right), "198.51.100.77").await;
    assert_eq!(slowed.login.result, "throttled");
    assert_eq!(slowed.result.unwrap_err().kind, Kind::TooManyAttempts);
    // Sessions that have begun are not slowed by it, and neither is who has a recovery code.
    let subject = world.subject(&opened).await;
    world.service.fresh_code(&subject, &right).await.unwrap();
    let signed = world
        .try_with_code(PHRASE, Some(&change.recovery_codes[0]), "198.51.100.77")
        .await;
    assert_eq!(signed.login.result, "ok");
    // Whoever does not know the password uses none of them up.
    world.clock.advance(Duration::from_secs(21));
    let wrong = wrong_code(&authenticator, world);
    for n in 1..=9 {
        let tried = world
            .try_with_code(OTHER, Some(&wrong), &format!("203.0.113.{n}"))
            .await;
        assert_eq!(tried.login.result, "wrong", "{n}");
    }
    let right = authenticator.code(world, 0);
    let signed = world.try_with_code(PHRASE, Some(&right), "198.51.100.78").await;
    assert_eq!(signed.login.result, "ok");
}

async fn a_password_alone_never_clears_the_way_for_more_codes(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, _) = world.bound(&opened).await;
    let wrong = wrong_code(&authenticator, world);
    let mut results = Vec::new();
    for _ in 0..6 {
        let alone = world.try_with_code(PHRASE, None, "192.0.2.1").await;
        results.push(alone.login.result);
        let tried = world.try_with_code(PHRASE, Some(&wrong), "192.0.2.1").await;
        results.push(tried.login.result);
    }
    assert_eq!(results.iter().filter(|result| *result == "wrong_code").count(), 5);
    assert_eq!(results.last().unwrap(), "throttled");
}

async fn a_recovery_code_is_good_once_and_on_record(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    let code = &change.recovery_codes[3];
    let signed = world.try_with_code(PHRASE, Some(code), "192.0.2.1").await;
    let used = signed.change.clone().unwrap();
    assert_eq!(used.action, "factor.use_recovery_code");
    assert_eq!(used.after.unwrap()["recovery_codes"], 9);
    assert_eq!(signed.events().len(), 2);
    world.service.begin(signed.result.unwrap()).await.unwrap();
    assert!(world.service.was_applied(signed.login.request).await.unwrap());
    let again = world.try_with_code(PHRASE, Some(code), "192.0.2.1").await;
    assert_eq!(again.login.result, "wrong_code");
    assert_eq!(world.service.factors(world.john).await.unwrap().1, 9);
    // New ones put an end to the old ones.
    let subject = world.subject(&opened).await;
    let fresh = authenticator.code(world, 0);
    let used = world.service.fresh_code(&subject, &fresh).await.unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    let renewed = world
        .service
        .renew_recovery_codes(&mut tx, &subject, used)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let old = world
        .try_with_code(PHRASE, Some(&change.recovery_codes[4]), "192.0.2.1")
        .await;
    assert_eq!(old.login.result, "wrong_code");
    let new = world
        .try_with_code(PHRASE, Some(&renewed.recovery_codes[0]), "192.0.2.1")
        .await;
    assert_eq!(new.login.result, "ok");
}

async fn a_recovery_code_that_renews_the_codes_is_on_record_as_used(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (_, change) = world.bound(&opened).await;
    let subject = world.subject(&opened).await;
    let code = &change.recovery_codes[2];
    let used = world.service.fresh_code(&subject, code).await.unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    let renewed = world.service.renew_recovery_codes(&mut tx, &subject, used);
    let renewed = renewed.await.unwrap();
    tx.commit().await.unwrap();
    let [used, renewed] = renewed.changes.as_slice() else {
        panic!("{:?}", renewed.changes)
    };
    assert_eq!(used.action, "factor.use_recovery_code");
    assert_eq!(used.after.as_ref().unwrap()["recovery_codes"], 9);
    assert_eq!(renewed.action, "factor.renew_recovery_codes");
    assert_eq!(renewed.before.as_ref().unwrap()["recovery_codes"], 9);
    assert_eq!(renewed.after.as_ref().unwrap()["recovery_codes"], 10);
}

async fn a_ticket_ends_with_its_time_and_with_its_password(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, _) = world.bound(&opened).await;
    let ticket = world
        .try_with_code(PHRASE, None, "192.0.2.1")
        .await
        .ticket
        .unwrap();
    let step = |ticket: Secret<String>, code: Secret<String>| async move {
        let asked = SecondStep {
            ticket: &ticket,
            code: &code,
            source: from("192.0.2.1"),
            request: request(),
        };
        world.service.second_step(asked).await.unwrap()
    };
    let wrong = step(ticket.clone(), wrong_code(&authenticator, world)).await;
    assert_eq!(wrong.login.result, "wrong_code");
    assert_eq!(wrong.login.person, Some(world.john));
    for other in ["", "AAAA", &ticket.expose()[1..]] {
        let made_up = step(secret(other), authenticator.code(world, 0)).await;
        assert_eq!(
            (made_up.login.result.as_str(), made_up.login.person),
            ("expired", None)
        );
    }
    let right = step(ticket.clone(), authenticator.code(world, 0)).await;
    let begun = world.service.begin(right.result.unwrap()).await.unwrap();
    assert_eq!(begun.session.kind, SessionKind::Browser);
    assert_eq!(begun.session.assurance(), Assurance::Aal2);
    // Nor does it outlive the password that it stands for, or its five minutes.
    let other = world
        .try_with_code(PHRASE, None, "192.0.2.1")
        .await
        .ticket
        .unwrap();
    world.clock.advance(Duration::from_secs(301));
    let late = step(other, authenticator.code(world, 0)).await;
    assert_eq!(late.login.result, "expired");
    let other = world
        .try_with_code(PHRASE, None, "192.0.2.1")
        .await
        .ticket
        .unwrap();
    let subject = world.subject(&opened).await;
    world.change(&subject, Some(PHRASE), OTHER).await.unwrap();
    let old = step(other, authenticator.code(world, 0)).await;
    assert_eq!(old.login.result, "expired");
}

async fn stepping_up_ends_the_old_session_and_keeps_its_end(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, _) = world.bound(&opened).await;
    let subject = world.subject(&opened).await;
    let wrong = wrong_code(&authenticator, world);
    let signed = world.service.step_up(&subject, &wrong, request()).await.unwrap();
    assert_eq!(signed.login.result, "wrong_code");
    assert!(signed.result.is_err());
    let code = authenticator.code(world, 0);
    let signed = world.service.step_up(&subject, &code, request()).await.unwrap();
    let ended = signed.ended.clone().unwrap();
    assert_eq!(ended.sessions, [opened.session.id]);
    let raised = world.service.begin(signed.result.unwrap()).await.unwrap();
    world.service.forget(&ended).await.unwrap();
    assert_eq!(raised.session.methods, ["pwd", "otp", "mfa"]);
    assert_eq!(raised.session.expires, opened.session.expires);
    let old = world.kind(&bearer(&opened), &own(Audience::AnyPerson)).await;
    assert_eq!(old, Some(Kind::WrongCredential));
    let subject = world.subject(&raised).await;
    assert_eq!(subject.entry().acr, "aal2");
    // The same code again, in the new session.
    let again = world.service.step_up(&subject, &code, request()).await.unwrap();
    assert_eq!(again.login.result, "wrong_code");
}

async fn what_began_by_the_password_alone_ends_when_a_factor_is_bound(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let other = world.sign_in(PHRASE, Opening::Token).await;
    // Judged before, begun after.
    let prepared = world
        .try_with_code(PHRASE, None, "192.0.2.1")
        .await
        .result
        .unwrap();
    let (_, change) = world.bound(&opened).await;
    assert_eq!(change.ended.unwrap().sessions, [other.session.id]);
    let gone = world.kind(&bearer(&other), &own(Audience::AnyPerson)).await;
    assert_eq!(gone, Some(Kind::WrongCredential));
    assert!(world.service.begin(prepared).await.is_err());
    // In a session of the password alone no other factor is added beside it.
    let subject = world.subject(&opened).await;
    let refused = world
        .service
        .offer_factor(&subject, &secret(PHRASE), HOST)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, Kind::StepUpRequired);
}

async fn an_offer_from_before_the_first_factor_binds_none_beside_it(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let subject = world.subject(&opened).await;
    let second = world
        .service
        .offer_factor(&subject, &secret(PHRASE), HOST)
        .await
        .unwrap();
    let (first, _) = world.bound(&opened).await;
    let raw = BASE32_NOPAD.decode(second.secret.expose().as_bytes()).unwrap();
    let authenticator = Authenticator(raw);
    let bind = |subject: Subject| {
        let (code, binding) = (authenticator.code(world, 0), second.binding.clone());
        async move {
            let new = world.service.add_factor(&subject, &binding, &code, "").await;
            let mut tx = world.db.begin_write().await.unwrap();
            let bound = world
                .service
                .bind_factor(&mut tx, &subject, new?, request())
                .await;
            tx.commit().await.unwrap();
            bound
        }
    };
    let refused = bind(subject.clone()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::StepUpRequired);
    assert_eq!(world.service.factors(world.john).await.unwrap().0.len(), 1);
    // Once the first was shown, the same offer is good.
    let raised = world.raised(&opened, &first).await;
    bind(world.subject(&raised).await).await.unwrap();
    assert_eq!(world.service.factors(world.john).await.unwrap().0.len(), 2);
}

async fn an_offer_is_taken_up_once_by_its_person_in_time(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let subject = world.subject(&opened).await;
    let wrong = world.service.offer_factor(&subject, &secret(OTHER), HOST).await;
    assert_eq!(wrong.unwrap_err().members["field"], "password");
    let offer = world
        .service
        .offer_factor(&subject, &secret(PHRASE), HOST)
        .await
        .unwrap();
    let uri = offer.uri.expose();
    assert!(
        uri.starts_with("otpauth://totp/gw.localhost:john?secret="),
        "{uri}"
    );
    let authenticator = Authenticator(BASE32_NOPAD.decode(offer.secret.expose().as_bytes()).unwrap());
    let add = |binding: Secret<String>, code: Secret<String>| {
        let subject = subject.clone();
        async move { world.service.add_factor(&subject, &binding, &code, "").await }
    };
    let wrong = wrong_code(&authenticator, world);
    let refused = add(offer.binding.clone(), wrong).await.unwrap_err();
    assert_eq!(refused.members["field"], "code");
    let changed = secret(&offer.binding.expose()[1..]);
    let refused = add(changed, authenticator.code(world, 0)).await.unwrap_err();
    assert_eq!(refused.members["field"], "binding");
    let new = add(offer.binding.clone(), authenticator.code(world, 0))
        .await
        .unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    world
        .service
        .bind_factor(&mut tx, &subject, new, request())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    world.clock.advance(Duration::from_secs(30));
    let twice = add(offer.binding.clone(), authenticator.code(world, 0)).await;
    assert_eq!(twice.unwrap_err().members["field"], "binding");
    world.clock.advance(Duration::from_secs(600));
    let late = add(offer.binding.clone(), authenticator.code(world, 0)).await;
    assert_eq!(late.unwrap_err().members["field"], "binding");
}

async fn a_short_password_is_enough_beside_a_factor_and_no_longer(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let subject = world.subject(&opened).await;
    let refused = world.change(&subject, Some(PHRASE), SHORT).await.unwrap_err();
    assert_eq!(refused.members["reason"], "too_short");
    let (authenticator, _) = world.bound(&opened).await;
    world.change(&subject, Some(PHRASE), SHORT).await.unwrap();
    let code = authenticator.code(world, 0);
    let signed = world.try_with_code(SHORT, Some(&code), "192.0.2.1").await;
    assert!(!signed.result.as_ref().unwrap().session.must_change);
    world.service.begin(signed.result.unwrap()).await.unwrap();
    let code = authenticator.code(world, 1);
    world.removed(&opened, &code).await;
    // The password alone opens its change, and nothing by Basic.
    let alone = world.sign_in(SHORT, Opening::Token).await;
    assert!(alone.session.must_change);
    let refused = world
        .ask(&basic("john", SHORT), &tool_place(Address::ToolHost, true))
        .await;
    assert_eq!(refused.unwrap_err().problem.kind, Kind::PasswordChangeRequired);
    let subject = world
        .ask(&bearer(&alone), &own(Audience::AnySession))
        .await
        .unwrap();
    assert!(world.change(&subject, None, "qkwvzhrt").await.is_err());
    let changed = world.change(&subject, None, OTHER).await.unwrap();
    assert_eq!(changed.change.before.unwrap()["one_time"], false);
    assert!(!world.sign_in(OTHER, Opening::Token).await.session.must_change);
}

async fn while_sealed_nobody_with_a_factor_signs_in(db: &Db) {
    let world = World::unsealed(db).await;
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    let sealed = world.restarted(cheap()).await;
    let code = authenticator.code(&world, 0);
    let password = secret(PHRASE);
    for code in [None, Some(&code), change.recovery_codes.first()] {
        let asked = SignIn {
            username: "john",
            password: &password,
            code,
            opening: Opening::Token,
            source: from("192.0.2.1"),
            request: request(),
        };
        let refused = sealed.sign_in(asked).await.unwrap();
        assert_eq!(refused.login.result, "sealed");
        assert_eq!(refused.result.unwrap_err().kind, Kind::Sealed);
    }
    // A wrong password learns nothing of it.
    let other = secret(OTHER);
    let asked = SignIn {
        username: "john",
        password: &other,
        code: None,
        opening: Opening::Token,
        source: from("192.0.2.1"),
        request: request(),
    };
    let refused = sealed.sign_in(asked).await.unwrap();
    assert_eq!(refused.result.unwrap_err().kind, Kind::WrongCredential);
    // Another key opens nothing either.
    sealed.unsealed(SealingKey::generate(&SystemSource::new()).unwrap());
    let asked = SignIn {
        username: "john",
        password: &password,
        code: Some(&code),
        opening: Opening::Token,
        source: from("192.0.2.1"),
        request: request(),
    };
    let refused = sealed.sign_in(asked).await.unwrap();
    assert_eq!(refused.result.unwrap_err().kind, Kind::Sealed);
}

async fn another_sealing_key_opens_what_the_first_one_sealed(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, _) = world.bound(&opened).await;
    let next = SealingKey::generate(&SystemSource::new()).unwrap();
    let mut tx = world.db.begin_write().await.unwrap();
    let (sealed, _) = world.service.reseal_factors(&mut tx, &next).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(sealed, 1);
    let after = world.restarted(cheap()).await;
    after.unsealed(next);
    let (code, password) = (authenticator.code(world, 0), secret(PHRASE));
    let asked = SignIn {
        username: "john",
        password: &password,
        code: Some(&code),
        opening: Opening::Token,
        source: from("192.0.2.1"),
        request: request(),
    };
    assert_eq!(after.sign_in(asked).await.unwrap().login.result, "ok");
}

async fn of_many_requests_with_one_code_one_is_on_record_as_let_in(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    let (shown, recovery) = (authenticator.code(world, 0), &change.recovery_codes[0]);
    for code in [&shown, recovery] {
        let tries = (1..=5).map(|n| {
            let ip = format!("198.51.100.{n}");
            async move { world.try_with_code(PHRASE, Some(code), &ip).await }
        });
        let mut tried = futures_util::future::join_all(tries).await;
        tried.sort_by_key(|signed| signed.login.result != "ok");
        let results: Vec<&str> = tried.iter().map(|signed| signed.login.result.as_str()).collect();
        assert_eq!(results[1..], ["wrong_code"; 4]);
        assert!(tried[1..].iter().all(|signed| signed.change.is_none()));
        world
            .service
            .begin(tried.remove(0).result.unwrap())
            .await
            .unwrap();
    }
    // Nor two in a session that has begun.
    let subject = world.subject(&opened).await;
    let code = &change.recovery_codes[1];
    let first = world.service.step_up(&subject, code, request()).await.unwrap();
    let second = world.service.step_up(&subject, code, request()).await.unwrap();
    assert_eq!(
        (first.login.result.as_str(), second.login.result.as_str()),
        ("ok", "wrong_code")
    );
    assert_eq!((first.events().len(), second.events().len()), (3, 1));
}

async fn a_hundred_wrong_codes_are_the_last_and_a_recovery_code_ends_it(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, change) = world.bound(&opened).await;
    let service = &world.service;
    for n in 1..=100 {
        world.clock.advance(Duration::from_secs(20));
        let wrong = wrong_code(&authenticator, world);
        let tried = world.try_with_code(PHRASE, Some(&wrong), "192.0.2.1").await;
        assert_eq!(tried.login.result, "wrong_code", "{n}");
        let mut due = service.guessed().await.unwrap();
        due.retain(|guessed| guessed.person == world.john);
        let counts: Vec<i64> = due.iter().map(|guessed| guessed.count).collect();
        match n {
            10 | 100 => {
                assert_eq!((counts.as_slice(), due[0].is_end()), (&[n][..], n == 100));
                let mut tx = world.db.begin_write().await.unwrap();
                assert!(service.told_of(&mut tx, due[0]).await.unwrap());
                assert!(!service.told_of(&mut tx, due[0]).await.unwrap());
                tx.commit().await.unwrap();
            }
            _ => assert!(due.is_empty(), "{n}: {counts:?}"),
        }
    }
    world.clock.advance(Duration::from_secs(20));
    let right = authenticator.code(world, 0);
    let stopped = world.try_with_code(PHRASE, Some(&right), "198.51.100.1").await;
    assert_eq!(stopped.login.result, "stopped");
    assert_eq!(stopped.result.unwrap_err().kind, Kind::TooManyAttempts);
    let subject = world.subject(&opened).await;
    let stopped = service.fresh_code(&subject, &right).await.unwrap_err();
    assert_eq!(stopped.kind, Kind::TooManyAttempts);
    // Who does not know the password learns nothing of it.
    let other = world.try_with_code(OTHER, Some(&right), "198.51.100.2").await;
    assert_eq!(other.login.result, "wrong");
    let code = &change.recovery_codes[0];
    let recovered = world.try_with_code(PHRASE, Some(code), "198.51.100.1").await;
    assert_eq!(recovered.login.result, "ok");
    let signed = world.try_with_code(PHRASE, Some(&right), "198.51.100.1").await;
    assert_eq!(signed.login.result, "ok");
}

async fn codes_that_come_at_once_are_judged_to_the_limit_and_no_further(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, _) = world.bound(&opened).await;
    world.guessed(98).await;
    let wrong = wrong_code(&authenticator, world);
    let tries = (1..=5).map(|n| {
        let (ip, wrong) = (format!("198.51.100.{n}"), &wrong);
        async move { world.try_with_code(PHRASE, Some(wrong), &ip).await.login.result }
    });
    let mut results = futures_util::future::join_all(tries).await;
    results.sort_unstable();
    assert_eq!(
        results,
        ["stopped", "stopped", "stopped", "wrong_code", "wrong_code"]
    );
}

async fn a_change_that_a_sign_in_overtook_is_done_when_it_is_begun_anew(world: &World) {
    let service = &world.service;
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let subject = world.subject(&opened).await;
    let offer = service
        .offer_factor(&subject, &secret(PHRASE), HOST)
        .await
        .unwrap();
    let authenticator = Authenticator(BASE32_NOPAD.decode(offer.secret.expose().as_bytes()).unwrap());
    let code = authenticator.code(world, 0);
    let new = service
        .add_factor(&subject, &offer.binding, &code, "")
        .await
        .unwrap();
    let present = secret(PHRASE);
    let password = service
        .new_password(&subject, Some(&present), &secret(OTHER), &[])
        .await
        .unwrap();
    // The moment that such a transaction sees is that of its first query.
    let begun = async || {
        let mut tx = world.db.begin_whole().await.unwrap();
        let seen = crate::store::tx_rows!(&mut tx, (i64,), "SELECT COUNT(*) FROM password");
        assert!(seen.is_ok());
        tx
    };
    // The password: the change yields, for it would not see the session that began.
    let mut tx = begun().await;
    world.sign_in(PHRASE, Opening::Token).await;
    let late = service
        .change_password(&mut tx, password.clone(), request())
        .await;
    assert!(crate::store::is_overtaken(&late.unwrap_err()));
    drop(tx);
    let mut tx = begun().await;
    service
        .change_password(&mut tx, password, request())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    service.refresh().await.unwrap();
    assert_eq!(service.sessions_of(world.john).len(), 1);
    // The factor.
    let mut tx = begun().await;
    world.sign_in(OTHER, Opening::Token).await;
    let late = service
        .bind_factor(&mut tx, &subject, new.clone(), request())
        .await;
    assert!(crate::store::is_overtaken(&late.unwrap_err()));
    drop(tx);
    let mut tx = begun().await;
    service
        .bind_factor(&mut tx, &subject, new, request())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    service.refresh().await.unwrap();
    assert_eq!(service.sessions_of(world.john).len(), 1);
}

async fn what_sets_the_count_of_codes_back(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (authenticator, _) = world.bound(&opened).await;
    let result = async |password: &str| {
        world.clock.advance(Duration::from_secs(30));
        let code = authenticator.code(world, 0);
        let signed = world.try_with_code(password, Some(&code), "192.0.2.1").await;
        (signed.login.result.clone(), signed)
    };
    // A right code.
    world.guessed(99).await;
    assert_eq!(result(PHRASE).await.0, "ok");
    world.guessed(99).await;
    assert_eq!(result(PHRASE).await.0, "ok");
    // No change of the password in a session in which no factor was shown: whoever has one would go on guessing.
    world.guessed(100).await;
    let subject = world.subject(&opened).await;
    world.change(&subject, Some(PHRASE), OTHER).await.unwrap();
    assert_eq!(result(OTHER).await.0, "stopped");
    // A reset by somebody else, and a change in a session that has shown one.
    let reset = world.reset().await;
    let (word, signed) = result(reset.password.expose()).await;
    assert_eq!(word, "ok");
    let begun = world.service.begin(signed.result.unwrap()).await.unwrap();
    world.guessed(100).await;
    let subject = world
        .ask(&with_cookie("GET", &begun, &[]), &own(Audience::AnySession))
        .await
        .unwrap();
    world.change(&subject, None, PHRASE).await.unwrap();
    assert_eq!(result(PHRASE).await.0, "ok");
}

async fn no_session_outlives_the_last_factor(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    let (phone, _) = world.bound(&opened).await;
    let raised = world.raised(&opened, &phone).await;
    let (key, _) = world.bound(&raised).await;
    // The first of two goes: the session stays, for the other was there as well.
    world.removed(&raised, &key.code(world, 0)).await;
    assert_eq!(
        world.subject(&raised).await.session().unwrap().assurance(),
        Assurance::Aal2
    );
    world.clock.advance(Duration::from_secs(60));
    world.removed(&raised, &key.code(world, 0)).await;
    let gone = world.kind(&bearer(&raised), &own(Audience::AnyPerson)).await;
    assert_eq!(gone, Some(Kind::WrongCredential));
    assert!(world.service.sessions_of(world.john).is_empty());
}

async fn a_reset_takes_factors_codes_and_sessions_away(world: &World) {
    world.settled().await;
    let opened = world.sign_in(PHRASE, Opening::Token).await;
    world.bound(&opened).await;
    let mut tx = world.db.begin_write().await.unwrap();
    let reset = world
        .service
        .reset_factors(&mut tx, &world.person(), request())
        .await
        .unwrap()
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(reset.changes[0].before.as_ref().unwrap()["factors"], 1);
    world.service.forget(&reset.ended.unwrap()).await.unwrap();
    assert!(world.service.sessions_of(world.john).is_empty());
    assert_eq!(world.service.factors(world.john).await.unwrap(), (Vec::new(), 0));
    assert_eq!(
        world.sign_in(PHRASE, Opening::Token).await.session.assurance(),
        Assurance::Aal1
    );
    let mut tx = world.db.begin_write().await.unwrap();
    let none = world
        .service
        .reset_factors(&mut tx, &world.person(), request())
        .await
        .unwrap();
    assert!(none.is_none());
}
