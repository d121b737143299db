//! The sample tool over its real socket.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use serde_json::Value;
use tokio::net::UnixStream;

use super::*;

struct Served {
    folder: tempfile::TempDir,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listener, guard) = bind(&folder.path().join("tool.sock")).unwrap();
        let seen = Some(folder.path().join("seen"));
        let task = tokio::spawn(async move {
            let _guard = guard;
            serve(listener, Options { seen }).await
        });
        Self { folder, task }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> (StatusCode, hyper::HeaderMap, Bytes) {
        let stream = UnixStream::connect(self.folder.path().join("tool.sock"))
            .await
            .unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "tool")
            .header("x-countersign-request-id", "r1")
            .header("x-countersign-proxy", "%")
            .body(Full::new(body.into()))
            .unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        (
            head.status,
            head.headers,
            body.collect().await.unwrap().to_bytes(),
        )
    }

    async fn json(&self, method: &str, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
        let (status, _, body) = self.ask(method, path, body).await;
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    async fn done(&self, path: &str) -> Value {
        loop {
            let (status, job) = self.json("GET", path, "").await;
            assert_eq!(status, 200);
            if job["state"] == "done" {
                return job;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn the_sample_image_is_segmented_from_submit_to_terminate() {
    let tool = Served::start();
    let (status, headers, body) = tool
        .ask("POST", "/jobs?name=nine%20cells&smooth=2", sample_image())
        .await;
    assert_eq!(
        (status, &headers["location"]),
        (StatusCode::CREATED, &"/jobs/1".parse().unwrap())
    );
    assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["id"], 1);

    let job = tool.done("/jobs/1").await;
    assert_eq!(
        (&job["name"], &job["width"], &job["height"]),
        (&"nine cells".into(), &256.into(), &256.into())
    );
    assert_eq!(job["called_with"]["error"], "not base64");
    // The cells take the sum of pi r^2 of their radii: 0.22 of the picture.
    let foreground = job["foreground"].as_f64().unwrap();
    assert!((0.18..0.26).contains(&foreground), "{foreground}");

    let (status, headers, mask) = tool.ask("GET", "/jobs/1/result", "").await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"image/x-portable-graymap".parse().unwrap())
    );
    let mask = pgm::Image::parse(&mask).unwrap();
    assert_eq!(
        (
            mask.pixels[44 * 256 + 40],
            mask.pixels[128 * 256 + 70],
            mask.pixels[0]
        ),
        (255, 255, 0)
    );

    let (_, list) = tool.json("GET", "/jobs", "").await;
    assert_eq!((&list["total"], &list["jobs"][0]["id"]), (&1.into(), &1.into()));
    assert_eq!(tool.ask("DELETE", "/jobs/1", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(
        tool.json("GET", "/jobs/1", "").await,
        (404, serde_json::json!({"error": "there is no job `1`"}))
    );
    assert_eq!(tool.json("GET", "/jobs", "").await.1["total"], 0);
}

#[tokio::test]
async fn a_running_job_is_seen_and_terminated() {
    let tool = Served::start();
    assert_eq!(
        tool.json("POST", "/jobs?smooth=100000", sample_image()).await.0,
        201
    );
    let mut state = Value::Null;
    while state != "running" {
        state = tool.json("GET", "/jobs/1", "").await.1["state"].clone();
    }
    let (status, refusal) = tool.json("GET", "/jobs/1/result", "").await;
    assert_eq!(
        (status, &refusal["error"]),
        (409, &"job 1 is not done yet".into())
    );
    assert_eq!(tool.ask("DELETE", "/jobs/1", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(tool.ask("GET", "/jobs/1", "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bad_requests_are_explained() {
    let tool = Served::start();
    for (method, path, body, status, message) in [
        (
            "POST",
            "/jobs",
            "GIF89a",
            422,
            "this is not a PGM image: it begins with neither `P2` nor `P5`",
        ),
        (
            "POST",
            "/jobs?smooth=-1",
            "P2 1 1 1 1",
            422,
            "`smooth` must be an integer from 0 to 100000",
        ),
        (
            "POST",
            "/jobs?name=%zz",
            "P2 1 1 1 1",
            422,
            "`name` must be text of at most 80 characters",
        ),
        (
            "POST",
            "/jobs?x=1",
            "P2 1 1 1 1",
            422,
            "only `name` and `smooth` may stand in the query",
        ),
        ("PUT", "/jobs", "", 405, "`PUT` does nothing at this address"),
        ("GET", "/jobs/01", "", 404, "there is no job `01`"),
        ("GET", "/elsewhere", "", 404, "there is nothing at this address"),
    ] {
        let (found, refusal) = tool.json(method, path, body).await;
        assert_eq!(
            (found, refusal["error"].as_str().unwrap()),
            (status, message),
            "{method} {path}"
        );
    }
    let (status, refusal) = tool.json("POST", "/jobs", vec![b'P'; routes::MAX_BODY + 1]).await;
    assert_eq!(
        (status, refusal["error"].as_str().unwrap()),
        (413, "the image is larger than 16777216 bytes")
    );
}

#[tokio::test]
async fn what_was_received_is_written_down_before_it_is_answered() {
    let tool = Served::start();
    tool.ask("GET", "/jobs", "").await;
    tool.ask("DELETE", "/jobs/7", "").await;
    let seen = std::fs::read_to_string(tool.folder.path().join("seen")).unwrap();
    assert_eq!(seen, "GET /jobs r1\nDELETE /jobs/7 r1\n");
}

#[tokio::test]
async fn the_page_needs_nothing_from_outside_and_names_no_job() {
    let tool = Served::start();
    tool.json("POST", "/jobs?name=private", "P2 1 1 1 1").await;
    let (status, headers, page) = tool.ask("GET", "/", "").await;
    assert_eq!(
        (status, &headers["content-type"]),
        (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap())
    );
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(!page.contains("private") && !page.contains("//") && !page.contains("src="));
}

#[test]
fn the_sample_image_is_always_the_same() {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &sample_image());
    insta::assert_snapshot!(crate::body::hex(&digest.as_ref()[..8]), @"19a7bc2f98c4f452");
}

#[tokio::test]
async fn the_socket_is_for_this_user_only_and_goes_with_the_tool() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let (listener, guard) = bind(&path).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        bind(&path)
            .unwrap_err()
            .to_string()
            .starts_with("cannot make the socket")
    );
    drop((listener, guard));
    assert!(!path.exists());
}
