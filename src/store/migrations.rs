//! The store's tables, in numbered steps that only go forward; the same numbers for both engines.

use sqlx::migrate::{Migration, MigrationType, Migrator};

macro_rules! steps {
    ($engine:literal) => {
        [
            (
                1,
                "applied",
                include_str!(concat!("../../migrations/", $engine, "/0001_applied.sql")),
            ),
            (
                100,
                "vo",
                include_str!(concat!("../../migrations/", $engine, "/0100_vo.sql")),
            ),
            (
                200,
                "authenticate",
                include_str!(concat!("../../migrations/", $engine, "/0200_authenticate.sql")),
            ),
            (
                300,
                "delegate",
                include_str!(concat!("../../migrations/", $engine, "/0300_delegate.sql")),
            ),
            (
                400,
                "tool",
                include_str!(concat!("../../migrations/", $engine, "/0400_tool.sql")),
            ),
            (
                500,
                "alert",
                include_str!(concat!("../../migrations/", $engine, "/0500_alert.sql")),
            ),
            (
                600,
                "upstream_http2",
                include_str!(concat!("../../migrations/", $engine, "/0600_upstream_http2.sql")),
            ),
            (
                700,
                "certificate_use",
                include_str!(concat!("../../migrations/", $engine, "/0700_certificate_use.sql")),
            ),
            (
                800,
                "person_certificate",
                include_str!(concat!(
                    "../../migrations/",
                    $engine,
                    "/0800_person_certificate.sql"
                )),
            ),
            (
                801,
                "revocation",
                include_str!(concat!("../../migrations/", $engine, "/0801_revocation.sql")),
            ),
            (
                900,
                "myproxy_upload",
                include_str!(concat!("../../migrations/", $engine, "/0900_myproxy_upload.sql")),
            ),
            (
                1000,
                "provider",
                include_str!(concat!("../../migrations/", $engine, "/1000_provider.sql")),
            ),
            (
                1200,
                "trace",
                include_str!(concat!("../../migrations/", $engine, "/1200_trace.sql")),
            ),
            (
                1300,
                "upload_person",
                include_str!(concat!("../../migrations/", $engine, "/1300_upload_person.sql")),
            ),
            (
                1500,
                "factor",
                include_str!(concat!("../../migrations/", $engine, "/1500_factor.sql")),
            ),
            (
                1600,
                "proxy_identity",
                include_str!(concat!("../../migrations/", $engine, "/1600_proxy_identity.sql")),
            ),
            (
                1700,
                "federation",
                include_str!(concat!("../../migrations/", $engine, "/1700_federation.sql")),
            ),
            (
                1800,
                "account",
                include_str!(concat!("../../migrations/", $engine, "/1800_account.sql")),
            ),
            (
                1801,
                "terms",
                include_str!(concat!("../../migrations/", $engine, "/1801_terms.sql")),
            ),
            (
                1802,
                "enrolment",
                include_str!(concat!("../../migrations/", $engine, "/1802_enrolment.sql")),
            ),
            (
                1900,
                "personal_token",
                include_str!(concat!("../../migrations/", $engine, "/1900_personal_token.sql")),
            ),
            (
                1901,
                "idempotency",
                include_str!(concat!("../../migrations/", $engine, "/1901_idempotency.sql")),
            ),
            (
                2000,
                "lent_proxy",
                include_str!(concat!("../../migrations/", $engine, "/2000_lent_proxy.sql")),
            ),
            (
                2001,
                "certified_key",
                include_str!(concat!("../../migrations/", $engine, "/2001_certified_key.sql")),
            ),
            (
                2100,
                "ceiling",
                include_str!(concat!("../../migrations/", $engine, "/2100_ceiling.sql")),
            ),
            (
                2200,
                "wrong_code",
                include_str!(concat!("../../migrations/", $engine, "/2200_wrong_code.sql")),
            ),
        ]
    };
}

pub(super) fn sqlite() -> Migrator {
    migrator(&steps!("sqlite"))
}

pub(super) fn postgres() -> Migrator {
    migrator(&steps!("postgres"))
}

fn migrator(steps: &[(i64, &'static str, &'static str)]) -> Migrator {
    Migrator::with_migrations(
        steps
            .iter()
            .map(|(number, name, sql)| {
                Migration::new(
                    *number,
                    (*name).into(),
                    MigrationType::Simple,
                    sqlx::SqlStr::from_static(sql),
                    false,
                )
            })
            .collect(),
    )
}
