//! John Smith's day. Every step is carried out, checked, and only then told.

use http::Method;
use serde_json::Value;

use super::say::Say;
use super::stage::{REASON, Ran, Stage, ready};
use crate::cli::client::Answer;
use crate::cli::failure::Failure;

/// The story's VO.
const VO: &str = "imaging";
/// The tool, as a program reaches it.
const TOOL: &str = "/imaging/segmentation";

/// Tells the story, from an empty folder to the verified log.
pub(super) async fn tell(stage: &mut Stage, say: Say) -> Result<(), Failure> {
    let admin = gateway(stage, say).await?;
    wrap(stage, say, &admin).await?;
    let john = people(stage, say)?;
    first_password(stage, say, &john)?;
    let proxy = submit(stage, say).await?;
    let refused = somebody_else(stage, say).await?;
    three_refusals(stage, say).await?;
    administrator(stage, say).await?;
    trace(stage, say, &proxy)?;
    explain(stage, say, &refused)?;
    verify(stage, say)
}

/// A step that was not as told.
fn expect(as_told: bool, what: &str) -> Result<(), Failure> {
    if as_told {
        Ok(())
    } else {
        Err(Failure::failed(format!("this step was not as told: {what}")))
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Runs a command as `who`, prints it, and expects it to succeed.
fn command(stage: &Stage, say: Say, who: &str, args: &[&str]) -> Result<Ran, Failure> {
    let ran = stage.run(who, args)?;
    say.command(&format!("countersign {}", shown(stage, args)))?;
    if ran.code == 0 {
        return Ok(ran);
    }
    Err(Failure::failed(format!(
        "this step was not as told: exit code {}\n{}{}",
        ran.code, ran.stdout, ran.stderr
    )))
}

/// Arguments as a person would type them, with the throw-away folder shortened.
fn shown(stage: &Stage, args: &[&str]) -> String {
    let folder = stage.dir().display().to_string();
    let quoted = args.iter().map(|arg| {
        let arg = arg.replace(&folder, "$QS");
        if arg.contains(' ') {
            format!("'{arg}'")
        } else {
            arg
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn problem(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

async fn gateway(stage: &mut Stage, say: Say) -> Result<String, Failure> {
    say.line(&format!("A throw-away gateway in QS={}", stage.dir().display()))?;
    say.step(1, "A data folder: settings, keys, a private CA whose key is gone, a VO with a certificate, an administrator")?;
    let (data, address) = (stage.data().display().to_string(), stage.address());
    let args = [
        "init",
        "--data",
        &data,
        "--listen",
        &address,
        "--operations",
        "127.0.0.1:0",
        "--vo",
        VO,
        "--admin",
        "anna",
        "--admin-name",
        "Anna Field",
        "--admin-mail",
        "anna@example.org",
        "--throwaway",
        "--json",
    ];
    let made = command(stage, say, "anna", &args)?.json()?;
    let one_time = text(&made, "/one_time_password").to_owned();
    say.shown(&format!("administrator anna, one-time password {one_time}"))?;

    say.step(
        2,
        "The gateway starts; a tool that has no users and no security waits behind a Unix socket",
    )?;
    stage.start_tool().await?;
    stage.start_gateway().await?;
    say.command("countersign serve --data $QS/data &")?;
    say.shown(&format!("serving {}", stage.base()?))?;
    sign_in(stage, say, "anna", &one_time)?;
    Ok("anna".into())
}

fn sign_in(stage: &Stage, say: Say, who: &str, one_time: &str) -> Result<(), Failure> {
    let base = stage.base()?;
    let old = stage.secret(&format!("{who}.one-time"), one_time)?;
    let new = stage.secret(&format!("{who}.password"), stage.password())?;
    let ca = stage.ca();
    let args = [
        "login",
        "--gateway",
        &base,
        "--ca",
        &ca,
        "--user",
        who,
        "--password-file",
        &old,
        "--new-password-file",
        &new,
    ];
    command(stage, say, who, &args)?;
    say.shown("signed in; the one-time password is used up, an own one is set")
}

async fn wrap(stage: &Stage, say: Say, admin: &str) -> Result<(), Failure> {
    say.step(
        3,
        "The administrator wraps the tool: an upstream, a manifest of tasks, grants to roles",
    )?;
    say.command(&format!(
        "export COUNTERSIGN_REASON='{REASON}' # edits of who may do what stand in the log with a reason"
    ))?;
    let manifest = stage.secret("segmentation.toml", crate::cli::sample::MANIFEST)?;
    let url = format!("unix:{}", stage.socket().display());
    command(
        stage,
        say,
        admin,
        &["upstream", "allow", VO, "segmentation", &url],
    )?;
    command(stage, say, admin, &["tool", "add", VO, &manifest])?;
    let own = ["list jobs", "monitor job", "download result", "terminate job"];
    let any = ["submit job", "view page"];
    let grant = |role: &'static str, tasks: &[&'static str], when: &'static str| {
        let mut args = vec!["grant", "add", VO, role, "segmentation"];
        args.extend(tasks);
        if when != "always" {
            args.extend(["--when", when]);
        }
        args
    };
    command(stage, say, admin, &grant("scientist", &any, "always"))?;
    command(stage, say, admin, &grant("scientist", &own, "own"))?;
    command(stage, say, admin, &grant("vo-administrator", &own, "always"))?;
    say.shown("scientists see and handle their own jobs only; the tool itself knows nothing of it")
}

fn people(stage: &Stage, say: Say) -> Result<String, Failure> {
    say.step(
        4,
        "Two scientists get accounts: a user name and a one-time password, no certificate",
    )?;
    let mut john = String::new();
    for (user, name) in [("john", "John Smith"), ("mary", "Mary Jones")] {
        let mail = format!("{user}@example.org");
        let args = [
            "user",
            "add",
            VO,
            user,
            "--name",
            name,
            "--mail",
            &mail,
            "--role",
            "scientist",
            "--show-password",
            "--json",
        ];
        let added = command(stage, say, "anna", &args)?.json()?;
        let one_time = text(&added, "/one_time_password").to_owned();
        expect(!one_time.is_empty(), "a one-time password is shown")?;
        if user == "john" {
            john = one_time;
        } else {
            let _ = stage.secret("mary.first", &one_time)?;
        }
    }
    Ok(john)
}

fn first_password(stage: &Stage, say: Say, john: &str) -> Result<(), Failure> {
    say.step(5, "John signs in for the first time and chooses his own password")?;
    sign_in(stage, say, "john", john)?;
    let mary = std::fs::read_to_string(stage.dir().join("mary.first"))?;
    sign_in(stage, say, "mary", &mary)?;
    let again = stage.run(
        "mallory",
        &login_args(stage, "john", john)?
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    )?;
    expect(again.code == 3, "the one-time password works once")?;
    say.shown("the one-time password does not work a second time (exit code 3)")
}

fn login_args(stage: &Stage, who: &str, password: &str) -> Result<Vec<String>, Failure> {
    let file = stage.secret("again", password)?;
    let args = [
        "login",
        "--gateway",
        &stage.base()?,
        "--ca",
        &stage.ca(),
        "--user",
        who,
        "--password-file",
        &file,
    ];
    Ok(args.iter().map(|arg| (*arg).to_owned()).collect())
}

fn curl(say: Say, who: &str, method: &str, path: &str, rest: &str) -> Result<(), Failure> {
    say.command(&format!(
        "curl --cacert $QS/data/tls/ca.pem -H \"Authorization: Bearer ${}\" -X {method} $GW{path}{rest}",
        who.to_uppercase()
    ))?;
    Ok(())
}

async fn submit(stage: &Stage, say: Say) -> Result<String, Failure> {
    say.step(
        6,
        "John submits an image; the tool is called with a proxy minted from the VO certificate",
    )?;
    curl(
        say,
        "john",
        "POST",
        &format!("{TOOL}/jobs?name=cells"),
        " --data-binary @cells.pgm",
    )?;
    let answer = stage
        .call(
            "john",
            Method::POST,
            &format!("{TOOL}/jobs?name=cells"),
            stage.image(),
        )
        .await?;
    expect(
        answer.status == 201,
        &format!("submitted: {}", String::from_utf8_lossy(&answer.body)),
    )?;
    let location = answer
        .headers
        .get("location")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    expect(
        location.ends_with("/segmentation/jobs/1"),
        &format!("the job's address is rewritten: {location}"),
    )?;
    say.shown(&format!("201 Created, Location: {location}"))?;

    let job = finished(stage, "john", 1).await?;
    curl(say, "john", "GET", &format!("{TOOL}/jobs/1"), "")?;
    let serial = text(&job, "/called_with/serial").to_owned();
    expect(!serial.is_empty(), "the tool was given a proxy")?;
    say.shown(&format!(
        "state {}, threshold {}, foreground {}\nthe tool was called with the proxy  {}\n                            serial  {serial}",
        text(&job, "/state"),
        job.get("threshold").unwrap_or(&Value::Null),
        job.get("foreground").unwrap_or(&Value::Null),
        text(&job, "/called_with/subject"),
    ))?;
    let mask = stage
        .call("john", Method::GET, &format!("{TOOL}/jobs/1/result"), Vec::new())
        .await?;
    expect(
        mask.status == 200 && mask.body.starts_with(b"P5"),
        "the result is an image",
    )?;
    say.shown(&format!(
        "the mask is downloaded: {} bytes of PGM",
        mask.body.len()
    ))?;
    Ok(serial)
}

async fn finished(stage: &Stage, who: &str, job: u32) -> Result<Value, Failure> {
    for _ in 0..200 {
        let answer = stage
            .call(who, Method::GET, &format!("{TOOL}/jobs/{job}"), Vec::new())
            .await?;
        expect(answer.status == 200, "the job can be monitored")?;
        let value = problem(&answer);
        if text(&value, "/state") == "done" {
            return Ok(value);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Err(Failure::failed("the job did not end"))
}

async fn somebody_else(stage: &Stage, say: Say) -> Result<String, Failure> {
    say.step(
        7,
        "Mary, also a scientist, asks for John's job: refused, with the reason and what to do next",
    )?;
    curl(say, "mary", "GET", &format!("{TOOL}/jobs/1"), "")?;
    let answer = stage
        .call("mary", Method::GET, &format!("{TOOL}/jobs/1"), Vec::new())
        .await?;
    let document = problem(&answer);
    expect(
        answer.status == 403 && text(&document, "/type").ends_with("/not_owner"),
        "Mary is refused as not the owner",
    )?;
    say.shown(&format!(
        "403 {}\n{}\nnext: {}\nrequest {}",
        text(&document, "/title"),
        text(&document, "/detail"),
        text(&document, "/next"),
        text(&document, "/request_id"),
    ))?;
    for (who, jobs) in [("mary", 0), ("john", 1)] {
        let answer = stage
            .call(who, Method::GET, &format!("{TOOL}/jobs"), Vec::new())
            .await?;
        let list = problem(&answer);
        let seen = list
            .get("jobs")
            .and_then(Value::as_array)
            .map_or(usize::MAX, Vec::len);
        expect(
            answer.status == 200 && seen == jobs,
            &format!("{who} sees {jobs} jobs in the list"),
        )?;
    }
    say.shown("the same list of jobs: Mary sees 0 of them, John sees 1")?;
    Ok(text(&document, "/request_id").to_owned())
}

async fn three_refusals(stage: &Stage, say: Say) -> Result<(), Failure> {
    say.step(
        8,
        "John tries an administrator's task three times: the third refusal sends a mail",
    )?;
    for _ in 0..3 {
        let args = ["user", "remove", VO, "mary"];
        let ran = stage.run("john", &args)?;
        say.command(&format!("countersign {}", shown(stage, &args)))?;
        expect(ran.code == 3, "John may not remove a user")?;
    }
    say.shown("exit code 3: None of your roles allows this task")?;
    ready("the mail in the outbox", || !stage.mails().is_empty()).await?;
    let mails = stage.mails();
    let mail = mails.first().map(String::as_str).unwrap_or_default();
    expect(
        mail.contains("anna@example.org") && mail.contains("user.remove"),
        &format!("the mail names task and administrator:\n{mail}"),
    )?;
    let head = mail
        .lines()
        .filter(|line| line.starts_with("To:") || line.starts_with("Subject:"));
    say.shown(&format!(
        "in $QS/data/outbox:\n{}",
        head.collect::<Vec<_>>().join("\n")
    ))
}

async fn administrator(stage: &Stage, say: Say) -> Result<(), Failure> {
    say.step(
        9,
        "The VO administrator may terminate any job of the VO, by role, on record",
    )?;
    let answer = stage
        .call(
            "john",
            Method::POST,
            &format!("{TOOL}/jobs?name=again&smooth=100000"),
            stage.image(),
        )
        .await?;
    expect(answer.status == 201, "a second job")?;
    curl(say, "anna", "DELETE", &format!("{TOOL}/jobs/2"), "")?;
    let answer = stage
        .call("anna", Method::DELETE, &format!("{TOOL}/jobs/2"), Vec::new())
        .await?;
    expect(answer.status == 204, "the administrator terminates the job")?;
    say.shown("204 No Content")
}

fn trace(stage: &Stage, say: Say, serial: &str) -> Result<(), Failure> {
    say.step(
        10,
        "A resource provider asks who is behind the proxy that the tool saw",
    )?;
    let ran = command(stage, say, "anna", &["trace", serial, "--vo", VO])?;
    expect(
        ran.stdout.contains("John Smith") && ran.stdout.contains("john"),
        "the proxy is traced to John Smith",
    )?;
    say.shown(&ran.stdout)
}

fn explain(stage: &Stage, say: Say, request: &str) -> Result<(), Failure> {
    say.step(11, "Why was Mary refused? The administrator looks")?;
    let ran = command(stage, say, "anna", &["explain", request])?;
    expect(
        ran.stdout.contains("not_owner"),
        "the explanation names the reason",
    )?;
    say.shown(&ran.stdout)
}

fn verify(stage: &Stage, say: Say) -> Result<(), Failure> {
    say.step(12, "The audit log is verified offline, with the public key alone")?;
    let data = stage.data().display().to_string();
    let ran = command(stage, say, "anna", &["audit", "verify", "--data", &data])?;
    say.shown(&ran.stdout)
}

/// What to try next, on the gateway that is still up.
pub(super) fn next(stage: &Stage, say: Say) -> Result<(), Failure> {
    let (qs, gw) = (stage.dir().display().to_string(), stage.base()?);
    let program = stage.program();
    let port = gw.rsplit(':').next().unwrap_or("443").to_owned();
    say.line("")?;
    say.line("The gateway is still up. Try it:")?;
    say.line("")?;
    for line in [
        format!("QS={qs} GW={gw}"),
        "TOKEN=$(sed -n 's/.*\"token\": \"\\(.*\\)\".*/\\1/p' $QS/people/john/login.json)".into(),
        format!("curl --cacert $QS/data/tls/ca.pem -H \"Authorization: Bearer $TOKEN\" $GW{TOOL}/jobs"),
        format!("curl --cacert $QS/data/tls/ca.pem $GW{TOOL}/jobs            # nobody: 401"),
        format!("COUNTERSIGN_CONFIG=$QS/people/anna {program} user list imaging"),
        format!("COUNTERSIGN_CONFIG=$QS/people/anna {program} audit search --vo imaging"),
        format!("{program} audit tail --data $QS/data"),
    ] {
        say.line(&format!("  {line}"))?;
    }
    say.line("")?;
    say.line(&format!(
        "In a browser (it will warn of the private CA): https://segmentation.gw.localhost:{port}/"
    ))?;
    say.line(&format!("  user john, password {}", stage.password()))?;
    say.line("")?;
    say.line("Wrap a tool of your own: docs/guides/wrap-a-tool.md. Ctrl-C ends the gateway and removes the folder.")?;
    Ok(())
}
